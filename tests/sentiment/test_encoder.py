import shutil
from pathlib import Path

import pytest
import torch

from hwcli.errors import SourceError
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.tokens import TextConfig, Tokens, tokenize
from tests.sentiment.tiny import make_reviews, unpadded


@pytest.fixture(scope="module")
def tokens(tiny_encoder: Path) -> Tokens:
    texts = make_reviews(13, seed=5).texts
    return tokenize(texts, encoders.load_tokenizer(tiny_encoder), TextConfig(max_length=31))


@pytest.mark.parametrize("how", ["mean", "cls"])
def test_padding_changes_no_pooled_state(
    how: encoders.Pooling, tokens: Tokens, tiny_encoder: Path
) -> None:
    model = encoders.load_encoder(tiny_encoder)
    with torch.inference_mode():
        together = encoders.pooled_layers(model, *tokens.pad(range(13)), how)
        for row in range(13):
            alone = encoders.pooled_layers(model, *unpadded(tokens, row), how)
            torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-5)
    assert together.shape == (13, 4, 22)


def test_padding_changes_no_state_under_autocasting(tokens: Tokens, tiny_encoder: Path) -> None:
    """The mask then comes in the scores' own type, ready to be added."""
    model = encoders.load_encoder(tiny_encoder)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ids, lengths = tokens.pad(range(13))
        mask = encoders._mask(model, ids, lengths)
        assert mask is not None
        assert (mask.dtype, mask.shape) == (torch.bfloat16, (13, 1, 1, ids.shape[1]))
        together = encoders.states(model, ids, lengths)
        for row in range(13):
            alone = encoders.states(model, *unpadded(tokens, row))[0]
            own = together[row, : lengths[row]]
            torch.testing.assert_close(own.float(), alone.float(), rtol=0, atol=5e-2)


def test_fewer_layers_are_the_first_ones(tokens: Tokens, tiny_encoder: Path) -> None:
    whole, part = (encoders.load_encoder(tiny_encoder, num_layers=n) for n in (None, 2))
    with torch.inference_mode():
        layers = encoders.pooled_layers(whole, *tokens.pad([0, 1]), "mean")
        ids, lengths = tokens.pad([0, 1])
        pooled = encoders.pool(encoders.states(part, ids, lengths), lengths, "mean")
    torch.testing.assert_close(pooled, layers[:, 2], rtol=0, atol=1e-6)


def test_a_loaded_encoder_is_in_eval_mode(tiny_encoder: Path) -> None:
    assert not any(module.training for module in encoders.load_encoder(tiny_encoder).modules())


def test_the_mean_is_over_a_texts_own_tokens() -> None:
    states = torch.tensor([[[1.0], [3.0], [50.0]], [[2.0], [4.0], [9.0]]])
    lengths = torch.tensor([2, 3])
    assert encoders.pool(states, lengths, "mean").tolist() == [[2.0], [5.0]]
    assert encoders.pool(states, lengths, "cls").tolist() == [[1.0], [2.0]]


def copy(tiny_encoder: Path, folder: Path) -> Path:
    shutil.copytree(tiny_encoder, folder / "copy")
    return folder / "copy"


def test_a_damaged_or_incomplete_checkpoint_is_one_line(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_encoder, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SourceError, match=r"cannot be loaded \(.*\)$"):
        encoders.load_encoder(folder)
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(SourceError, match=r"has no weights as \*.safetensors"):
        encoders.load_encoder(folder)


def test_a_damaged_config_or_tokenizer_is_one_line(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_encoder, tmp_path)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(SourceError, match="no usable tokenizer"):
        encoders.load_tokenizer(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(SourceError, match="encoder: ") as caught:
        encoders.load_encoder(folder)
    assert "\n" not in str(caught.value)


def test_more_layers_than_there_are_names_the_choices(tiny_encoder: Path) -> None:
    with pytest.raises(SourceError, match=r"num_encoder_layers = 4: .*choices: 1..3"):
        encoders.load_encoder(tiny_encoder, num_layers=4)


def test_the_digest_follows_weights_and_vocabulary(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_encoder, tmp_path)
    assert encoders.checkpoint_digest(folder) == encoders.checkpoint_digest(tiny_encoder)
    (folder / "tokenizer.json").write_text("{}")
    assert encoders.checkpoint_digest(folder) != encoders.checkpoint_digest(tiny_encoder)


def test_torchs_fused_attention_is_left_where_it_is_slow_or_wrong() -> None:
    chosen = {
        (device, precision): encoders.attention_for(torch.device(device), precision)
        for device in ("cpu", "cuda", "mps")
        for precision in (torch.float32, torch.bfloat16)
    }
    eager = {key for key, attention in chosen.items() if attention == "eager"}
    apple = {("mps", torch.float32), ("mps", torch.bfloat16)}
    assert eager == {("cpu", torch.bfloat16), *apple}
    assert {chosen[key] for key in chosen.keys() - eager} == {None}

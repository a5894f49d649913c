"""Every architecture by a tiny checkpoint: positions, padding, precisions, dropout, tokenizer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from hwcli.errors import SourceError
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.classifier import PlainClassifier
from hwcli.sentiment.self_test import pooled_reader, refuse_another_function, self_test
from hwcli.training.step import autocast
from tests.sentiment.architectures import CONFIGS, POSITIONS, make_checkpoint

# The rest are slow to import: a kind for each way of masking, dropout and positions stays.
KINDS = [
    kind
    if kind in ("bert", "distilbert", "deberta-v3", "modernbert")
    else pytest.param(kind, marks=pytest.mark.slow)
    for kind in CONFIGS
]
# RoBERTa and its kind count from behind the padding token, which MPNet takes to be 1.
POSITIONS_LOST = {"roberta": 1, "xlm-roberta": 1, "camembert": 1, "mpnet": 2}
PRECISIONS = (torch.float32, torch.bfloat16)


class Checkpoints(dict[str, Path]):
    """Makes each checkpoint when it is first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __missing__(self, kind: str) -> Path:
        self[kind] = make_checkpoint(kind, self.folder / kind)
        return self[kind]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Checkpoints(tmp_path_factory.mktemp("architectures"))


def check(model: nn.Module, tokenizer: object, precision: torch.dtype) -> None:
    read = pooled_reader(model)
    if hasattr(model, "classifier"):
        read = PlainClassifier(model).logits
    self_test(read, model, tokenizer, name="tiny", precision=precision, max_length=POSITIONS - 2)


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_architecture_reads_a_padded_batch_as_each_text_alone(
    kind: str, attention: str | None, checkpoints: dict[str, Path]
) -> None:
    folder = checkpoints[kind]
    tokenizer = encoders.load_tokenizer(folder)

    def encoder() -> nn.Module:
        return encoders.load_encoder(folder, attention=attention)

    for precision in PRECISIONS:
        check(encoder(), tokenizer, precision)  # fine-tuned: autocast
        check(encoders.with_weights_in(encoder(), precision), tokenizer, precision)  # frozen
        check(
            encoders.load_classifier(folder, attention=attention, new_head=True),
            tokenizer,
            precision,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_both_kinds_of_attention_compute_the_same(kind: str, checkpoints: dict[str, Path]) -> None:
    ids, lengths = torch.arange(28).view(2, 14) % 20, torch.tensor([14, 9])
    with torch.inference_mode():
        fused, plain = (
            encoders.pooled_layers(
                encoders.load_encoder(checkpoints[kind], attention=attention), ids, lengths, "mean"
            )
            for attention in (None, "eager")
        )
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_rounded_weights_leave_rotary_frequencies_as_they_are(checkpoints: dict[str, Path]) -> None:
    model = encoders.load_encoder(checkpoints["modernbert"])
    lowered = encoders.with_weights_in(model, torch.bfloat16)
    assert {p.dtype for p in lowered.parameters()} == {torch.bfloat16}
    buffers = dict(model.named_buffers())
    assert any(buffer.is_floating_point() for buffer in buffers.values())
    for name, buffer in lowered.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], rtol=0, atol=0)


def test_another_function_in_a_lower_precision_is_refused() -> None:
    rows = torch.arange(6.0).view(2, 3)
    refuse_another_function(1.01 * rows, rows, "tiny", torch.bfloat16)
    with pytest.raises(SourceError, match="encoder tiny computes something else in bfloat16"):
        refuse_another_function(2 * rows, rows, "tiny", torch.bfloat16)


def test_a_digest_knows_a_tokenizer_of_one_file(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoints["bert"], tmp_path / "copy")
    before = encoders.checkpoint_digest(folder)
    (folder / "special_tokens_map.json").write_text("{}")  # tokenizer.json has it all
    assert encoders.checkpoint_digest(folder) == before
    (folder / "spm.model").write_bytes(b"another vocabulary")
    assert encoders.checkpoint_digest(folder) != before


def test_attention_is_fused_but_for_bfloat16_on_a_cpu(checkpoints: dict[str, Path]) -> None:
    cpu = torch.device("cpu")
    for device, precision, expected in [
        (cpu, torch.float32, "sdpa"),
        (cpu, torch.bfloat16, "eager"),
        (torch.device("cuda"), torch.bfloat16, "sdpa"),
    ]:
        attention = encoders.attention_for(device, precision)
        model = encoders.load_encoder(checkpoints["bert"], attention=attention)
        assert model.config._attn_implementation == expected


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_reads_as_many_tokens_as_it_has_positions(
    kind: str, checkpoints: dict[str, Path]
) -> None:
    longest = encoders.max_positions(checkpoints[kind])
    assert longest == POSITIONS - POSITIONS_LOST.get(kind, 0)
    model = encoders.load_encoder(checkpoints[kind])
    with torch.inference_mode():
        ids = torch.full((1, longest), 7)
        assert encoders.states(model, ids, torch.tensor([longest])).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_dropout_is_the_one_asked_for(kind: str, checkpoints: dict[str, Path]) -> None:
    ids, lengths = torch.full((1, 17), 7), torch.tensor([17])

    def twice(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        model.train()
        with torch.no_grad():
            return encoders.states(model, ids, lengths), encoders.states(model, ids, lengths)

    for dropout in (0.0, 0.37):
        model = encoders.load_encoder(checkpoints[kind], dropout=dropout)
        probabilities = {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
        assert probabilities <= {0.0, dropout}
        first, second = twice(model)
        assert torch.equal(first, second) == (dropout == 0)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "distilbert"])
def test_fewer_layers_are_kept_of_any_architecture(kind: str, checkpoints: dict[str, Path]) -> None:
    ids, lengths = torch.full((1, 5), 7), torch.tensor([5])
    with torch.inference_mode():
        part = encoders.load_encoder(checkpoints[kind], num_layers=1)
        assert encoders.pooled_layers(part, ids, lengths, "mean").shape[1] == 2


def test_an_added_mask_that_is_read_as_another_is_refused(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the self-test is for: DeBERTa reads an added mask as 0 and 1."""
    monkeypatch.setattr(encoders, "TAKES_ADDED_MASK", frozenset({"deberta-v2"}))
    model = encoders.load_encoder(checkpoints["deberta-v2"])
    tokenizer = encoders.load_tokenizer(checkpoints["deberta-v2"])
    with pytest.raises(SourceError, match=r"deberta-v2 .* in bfloat16.*precision=float32"):
        check(model, tokenizer, torch.bfloat16)


def test_a_model_that_computes_something_else_in_bfloat16_is_refused(
    checkpoints: dict[str, Path],
) -> None:
    model = encoders.load_encoder(checkpoints["bert"])
    tokenizer = encoders.load_tokenizer(checkpoints["bert"])

    def read(ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        sign = -1 if torch.is_autocast_enabled("cpu") else 1
        return sign * lengths[:, None].float()

    with pytest.raises(SourceError, match="computes something else in bfloat16"):
        self_test(read, model, tokenizer, name="odd", precision=torch.bfloat16, max_length=16)
    with autocast(torch.device("cpu"), torch.float32):
        check(model, tokenizer, torch.float32)


def copied(checkpoints: dict[str, Path], folder: Path) -> Path:
    shutil.copytree(checkpoints["bert"], folder / "copy")
    return folder / "copy"


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_checkpoint_without_a_tokenizer_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(checkpoints, tmp_path)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(SourceError, match=r"has no tokenizer \(tokenizer.json or vocab.txt\)"):
        encoders.load_tokenizer(folder)


@pytest.mark.parametrize("rows", [17, 1024])
def test_a_tokenizer_of_other_weights_is_refused(rows: int, tmp_path: Path) -> None:
    folder = make_checkpoint("bert", tmp_path, vocabulary=rows)
    with pytest.raises(SourceError, match=f"do not belong together .*24 tokens, {rows:,} rows"):
        encoders.load_tokenizer(folder)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"{", "config.json: "),
        ('{"model_type": "b\xe4rt"}'.encode("latin-1"), "config.json: "),
        (b'{"model_type": "bert", "max_position_embeddings": null}', "config.json: "),
        (b'{"model_type": "unheard-of"}', "config.json: "),
        (b'{"model_type": "bart"}', "an encoder with a decoder"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    content: bytes, line: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(checkpoints, tmp_path)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(SourceError, match=line) as caught:
        encoders.max_positions(folder)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_padding_is_one_line(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(checkpoints, tmp_path)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    del values["pad_token"]
    path.write_text(json.dumps(values))
    with pytest.raises(SourceError, match="has no pad token; a BERT-like checkpoint is needed"):
        encoders.load_tokenizer(folder)


def test_weights_of_another_model_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(checkpoints, tmp_path)
    edit_json(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(SourceError, match=r"weights lack \d+ tensors of the encoder"):
        encoders.load_encoder(folder)


def test_a_head_of_three_classes_is_replaced_for_training_only(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = copied(checkpoints, tmp_path)
    three = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    three.save_pretrained(folder)
    model = encoders.load_classifier(folder, new_head=True)
    assert model.get_submodule("classifier").out_features == 2
    with pytest.raises(SourceError, match="cannot be loaded"):
        encoders.load_classifier(folder)

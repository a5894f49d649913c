import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from hwcli.errors import OutputError
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment import features
from hwcli.sentiment.features import Features, Kind, cached_features, manifest
from hwcli.sentiment.tokens import TextConfig, Tokens, tokenize
from tests.sentiment.tiny import make_reviews, unpadded

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tiny_encoder: Path) -> nn.Module:
    return encoders.load_encoder(tiny_encoder)


@pytest.fixture(scope="module")
def tokens(tiny_encoder: Path) -> Tokens:
    texts = make_reviews(29, seed=7).texts
    return tokenize(texts, encoders.load_tokenizer(tiny_encoder), TextConfig(max_length=31))


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "TOKENS_PER_BATCH", 64)
    monkeypatch.setattr(features, "SECONDS_BETWEEN_MARKS", 0.0)


def describe(tokens: Tokens, kind: Kind = "tokens", **more: Any) -> dict[str, object]:
    values = {"encoder_digest": "tiny", "num_layers": None, "precision": "float32", **more}
    return manifest(tokens, kind=kind, **values)


def get(folder: Path, tokens: Tokens, model: nn.Module, kind: Kind = "tokens") -> Features:
    return cached_features(folder, tokens, model, describe(tokens, kind), device=CPU)


def test_token_states_are_what_the_encoder_says_of_each_review(
    tokens: Tokens, model: nn.Module, tmp_path: Path
) -> None:
    found = get(tmp_path, tokens, model)
    rows = np.array([3, 11, 5])
    batch, lengths = found.pad(rows)
    assert batch.dtype == torch.half
    assert lengths.tolist() == tokens.lengths[rows].tolist()
    for place, row in enumerate(rows):
        with torch.inference_mode():
            alone = encoders.states(model, *unpadded(tokens, row))[0]
        length = lengths[place]
        torch.testing.assert_close(batch[place, :length].float(), alone, rtol=1e-3, atol=2e-3)
        assert not batch[place, length:].any()


@pytest.mark.parametrize("kind", ["mean", "cls"])
def test_pooled_states_of_all_layers_in_the_reviews_order(
    kind: encoders.Pooling, tokens: Tokens, model: nn.Module, tmp_path: Path
) -> None:
    found = get(tmp_path, tokens, model, kind).whole()
    with torch.inference_mode():
        direct = encoders.pooled_layers(model, *tokens.pad(range(29)), kind)
    torch.testing.assert_close(found, direct, rtol=1e-3, atol=2e-3)


def test_the_second_time_nothing_is_encoded(
    tokens: Tokens, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = get(tmp_path, tokens, model)
    monkeypatch.setattr(features, "_encode", None)
    again = get(tmp_path, tokens, model)
    assert again.encode_s == first.encode_s > 0
    np.testing.assert_array_equal(again.states, first.states)


class StoppedError(Exception):
    pass


def stop_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = features._encode

    def encode_some(*arguments: Any) -> Iterator[torch.Tensor]:
        for number, states in enumerate(encode(*arguments)):
            if number == batches:
                raise StoppedError
            yield states

    monkeypatch.setattr(features, "_encode", encode_some)


def test_a_stopped_cache_is_gone_on_with_and_equals_an_unstopped_one(
    tokens: Tokens, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = get(tmp_path / "whole", tokens, model)
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(StoppedError):
            get(tmp_path / "stopped", tokens, model)
    (place,) = (tmp_path / "stopped").iterdir()
    assert not (place / "manifest.json").exists()
    # What came after the mark may be half a write: it must not count.
    with (place / "states.f16").open("ab") as file:
        file.write(b"torn")
    with monkeypatch.context() as patch:
        stop_after(len(features.sorted_batches(tokens.lengths, 64)) - 3, patch)
        resumed = get(tmp_path / "stopped", tokens, model)
    np.testing.assert_array_equal(resumed.states, whole.states)


def test_a_cache_that_lost_bytes_is_made_anew(
    tokens: Tokens, model: nn.Module, tmp_path: Path
) -> None:
    whole = np.array(get(tmp_path, tokens, model).states)
    (place,) = tmp_path.iterdir()
    content = (place / "states.f16").read_bytes()
    (place / "states.f16").write_bytes(content[: len(content) // 2])
    np.testing.assert_array_equal(get(tmp_path, tokens, model).states, whole)


def test_whatever_decides_the_states_has_a_cache_of_its_own(tokens: Tokens) -> None:
    shorter = replace(tokens, offsets=tokens.offsets[:-1])
    descriptions = [
        describe(tokens),
        describe(tokens, "mean"),
        describe(tokens, encoder_digest="other"),
        describe(tokens, num_layers=2),
        describe(tokens, precision="bfloat16"),
        describe(tokens, device="cuda"),
        describe(tokens, device="mps"),
        describe(tokens, device="mps", attention="eager"),
        describe(shorter),
    ]
    assert len({json.dumps(d, sort_keys=True) for d in descriptions}) == len(descriptions)


def test_caches_of_a_cpu_keep_their_names(tokens: Tokens) -> None:
    named = describe(tokens, device="cpu", attention="eager")
    assert named == describe(tokens)
    assert not named.keys() & {"device", "attention"}


def test_a_stopped_cache_whose_batches_were_cut_in_another_way_is_made_anew(
    tokens: Tokens, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(StoppedError):
            get(tmp_path / "stopped", tokens, model)
    monkeypatch.setattr(features, "SECONDS_BETWEEN_MARKS", 1e9)
    whole = get(tmp_path / "whole", tokens, model).states
    (mark,) = (tmp_path / "stopped").glob("*/done.json")
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "batches": 2}))
    np.testing.assert_array_equal(get(tmp_path / "stopped", tokens, model).states, whole)


def test_who_waits_for_anothers_cache_says_so(
    tokens: Tokens, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = get(tmp_path, tokens, model)
    (place,) = tmp_path.iterdir()
    another = FileLock(place / ".lock")
    another.acquire()
    told = []

    def log(line: str) -> None:
        told.append(line)
        another.release()

    monkeypatch.setattr(features.terminal, "log", log)
    np.testing.assert_array_equal(get(tmp_path, tokens, model).states, whole.states)
    assert told == ["another process is encoding the same reviews; waiting"]
    get(tmp_path, tokens, model)
    assert len(told) == 1


def test_the_disk_must_hold_what_all_parts_lack(
    tokens: Tokens, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = describe(tokens), describe(tokens, "mean")
    sizes = {kind: 2 * 22 * n for kind, n in (("tokens", tokens.lengths.sum()), ("mean", 4 * 29))}
    both = [(tokens, first), (tokens, second)]
    whole_disk = shutil.disk_usage(tmp_path)

    def with_room(num_bytes: int) -> None:
        usage = whole_disk._replace(free=features.SPARE_BYTES + num_bytes)
        monkeypatch.setattr(features.shutil, "disk_usage", lambda path: usage)

    folder = tmp_path / "features"
    with_room(sum(sizes.values()))
    features.refuse_full_disk(folder, both, model)
    with_room(max(sizes.values()))
    for part in both:
        features.refuse_full_disk(folder, [part], model)
    with pytest.raises(OutputError, match=r"features need 0\.3 GB, .*features has 0\.3 GB free"):
        features.refuse_full_disk(folder, both, model)
    # Of a part that is there nothing is lacking.
    get(folder, tokens, model)
    features.refuse_full_disk(folder, both, model)


def test_a_full_disk_is_told_before_anything_is_written(
    tokens: Tokens, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"features need 0\.3 GB, .* has 0\.0 GB free; make room"):
        get(tmp_path, tokens, model)
    assert not list(tmp_path.rglob("states.f16"))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_cache_that_cannot_be_locked_is_one_line_and_leaves_no_lock_behind(
    number: int, tokens: Tokens, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with pytest.raises(OutputError) as refused:
            get(tmp_path, tokens, model)
    said = f"features cannot be kept ({os.strerror(number)}); HW2_CACHE names another folder"
    assert str(refused.value).endswith(said)
    assert len(get(tmp_path, tokens, model)) == len(tokens)

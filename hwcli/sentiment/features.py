"""What the frozen encoder says of every review, computed once and kept on disk.

A frozen encoder gives the same states in every epoch: running it again would cost most of the
training. Its states go as float16 into one flat file in a folder named by the digest of its
manifest (encoder, tokens, what is kept, in which precision), so that other data, lengths or
encoders never meet. The manifest is written last: a folder without one holds no finished cache
and is gone on with where it was left, never read.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor, nn

from hwcli.errors import OutputError, reason_of
from hwcli.output import terminal
from hwcli.output.files import read_json, write_json
from hwcli.paths import nearest_folder
from hwcli.sentiment import encoder
from hwcli.sentiment.tokens import (
    TOKENS_PER_BATCH,
    ReviewNumbers,
    Tokens,
    sorted_batches,
    valid_tokens,
)

FORMAT = "hw2 features 1"
SECONDS_BETWEEN_MARKS = 20.0
# Kept free of what the disk has left, for everything else a run writes.
SPARE_BYTES = 256 * 2**20

Kind = Literal["tokens", "mean", "cls"]


@dataclass(frozen=True)
class Features:
    """States of N reviews: review i is ``states[starts[i]:starts[i] + counts[i]]``.

    Attributes:
        states: (rows, D) float16, mapped from the file.
        starts: (N,) first row of each review.
        counts: (N,) rows of each: its tokens, or for pooled states the layers and embeddings.
        encode_s: seconds that encoding took, whenever that was.
    """

    states: NDArray[np.float16]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    encode_s: float

    def __len__(self) -> int:
        return len(self.counts)

    def pad(self, numbers: ReviewNumbers) -> tuple[Tensor, Tensor]:
        """Return some reviews as one batch: (B, T, D) float16, zero after the end, and (B,)."""
        counts = self.counts[numbers]
        batch = torch.zeros(len(counts), int(counts.max()), self.states.shape[1], dtype=torch.half)
        for row, number in enumerate(numbers):
            start, count = self.starts[number], self.counts[number]
            # A copy of a few kilobytes: torch refuses to share what is mapped for reading only.
            batch[row, :count] = torch.from_numpy(np.array(self.states[start : start + count]))
        return batch, torch.from_numpy(counts)

    def whole(self) -> Tensor:
        """Return pooled states in memory: (N, L + 1, D) float32."""
        rows = self.starts[:, None] + np.arange(self.counts[0])
        return torch.from_numpy(np.array(self.states[rows.ravel()])).view(*rows.shape, -1).float()


def manifest(
    tokens: Tokens,
    *,
    kind: Kind,
    encoder_digest: str,
    num_layers: int | None,
    precision: str,
    has_float_buffers: bool = False,
    device: str = "cpu",
    attention: str | None = None,
) -> dict[str, object]:
    """Describe a cache by everything that decides its content.

    The tokens depend on the reviews, the tokenizer, the length and the truncation. Older versions
    of hw2 rounded an encoder's floating-point buffers, and did not tell devices apart. So that
    their caches are not read, an encoder with such buffers gets the entry ``buffers``, and another
    device than the CPU is named.
    """
    rounded_before = {"buffers": "float32"} if has_float_buffers else {}
    computed_by = {} if device == "cpu" else {"device": device, "attention": attention}
    return {
        **rounded_before,
        **computed_by,
        "format": FORMAT,
        "encoder": encoder_digest,
        "num_encoder_layers": num_layers,
        "tokens": hashlib.sha256(tokens.ids.tobytes() + tokens.offsets.tobytes()).hexdigest(),
        "num_texts": len(tokens),
        "kind": kind,
        "precision": precision,
        "stored": "float16",
        "tokens_per_batch": TOKENS_PER_BATCH,
    }


def cached_features(
    folder: Path,
    tokens: Tokens,
    model: nn.Module,
    description: dict[str, object],
    *,
    device: torch.device,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Return the features of some reviews, from the cache or into it.

    Args:
        folder: that holds all caches.
        tokens: of the reviews.
        model: the encoder, on its device and in the type it is to compute in.
        description: from :func:`manifest`; names the cache.
        device: where the model lives.
        report: gets reviews done and reviews in all, now and then.

    Raises:
        OutputError: the disk has not enough room, or the folder cannot be written.
    """
    place, counts, shape = _layout(folder, tokens, model, description)
    kind = str(description["kind"])
    batches = sorted_batches(tokens.lengths, TOKENS_PER_BATCH)
    order = np.concatenate(batches)
    starts = np.zeros(len(tokens), np.int64)
    starts[order] = np.cumsum(counts[order]) - counts[order]

    try:
        place.mkdir(parents=True, exist_ok=True)
        with _held(place):  # whoever comes second finds it done
            if not _is_whole(place, description, shape):
                _fill(place, tokens, model, kind, batches, counts, shape, device, report)
                write_json(place / "manifest.json", description)
    except OSError as error:
        raise OutputError(
            f"{place}: features cannot be kept ({reason_of(error)}); HW2_CACHE names another folder"
        ) from None
    states = np.memmap(place / "states.f16", np.float16, "r", shape=shape)
    return Features(states, starts, counts, _position(place)[2])


def refuse_full_disk(
    folder: Path, parts: Iterable[tuple[Tokens, dict[str, object]]], model: nn.Module
) -> None:
    """Make sure that the disk holds what is missing of some caches, before hours go into the first.

    Args:
        folder: that holds all caches.
        parts: the tokens and the description of each.
        model: the encoder.

    Raises:
        OutputError: it has not enough room.
    """
    lacking = {}
    for tokens, description in parts:
        place, _, shape = _layout(folder, tokens, model, description)
        if not _is_whole(place, description, shape):
            lacking[place] = _num_bytes(shape) - _position(place)[1]
    if lacking:
        _refuse_full_disk(folder, sum(lacking.values()))


def _refuse_full_disk(folder: Path, num_bytes: int) -> None:
    needed, free = num_bytes + SPARE_BYTES, shutil.disk_usage(nearest_folder(folder)).free
    if needed > free:
        raise OutputError(
            f"features need {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free; "
            "make room, name another folder by HW2_CACHE, or choose --head mean"
        )


def _layout(
    folder: Path, tokens: Tokens, model: nn.Module, description: dict[str, object]
) -> tuple[Path, NDArray[np.int64], tuple[int, int]]:
    """Return the folder of a cache, the states of each text, and the shape of all."""
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
    if description["kind"] == "tokens":
        counts = tokens.lengths
    else:
        num_states = int(model.config.num_hidden_layers) + 1  # type: ignore[union-attr,arg-type]
        counts = np.full(len(tokens), num_states)
    return folder / key, counts, (int(counts.sum()), encoder.width(model))


def _num_bytes(shape: tuple[int, int]) -> int:
    return 2 * shape[0] * shape[1]


@contextmanager
def _held(place: Path) -> Iterator[None]:
    """Hold a cache's lock; who has to wait for it says so."""
    # A soft lock would outlive who is killed.
    lock = FileLock(place / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        terminal.log("another process is encoding the same reviews; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_whole(place: Path, description: dict[str, object], shape: tuple[int, int]) -> bool:
    try:
        found = read_json(place / "manifest.json")
        size = (place / "states.f16").stat().st_size
    except (OSError, ValueError):
        return False
    return bool(found == description and size == _num_bytes(shape))


def _fill(
    place: Path,
    tokens: Tokens,
    model: nn.Module,
    kind: str,
    batches: list[ReviewNumbers],
    counts: NDArray[np.int64],
    shape: tuple[int, int],
    device: torch.device,
    report: Callable[[int, int], None],
) -> None:
    """Encode the batches that are missing.

    Raises:
        OutputError: the disk has not enough room; nothing was written.
    """
    (place / "manifest.json").unlink(missing_ok=True)
    done, written, seconds = _position(place)
    if written != 2 * shape[1] * sum(int(counts[each].sum()) for each in batches[:done]):
        done, written, seconds = 0, 0, 0.0  # its batches were cut in another way
    _refuse_full_disk(place.parent, _num_bytes(shape) - written)
    marked = time.perf_counter()
    num_done = sum(map(len, batches[:done]))
    with (place / "states.f16").open("r+b" if written else "wb") as file:
        file.truncate(written)
        file.seek(written)
        for index, states in enumerate(_encode(tokens, model, kind, batches[done:], device), done):
            file.write(states.cpu().numpy().tobytes())
            num_done += len(batches[index])
            now = time.perf_counter()
            if now - marked > SECONDS_BETWEEN_MARKS or index == len(batches) - 1:
                seconds, marked = seconds + now - marked, now
                # The bytes first: the mark says that they are on disk.
                file.flush()
                os.fsync(file.fileno())
                mark = {"batches": index + 1, "bytes": file.tell(), "seconds": seconds}
                write_json(place / "done.json", mark)
            report(num_done, len(tokens))


def _position(place: Path) -> tuple[int, int, float]:
    """Return the batches and bytes that are known to be on disk, and the seconds they took."""
    try:
        mark = read_json(place / "done.json")
        if (place / "states.f16").stat().st_size >= mark["bytes"]:
            return int(mark["batches"]), int(mark["bytes"]), float(mark["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, 0, 0.0


@torch.inference_mode()
def _encode(
    tokens: Tokens,
    model: nn.Module,
    kind: str,
    batches: list[ReviewNumbers],
    device: torch.device,
) -> Iterator[Tensor]:
    """Give each batch's states, review after review: (rows, D) float16."""
    model.eval()
    for numbers in batches:
        ids, lengths = tokens.pad(numbers)
        ids, lengths = ids.to(device), lengths.to(device)
        if kind == "tokens":
            every = encoder.states(model, ids, lengths)  # (B, T, D)
            yield every[valid_tokens(lengths, every.shape[1])].half()
        else:
            how: encoder.Pooling = "mean" if kind == "mean" else "cls"
            yield encoder.pooled_layers(model, ids, lengths, how).flatten(0, 1).half()

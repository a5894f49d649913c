"""Texts as token numbers: truncated, stored flat, and cut into batches of similar lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hwcli.config import Section
from hwcli.sentiment.reviews import clean

# Texts are shuffled, and sorted by length only within this many batches: little padding is left,
# and the batches of two epochs differ.
BATCHES_IN_POOL = 50
# Batches are padded to few different lengths: for each shape of a matrix product oneDNN keeps
# compiled code, gigabytes for the hundreds of lengths that reviews have (tests/benchmarks/LOG.md).
PADDED_TO = 32
# About so many tokens at once where nothing is trained.
TOKENS_PER_BATCH = 8192
# A share of unknown tokens above which an encoder is taken not to know the language. Whole data
# sets of its own language stay below the first one; a few texts may hold more names by chance.
MANY_UNKNOWN_IN_TRAINING = 0.05
MANY_UNKNOWN_IN_TEXTS = 0.2

ReviewNumbers = NDArray[np.int64]
"""Which reviews of a part, (B,), counted from 0."""


class TextConfig(Section):
    """What is read of a review.

    ``head`` keeps its beginning; ``head_tail`` half of the tokens from its beginning and half
    from its end (Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", 5.3.1).
    """

    max_length: int = Field(
        256, ge=8, le=8192, description="Maximum tokens per review, special tokens included."
    )
    truncation: Literal["head", "head_tail"] = Field(
        "head_tail",
        description="What a long review keeps: head (its beginning) or head_tail (half from "
        "each end).",
    )


@dataclass(frozen=True)
class Tokens:
    """Token numbers of N texts, one after the other, special tokens included.

    Attributes:
        ids: (sum of lengths,) int32.
        offsets: (N + 1,) int64: text i is ``ids[offsets[i]:offsets[i + 1]]``.
        pad_id: what fills a batch up.
        cut: (N,) whether a text was longer than what is read of it.
        num_words: tokens in all, without special ones.
        num_unknown: of these, how many the vocabulary does not know.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pad_id: int
    cut: NDArray[np.bool_]
    num_words: int
    num_unknown: int

    @property
    def cut_share(self) -> float:
        """Share of texts of which only a part is read."""
        return float(self.cut.mean()) if len(self.cut) else 0.0

    @property
    def unknown_share(self) -> float:
        """Share of tokens that the vocabulary does not know."""
        return self.num_unknown / max(1, self.num_words)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, (N,)."""
        return np.diff(self.offsets)

    def padded_length(self, numbers: Sequence[int] | ReviewNumbers) -> int:
        """Return T of some texts' batch: their longest, rounded up, but not beyond all texts'."""
        lengths = self.lengths
        longest = int(lengths[numbers].max())
        return min(-(-longest // PADDED_TO) * PADDED_TO, int(lengths.max()))

    def pad(self, numbers: Sequence[int] | ReviewNumbers) -> tuple[Tensor, Tensor]:
        """Return some texts as one batch: ids (B, T) int64 and the lengths (B,)."""
        lengths = torch.from_numpy(self.lengths[numbers])
        ids = torch.full((len(numbers), self.padded_length(numbers)), self.pad_id)
        for row, number in enumerate(numbers):
            text = self.ids[self.offsets[number] : self.offsets[number + 1]]
            ids[row, : len(text)] = torch.from_numpy(text)
        return ids, lengths


def tokenize(texts: Sequence[str], tokenizer: Any, config: TextConfig) -> Tokens:
    """Turn texts into token numbers, an empty one into the special tokens alone.

    Args:
        texts: as in the file.
        tokenizer: a fast tokenizer of transformers.
        config: how long, and what of a longer text.
    """
    room = config.max_length - 2
    pieces, cut = [], []
    for start in range(0, len(texts), 1000):
        cleaned = [clean(text) for text in texts[start : start + 1000]]
        encoded = tokenizer(
            cleaned, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        for ids in encoded["input_ids"]:
            kept = truncate(ids, room, config.truncation)
            cut.append(len(ids) > room)
            pieces.append([tokenizer.cls_token_id, *kept, tokenizer.sep_token_id])
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    flat = np.fromiter((i for piece in pieces for i in piece), np.int32, int(offsets[-1]))
    unknown = tokenizer.unk_token_id
    return Tokens(
        ids=flat,
        offsets=offsets,
        pad_id=tokenizer.pad_token_id,
        cut=np.array(cut, bool),
        num_words=len(flat) - 2 * len(texts),
        num_unknown=0 if unknown is None else int((flat == unknown).sum()),
    )


def truncate(ids: list[int], room: int, way: str) -> list[int]:
    """Keep at most ``room`` tokens, from the beginning or from both ends."""
    if len(ids) <= room:
        return ids
    if way == "head":
        return ids[:room]
    tail = room // 2
    return ids[: room - tail] + ids[len(ids) - tail :]


def valid_tokens(lengths: Tensor, num_tokens: int) -> Tensor:
    """Return the mask of real tokens: (B,) -> (B, T) bool."""
    return torch.arange(num_tokens, device=lengths.device) < lengths[:, None]


def sorted_batches(lengths: NDArray[np.int64], tokens_per_batch: int) -> list[ReviewNumbers]:
    """Cut texts, longest first, into batches of about as many tokens each.

    The longest come first, so that a batch that does not fit into memory is met at once. A text
    of a few tokens counts as many as it is padded to; longer ones count their own.
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(PADDED_TO, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def training_batches(
    lengths: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int
) -> Iterator[ReviewNumbers]:
    """Give one epoch's batches of similar lengths, in random order; a pure function of the epoch.

    Args:
        lengths: (N,) of the texts.
        batch_size: texts in a batch.
        seed: of the run.
        epoch: from 0.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), BATCHES_IN_POOL * batch_size):
        pool = order[start : start + BATCHES_IN_POOL * batch_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    for index in generator.permutation(len(batches)):
        yield batches[index]

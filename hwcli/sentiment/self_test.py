"""The self-test of an encoder: it reads a text alike in every batch and in every precision."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hwcli.errors import SourceError, first_line, is_out_of_gpu_memory
from hwcli.sentiment.encoder import TAKES_ADDED_MASK, pool, states
from hwcli.training.step import autocast

# How much a text's states may differ between a padded batch and alone: rounding, and no more.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
# How much between the two precisions: another function differs by its whole size.
SAME_FUNCTION = 0.3


@torch.inference_mode()
def self_test(
    read: Callable[[Tensor, Tensor], Tensor],
    model: nn.Module,
    tokenizer: Any,
    *,
    name: str,
    precision: torch.dtype,
    max_length: int,
) -> Tensor:
    """Make sure that a text in a padded batch is read as it is alone, and in both precisions.

    Args:
        read: maps ids (B, T) and lengths (B,) to one row per text.
        model: what reads, in eval mode, on its device.
        tokenizer: of the model.
        name: of the encoder, for the message.
        precision: that it will run in, besides float32.
        max_length: tokens that it will read.

    Returns:
        What it reads in this precision, for :func:`refuse_another_function` where the weights
        themselves are stored in a lower one.

    Raises:
        SourceError: it reads them differently, or cannot read them at all.
    """
    kind = model.config.model_type  # type: ignore[union-attr]
    who = f"{name}: {kind}"
    # An unknown architecture is tried on texts that are longer than its local windows.
    longest = min(max_length, 24 if kind in TAKES_ADDED_MASK else 192)
    weights = next(model.parameters())
    ids, lengths = (part.to(weights.device) for part in _nonsense(tokenizer, longest))
    # A model whose weights are stored in a lower type has no float32 to compare with.
    is_lowered = weights.dtype != torch.float32
    precisions = [precision] if is_lowered else list(dict.fromkeys((torch.float32, precision)))
    readings: dict[torch.dtype, Tensor] = {}
    for each in precisions:
        with autocast(weights.device, torch.float32 if is_lowered else each):
            together, alone = _read_twice(read, ids, lengths, who)
        readings[each] = together
        difference = _relative(together, alone)
        if not difference < TOLERANCE[each]:
            other = "; use --set precision=float32" if each != torch.float32 else ""
            raise SourceError(
                f"encoder {who} reads a text in a padded batch differently than alone "
                f"(relative difference {difference:.2g} in {_spell(each)}){other}"
            )
    found = readings[precision]
    refuse_another_function(found, readings.get(torch.float32, found), who, precision)
    return found


def _read_twice(
    read: Callable[[Tensor, Tensor], Tensor], ids: Tensor, lengths: Tensor, who: str
) -> tuple[Tensor, Tensor]:
    """Return what is read of texts in one padded batch, and of each alone; in float32.

    Raises:
        SourceError: they cannot be read.
    """
    try:
        together = read(ids, lengths)
        alone = [read(ids[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths)]
        return together.float().cpu(), torch.cat(alone).float().cpu()
    except Exception as error:
        if is_out_of_gpu_memory(error):
            raise  # no fault of the architecture
        raise SourceError(
            f"encoder {who} is an architecture that hw2 cannot read "
            f"({type(error).__name__}: {first_line(error)})"
        ) from None


def refuse_another_function(
    lowered: Tensor, full: Tensor, name: str, precision: torch.dtype
) -> None:
    """Make sure that an encoder computes one function in a lower precision and in float32.

    Raises:
        SourceError: what it read differs by more than rounding.
    """
    difference = _relative(lowered, full)
    if not difference < SAME_FUNCTION:
        raise SourceError(
            f"encoder {name} computes something else in {_spell(precision)} than in float32 "
            f"(relative difference {difference:.2g}); use --set precision=float32"
        )


def _nonsense(tokenizer: Any, longest: int) -> tuple[Tensor, Tensor]:
    """Return two texts of ordinary tokens, one of them short: (2, T), (2,)."""
    special = set(tokenizer.all_special_ids)
    ordinary = [id_ for id_ in sorted(tokenizer.get_vocab().values()) if id_ not in special]
    lengths = torch.tensor([longest, min(7, longest)])
    ids = torch.full((2, longest), tokenizer.pad_token_id)
    for row, length in enumerate(lengths.tolist()):
        body = [ordinary[(7919 * i + 31 * row) % len(ordinary)] for i in range(length - 2)]
        ids[row, :length] = torch.tensor([tokenizer.cls_token_id, *body, tokenizer.sep_token_id])
    return ids, lengths


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def _spell(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


def pooled_reader(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function for :func:`self_test`: the mean and the first state of every text."""

    def read(ids: Tensor, lengths: Tensor) -> Tensor:
        last = states(model, ids, lengths)
        return torch.cat([pool(last, lengths, "mean"), pool(last, lengths, "cls")], dim=1)

    return read

"""What stands on top of the encoder: one logit for a review, positive where it is above 0.

Shapes: B reviews, T tokens, D width of the encoder, L layers of the encoder, H hidden width.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hwcli.config import Section
from hwcli.sentiment.encoder import pool
from hwcli.sentiment.gru import BidirectionalGRU


class HeadConfig(Section):
    """The head.

    ``gru`` is the homework's: layers of bidirectional GRUs over all tokens. ``mean`` and ``cls``
    are one linear layer over the pooled state. ``all_layers`` lets a pooled head on a frozen
    encoder see the pooled states of every layer, side by side.
    """

    kind: Literal["gru", "mean", "cls"] = Field(
        "gru",
        description="gru (the homework's, over all tokens), or one linear layer over the mean "
        "state (mean) or the first token's (cls).",
    )
    hidden: int = Field(256, ge=1, description="gru: hidden width of each direction.")
    layers: int = Field(2, ge=1, description="gru: number of layers.")
    dropout: float = Field(0.25, ge=0, lt=1, description="Dropout probability in the head.")
    all_layers: bool = Field(
        False,
        description="mean and cls on a frozen encoder: read the states of every encoder layer.",
    )

    def is_plain(self, *, finetuned: bool) -> bool:
        """Tell whether it is transformers' own classification head."""
        return finetuned and self.kind == "cls"


class GRUHead(nn.Module):
    """The homework's head: a bidirectional GRU's two final states, dropout, one linear layer."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__()
        self.gru = BidirectionalGRU(
            width, hidden=config.hidden, layers=config.layers, dropout=config.dropout
        )
        self.dropout = nn.Dropout(config.dropout)
        self.to_logit = nn.Linear(2 * config.hidden, 1)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Judge reviews by all their tokens: (B, T, D), (B,) -> (B,)."""
        final = self.gru(states, lengths)  # (B, 2H)
        return self.to_logit(self.dropout(final)).squeeze(-1)


class PooledHead(nn.Module):
    """One linear layer over the pooled state of a review."""

    def __init__(self, width: int, config: HeadConfig):
        super().__init__()
        self.how: Literal["mean", "cls"] = "cls" if config.kind == "cls" else "mean"
        self.dropout = nn.Dropout(config.dropout)
        self.to_logit = nn.Linear(width, 1)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Judge reviews by their pooled tokens: (B, T, D), (B,) -> (B,)."""
        return self.to_logit(self.dropout(pool(states, lengths, self.how))).squeeze(-1)


class FrozenPooledHead(nn.Module):
    """Logistic regression on standardised pooled states of a frozen encoder.

    Their scales differ by layer and by dimension; the mean and deviation are those of the
    training reviews and stay as they are.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, num_states: int, config: HeadConfig):
        super().__init__()
        self.all_layers = config.all_layers
        width = width * num_states if config.all_layers else width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.to_logit = nn.Linear(width, 1)

    def _choose(self, pooled: Tensor) -> Tensor:
        """Take all layers side by side, or the last one: (B, L + 1, D) -> (B, width)."""
        return pooled.flatten(1) if self.all_layers else pooled[:, -1]

    def standardize_by(self, pooled: Tensor) -> None:
        """Set mean and deviation from the training reviews' states, (N, L + 1, D)."""
        chosen = self._choose(pooled)
        self.mean.copy_(chosen.mean(dim=0))
        deviation = chosen.std(dim=0)
        # A state that is the same in all reviews, up to rounding, says nothing; it stays near 0.
        self.deviation.copy_(deviation.masked_fill(deviation < 1e-5, 1.0))

    def standardized(self, pooled: Tensor) -> Tensor:
        """Return what the linear layer reads: (B, L + 1, D) -> (B, width)."""
        return (self._choose(pooled) - self.mean) / self.deviation

    def forward(self, pooled: Tensor) -> Tensor:
        """Judge reviews by their pooled states: (B, L + 1, D) -> (B,)."""
        return self.to_logit(self.standardized(pooled)).squeeze(-1)

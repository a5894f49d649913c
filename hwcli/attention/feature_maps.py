"""Feature maps: what stands in for the exponential in linear attention.

A weight is phi(q_i) . phi(k_j) over the row's sum. A map acts on each token alone, and its
derivative is a function of its value: that value is all the backward pass needs to keep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

FeatureMapName = Literal["identity", "elu1", "relu", "softmax"]


@dataclass(frozen=True)
class FeatureMap:
    """A map of (..., T, D) onto the same shape.

    ``value(x)`` never returns a tensor that shares memory with x, but for the identity;
    ``pullback(gradient, value)`` carries the gradient at the value back to x.
    """

    value: Callable[[Tensor], Tensor]
    pullback: Callable[[Tensor, Tensor], Tensor]


def _elu1(x: Tensor) -> Tensor:
    # F.elu evaluates expm1 number by number on a CPU: over ten times slower than this.
    return x.clamp(max=0).exp_().add_(x.clamp(min=0))


FEATURE_MAPS: dict[FeatureMapName, FeatureMap] = {
    # The homework's "pretend all dot-products are positive": they are not.
    "identity": FeatureMap(lambda x: x, lambda gradient, value: gradient),
    # elu(x) + 1 (Katharopoulos et al. 2020, eq. 7): always positive; the derivative is
    # exp(x) = value below zero and 1 above it.
    "elu1": FeatureMap(_elu1, lambda gradient, value: gradient * value.clamp(max=1)),
    # Never negative, but a row of weights may be all zero.
    "relu": FeatureMap(F.relu, lambda gradient, value: gradient * (value > 0)),
    # Over the features of each token: positive, of sum one.
    "softmax": FeatureMap(
        lambda x: x.softmax(dim=-1),
        lambda gradient, value: value * (gradient - (gradient * value).sum(dim=-1, keepdim=True)),
    ),
}

assert tuple(FEATURE_MAPS) == get_args(FeatureMapName)


def map_features(x: Tensor, name: FeatureMapName) -> Tensor:
    """Apply a map to each token, keeping only its value for the backward pass."""
    return x if name == "identity" else _Mapped.apply(x, name)


class _Mapped(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, name: FeatureMapName) -> Tensor:
        value = FEATURE_MAPS[name].value(x)
        ctx.name = name
        ctx.save_for_backward(value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        return FEATURE_MAPS[ctx.name].pullback(gradient, value), None

"""Feature maps: what stands in for the exponential in linear attention.

A weight is phi(q_i) . phi(k_j) over the row's sum. A map acts on each token alone, and its
derivative is a function of its value: that value is all the backward pass needs to keep.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

FeatureMapName = Literal["identity", "elu1", "relu", "softmax"]


class Value(Protocol):
    """Maps x; may write to ``out`` and spoil ``spare``, both shaped like x."""

    def __call__(self, x: Tensor, out: Tensor | None = None, spare: Tensor | None = None) -> Tensor:
        """Return the value, which shares no memory with x, but for the identity's."""


class Pullback(Protocol):
    """Carries the gradient at the value back to x; ``out`` may be the gradient itself."""

    def __call__(
        self,
        gradient: Tensor,
        value: Tensor,
        out: Tensor | None = None,
        spare: Tensor | None = None,
    ) -> Tensor:
        """Return the gradient of x."""


@dataclass(frozen=True)
class FeatureMap:
    """A map of (..., T, D) onto the same shape, and its derivative.

    Both can work in memory that is there: a fresh block costs more than what is done to it, as
    the operating system hands it out page by page.
    """

    value: Value
    pullback: Pullback


def _identity(x: Tensor, out: Tensor | None = None, spare: Tensor | None = None) -> Tensor:
    return x


def _identity_back(
    gradient: Tensor, value: Tensor, out: Tensor | None = None, spare: Tensor | None = None
) -> Tensor:
    return gradient


def _elu1(x: Tensor, out: Tensor | None = None, spare: Tensor | None = None) -> Tensor:
    # Not F.elu(x) + 1: near -1 there is no digit left of exp(x).
    small = torch.clamp(x, max=0, out=out).exp_()
    return small.add_(torch.clamp(x, min=0, out=spare))


def _elu1_back(
    gradient: Tensor, value: Tensor, out: Tensor | None = None, spare: Tensor | None = None
) -> Tensor:
    # The derivative is exp(x) = value below zero and 1 above it.
    return torch.mul(gradient, torch.clamp(value, max=1, out=spare), out=out)


def _relu(x: Tensor, out: Tensor | None = None, spare: Tensor | None = None) -> Tensor:
    return torch.clamp(x, min=0, out=out)


def _relu_back(
    gradient: Tensor, value: Tensor, out: Tensor | None = None, spare: Tensor | None = None
) -> Tensor:
    return torch.mul(gradient, torch.sign(value, out=spare), out=out)


def _softmax(x: Tensor, out: Tensor | None = None, spare: Tensor | None = None) -> Tensor:
    return torch.softmax(x, dim=-1, out=out)


def _softmax_back(
    gradient: Tensor, value: Tensor, out: Tensor | None = None, spare: Tensor | None = None
) -> Tensor:
    mean = torch.mul(gradient, value, out=spare).sum(dim=-1, keepdim=True)
    return torch.sub(gradient, mean, out=out).mul_(value)


FEATURE_MAPS: dict[FeatureMapName, FeatureMap] = {
    # The homework's "pretend all dot-products are positive": they are not.
    "identity": FeatureMap(_identity, _identity_back),
    # elu(x) + 1 (Katharopoulos et al. 2020, eq. 7): always positive.
    "elu1": FeatureMap(_elu1, _elu1_back),
    # Never negative, but a row of weights may be all zero.
    "relu": FeatureMap(_relu, _relu_back),
    # Over the features of each token: positive, of sum one.
    "softmax": FeatureMap(_softmax, _softmax_back),
}

assert tuple(FEATURE_MAPS) == get_args(FeatureMapName)


def check_feature_map(name: str) -> None:
    """Refuse a name that no feature map has.

    Raises:
        ValueError: there is no such map; the message names the choices.
    """
    if name not in FEATURE_MAPS:
        raise ValueError(f"feature_map = {name!r}; choices: {', '.join(FEATURE_MAPS)}")


def map_features(x: Tensor, name: FeatureMapName) -> Tensor:
    """Apply a map to each token, keeping only its value for the backward pass.

    Raises:
        ValueError: there is no map of that name.
    """
    check_feature_map(name)
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


def sum_type(x: Tensor) -> torch.dtype:
    """Return the type for sums over a whole sequence: at least single precision."""
    return torch.promote_types(x.dtype, torch.float32)

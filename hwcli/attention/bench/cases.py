"""One case of attention: a method, a shape and a number format, made into a call.

Timing, memory, gate and cost model all speak of the same case, so that none of them can mean
another problem than its neighbour.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from hwcli.attention.feature_maps import FeatureMapName
from hwcli.attention.functional import (
    cumulative_linear_attention,
    linear_attention,
    quadratic_linear_attention,
    sdpa_attention,
    softmax_attention,
)
from hwcli.native import compiler

MethodName = Literal[
    "softmax-sdpa", "softmax-naive", "linear-quadratic", "linear", "linear-chunked"
]
METHODS: tuple[MethodName, ...] = get_args(MethodName)
SOFTMAX: tuple[MethodName, ...] = METHODS[:2]
LINEAR: tuple[MethodName, ...] = METHODS[2:]

Direction = Literal["forward", "forward+backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True)
class Case:
    """What decides how long a call takes and what it needs.

    ``dtype`` and ``device`` are torch's names, so that a case travels to another process.
    ``compiled``: by this package's kernels where there is one, that is for ``linear`` over all
    tokens and ``linear-chunked``.
    """

    method: MethodName
    T: int
    direction: Direction = "forward"
    causal: bool = False
    feature_map: FeatureMapName = "identity"
    B: int = 1
    H: int = 1
    D: int = 64
    dtype: str = "float32"
    device: str = "cpu"
    compiled: bool = False
    seed: int = 0


def methods_for(causal: bool) -> tuple[MethodName, ...]:
    """Return the methods there are: chunks are a way to be causal."""
    return METHODS if causal else METHODS[:-1]


def attend(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute the case's attention of (B, H, T, D) tensors.

    ``linear`` is the sum over all tokens, and causal the running sum as the paper writes it;
    ``linear-chunked`` is the causal sum by chunks.
    """
    with compiler.kernels(case.compiled):
        return _attend(case, q, k, v)


def _attend(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    name, causal = case.feature_map, case.causal
    if case.method == "softmax-sdpa":
        return sdpa_attention(q, k, v, causal=causal)
    if case.method == "softmax-naive":
        return softmax_attention(q, k, v, causal=causal)
    if case.method == "linear-quadratic":
        return quadratic_linear_attention(q, k, v, feature_map=name, causal=causal)
    if case.method == "linear" and causal:
        return cumulative_linear_attention(q, k, v, feature_map=name)
    return linear_attention(q, k, v, feature_map=name, causal=causal)


def draw(case: Case, num_tensors: int = 4) -> list[Tensor]:
    """Draw standard normal q, k, v and an upstream gradient, all (B, H, T, D).

    They are drawn in float32 on the CPU, so that every device and dtype gets the same numbers.
    """
    generator = torch.Generator().manual_seed(case.seed)
    shape = (case.B, case.H, case.T, case.D)
    drawn = (torch.randn(shape, generator=generator) for _ in range(num_tensors))
    return [x.to(case.device, getattr(torch, case.dtype)) for x in drawn]


def make_call(case: Case) -> Callable[[], object]:
    """Draw the inputs and return the call that is timed: y, or the gradients of q, k and v."""
    q, k, v, upstream = draw(case)
    if case.direction == "forward":
        return lambda: attend(case, q, k, v)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    return lambda: torch.autograd.grad(attend(case, *inputs), inputs, upstream)

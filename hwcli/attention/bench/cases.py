"""One case of attention: a method, a shape and a number format, made into a call.

Timing, memory, gate and cost model all take the same case, so they always mean the same problem.
"""

from collections.abc import Callable, Sequence
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
METHOD_NOTES: dict[MethodName, str] = {
    "softmax-sdpa": "softmax attention by torch's fused kernel, which never stores the T x T "
    "weights",
    "softmax-naive": "softmax attention as the formula is written, with T x T weights in memory",
    "linear-quadratic": "attention without the exponential, still with T x T weights: O(T^2)",
    "linear": "attention without the exponential, by the sums S and z: O(T)",
    "linear-chunked": "the same with causal sums, chunk by chunk: O(T)",
}
NOTE_WITHOUT_FUSED_KERNEL = (
    "softmax attention by torch's own function, which for {dtype} on {device} may store the T x T "
    "weights"
)
SOFTMAX: tuple[MethodName, ...] = METHODS[:2]
LINEAR: tuple[MethodName, ...] = METHODS[2:]

Direction = Literal["forward", "forward+backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True)
class Case:
    """Everything that decides the time and the memory of a call.

    ``dtype`` and ``device`` are torch's names, so a case can be sent to another process.
    ``compiled``: use this package's kernels for the methods that have one, which are ``linear``
    without a causal mask and ``linear-chunked``.
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


def has_fused_kernel(device: str, dtype: str) -> bool:
    """Tell whether torch's softmax attention never stores the T x T weights.

    On Apple's GPU its backward pass does, and in older releases its forward pass too. On CUDA the
    fused kernels are for float32 and narrower types.
    """
    return device == "cpu" or (device == "cuda" and dtype != "float64")


def method_note(method: MethodName, *, device: str, dtype: str) -> str:
    """Say what a method is, for numbers of a type on a device."""
    if method == "softmax-sdpa" and not has_fused_kernel(device, dtype):
        return NOTE_WITHOUT_FUSED_KERNEL.format(dtype=dtype, device=device)
    return METHOD_NOTES[method]


def methods_for(causal: bool) -> tuple[MethodName, ...]:
    """Return the methods to choose from: chunks are for causal attention only."""
    return METHODS if causal else METHODS[:-1]


def attend(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute the case's attention of (B, H, T, D) tensors.

    ``linear`` sums over all tokens, or with a causal mask keeps the running sums of the paper;
    ``linear-chunked`` computes the causal sums chunk by chunk.
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


def random_inputs(case: Case, num_tensors: int = 4) -> list[Tensor]:
    """Draw standard normal q, k, v and an upstream gradient, all (B, H, T, D).

    The numbers are drawn in float32 on the CPU, so every device and dtype gets the same ones.
    """
    generator = torch.Generator().manual_seed(case.seed)
    shape = (case.B, case.H, case.T, case.D)
    drawn = (torch.randn(shape, generator=generator) for _ in range(num_tensors))
    return [x.to(case.device, getattr(torch, case.dtype)) for x in drawn]


def make_call(case: Case, inputs: Sequence[Tensor] | None = None) -> Callable[[], object]:
    """Return the timed call: it computes y, or the gradients of q, k and v.

    Args:
        case: what is computed.
        inputs: from :func:`random_inputs` of a case that differs in its method alone; None draws
            them.
    """
    q, k, v, upstream = random_inputs(case) if inputs is None else inputs
    if case.direction == "forward":
        return lambda: attend(case, q, k, v)
    learned = [x.requires_grad_() for x in (q, k, v)]
    return lambda: torch.autograd.grad(attend(case, *learned), learned, upstream)

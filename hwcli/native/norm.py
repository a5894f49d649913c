"""Layer normalisation and residual sums between a float32 stream and bfloat16 branches.

Under autocasting to bfloat16 torch normalises in float32, casts the result, and adds a branch by
way of a float32 copy of it. norm.cpp does each in one pass over memory. Elsewhere these are
torch's own functions.

Shapes: N tokens in all, D width.
"""

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hwcli.native import build


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Normalise tokens (Ba et al. 2016): (..., D) -> (..., D), in the type that products run in."""
    if _fits(x) and x.is_contiguous():
        return _LayerNorm.apply(x, weight, bias, epsilon)  # type: ignore[no-any-return]
    return F.layer_norm(x, weight.shape, weight, bias, epsilon)


def add_branch(x: Tensor, branch: Tensor) -> Tensor:
    """Return x + branch, float32 where x is."""
    if _fits(x) and branch.dtype == torch.bfloat16 and x.shape == branch.shape:
        return _AddBranch.apply(x.contiguous(), branch.contiguous())  # type: ignore[no-any-return]
    return x + branch


def _fits(x: Tensor) -> bool:
    return (
        build.in_use()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[-1] % 16 == 0
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        D = x.shape[-1]
        out = torch.empty(x.shape, dtype=torch.bfloat16)
        means, scales = (torch.empty(x.numel() // D) for _ in range(2))
        pointers = _pointers(x, weight, bias, out, means, scales)
        _made(D).norm_forward(*pointers, ctypes.c_float(epsilon), ctypes.c_long(len(means)))
        ctx.save_for_backward(x, weight, means, scales)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, means, scales = ctx.saved_tensors
        dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        upstream = upstream.contiguous()
        pointers = _pointers(upstream, x, weight, means, scales, dx, dweight, dbias)
        _made(x.shape[-1]).norm_backward(*pointers, ctypes.c_long(len(means)))
        return dx, dweight, dbias, None


class _AddBranch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor) -> Tensor:
        D = x.shape[-1]
        sums = torch.empty_like(x)
        _made(D).add_branch(*_pointers(x, branch, sums), ctypes.c_long(x.numel() // D))
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        return upstream, upstream.to(torch.bfloat16)


def _made(D: int) -> ctypes.CDLL:
    return build.library("norm.cpp", D=str(D))


def _pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]

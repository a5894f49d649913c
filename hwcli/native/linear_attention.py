"""Linear attention of all tokens or causal by linear_attention.cpp, forward and backward.

Shapes: B batch, H heads, T tokens, D width of one head; a head's tokens may be cut in parts.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hwcli.errors import KernelError
from hwcli.native import compiler

# Tokens that are worked on at a time: with the state they fit the first-level cache.
CHUNK = 32

ELEMENTS = {torch.float32: "float", torch.bfloat16: "uint16_t"}
MAPS = {"identity": 0, "elu1": 1, "relu": 2, "softmax": 3}
# A D x D state beyond this is far larger than a first-level cache: torch's products are better.
MOST_WIDTH = 128
# A width is filled up to whole vectors, which have so many numbers at most.
MOST_LANES = 16

# A thread costs more than it saves for fewer multiplications.
LEAST_WORK = 2**22


def reason_against(D: int, dtype: torch.dtype) -> str | None:
    """Return why there is no kernel for heads of such a width and type; None if there is one."""
    if dtype not in ELEMENTS:
        return f"none for {str(dtype).removeprefix('torch.')}"
    if D > MOST_WIDTH:
        return f"none for heads wider than {MOST_WIDTH}"
    try:
        _library(D, dtype)
    except KernelError as error:
        return str(error)
    return None


def fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Tell whether the kernel is in use and is for such tensors, (B, H, T, D)."""
    return (
        compiler.in_use()
        and q.device.type == "cpu"
        and q.dtype in ELEMENTS
        and q.dtype == k.dtype == v.dtype
        and q.shape == k.shape == v.shape
        and q.shape[-1] <= MOST_WIDTH
        and q.numel() > 0
    )


class NativeLinearAttention(torch.autograd.Function):
    """``apply(q, k, v, map, causal)``: linear attention of (B, H, T, D) tensors."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, name: str, causal: bool) -> Tensor:
        """Compute y, and keep besides the inputs what is O(T) or O(D^2)."""
        q, k, v = (_dense(x) for x in (q, k, v))
        y = torch.empty_like(v, memory_format=torch.contiguous_format)
        normalizers, sums = _forward(q, k, v, y, name, causal)
        ctx.name, ctx.causal = name, causal
        ctx.save_for_backward(q, k, v, normalizers, sums)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Compute the gradients of q, k and v."""
        q, k, v, normalizers, sums = ctx.saved_tensors
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        _backward(q, k, v, _dense(g), dq, dk, dv, normalizers, sums, ctx.name, ctx.causal)
        return dq, dk, dv, None, None


class NativePackedLinearAttention(torch.autograd.Function):
    """``apply(qkv, map)``: of all heads as a ViT has them, (B, T, 3, H, D) -> (B, T, H, D).

    Only strides differ: nothing is copied.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, name: str) -> Tensor:
        """Compute y."""
        qkv = _dense(qkv)
        B, T, _, H, D = qkv.shape
        y = qkv.new_empty(B, T, H, D)
        normalizers, sums = _forward(*unpack(qkv), y.transpose(1, 2), name, causal=False)
        ctx.name = name
        ctx.save_for_backward(qkv, normalizers, sums)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        """Compute the gradient of q, k and v side by side."""
        qkv, normalizers, sums = ctx.saved_tensors
        gradient = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        g = _dense(g).transpose(1, 2)
        _backward(*unpack(qkv), g, *unpack(gradient), normalizers, sums, ctx.name, causal=False)
        return gradient, None


def unpack(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """View q, k and v of (B, T, 3, H, D), each (B, H, T, D)."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _forward(
    q: Tensor, k: Tensor, v: Tensor, y: Tensor, name: str, causal: bool
) -> tuple[Tensor, Tensor]:
    B, H, T, D = q.shape
    parts, threads = _shares(B * H, T, D)
    normalizers = torch.empty(B, H, T, dtype=torch.float32, device="cpu")
    sums = _sums(B * H * parts, D)
    _library(D, q.dtype).linear_forward(
        *map(_view, (q, k, v, y)),
        *map(_pointer, (normalizers, sums)),
        *map(ctypes.c_int, (MAPS[name], causal)),
        *map(ctypes.c_long, (B, H, T, parts, threads)),
        compiler.parallel(),
    )
    return normalizers, sums


def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    normalizers: Tensor,
    sums: Tensor,
    name: str,
    causal: bool,
) -> None:
    B, H, T, D = q.shape
    parts = len(sums) // (B * H)
    _, threads = _shares(B * H, T, D)
    dnormalizers, gradients = torch.empty_like(normalizers), torch.empty_like(sums)
    _library(D, q.dtype).linear_backward(
        *map(_view, (q, k, v, g, dq, dk, dv)),
        *map(_pointer, (normalizers, dnormalizers, sums, gradients)),
        *map(ctypes.c_int, (MAPS[name], causal)),
        *map(ctypes.c_long, (B, H, T, parts, threads)),
        compiler.parallel(),
    )


def _shares(heads: int, T: int, D: int) -> tuple[int, int]:
    """Return in how many parts each head is cut, and how many threads share all parts out.

    With few heads a result depends on the number of threads, by rounding errors.
    """
    threads = max(min(compiler.num_threads(), heads * T * D * D // LEAST_WORK), 1)
    even = heads % threads == 0 or heads >= 8 * threads
    return 1 if even else threads, threads


class _View(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_long),
        ("head", ctypes.c_long),
        ("token", ctypes.c_long),
    ]


def _view(x: Tensor) -> _View:
    return _View(x.data_ptr(), *x.stride()[:3])


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _dense(x: Tensor) -> Tensor:
    """Make the features of a token lie side by side; whatever else is strided stays so."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _sums(number: int, D: int) -> Tensor:
    """Return memory for S and z of so many parts, whatever the processor's vectors."""
    width = -(-D // MOST_LANES) * MOST_LANES
    return torch.empty(number, (width + 1) * width, dtype=torch.float32, device="cpu")


def _library(D: int, dtype: torch.dtype) -> ctypes.CDLL:
    return compiler.library(
        "linear_attention.cpp",
        HW2_WIDTH=str(D),
        HW2_CHUNK=str(CHUNK),
        HW2_ELEMENT=ELEMENTS[dtype],
    )

"""Softmax attention over short sequences by softmax_attention.cpp: a ViT's hot path on a CPU.

Shapes: B batch, T tokens, H heads, D width of one head.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hwcli.native import compiler

ELEMENTS = {torch.float32: "float", torch.bfloat16: "uint16_t"}
# Beyond these a head no longer fits the first-level cache, and torch's kernels are the better.
MOST_TOKENS, MOST_WIDTH = 128, 64


def fits(qkv: Tensor) -> bool:
    """Tell whether the kernel is in use and is for such a tensor, (B, T, 3, H, D)."""
    return (
        compiler.in_use()
        and qkv.device.type == "cpu"
        and qkv.dtype in ELEMENTS
        and qkv.shape[1] <= MOST_TOKENS
        and qkv.shape[4] <= MOST_WIDTH
    )


class NativeSoftmaxAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(D)) v for all heads: (B, T, 3, H, D) -> (B, T, H, D)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        """Compute y, and each row's largest score and share for the backward pass."""
        B, T, _, H, D = qkv.shape
        qkv = qkv.contiguous()
        y = qkv.new_empty(B, T, H, D)
        tops, shares = (torch.empty(B, H, T) for _ in range(2))
        _call("forward", qkv, y, tops, shares)
        ctx.save_for_backward(qkv, y, tops, shares)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        """Compute the gradient of q, k and v side by side."""
        qkv, y, tops, shares = ctx.saved_tensors
        gradient = torch.empty_like(qkv)
        _call("backward", qkv, y, tops, shares, upstream.contiguous(), gradient)
        return gradient


def _call(direction: str, qkv: Tensor, *others: Tensor) -> None:
    B, T, _, H, D = qkv.shape
    element = ELEMENTS[qkv.dtype]
    made = compiler.library("softmax_attention.cpp", T=str(T), D=str(D), Element=element)
    function = getattr(made, f"attention_{direction}")
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (qkv, *others)]
    function(*pointers, ctypes.c_long(B), ctypes.c_long(H), ctypes.c_float(D**-0.5))

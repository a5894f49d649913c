"""An encoder layer of a ViT by encoder_layer.cpp: a few images at a time, forward and backward.

Under autocasting to bfloat16 on a CPU a layer is some forty of torch's kernels, each of which
reads and writes all of a batch. encoder_layer.cpp is one, whose intermediate results never leave
the cache.

Shapes: B images, T tokens, D width, H heads, W width of one head, M width of the MLP.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hwcli.native import compiler, gemm_bf16

# Beyond this a head's scores no longer fit the first-level cache.
MOST_TOKENS = 128


def fits(x: Tensor, layer: Any) -> bool:
    """Tell whether the kernel is in use and is for such tokens, (B, T, D), and such a layer.

    The processor multiplies matrices in tiles of 16 rows and 32 columns. A head may not be wider
    than there are tokens: encoder_layer.cpp's places for scores hold its keys, too.
    """
    head_width = layer.attention.to_out.in_features // layer.attention.heads
    return (
        compiler.in_use()
        and gemm_bf16.usable()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and x.shape[1] <= MOST_TOKENS
        and x.shape[2] % 32 == 0
        and layer.mlp.to_out.in_features % 32 == 0
        and head_width % 16 == 0
        and _up_to_32(head_width) <= _up_to_32(x.shape[1])
        and not (layer.training and layer.dropout.p)
    )


def _up_to_32(number: int) -> int:
    return -(-number // 32) * 32


def encode(x: Tensor, layer: Any) -> Tensor:
    """Do what a layer does: (B, T, D) -> (B, T, D).

    The layer is a ``Block`` of ``hwcli.vision.vit``, or has the same parts by the same names.
    """
    attention, mlp = layer.attention, layer.mlp
    modules = (layer.norm1, attention.to_qkv, attention.to_out, layer.norm2, mlp.to_hidden,
               mlp.to_out)  # fmt: skip
    parameters = [parameter for module in modules for parameter in module.parameters()]
    linear = attention.kind == "linear"
    return NativeBlock.apply(x, attention.heads, linear, layer.norm1.eps, *parameters)  # type: ignore[no-any-return]


class NativeBlock(torch.autograd.Function):
    """``apply(x, heads, linear, epsilon, *parameters)``, these in the order of ``encode``.

    All are float32; products are of bfloat16.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, heads: int, linear: bool, epsilon: float, *parameters: Tensor
    ) -> Tensor:
        """Compute y, and keep x alone."""
        x = x.contiguous()
        y = torch.empty_like(x)
        ctx.heads, ctx.linear, ctx.epsilon = heads, linear, epsilon
        ctx.save_for_backward(x, *parameters)
        _made(x, heads, linear, parameters).block_forward(
            _pointer(x), _pointers(parameters), _pointer(y), *_rest(x, epsilon)
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Compute everything anew from x, and the gradients from that."""
        x, *parameters = ctx.saved_tensors
        dx = torch.empty_like(x)
        dy = dy.contiguous()
        sizes = [parameter.numel() for parameter in parameters]
        # Every thread sums on its own.
        totals = torch.zeros(torch.get_num_threads(), sum(sizes))
        parts = [part for row in totals for part in row.split(sizes)]
        _made(x, ctx.heads, ctx.linear, parameters).block_backward(
            _pointer(x),
            _pointers(parameters),
            _pointer(dy),
            _pointer(dx),
            _pointers(parts),
            *_rest(x, ctx.epsilon),
        )
        total = totals[0] if len(totals) == 1 else totals.sum(dim=0)
        gradients = [
            part.view_as(parameter)
            for part, parameter in zip(total.split(sizes), parameters, strict=True)
        ]
        return dx, None, None, None, *gradients


def _made(
    x: Tensor, heads: int, linear: bool, parameters: tuple[Tensor, ...] | list[Tensor]
) -> ctypes.CDLL:
    _, T, D = x.shape
    numbers = {
        "T": T,
        "D": D,
        "H": heads,
        "W": parameters[2].shape[0] // (3 * heads),
        "M": parameters[7].shape[0],
        "LINEAR": int(linear),
    }
    return gemm_bf16.library("encoder_layer.cpp", **numbers)


def _rest(x: Tensor, epsilon: float) -> tuple[Any, ...]:
    threads = torch.get_num_threads()
    return (
        ctypes.c_float(epsilon),
        ctypes.c_long(len(x)),
        ctypes.c_long(threads),
        compiler.parallel(),
    )


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pointers(tensors: tuple[Tensor, ...] | list[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))

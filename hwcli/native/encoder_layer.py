"""An encoder layer of a ViT in one kernel, forward and backward, a few images at a time.

In torch a layer is about twenty operations forward and forty backward, and each of them reads and
writes the whole batch. encoder_layer_float32.cpp and encoder_layer_bfloat16.cpp are one operation
each: their intermediate results stay in the cache.

Shapes: B images, T tokens, D width, H heads, W width of one head, M width of the MLP.
"""

import ctypes
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hwcli.native import compiler, gemm_bf16

# With more tokens a head's scores do not fit into the second-level cache.
MOST_TOKENS = 256
# The bfloat16 kernel keeps them in the first-level cache.
MOST_TOKENS_IN_BFLOAT16 = 128
# The backward pass of linear attention keeps three matrices of a head on the stack.
WIDEST_HEAD = 512
# macOS gives each thread but the first 512 KiB of stack, of which frames take some, too.
STACK_BYTES_ON_MACOS = (512 - 64) * 1024
# Widths are filled up to whole vectors, which have so many numbers at most.
MOST_LANES = 16
# A batch is split into parts, and gradients are summed part by part: so a layer is the same, bit
# for bit, by any number of threads. More threads than parts have nothing to do.
PARTS = 8


class LayerParameters(NamedTuple):
    """What a layer learns; weights are (outputs, inputs), as in ``torch.nn.Linear``."""

    norm1: Tensor  # (D,)
    norm1_bias: Tensor  # (D,)
    qkv: Tensor  # (3 H W, D): queries of all heads, keys, values
    out: Tensor  # (D, H W)
    out_bias: Tensor  # (D,)
    norm2: Tensor  # (D,)
    norm2_bias: Tensor  # (D,)
    hidden: Tensor  # (M, D)
    hidden_bias: Tensor  # (M,)
    mlp_out: Tensor  # (D, M)
    mlp_out_bias: Tensor  # (D,)


@dataclass(frozen=True)
class LayerShape:
    """What a kernel is compiled for."""

    tokens: int
    width: int
    heads: int
    head_width: int
    mlp_width: int
    linear: bool

    @property
    def constants(self) -> dict[str, int]:
        """The names that layer_parts.h reads."""
        return {
            "HW2_TOKENS": self.tokens,
            "HW2_WIDTH": self.width,
            "HW2_HEADS": self.heads,
            "HW2_HEAD_WIDTH": self.head_width,
            "HW2_MLP_WIDTH": self.mlp_width,
            "HW2_LINEAR": int(self.linear),
        }


def fits_tokens(x: Tensor) -> bool:
    """Tell whether a kernel is in use and is for such tokens, (B, T, D)."""
    return (
        compiler.in_use()
        and x.is_cpu
        and x.dtype == torch.float32
        and x.ndim == 3
        and 0 < x.shape[1] <= MOST_TOKENS
    )


def fits(width: int, parameters: LayerParameters, *, heads: int) -> bool:
    """Tell whether the kernel, which reads bare memory, is for such parameters.

    Where it is not, torch's operations compute the layer, or raise their own errors.

    Args:
        width: D of the tokens.
        parameters: of the layer; a norm or a linear map without weight or bias has None.
        heads: H.
    """
    for parameter in parameters:
        if (
            parameter is None
            or parameter.dtype != torch.float32
            or not parameter.is_cpu
            or not parameter.is_contiguous()
        ):
            return False
    shapes = [parameter.shape for parameter in parameters]
    of_heads, of_mlp = parameters.out.shape[-1], parameters.hidden.shape[0]
    return (
        heads > 0
        and of_heads % heads == 0
        and of_heads // heads <= WIDEST_HEAD
        and shapes
        == [
            (width,),
            (width,),
            (3 * of_heads, width),
            (width, of_heads),
            (width,),
            (width,),
            (width,),
            (of_mlp, width),
            (of_mlp,),
            (width, of_mlp),
            (width,),
        ]
    )


def encode(
    x: Tensor, parameters: LayerParameters, *, heads: int, linear: bool, epsilon: float
) -> Tensor:
    """Compute x2 + mlp(norm2(x2)) with x2 = x + attention(norm1(x)): (B, T, D) -> (B, T, D).

    Under autocasting to bfloat16 products are of bfloat16 where the processor has them and the
    kernel is for such widths; else all is float32.

    Args:
        x: tokens that ``fits_tokens`` has said yes to.
        parameters: that ``fits`` has said yes to.
        heads: H.
        linear: attention with elu + 1 in place of softmax.
        epsilon: of both norms.
    """
    shape = LayerShape(
        tokens=x.shape[1],
        width=x.shape[2],
        heads=heads,
        head_width=parameters.out.shape[1] // heads,
        mlp_width=parameters.hidden.shape[0],
        linear=linear,
    )
    in_bfloat16 = (
        torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and fits_bfloat16(shape)
        and gemm_bf16.usable()
    )
    # Asked here, since inside an autograd function gradients are always off.
    needs_backward = torch.is_grad_enabled()
    return EncoderLayer.apply(  # type: ignore[no-any-return]
        x, shape, epsilon, in_bfloat16, needs_backward, *parameters
    )


def num_threads(shape: LayerShape) -> int:
    """Return how many threads compute a layer: one where only its stack holds the arrays.

    The thread that calls has megabytes everywhere, and on Linux the others have, too.
    """
    is_small = sys.platform == "darwin" and stack_bytes(shape) > STACK_BYTES_ON_MACOS
    return 1 if is_small else compiler.num_threads()


def stack_bytes(shape: LayerShape) -> int:
    """Count what the largest function of encoder_layer_float32.cpp has on its stack.

    That is the backward pass of a head: three T x T or W x W matrices and what goes with them. Of
    tokens wider than usual it is that of a norm, which holds two tokens.
    """
    T, W = shape.tokens, _up_to(MOST_LANES, shape.head_width)
    if shape.linear:
        of_head = 3 * W * W + T * W + T + 2 * W  # S, dS and S turned; u, dn, z and dz
    else:
        queries = _up_to(MOST_LANES, T)
        of_head = W * queries + 2 * T * queries + queries  # q or g turned, P, dP and its mean
    return 4 * max(of_head, 2 * _up_to(MOST_LANES, shape.width))


def fits_bfloat16(shape: LayerShape) -> bool:
    """Tell whether the kernel in bfloat16 is for such a layer."""
    return reason_against_bfloat16(shape) is None


def reason_against_bfloat16(shape: LayerShape) -> str | None:
    """Return what of a layer the kernel in bfloat16 is not for; None if it is for all.

    Processors multiply matrices of bfloat16 in tiles of 16 rows and 32 columns. A head may not be
    wider than there are tokens: the kernel's places for scores hold its keys, too.
    """
    if shape.tokens > MOST_TOKENS_IN_BFLOAT16:
        return f"{shape.tokens} tokens (it needs at most {MOST_TOKENS_IN_BFLOAT16})"
    if shape.width % 32:
        return f"width {shape.width} (it needs a multiple of 32)"
    if shape.mlp_width % 32:
        return f"MLP width {shape.mlp_width} (it needs a multiple of 32)"
    if shape.head_width % 16:
        return f"head width {shape.head_width} (it needs a multiple of 16)"
    if shape.head_width > (widest := _up_to(32, shape.tokens)):
        return (
            f"head width {shape.head_width} with {shape.tokens} tokens (it needs at most {widest})"
        )
    return None


def _up_to(unit: int, number: int) -> int:
    return -(-number // unit) * unit


class EncoderLayer(torch.autograd.Function):
    """``apply(x, shape, epsilon, in_bfloat16, needs_backward, *parameters)``.

    The parameters are in the order of ``LayerParameters``. With ``in_bfloat16`` products are of
    bfloat16; parameters and results are float32 either way. With ``needs_backward`` a backward
    pass may follow.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shape: LayerShape,
        epsilon: float,
        in_bfloat16: bool,
        needs_backward: bool,
        *parameters: Tensor,
    ) -> Tensor:
        """Compute y. Keep what costs more to compute again than to read."""
        x, y = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        library = _library(shape, in_bfloat16=in_bfloat16)
        kept = None
        if needs_backward and any(ctx.needs_input_grad):
            kept = torch.empty(library.layer_kept_bytes(ctypes.c_long(len(x))), dtype=torch.uint8)
        library.layer_forward(
            _pointer(x),
            _pointers(parameters),
            _pointer(y),
            _pointer(kept),
            *_common_arguments(x, shape, epsilon),
        )
        ctx.library, ctx.shape, ctx.epsilon, ctx.kept = library, shape, epsilon, kept
        ctx.save_for_backward(x, *parameters)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of x and of the parameters."""
        x, *parameters = ctx.saved_tensors
        dx, dy = torch.empty_like(x), dy.contiguous()
        gradients = [torch.empty_like(parameter) for parameter in parameters]
        ctx.library.layer_backward(
            _pointer(x),
            _pointers(parameters),
            _pointer(dy),
            _pointer(dx),
            _pointers(gradients),
            _pointer(ctx.kept),
            *_common_arguments(x, ctx.shape, ctx.epsilon),
        )
        return dx, None, None, None, None, *gradients


def _library(shape: LayerShape, *, in_bfloat16: bool) -> ctypes.CDLL:
    if in_bfloat16:
        library = gemm_bf16.library("encoder_layer_bfloat16.cpp", **shape.constants)
    else:
        texts = {name: str(number) for name, number in shape.constants.items()}
        library = compiler.library("encoder_layer_float32.cpp", **texts)
    library.layer_kept_bytes.restype = ctypes.c_long
    return library


def _common_arguments(x: Tensor, shape: LayerShape, epsilon: float) -> tuple[Any, ...]:
    return (
        ctypes.c_float(epsilon),
        ctypes.c_long(len(x)),
        ctypes.c_long(PARTS),
        ctypes.c_long(num_threads(shape)),
        compiler.parallel(),
    )


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _pointers(tensors: tuple[Tensor, ...] | list[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))

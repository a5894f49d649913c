"""The two products of linear attention, where one side is as long as the sequence.

Torch sends float32 products to MKL, which on AMD processors keeps to half vectors (AVX2), and to
oneDNN only when they are spelled as convolutions. A 1 x 1 convolution over channels-last images
is a matrix product over tokens, and its weight gradient is the sum of outer products: the same
numbers from the library that uses whole vectors. On a Zen 5 core, which works on whole vectors at
once, that is 2.2 times as fast; on Zen 4, which works on them by halves, it is slower.

Shapes: N tokens, E and F features.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from hwcli.runtime import cpu_flags

# oneDNN shares its work out over images. Torch takes it only from 16 images on (at one thread),
# and the outer products are fastest where an image's tokens stay in the first-level cache.
IMAGES = 16
TOKENS_PER_IMAGE = 64
FEWEST_TOKENS = IMAGES * TOKENS_PER_IMAGE


def times_matrix(x: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """Multiply every token: (N, E) @ (E, F) -> (N, F), written to ``out``."""
    if not _suits_onednn(x):
        return torch.mm(x, matrix, out=out)
    kernels = matrix.t().contiguous()[:, :, None, None]  # (F, E, 1, 1)
    images = F.conv2d(_as_images(x, len(x) // IMAGES), kernels)  # (16, F, 1, N/16)
    return out.copy_(images.permute(0, 2, 3, 1).reshape(len(x), matrix.shape[1]))


def add_outer(total: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Add the outer products of two rows of tokens: (N, E), (N, F) -> x^T y onto (E, F)."""
    if _suits_onednn(x):
        weight: Tensor = conv2d_weight(
            _as_images(y, TOKENS_PER_IMAGE),
            [x.shape[1], y.shape[1], 1, 1],
            _as_images(x, TOKENS_PER_IMAGE),
        )
        return total.add_(weight[:, :, 0, 0])
    if total.dtype != x.dtype:  # sums of bfloat16 are kept in single precision
        return total.add_(x.t() @ y)
    return total.addmm_(x.t(), y)


def _suits_onednn(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and len(x) >= FEWEST_TOKENS
        and len(x) % TOKENS_PER_IMAGE == 0
        and torch.backends.mkldnn.is_available()
        and _mkl_wastes_half()
    )


@functools.cache
def _mkl_wastes_half() -> bool:
    """Tell AMD's processors that have whole 512-bit units: sse4a is AMD's, the other is Zen 5's."""
    return {"sse4a", "avx512_vp2intersect"} <= cpu_flags()


def _as_images(x: Tensor, tokens_per_image: int) -> Tensor:
    """View tokens as channels-last images one pixel high: (N, E) -> (N/n, E, 1, n)."""
    N, E = x.shape
    # A height of its own, not of stride 1: only so does torch see channels-last images.
    return x.contiguous().view(N // tokens_per_image, 1, tokens_per_image, E).permute(0, 3, 1, 2)

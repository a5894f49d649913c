"""The two products of linear attention, where one side is as long as the sequence.

Torch sends float32 products to MKL, which on AMD processors leaves half the vector width unused
(AVX2), and to oneDNN only when they are spelled as convolutions. A 1 x 1 convolution over
channels-last images is a matrix product over tokens, and its weight gradient is the sum of
outer products: the same numbers from the faster library, 2.2 times as fast on a Zen 5 core.

Shapes: N tokens, E and F features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

# oneDNN shares its work out over images. Torch takes it only from 16 images on (at one thread),
# and the outer products are fastest where an image's tokens stay in the first-level cache.
IMAGES = 16
TOKENS_PER_IMAGE = 64
FEWEST_TOKENS = IMAGES * TOKENS_PER_IMAGE


def times_matrix(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply every token: (N, E) @ (E, F) -> (N, F)."""
    if not _suits_onednn(x):
        return x @ matrix
    kernels = matrix.t().contiguous()[:, :, None, None]  # (F, E, 1, 1)
    images = F.conv2d(_as_images(x, len(x) // IMAGES), kernels)  # (16, F, 1, N/16)
    return images.permute(0, 2, 3, 1).reshape(len(x), matrix.shape[1])


def sum_of_outer(x: Tensor, y: Tensor) -> Tensor:
    """Sum the outer products of two rows of tokens: (N, E), (N, F) -> x^T y (E, F)."""
    if not _suits_onednn(x):
        return x.t() @ y
    weight: Tensor = conv2d_weight(
        _as_images(y, TOKENS_PER_IMAGE),
        [x.shape[1], y.shape[1], 1, 1],
        _as_images(x, TOKENS_PER_IMAGE),
    )
    return weight[:, :, 0, 0]


def _suits_onednn(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and len(x) >= FEWEST_TOKENS
        and len(x) % TOKENS_PER_IMAGE == 0
        and torch.backends.mkldnn.is_available()
    )


def _as_images(x: Tensor, tokens_per_image: int) -> Tensor:
    """View tokens as channels-last images one pixel high: (N, E) -> (N/n, E, 1, n)."""
    N, E = x.shape
    # A height of its own, not of stride 1: only so does torch see channels-last images.
    return x.contiguous().view(N // tokens_per_image, 1, tokens_per_image, E).permute(0, 3, 1, 2)

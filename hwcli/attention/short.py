"""Softmax attention over short sequences on a CPU, forward and backward: a ViT's hot path.

Torch's softmax subtracts each row's maximum before it exponentiates, so that nothing overflows,
and in bfloat16 finding the maxima takes five times as long as the exponentials. Scores this
small cannot overflow: one pass over all of them finds that out, and the maxima are left alone.

Weights are kept key by query, (Tk, Tq), and not divided by their sums; only the result is. What
is scaled or summed then runs along rows of memory, where the processor's vectors work.

Shapes: B batch, H heads, T tokens, D width of one head.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# exp(80) = 5.5e34: even a thousand of them sum to less than the largest bfloat16, 3.4e38.
LARGEST_SAFE_SCORE = 80.0


class ShortSoftmaxAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(D)) v for (q, k, v), all (B, H, T, D)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Compute W = exp(k q^T / sqrt(D)) and y = W^T v / (W^T 1)."""
        ctx.scale = q.shape[-1] ** -0.5
        q = q * ctx.scale
        weights = k @ q.mT  # (B, H, Tk, Tq)
        least, largest = weights.aminmax()
        if not max(-least, largest) <= LARGEST_SAFE_SCORE:
            weights -= weights.amax(dim=-2, keepdim=True)
        weights.exp_()
        share = weights.sum(dim=-2, keepdim=True).reciprocal_()  # (B, H, 1, Tq)
        y = (v.mT @ weights).mul_(share)  # (B, H, D, Tq)
        ctx.save_for_backward(q, k, v, weights, share, y)
        return y.mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the chain rule; with g = dL/dy / sum, dL/dW = v g^T - 1 (g . y)^T."""
        q, k, v, weights, share, y = ctx.saved_tensors
        B, H, T, D = v.shape
        g = gradient.mT.contiguous() * share  # (B, H, D, Tq)
        mean = (g * y).sum(dim=-2)  # (B, H, Tq)
        scores = torch.baddbmm(
            -mean.view(B * H, 1, T).expand(-1, T, -1),
            v.reshape(B * H, T, D),
            g.view(B * H, D, T),
        )
        scores = scores.view(B, H, T, T).mul_(weights)  # dL/d(k q^T)
        return (scores.mT @ k).mul_(ctx.scale), scores @ q, weights @ g.mT

"""Causal linear attention in chunks: O(T) time and memory, and nothing but matrix products.

Everything here is one product, P(a, b, c)_i = sum_{j <= i} (a_i . b_j) c_j. Inside a chunk it is
formed as a masked C x C matrix; what lies before the chunk comes through the state
sum b_j c_j^T, carried from chunk to chunk (Yang et al. 2024, "Gated Linear Attention
Transformers", section 2.3, without the gates). A column of ones beside v makes the last column
of P(phi(q), phi(k), [v, 1]) the normalizer n, and the gradients are three more such products:

    y = P(phi(q), phi(k), v) / n            g+ = [g, -(g . y)] / n,   v+ = [v, 1]
    dphi(q) = P(g+, v+, phi(k))     dphi(k) = P'(v+, g+, phi(q))     dv = P'(phi(k), phi(q), g / n)

for an incoming gradient g, where P' sums over j >= i.

Shapes: B batch, H heads, T tokens, t tokens of a block, C of a chunk, m chunks of a block, D width
of a and b, E width of c.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName, sum_type

# Half of what is formed inside a chunk is masked away: shorter chunks waste less of it, and make
# more states.
CHUNK = 32

# A block is what is worked on at a time, over all heads: its states fill the cache, no more.
BLOCK_TOKENS = 2048


class CausalLinearAttention(Function):
    """``apply(q, k, v, feature_map)``: causal linear attention of (B, H, T, D) tensors."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, name: FeatureMapName) -> Tensor:
        """Compute y and keep, besides the inputs and y, the normalizers."""
        y = torch.empty_like(v, memory_format=torch.contiguous_format)
        normalizers = q.new_empty(*q.shape[:-1], 1)
        phi = FEATURE_MAPS[name].value
        product = CausalProduct()
        with torch.autocast(q.device.type, enabled=False):
            for at in _blocks(q):
                numerator = product(phi(q[at]), phi(k[at]), _with_ones(v[at]))
                normalizers[at] = numerator[..., -1:]
                torch.div(numerator[..., :-1], numerator[..., -1:], out=y[at])
        ctx.name = name
        ctx.save_for_backward(q, k, v, y, normalizers)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of q, k and v: one sweep forwards, one backwards."""
        q, k, v, y, normalizers = ctx.saved_tensors
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        phi, pullback = FEATURE_MAPS[ctx.name].value, FEATURE_MAPS[ctx.name].pullback

        def g_plus(at: Any) -> Tensor:
            g = gradient[at] / normalizers[at]
            return torch.cat([g, -(g * y[at]).sum(dim=-1, keepdim=True)], dim=-1)

        product = CausalProduct()
        for at in _blocks(q):
            dmapped = product(g_plus(at), _with_ones(v[at]), phi(k[at]))
            dq[at] = pullback(dmapped, phi(q[at]))
        to_k, to_v = CausalProduct(reverse=True), CausalProduct(reverse=True)
        for at in reversed(list(_blocks(q))):
            g, mapped_q, mapped_k = g_plus(at), phi(q[at]), phi(k[at])
            dk[at] = pullback(to_k(_with_ones(v[at]), g, mapped_q), mapped_k)
            dv[at] = to_v(mapped_k, mapped_q, g[..., :-1])
        return dq, dk, dv, None


class CausalProduct:
    """P(a, b, c), block by block: each call goes on where the last one stopped.

    With ``reverse`` the blocks come from the end, and the sum runs over j >= i.
    """

    def __init__(self, *, reverse: bool = False):
        self.reverse = reverse
        self.state: Tensor | None = None  # (B H, D, E), of the blocks so far

    def __call__(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Return one block: (B, H, t, D), (B, H, t, D), (B, H, t, E) -> (B, H, t, E)."""
        B, H, t, _ = a.shape
        a, b, c = (_in_chunks(x) for x in (a, b, c))  # (B H, m, C, D or E)
        m, E = a.shape[1], c.shape[-1]

        weights = a @ b.transpose(-2, -1)  # (B H, m, C, C)
        weights = weights.triu_() if self.reverse else weights.tril_()
        inside = weights @ c  # (B H, m, C, E)

        sums = b.transpose(-2, -1) @ c  # (B H, m, D, E)
        if self.state is None:
            self.state = torch.zeros_like(sums[:, 0], dtype=sum_type(sums))
        states = torch.empty_like(sums, dtype=self.state.dtype)
        # Addition by addition: three times as fast as torch.cumsum, which strides here.
        for i in reversed(range(m)) if self.reverse else range(m):
            states[:, i] = self.state
            self.state = self.state + sums[:, i]

        a, inside = a.flatten(0, 1), inside.flatten(0, 1)
        torch.baddbmm(inside, a, states.to(a.dtype).flatten(0, 1), out=inside)
        return inside.view(B, H, m * CHUNK, E)[:, :, :t]


def _blocks(q: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Cut the sequence into blocks of whole chunks, the last one as it comes."""
    B, H, T, _ = q.shape
    tokens = max(BLOCK_TOKENS // (B * H) // CHUNK, 1) * CHUNK
    for start in range(0, T, tokens):
        yield slice(None), slice(None), slice(start, start + tokens)


def _in_chunks(x: Tensor) -> Tensor:
    """Cut into chunks, filled up with zeros, which add nothing: (B, H, t, D) -> (B H, m, C, D)."""
    x = F.pad(x, (0, 0, 0, -x.shape[-2] % CHUNK)) if x.shape[-2] % CHUNK else x
    return x.reshape(x.shape[0] * x.shape[1], -1, CHUNK, x.shape[-1])


def _with_ones(v: Tensor) -> Tensor:
    """Put a column of ones beside the values: (B, H, t, D) -> (B, H, t, D + 1)."""
    return F.pad(v, (0, 1), value=1.0)

"""Linear attention over long sequences: one pass over the keys, one over the queries.

A block of tokens is read, mapped, used at once and forgotten, so that beyond the result there is
one block and a D x E state. The backward pass maps again instead of keeping the mapped tokens.
With S = sum_j phi(k_j) v_j^T, z = sum_j phi(k_j), n_i = phi(q_i) . z and y_i = phi(q_i) S / n_i,
and for an incoming gradient g with u_i = g_i / n_i and dn_i = -(u_i . y_i),

    dphi(q_i) = S u_i + dn_i z       dS = sum_i phi(q_i) u_i^T
    dphi(k_j) = dS v_j + dz          dz = sum_i dn_i phi(q_i)        dv_j = phi(k_j) dS

Shapes: as in :mod:`hwcli.attention.functional`; here one head at a time, q (T, D), k (T_k, D) and
v (T_k, E).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMap, FeatureMapName, sum_type

# Below this a call of the plain formula costs less than the blocks' overhead.
FEWEST_TOKENS = 2048

# 2 MiB of float32: large enough to hide the overhead of a call, small enough for the cache.
BLOCK_ELEMENTS = 2**19


def _block(D: int) -> int:
    """Return the tokens of a block."""
    return max(BLOCK_ELEMENTS // D, 1)


class LinearAttention(Function):
    """``apply(q, k, v, feature_map)``: non-causal linear attention.

    Shapes: (B, H, T, D), (B, H, T_k, D), (B, H, T_k, E) -> (B, H, T, E).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, name: FeatureMapName) -> Tensor:
        """Compute y and keep, besides the inputs and y, what is O(T) or O(D E)."""
        B, H, T, D = q.shape
        y = v.new_empty(B, H, T, v.shape[-1])
        normalizers = q.new_empty(B, H, T)
        S = q.new_empty(B, H, D, v.shape[-1], dtype=sum_type(q))
        z = q.new_empty(B, H, D, dtype=sum_type(q))
        with torch.autocast(q.device.type, enabled=False):
            for at in _heads(B, H):
                S[at], z[at] = summarize(k[at], v[at], FEATURE_MAPS[name])
                read_out(q[at], S[at], z[at], FEATURE_MAPS[name], y[at], normalizers[at])
        ctx.name = name
        ctx.save_for_backward(q, k, v, y, normalizers, S, z)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of q, k and v."""
        q, k, v, y, normalizers, S, z = ctx.saved_tensors
        phi = FEATURE_MAPS[ctx.name]
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        for at in _heads(*q.shape[:2]):
            dS, dz = _backward_queries(
                q[at], y[at], normalizers[at], gradient[at], S[at], z[at], phi, dq[at]
            )
            _backward_keys(k[at], v[at], dS, dz, phi, dk[at], dv[at])
        return dq, dk, dv, None


def summarize(k: Tensor, v: Tensor, phi: FeatureMap) -> tuple[Tensor, Tensor]:
    """Sum over the tokens: S = sum phi(k) v^T (D, E) and z = sum phi(k) (D,)."""
    block = _block(k.shape[-1])
    S = k.new_zeros(k.shape[-1], v.shape[-1], dtype=sum_type(k))
    z = k.new_zeros(k.shape[-1], dtype=sum_type(k))
    scratch, spare = _scratch(k, block), _scratch(k, block)
    for k_block, v_block in zip(k.split(block), v.split(block), strict=True):
        mapped = phi.value(k_block, scratch[: len(k_block)], spare[: len(k_block)])
        z += mapped.sum(dim=0, dtype=z.dtype)
        _add_outer(S, mapped, v_block)
    return S, z


def read_out(
    q: Tensor, S: Tensor, z: Tensor, phi: FeatureMap, y: Tensor, normalizers: Tensor
) -> None:
    """Write y_i = phi(q_i) S / n_i into ``y`` and n_i = phi(q_i) . z into ``normalizers``.

    Shapes: q (T, D), S (D, E), z (D,), y (T, E), normalizers (T,).
    """
    block = _block(q.shape[-1])
    S, z = S.to(q.dtype), z.to(q.dtype)
    scratch, spare = _scratch(q, block), _scratch(q, block)
    for q_block, y_block, n in zip(
        q.split(block), y.split(block), normalizers.split(block), strict=True
    ):
        mapped = phi.value(q_block, scratch[: len(n)], spare[: len(n)])
        torch.mv(mapped, z, out=n)
        torch.mm(mapped, S, out=y_block).mul_(n.reciprocal().unsqueeze(-1))


def _backward_queries(
    q: Tensor,
    y: Tensor,
    normalizers: Tensor,
    gradient: Tensor,
    S: Tensor,
    z: Tensor,
    phi: FeatureMap,
    dq: Tensor,
) -> tuple[Tensor, Tensor]:
    block = _block(q.shape[-1])
    dS, dz = torch.zeros_like(S), torch.zeros_like(z)
    S, z = S.to(q.dtype), z.to(q.dtype)
    scratch = [_scratch(x, block) for x in (q, y, q)]
    # Products of y are as wide as v, which may be wider than q.
    scratch.append(scratch[-1] if y.shape == q.shape else _scratch(y, block))
    for q_block, y_block, n, g_block, dq_block in zip(
        *(x.split(block) for x in (q, y, normalizers, gradient, dq)), strict=True
    ):
        mapped, u, spare, product = (x[: len(n)] for x in scratch)
        mapped = phi.value(q_block, mapped, spare)
        torch.mul(g_block, n.reciprocal().unsqueeze(-1), out=u)
        dn = torch.mul(u, y_block, out=product).sum(dim=-1).neg_()
        torch.mm(u, S.t(), out=dq_block).addr_(dn, z)
        phi.pullback(dq_block, mapped, dq_block, spare)
        _add_outer(dS, mapped, u)
        dz += mapped.t() @ dn
    return dS, dz


def _backward_keys(
    k: Tensor, v: Tensor, dS: Tensor, dz: Tensor, phi: FeatureMap, dk: Tensor, dv: Tensor
) -> None:
    block = _block(k.shape[-1])
    dS, dz = dS.to(k.dtype), dz.to(k.dtype)
    scratch = [_scratch(k, block) for _ in range(2)]
    for k_block, v_block, dk_block, dv_block in zip(
        *(x.split(block) for x in (k, v, dk, dv)), strict=True
    ):
        mapped, spare = (x[: len(k_block)] for x in scratch)
        mapped = phi.value(k_block, mapped, spare)
        torch.mm(v_block, dS.t(), out=dk_block).add_(dz)
        phi.pullback(dk_block, mapped, dk_block, spare)
        torch.mm(mapped, dS, out=dv_block)


def _add_outer(total: Tensor, x: Tensor, y: Tensor) -> None:
    """Add x^T y; where sums are kept in a wider type than their terms, the sum is widened."""
    if total.dtype == x.dtype:
        total.addmm_(x.t(), y)
    else:
        total.add_(x.t() @ y)


def _scratch(x: Tensor, block: int) -> Tensor:
    """Return memory for one block's features; untouched, it costs nothing."""
    return x.new_empty(min(block, len(x)), x.shape[-1])


def _heads(B: int, H: int) -> list[tuple[int, int]]:
    return [(b, h) for b in range(B) for h in range(H)]

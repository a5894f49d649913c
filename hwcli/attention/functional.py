"""Attention as pure functions, softmax and linear: (q, k, v) -> y, all (B, H, T, D).

Softmax attention weighs tokens by exp(q . k / sqrt(D)), linear attention by phi(q) . phi(k);
both divide by the row's sum. Without the exponential the sums can be taken in another order,

    y_i = sum_j (phi(q_i) . phi(k_j)) v_j / sum_j phi(q_i) . phi(k_j)
        = phi(q_i) (sum_j phi(k_j) v_j^T) / (phi(q_i) . sum_j phi(k_j)),

and the two sums over j, a D x D matrix and a vector, are the same for every i: O(T D^2) in
place of O(T^2 D) (Katharopoulos et al. 2020, "Transformers are RNNs", eq. 4-6).

Shapes: B batch, H heads, T tokens, D width of one head; T_k keys and values of width E where these
differ.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hwcli.attention.causal import CHUNK, CausalLinearAttention
from hwcli.attention.feature_maps import FeatureMapName, check_feature_map, map_features
from hwcli.attention.streaming import FEWEST_TOKENS, LinearAttention
from hwcli.native import linear_attention as native_linear


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Compute softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017, eq. 1) by its T x T weights."""
    scores = (q * (1 / math.sqrt(q.shape[-1]))) @ k.transpose(-2, -1)  # (B, H, T, T)
    if causal:
        scores = scores.masked_fill(_future(scores), -math.inf)
    return scores.softmax(dim=-1) @ v


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Compute softmax attention by torch's scaled_dot_product_attention.

    That is a fused kernel on a CPU and, but for float64, on CUDA: O(T) memory, the weights formed
    block by block.
    """
    if q.device.type == "mps":
        # Before 2.12 torch reads strided tensors wrongly there, and says nothing (pytorch #181133).
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, *, feature_map: FeatureMapName = "elu1", causal: bool = False
) -> Tensor:
    """Compute linear attention in O(T) time and memory.

    Long sequences are computed in blocks that stay in the cache; causal ones in chunks.

    Args:
        q: queries, (B, H, T, D).
        k: keys, (B, H, T_k, D).
        v: values, (B, H, T_k, E); T_k differs from T where one sequence attends to another.
        feature_map: phi, one of ``FEATURE_MAPS``.
        causal: token i attends to tokens 1 to i only; T_k is T.

    Returns:
        y, (B, H, T, E), of the type of q.

    Raises:
        ValueError: the shapes or devices do not fit each other, or there is no such feature map.
        TypeError: the tensors are of several types, or hold no floating-point numbers.
    """
    _check(q, k, v, feature_map, causal=causal)
    if native_linear.fits(q, k, v):
        return native_linear.NativeLinearAttention.apply(q, k, v, feature_map, causal)  # type: ignore[no-any-return]
    T = q.shape[-2]
    if causal:
        if T <= CHUNK:
            return quadratic_linear_attention(q, k, v, feature_map=feature_map, causal=True)
        return CausalLinearAttention.apply(q, k, v, feature_map)  # type: ignore[no-any-return]
    if T >= FEWEST_TOKENS and q.device.type == "cpu":
        return LinearAttention.apply(q, k, v, feature_map)  # type: ignore[no-any-return]
    q, k = map_features(q, feature_map), map_features(k, feature_map)
    S = k.transpose(-2, -1) @ v  # (B, H, D, E)
    return (q @ S) / (q @ k.sum(dim=-2).unsqueeze(-1))


def quadratic_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, *, feature_map: FeatureMapName = "elu1", causal: bool = False
) -> Tensor:
    """Compute linear attention by its T x T weights: O(T^2) time and memory.

    The reference for the O(T) forms.

    Raises:
        ValueError, TypeError: as :func:`linear_attention`.
    """
    _check(q, k, v, feature_map, causal=causal)
    q, k = map_features(q, feature_map), map_features(k, feature_map)
    weights = q @ k.transpose(-2, -1)  # (B, H, T, T)
    if causal:
        weights = weights.tril()
    return (weights @ v) / weights.sum(dim=-1, keepdim=True)


def cumulative_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, *, feature_map: FeatureMapName = "elu1"
) -> Tensor:
    """Compute causal linear attention by running sums (eq. 9-12): O(T) time, O(T D^2) memory.

    Raises:
        ValueError, TypeError: as :func:`linear_attention`.
    """
    _check(q, k, v, feature_map, causal=True)
    q, k = map_features(q, feature_map), map_features(k, feature_map)
    states = (k.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(dim=-3)  # (B, H, T, D, E)
    numerator = (q.unsqueeze(-2) @ states).squeeze(-2)
    return numerator / (q * k.cumsum(dim=-2)).sum(dim=-1, keepdim=True)


def packed_softmax_attention(qkv: Tensor) -> Tensor:
    """Compute softmax attention of all heads as a ViT has them: (B, T, 3, H, D) -> (B, T, H, D).

    Raises:
        ValueError: qkv has another shape.
    """
    q, k, v = unpack_qkv(qkv)  # (B, H, T, D)
    # Torch's fused kernel is the faster one, but for bfloat16 on a CPU (tests/benchmarks/LOG.md).
    slow = qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16
    attend = softmax_attention if slow else sdpa_attention
    return attend(q, k, v).transpose(1, 2)


def packed_linear_attention(qkv: Tensor) -> Tensor:
    """Compute linear attention of all heads as a ViT has them: (B, T, 3, H, D) -> (B, T, H, D).

    Raises:
        ValueError: qkv has another shape.
        TypeError: qkv holds no floating-point numbers.
    """
    q, k, v = unpack_qkv(qkv)  # (B, H, T, D)
    if native_linear.fits(q, k, v):
        return native_linear.NativePackedLinearAttention.apply(qkv, "elu1")  # type: ignore[no-any-return]
    return linear_attention(q, k, v).transpose(1, 2)


def unpack_qkv(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """View the queries, keys and values of all heads: (B, T, 3, H, D) -> three of (B, H, T, D).

    Raises:
        ValueError: qkv has another shape.
    """
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"qkv is {_shape(qkv)}: expected (B, T, 3, H, D)")
    return native_linear.unpack(qkv)


def _future(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)


def _check(q: Tensor, k: Tensor, v: Tensor, feature_map: FeatureMapName, *, causal: bool) -> None:
    """Refuse what the forms of linear attention would each take in another way, or not at all."""
    check_feature_map(feature_map)
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(f"{_given(q, k, v, _shape)}: expected (B, H, T, D) each")
    (*heads, T, D), (*of_k, T_k, width), (*of_v, of_values, _) = q.shape, k.shape, v.shape
    if not (heads == of_k == of_v and width == D and of_values == T_k):
        raise ValueError(
            f"{_given(q, k, v, _shape)}: expected (B, H, T, D), (B, H, T_k, D) and "
            "(B, H, T_k, E), nothing broadcast"
        )
    if causal and T_k != T:
        raise ValueError(
            f"{_given(q, k, v, _shape)}: causal attention needs as many queries as keys"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"{_given(q, k, v, lambda x: x.dtype)}: expected one type")
    if not q.is_floating_point():
        raise TypeError(f"q, k and v are {q.dtype}: expected a floating-point type")
    if not q.device == k.device == v.device:
        raise ValueError(f"{_given(q, k, v, lambda x: x.device)}: expected one device")


def _given(q: Tensor, k: Tensor, v: Tensor, of: Callable[[Tensor], object]) -> str:
    return f"q is {of(q)}, k is {of(k)}, v is {of(v)}"


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))

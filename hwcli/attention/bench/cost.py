"""What attention costs on paper: operations, memory and traffic of every method.

Operations are those of the matrix products that are carried out, a multiply and an add being two:
what is linear in the number of weights or features (exponentials, divisions) is left out, as is
usual. Dropping the exponential changes the order in which three matrices are multiplied,

    (q k^T) v: 2 T^2 D + 2 T^2 D operations, a T x T matrix between them
    q (k^T v): 2 T D^2 + 2 T D^2 operations, a D x D matrix between them,

and with it a factor of T / D.

Shapes: as in :mod:`hwcli.attention.functional`; C tokens of a chunk.
"""

from dataclasses import replace

import torch

from hwcli.attention.bench.cases import SOFTMAX, Case, has_fused_kernel
from hwcli.attention.causal import BLOCK_TOKENS, CHUNK
from hwcli.attention.streaming import BLOCK_ELEMENTS, FEWEST_TOKENS
from hwcli.native import linear_attention as native_linear


def as_computed(case: Case) -> Case:
    """Return softmax-sdpa as softmax-naive where torch has no fused kernel; others as they are.

    Torch then forms the T x T weights, too.
    """
    if case.method == "softmax-sdpa" and not has_fused_kernel(case.device, case.dtype):
        return replace(case, method="softmax-naive")
    return case


def flops(case: Case) -> int:
    """Count the floating-point operations of the matrix products."""
    case = as_computed(case)
    return case.B * case.H * (_forward_flops(case) + _backward_flops(case))


def _forward_flops(case: Case) -> int:
    T, D = case.T, case.D
    if case.method == "softmax-sdpa" and case.causal:
        return 2 * T * (T + 1) * D  # torch's kernel leaves out what is masked
    if case.method in (*SOFTMAX, "linear-quadratic"):
        return 4 * T * T * D
    if case.method == "linear-chunked" and case.compiled:
        return _compiled_flops(T, D, products=1, states=2)
    if case.method == "linear-chunked" and T > CHUNK:
        return _chunked_flops(T, D, D + 1)
    if case.method == "linear-chunked":
        return 4 * T * T * D
    return 4 * T * D * D


def _backward_flops(case: Case) -> int:
    if case.direction == "forward":
        return 0
    T, D = case.T, case.D
    if case.method == "softmax-sdpa":
        return _forward_flops(case) * 5 // 2  # the weights are formed a second time
    if case.method == "linear-chunked" and case.compiled:
        return _compiled_flops(T, D, products=3, states=5)
    if case.method == "linear-chunked" and T > CHUNK:
        return 2 * _chunked_flops(T, D + 1, D) + _chunked_flops(T, D, D)
    return 2 * _forward_flops(case)


def _chunked_flops(T: int, D: int, E: int) -> int:
    """Count a causal product of (T, D), (T, D) and (T, E): inside the chunks, and between them."""
    T = -(-T // CHUNK) * CHUNK
    return 2 * T * CHUNK * D + 2 * T * CHUNK * E + 4 * T * D * E


def _compiled_flops(T: int, D: int, *, products: int, states: int) -> int:
    """Count causal products: inside chunks, where half of what is mixed is left out, and states."""
    return products * 3 * T * native_linear.CHUNK * D + states * 2 * T * D * D


def traffic_bytes(case: Case) -> int:
    """Count the bytes that have to move at least: each tensor once for each time it is needed.

    That is q, k and v read and y written; backwards these and y's gradient read and three
    gradients written; and what is formed in full (T x T weights, running sums) written and read
    at every step. From a cache they may come faster than the memory can deliver.
    """
    case = as_computed(case)
    backward = case.direction != "forward"
    tensors = (12 if backward else 4) * case.T * case.D
    if case.method in ("softmax-naive", "linear-quadratic"):
        steps = 4 if case.method == "softmax-naive" else 3
        formed = steps * (3 if backward else 1) * case.T**2
    elif case.method == "linear" and case.causal:
        formed = 4 * (3 if backward else 1) * case.T * case.D**2
    else:
        formed = 0
    return case.B * case.H * _item_bytes(case) * (tensors + formed)


def input_bytes(case: Case) -> int:
    """Count the bytes of q, k, v and the upstream gradient."""
    return 4 * case.B * case.H * case.T * case.D * _item_bytes(case)


def needed_bytes(case: Case) -> int:
    """Predict all that a call needs: its inputs, and the peak beyond them."""
    return input_bytes(case) + peak_bytes(case)


def peak_bytes(case: Case) -> int:
    """Predict the most memory that is held at a time beyond q, k, v and the upstream gradient.

    Counted from what the code and torch's automatic derivatives keep: results, what is kept for
    the backward pass, and the largest temporaries; not torch's own work buffers.
    """
    case = as_computed(case)
    T, D, heads, item = case.T, case.D, case.B * case.H, _item_bytes(case)
    backward = case.direction != "forward"
    results = (4 if backward else 1) * T * D  # y, and the gradients of q, k and v
    shared = 0  # bytes that all heads use together, or one after the other
    if case.method == "softmax-naive":
        held = results + (3 if backward else 2) * T * T  # weights, scores and their gradients
        shared = T * T if case.causal else 0  # a mask of bytes
    elif case.method == "linear-quadratic":
        # The weights, and their gradient or their lower triangle; mapped q and k, the numerator.
        held = results + (2 if backward or case.causal else 1) * T * T + 3 * T * D
    elif case.method == "softmax-sdpa":
        held = results + T  # one logarithm of a sum a query
    elif case.method == "linear" and case.causal:
        held = results + (4 if backward else 2) * T * D * D
    elif case.compiled and case.method in ("linear", "linear-chunked"):
        held = results + (2 if backward else 1) * T * 4 // item  # a float a token
    elif case.method == "linear-chunked":
        chunks = max(BLOCK_TOKENS // heads // CHUNK, 1)  # of a block, which goes over all heads
        block = chunks * (CHUNK * (4 * D + CHUNK) + 2 * D * D)
        held = results + T + min(block, T * 8 * D)
    elif T < FEWEST_TOKENS or case.device != "cpu":  # the formula as it stands, no blocks
        held = results + (0 if case.feature_map == "identity" else 2 * T * D) + T * D
    else:
        mapped = {"identity": 0, "elu1": 2}.get(case.feature_map, 1)
        blocks = mapped if not backward else 5 if mapped else 2  # of scratch
        held = results + T
        shared = item * blocks * min(BLOCK_ELEMENTS, T * D)
    return heads * item * held + shared


def _item_bytes(case: Case) -> int:
    return int(getattr(torch, case.dtype).itemsize)

"""The gate: every method is checked against a float64 reference before it is timed.

Without the exponential the weights are signed, and a row's sum n_i = sum_j w_ij may nearly
cancel. Rounding errors then grow by the row's condition number c_i = sum_j |w_ij| / |n_i|. The
bounds here are the formulas with absolute values, times that condition number, so one tolerance,
in units of the bound, holds for positive and for signed weights.

Shapes: as in :mod:`hwcli.attention.functional`.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hwcli.attention.bench import cost
from hwcli.attention.bench.cases import (
    LINEAR,
    METHODS,
    SOFTMAX,
    Case,
    MethodName,
    attend,
    methods_for,
    random_inputs,
)
from hwcli.attention.bench.results import GateEntry
from hwcli.attention.causal import CHUNK
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName
from hwcli.attention.streaming import FEWEST_TOKENS

# One token, less than a chunk, a number of chunks and a rest, and a length that runs in blocks.
GATE_LENGTHS = (1, 7, 2 * CHUNK + 3, FEWEST_TOKENS + 3)

# Errors show on shorter sequences too, so a method skips the lengths where it would need more.
GATE_BYTES = 2**30

# Roundings in a row, not counting those of a sum over the tokens.
ROUNDINGS = 16

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Check:
    """A method's largest error, in units of its bound, and whether rounding can explain it."""

    error: float
    passed: bool


def run_gate(example: Case) -> list[GateEntry]:
    """Check every method, causal and not, in the example's dtype and in float64.

    In float64 the O(T) form and the O(T^2) form of the same weights agree to the last digits. The
    device ``mps`` has no float64.
    """
    dtypes = [example.dtype]
    if example.dtype != "float64" and example.device != "mps":
        dtypes.append("float64")
    entries = []
    for causal in (False, True):
        checks: dict[tuple[MethodName, str], list[Check]] = defaultdict(list)
        skipped: dict[tuple[MethodName, str], list[int]] = defaultdict(list)
        for dtype, T in itertools.product(dtypes, GATE_LENGTHS):
            case = replace(
                example,
                T=T,
                direction="forward+backward",
                causal=causal,
                dtype=dtype,
                B=1,
                H=1 if T > 1000 or example.D > 1000 else 2,
            )
            cases = [replace(case, method=method) for method in methods_for(causal)]
            fitting = [each.method for each in cases if cost.peak_bytes(each) <= GATE_BYTES]
            for method in methods_for(causal):
                if method not in fitting:
                    skipped[method, dtype].append(T)
            for method, checked in check(case, fitting).items():
                checks[method, dtype].append(checked)
        for method in methods_for(causal):
            all_checks = [each for dtype in dtypes for each in checks[method, dtype]]
            entries.append(
                GateEntry(
                    method=method,
                    causal=causal,
                    max_error=_largest(checks[method, example.dtype]),
                    max_error_float64=_largest(checks[method, dtypes[-1]]),
                    passed=bool(all_checks) and all(each.passed for each in all_checks),
                    skipped=tuple(skipped[method, example.dtype]),
                    skipped_float64=tuple(skipped[method, dtypes[-1]]),
                )
            )
    return entries


def passed_methods(gate: Sequence[GateEntry]) -> set[MethodName]:
    """Return the methods that agree with the reference, causal and not."""
    return {m for m in METHODS if all(entry.passed for entry in gate if entry.method == m)}


def _largest(checks: Sequence[Check]) -> float | None:
    error = max((check.error for check in checks), default=math.inf)
    return error if math.isfinite(error) else None


def check(case: Case, methods: Sequence[MethodName]) -> dict[MethodName, Check]:
    """Compare y and the gradients of q, k and v with the reference, on random inputs."""
    q, k, v, upstream = random_inputs(case)
    for x in (q, k):  # one positive product a row, or all of a row's ReLU weights may be zero
        x[..., 0] = x[..., 0].abs() + 0.1
    inputs = [x.requires_grad_() for x in (q, k, v)]
    allowed = tolerance(case)
    checks = {}
    for family in (SOFTMAX, LINEAR):
        pairs = None
        for method in (m for m in methods if m in family):
            each = replace(case, method=method)
            pairs = pairs or reference(each, q, k, v, upstream)
            y = attend(each, *inputs)
            got = [y, *torch.autograd.grad(y, inputs, upstream)]
            error = max(_error(x, *pair) for x, pair in zip(got, pairs, strict=True))
            checks[method] = Check(error, error <= allowed)
    return checks


def tolerance(case: Case) -> float:
    """Return the largest error, in units of the bound, that a dtype's rounding explains.

    A sum of T numbers, added one by one, is off by up to T roundings; such sums have at least
    single precision.
    """
    dtype = getattr(torch, case.dtype)
    sums = torch.promote_types(dtype, torch.float32)
    return ROUNDINGS * torch.finfo(dtype).eps + case.T * torch.finfo(sums).eps


def _error(got: Tensor, want: Tensor, bound: Tensor) -> float:
    error = (got.detach().cpu().double() - want).abs()
    if not error.isfinite().all():
        return math.inf
    return float((error / bound.clamp(min=torch.finfo(torch.float64).tiny)).max())


def reference(case: Case, q: Tensor, k: Tensor, v: Tensor, upstream: Tensor) -> list[Pair]:
    """Return (value, bound) of y, dq, dk and dv, from T x T weights in float64 on the CPU."""
    q, k, v, g = (x.detach().cpu().double() for x in (q, k, v, upstream))
    weigh = _softmax if case.method in SOFTMAX else _linear
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    y = weigh(case, *inputs[:2]) @ inputs[2]
    values = [y.detach(), *torch.autograd.grad(y, inputs, g)]
    return list(zip(values, _bounds(case, q, k, v, g), strict=True))


def _softmax(case: Case, q: Tensor, k: Tensor) -> Tensor:
    scores = q @ k.mT / math.sqrt(case.D)
    if case.causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
    return scores.softmax(dim=-1)


def _linear(case: Case, q: Tensor, k: Tensor) -> Tensor:
    weights = _mapped(q, case.feature_map) @ _mapped(k, case.feature_map).mT
    weights = weights.tril() if case.causal else weights
    return weights / weights.sum(dim=-1, keepdim=True)


def _mapped(x: Tensor, name: FeatureMapName) -> Tensor:
    """Map features by torch's own functions and derivatives."""
    if name == "elu1":
        return F.elu(x) + 1
    if name == "relu":
        return x.relu()
    return x.softmax(dim=-1) if name == "softmax" else x


def _bounds(case: Case, q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Iterator[Tensor]:
    """Yield the bounds of y, dq, dk and dv; a and b are the sizes of the mapped tokens."""
    if case.method in SOFTMAX:
        a, b = q.abs() / math.sqrt(case.D), k.abs()
        shares = _softmax(case, q, k)
        condition = 1 + (a @ b.mT).amax(dim=-1, keepdim=True)
    else:
        phi = FEATURE_MAPS[case.feature_map].value
        a, b = phi(q).abs(), phi(k).abs()
        weights, sizes = phi(q) @ phi(k).mT, a @ b.mT
        if case.causal:
            weights, sizes = weights.tril(), sizes.tril()
        sums = weights.sum(dim=-1, keepdim=True).abs()
        shares = sizes / sums
        condition = shares.sum(dim=-1, keepdim=True)
    y = shares @ v.abs()
    yield condition * y
    pull = g.abs() @ v.abs().mT + (g.abs() * y).sum(dim=-1, keepdim=True)
    if case.method in SOFTMAX:
        pull = condition * pull * shares
        yield pull @ b / math.sqrt(case.D)
        yield pull.mT @ a
    else:
        pull = condition * pull / sums
        pull = pull.tril() if case.causal else pull
        yield _mapped_back(case, pull @ b, a)
        yield _mapped_back(case, pull.mT @ a, b)
    yield shares.mT @ (condition * g.abs())


def _mapped_back(case: Case, bound: Tensor, value: Tensor) -> Tensor:
    """Bound the gradient before a feature map; only softmax's derivative mixes features."""
    if case.feature_map == "softmax":
        return value * (bound + (bound * value).sum(dim=-1, keepdim=True))
    return bound

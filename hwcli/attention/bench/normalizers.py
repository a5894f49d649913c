"""What becomes of a row's sum of weights once the exponential is dropped.

Dot products of zero-mean tokens are signed: their sum over T tokens grows as sqrt(T), while the
sum of their sizes grows as T. The output is divided by the first, and rounding errors are as
large as the second.
"""

from typing import Any

import torch
from torch import Tensor

from hwcli.attention.bench.cases import Case, attend, draw
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName
from hwcli.attention.functional import linear_attention

# The weights of so many queries are formed to see their sums.
NUM_QUERIES = 512
# A sum is near zero where more than this share of its weights' sizes has cancelled.
CANCELLED = 0.99


def row_sums(q: Tensor, k: Tensor, name: FeatureMapName) -> tuple[Tensor, Tensor]:
    """Return each query's sum of weights and the sum of their sizes: (..., R, D) -> (..., R)."""
    phi = FEATURE_MAPS[name].value
    weights = phi(q) @ phi(k).mT
    return weights.sum(dim=-1), weights.abs().sum(dim=-1)


def study(case: Case) -> dict[str, Any]:
    """Return how the sums of a case's weights cancel, and what that does to the O(T) form.

    Shares are of queries. ``condition`` is the sum of the weights' sizes over the size of their
    sum: by as much are rounding errors amplified. An error is a token's largest, of the case's
    dtype against float64, in standard deviations of the values; the inputs are standard normal.
    """
    low = draw(case, 3)
    q, k, v = (x.double() for x in low)
    sums, sizes = (x.flatten() for x in row_sums(q[..., :NUM_QUERIES, :], k, case.feature_map))
    # A row whose weights are all zero is lost, not ill-conditioned: 0 / 0.
    alive = sizes > 0
    condition = sizes[alive] / sums[alive].abs().clamp(min=torch.finfo(sums.dtype).tiny)
    exact = linear_attention(q, k, v, feature_map=case.feature_map)
    rounded = attend(case, *low).double()
    error = (rounded - exact).abs().amax(dim=-1)
    return {
        "feature_map": case.feature_map,
        "T": case.T,
        "negative_share": float((sums < 0).double().mean()),
        "near_zero_share": float((condition > 1 / (1 - CANCELLED)).double().mean()),
        "no_weight_share": float((~alive).double().mean()),
        "median_condition": _of_finite(condition, Tensor.median),
        "largest_condition": _of_finite(condition, Tensor.max),
        "median_error": _of_finite(error, Tensor.median),
        "largest_error": _of_finite(error, Tensor.max),
        "largest_output": _of_finite(exact.abs(), Tensor.max),
    }


def _of_finite(x: Tensor, reduce: Any) -> float | None:
    finite = x[x.isfinite()]
    return float(reduce(finite)) if len(finite) else None

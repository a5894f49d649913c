"""Study a query's sum of weights, the normaliser, once the exponential is dropped.

Dot products of zero-mean tokens are signed: their sum over T tokens grows as sqrt(T), while the
sum of their absolute values grows as T. The output is divided by the first; rounding errors grow
with the second.
"""

from typing import Any

import torch
from torch import Tensor

from hwcli.attention.bench.cases import Case, attend, random_inputs
from hwcli.attention.bench.results import NormalizerStudy
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName
from hwcli.attention.functional import linear_attention

# Queries whose weights are formed and summed.
NUM_QUERIES = 512
# A sum is near zero where more than this share of its weights cancels.
CANCELLED = 0.99


def row_sums(q: Tensor, k: Tensor, name: FeatureMapName) -> tuple[Tensor, Tensor]:
    """Return each query's sum of weights and the sum of their sizes: (..., R, D) -> (..., R)."""
    phi = FEATURE_MAPS[name].value
    weights = phi(q) @ phi(k).mT
    return weights.sum(dim=-1), weights.abs().sum(dim=-1)


def study(case: Case) -> NormalizerStudy:
    """Measure how the weights of a case cancel, and what that does to the O(T) form.

    An error is a token's largest, of the case's dtype against float64. The inputs are standard
    normal.
    """
    low = random_inputs(case, 3)
    q, k, v = (x.double() for x in low)
    sums, sizes = (x.flatten() for x in row_sums(q[..., :NUM_QUERIES, :], k, case.feature_map))
    # A row of zeros has no condition number: 0 / 0, which is 0 here and counts as no cancellation.
    alive = sizes > 0
    condition = sizes / sums.abs().clamp(min=torch.finfo(sums.dtype).tiny)
    exact = linear_attention(q, k, v, feature_map=case.feature_map)
    rounded = attend(case, *low).double()
    error = (rounded - exact).abs().amax(dim=-1)
    return NormalizerStudy(
        feature_map=case.feature_map,
        T=case.T,
        negative_share=_share(sums < 0),
        near_zero_share=_share(condition > 1 / (1 - CANCELLED)),
        no_weight_share=_share(~alive),
        median_condition=_of_finite(condition[alive], Tensor.median),
        largest_condition=_of_finite(condition[alive], Tensor.max),
        median_error=_of_finite(error, Tensor.median),
        largest_error=_of_finite(error, Tensor.max),
        largest_output=_of_finite(exact.abs(), Tensor.max),
    )


def _share(of: Tensor) -> float:
    return float(of.double().mean()) if len(of) else 0.0


def _of_finite(x: Tensor, reduce: Any) -> float | None:
    finite = x[x.isfinite()]
    return float(reduce(finite)) if len(finite) else None

"""What a table of accuracies supports: paired tests, their correction, a two-way fit.

Classifiers that were judged on the same examples are compared example by example: what is hard
for all of them cancels, and far smaller differences show than their standard errors suggest.

Shapes: S seeds, N test examples; a classifier's hits are booleans (S, N), one row a seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from statsmodels.regression.linear_model import OLS
from statsmodels.stats import contingency_tables, multitest

Hits = npt.NDArray[np.bool_]

NUM_RESAMPLES = 10_000


def mcnemar(first: Hits, second: Hits) -> float:
    """Test whether two trained classifiers are right equally often: McNemar's exact p-value.

    Only the examples on which one is right and the other wrong count; if both are as good, each
    is a fair coin (McNemar 1947; Dietterich 1998, "Approximate Statistical Tests for Comparing
    Supervised Classification Learning Algorithms", section 3.1). It speaks of these two trained
    networks: how another seed would have come out it cannot know.

    Args:
        first: (N,).
        second: (N,), of the same examples.
    """
    both = [[np.sum(a & b) for b in (second, ~second)] for a in (first, ~first)]
    return float(contingency_tables.mcnemar(both, exact=True).pvalue)


@dataclass(frozen=True)
class Estimate:
    """A difference or a slope, and its 95 % interval, if there is one."""

    value: float
    low: float | None
    high: float | None

    @property
    def is_told_from_zero(self) -> bool:
        """Whether there is an interval, and zero lies outside it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def paired_bootstrap(
    first: Hits, second: Hits, generator: np.random.Generator, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, Estimate]:
    """Test whether two ways to train are as accurate, over examples and seeds.

    Both are drawn anew with replacement, independently of each other (Owen 2007, "The Pigeonhole
    Bootstrap"), and the differences so resampled, centred on the one observed, stand for what
    chance does. Drawn from S seeds, their variance comes out a factor (S - 1) / S small, half of
    it for two: their deviations are stretched to make up for that (Rao and Wu 1988, "Resampling
    Inference With Complex Survey Data"). How far the spread of so few is that of all seeds,
    nothing can tell. Luck that belongs to one network on one image is counted with the examples
    and again with the seeds: intervals are wider than need be, and p-values larger.

    Args:
        first: (S, N).
        second: (S, N), of the same seeds (or other units that come in pairs) and examples.
        generator: of the draws.
        num_resamples: no p-value is below 1 / (num_resamples + 1).

    Returns:
        The two-sided p-value, and the mean of first minus second with its percentile interval.
    """
    S, N = first.shape
    differences = first.astype(np.int8) - second.astype(np.int8)  # (S, N)
    # Examples of one pattern over the seeds are alike: what is drawn is how many of each.
    patterns, counts = np.unique(differences, axis=1, return_counts=True)  # (S, P), (P,)
    drawn = generator.multinomial(N, counts / N, size=num_resamples)  # (R, P)
    seeds = generator.multinomial(S, np.full(S, 1 / S), size=num_resamples)  # (R, S)
    observed = float(differences.mean())
    of_seeds = drawn @ patterns.T / N  # (R, S): each seed's difference on the images drawn
    on_all, on_drawn = of_seeds.mean(axis=1), (of_seeds * seeds).sum(axis=1) / S
    resampled = on_all + (S / max(S - 1, 1)) ** 0.5 * (on_drawn - on_all)
    # What is equal must not differ by rounding.
    as_far = np.abs(resampled - observed) >= abs(observed) - 1e-12
    low, high = np.quantile(resampled, [0.025, 0.975])
    p_value = (1 + int(as_far.sum())) / (1 + num_resamples)
    return p_value, Estimate(observed, float(low), float(high))


def paired_test(first: Hits, second: Hits, generator: np.random.Generator) -> float:
    """Return the p-value of the test that fits: exact McNemar for one seed, else the bootstrap.

    Args:
        first: (S, N).
        second: (S, N).
        generator: of the bootstrap's draws.
    """
    if len(first) == 1:
        return mcnemar(first[0], second[0])
    return paired_bootstrap(first, second, generator)[0]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of one family for their number (Holm 1979), in their order.

    Rejecting what is below 0.05 then errs anywhere in the family with probability 0.05 at most.
    """
    if not p_values:
        return []
    return [float(p) for p in multitest.multipletests(p_values, method="holm")[1]]


def additive_fit(
    values: Sequence[float], factors: Mapping[str, Sequence[float]]
) -> dict[str, Estimate | None]:
    """Fit value = a + sum over factors of slope * factor by least squares.

    The intervals are Student's, their error taken from the scatter of the values about the fit.
    With one value a cell of a grid that scatter holds whatever moves cells apart: the luck of
    each training run, the test examples as far as they favour one cell over another, and the
    grid's own departures from a plane. What moves all cells alike, such as a hard test set,
    cancels in a slope. It takes the cells as independent: images that favour, say, depth as such
    would stay unseen (on the quick grid they add 2 % to the variance: tests/benchmarks/LOG.md).

    Args:
        values: one for each cell.
        factors: for each factor its value in every cell.

    Returns:
        The slope of each factor; None where the cells do not say, as it never varies or
        always goes along with another. Without cells to spare there is a slope and no interval.
    """
    varying = {name: levels for name, levels in factors.items() if len(set(levels)) > 1}
    design = np.column_stack([np.ones(len(values)), *varying.values()])
    effects: dict[str, Estimate | None] = dict.fromkeys(factors)
    if not varying or np.linalg.matrix_rank(design) < design.shape[1]:
        return effects
    fit: Any = OLS(np.asarray(values, float), design).fit()
    intervals = fit.conf_int(0.05) if fit.df_resid > 0 else [(None, None)] * design.shape[1]
    for name, slope, (low, high) in zip(varying, fit.params[1:], intervals[1:], strict=True):
        effects[name] = Estimate(
            float(slope), None if low is None else float(low), None if high is None else float(high)
        )
    return effects

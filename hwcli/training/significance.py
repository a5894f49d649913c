"""Which differences between accuracies are significant; docs/statistics.md has the overview.

Shapes: S networks, N test examples; a network's hits are booleans (N,).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import stats

Hits = npt.NDArray[np.bool_]

LEVEL = 0.05
MAX_EXACT_RANGES = 64  # p-values of Tukey's range computed one by one; it takes 0.1 s each


@dataclass(frozen=True)
class Estimate:
    """A difference or a slope, and its interval, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def is_significant(self) -> bool:
        """Tell whether there is an interval, and zero lies outside it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def mcnemar(first: Hits, second: Hits) -> float:
    """Test whether two trained networks are right equally often: McNemar's exact p-value.

    Only the examples on which one is right and the other wrong count; if both are as good, each
    is a fair coin (McNemar 1947; Dietterich 1998, "Approximate Statistical Tests for Comparing
    Supervised Classification Learning Algorithms", section 3.1). It is about these two trained
    networks: how another seed would have come out it cannot know.

    Args:
        first: (N,).
        second: (N,), of the same examples.
    """
    won, lost = int((first & ~second).sum()), int((~first & second).sum())
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of one family for their number (Holm 1979), in their order.

    Rejecting what is below 0.05 then errs anywhere in the family with probability 0.05 at most.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class Spread:
    """The variance of a figure over seeds, pooled over groups, and its degrees of freedom."""

    variance: float
    degrees: int

    @classmethod
    def of(cls, squares: float, degrees: int) -> Self | None:
        """Return the spread of a sum of squared deviations; None where nothing varies."""
        # Values that are equal but for the rounding of their mean have no spread to test against.
        return cls(squares / degrees, degrees) if squares > 1e-18 else None


def pooled_spread(groups: Sequence[Sequence[float]]) -> Spread | None:
    """Pool the variance within groups; None where no group has two values, or none varies.

    Args:
        groups: the values of each group; their means may differ, their variance is taken as one.
    """
    degrees = sum(len(group) - 1 for group in groups if group)
    if not degrees:
        return None
    squares = math.fsum((x - sum(group) / len(group)) ** 2 for group in groups for x in group)
    return Spread.of(squares, degrees)


def student_p(difference: float, standard_error: float, degrees: float) -> float:
    """Return Student's two-sided p-value of a difference."""
    return float(2 * stats.t.sf(abs(difference) / standard_error, degrees))


def tukey_p(
    differences: Sequence[float], spread: Spread, sizes: Sequence[tuple[int, int]], num_groups: int
) -> list[float]:
    """Return p-values of differences between means that hold for all pairs of groups at once.

    Tukey's studentized range (Tukey 1953; Kramer 1956 for unequal sizes): if all groups have the
    same mean, any p-value of any pair is below 0.05 with probability 0.05. That also covers a
    group that was selected for being the best.

    Args:
        differences: of two groups' means, for each pair asked for.
        spread: of the values within groups.
        sizes: how many values each mean of a pair has.
        num_groups: of which the pairs are taken, asked for or not.
    """
    ranges = np.array(
        [
            abs(difference) / math.sqrt(spread.variance * (1 / one + 1 / two) / 2)
            for difference, (one, two) in zip(differences, sizes, strict=True)
        ]
    )
    if not len(ranges):
        return []
    if len(ranges) <= MAX_EXACT_RANGES:
        found = stats.studentized_range.sf(ranges, num_groups, spread.degrees)
    else:
        places = np.linspace(0, max(ranges.max(), 1e-9), MAX_EXACT_RANGES)
        known = stats.studentized_range.sf(places, num_groups, spread.degrees)
        found = np.exp(np.interp(ranges, places, np.log(np.clip(known, 1e-300, 1))))
    return [float(min(1.0, max(0.0, p))) for p in found]


def least_difference(spread: Spread, size: int, num_groups: int) -> float:
    """Return the smallest difference between two of the groups' means that Tukey's range sees.

    Args:
        spread: of the values within groups.
        size: how many values each mean has.
        num_groups: of which the pairs are taken.
    """
    critical = float(stats.studentized_range.ppf(1 - LEVEL, num_groups, spread.degrees))
    return critical * math.sqrt(spread.variance / size)


def mean_difference(differences: npt.NDArray[np.int8]) -> Estimate:
    """Return the mean difference of pairs of networks on the same examples, with its interval.

    Networks and examples are both taken as samples (Searle, Casella and McCulloch 1992,
    "Variance Components", section 4.5: the crossed two-way random model). The variance of the
    mean is (MS_networks + MS_examples - MS_rest) / (S N), and the interval is Student's at 95 %:
    with S - 1 degrees of freedom, or Satterthwaite's where examples matter by themselves. It is
    never narrower than the interval of the networks alone.
    For one pair of networks the interval is over examples alone and says nothing about other
    seeds.

    Args:
        differences: (S, N), first right minus second right: -1, 0 or 1.
    """
    S, N = differences.shape
    mean = float(differences.mean())
    of_networks, of_examples = differences.mean(axis=1), differences.mean(axis=0)
    if S == 1:
        variance, degrees = float(of_examples.var(ddof=1)) / N, float(N - 1)
    else:
        rest = (differences - of_networks[:, None] - of_examples + mean) ** 2
        ms_rest = float(rest.sum()) / ((S - 1) * (N - 1))
        networks = float(of_networks.var(ddof=1)) / S
        examples = max(0.0, float(of_examples.var(ddof=1)) / N - ms_rest / (S * N))
        variance = networks + examples
        if not variance:
            return Estimate(mean, mean, mean)
        degrees = float(S - 1)
        # Examples count as a source of their own where an F-test finds them to be one: by chance
        # alone they would lend the few networks their many degrees of freedom.
        ratio = S * float(of_examples.var(ddof=1)) / ms_rest if ms_rest else math.inf
        if stats.f.sf(ratio, N - 1, (S - 1) * (N - 1)) < 0.01:
            degrees = variance**2 / (networks**2 / (S - 1) + examples**2 / (N - 1))
    reach = float(stats.t.ppf(1 - LEVEL / 2, degrees)) * math.sqrt(variance)
    if S > 1:
        alone = float(stats.t.ppf(1 - LEVEL / 2, S - 1)) * math.sqrt(networks)
        reach = max(reach, alone)
    return Estimate(mean, mean - reach, mean + reach)


def additive_fit(
    values: Sequence[float],
    factors: Mapping[str, Sequence[float]],
    *,
    weights: Sequence[float] | None = None,
    num_claims: int | None = None,
) -> dict[str, Estimate | None]:
    """Fit value = a + sum over factors of slope * factor by least squares.

    The intervals are Student's, their error from the residuals of the fit, and hold jointly: all
    of them cover with probability 95 % (Bonferroni). The residuals contain whatever moves single
    values: training runs, test examples that favour one value over another, and departures from a
    plane. What moves all values alike cancels in a slope.

    Args:
        values: one for each cell.
        factors: for each factor its value in every cell.
        weights: of the values, such as how many seeds each is the mean of; None: all alike.
        num_claims: how many intervals hold jointly; None: as many as factors that vary.

    Returns:
        The slope of each factor; None where the cells cannot tell, since it never varies or
        always goes along with another. With as many slopes as cells there is no interval.
    """
    varying = {name: levels for name, levels in factors.items() if len(set(levels)) > 1}
    effects: dict[str, Estimate | None] = dict.fromkeys(factors)
    design = np.column_stack([np.ones(len(values)), *varying.values()]).astype(float)
    if not varying or np.linalg.matrix_rank(design) < design.shape[1]:
        return effects
    root = np.sqrt(np.ones(len(values)) if weights is None else np.asarray(weights, float))
    weighted, target = design * root[:, None], np.asarray(values, float) * root
    slopes, *_ = np.linalg.lstsq(weighted, target, rcond=None)
    degrees = len(values) - design.shape[1]
    reach = np.full(design.shape[1], np.nan)
    if degrees:
        variance = ((target - weighted @ slopes) ** 2).sum() / degrees
        errors = np.sqrt(variance * np.diag(np.linalg.inv(weighted.T @ weighted)))
        reach = stats.t.ppf(1 - LEVEL / 2 / (num_claims or len(varying)), degrees) * errors
    for name, slope, half in zip(varying, slopes[1:].tolist(), reach[1:].tolist(), strict=True):
        has_interval = not math.isnan(half)
        effects[name] = Estimate(
            slope, slope - half if has_interval else None, slope + half if has_interval else None
        )
    return effects

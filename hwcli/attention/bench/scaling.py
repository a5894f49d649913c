"""Power laws on measured points: exponents, how sure they are, and where two curves cross."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PowerLaw:
    """y = factor * x ^ exponent, with the exponent's 95 % confidence interval."""

    exponent: float
    interval: tuple[float, float]
    factor: float
    xs: tuple[float, ...]

    def __call__(self, x: float) -> float:
        """Return y at x."""
        return float(self.factor * x**self.exponent)


def fit_power_law(points: Mapping[int, float], *, octaves: float) -> PowerLaw | None:
    """Fit a line to logarithms by least squares, over the top octaves of x.

    Returns None where fewer than three points lie there. The interval is Student's, for
    independent errors of equal size.
    """
    if not points:
        return None
    start = max(points) / 2**octaves
    top = {x: y for x, y in sorted(points.items()) if x >= start and y > 0}
    if len(top) < 3:
        return None
    line = stats.linregress(np.log(list(top)), np.log(list(top.values())))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(top) - 2) * line.stderr)
    slope = float(line.slope)
    return PowerLaw(
        slope, (slope - half, slope + half), math.exp(line.intercept), tuple(map(float, top))
    )


def local_slopes(points: Mapping[int, float]) -> dict[tuple[int, int], float]:
    """Return the exponent between each two neighbouring points."""
    xs = sorted(points)
    return {
        (a, b): math.log(points[b] / points[a]) / math.log(b / a)
        for a, b in itertools.pairwise(xs)
        if points[a] > 0 and points[b] > 0
    }


def crossing(xs: Sequence[int], first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the x from which on ``second`` stays below ``first``, interpolated on logarithms.

    None where it never does, or does so from the start.
    """
    gaps = [math.log(a / b) for a, b in zip(first, second, strict=True)]  # positive: second wins
    for i in reversed(range(len(xs) - 1)):
        if gaps[i + 1] <= 0:
            return None
        if gaps[i] <= 0:
            share = -gaps[i] / (gaps[i + 1] - gaps[i])
            return float(xs[i] * (xs[i + 1] / xs[i]) ** share)
    return None

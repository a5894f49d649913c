"""Intervals of real numbers, rounded outward: what is shown of them holds for every number inside.

Sums and products of intervals are exact. Activations are computed in float64 and widened by a few
units in the last place, which is more than a mathematical library errs by. An end may be open: a
tanh unit never reaches 1, and a positive state that fades stays positive. That is what proofs
about signs need.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Union

from hwcli.rnn.activations import Activation, logistic
from hwcli.rnn.exact import Exact, simplified, to_float

End = int | Fraction | float
"""A finite end is exact (an int or a Fraction); an infinite one is a float."""

# Widen by so many units in the last place.
ULPS = 4


@dataclass(frozen=True)
class Interval:
    """All numbers from ``low`` to ``high``, without an end that is open."""

    low: End
    high: End
    low_open: bool = False
    high_open: bool = False

    @staticmethod
    def point(number: Exact) -> "Interval":
        """Return the interval that holds one number."""
        return Interval(number, number)

    def __add__(self, other: Union["Interval", Exact]) -> "Interval":
        if not isinstance(other, Interval):
            other = Interval.point(other)
        return Interval(
            self.low + other.low,
            self.high + other.high,
            self.low_open or other.low_open,
            self.high_open or other.high_open,
        )

    __radd__ = __add__

    def __mul__(self, other: Union["Interval", Exact]) -> "Interval":
        if not isinstance(other, Interval):
            other = Interval.point(other)
        corners = [
            _corner(a, b, a_open, b_open)
            for a, a_open in ((self.low, self.low_open), (self.high, self.high_open))
            for b, b_open in ((other.low, other.low_open), (other.high, other.high_open))
        ]
        low = min(value for value, _ in corners)
        high = max(value for value, _ in corners)
        # An end is reached as soon as one corner reaches it.
        return Interval(
            low,
            high,
            all(is_open for value, is_open in corners if value == low),
            all(is_open for value, is_open in corners if value == high),
        )

    __rmul__ = __mul__

    def __neg__(self) -> "Interval":
        return self * -1

    def __rsub__(self, other: Exact) -> "Interval":
        return -self + other

    def activated(self, activation: Activation) -> "Interval":
        """Return an interval that holds f(z) for every z inside."""
        match activation:
            case "identity":
                return self
            case "relu":
                if self.low >= 0:
                    return self
                return Interval(0, max(0, self.high), False, self.high > 0 and self.high_open)
            case "step":
                return Interval(int(self.above(0)), 1 - int(self.at_most(0)))
            case "step-ge":
                return Interval(int(self.at_least(0)), 1 - int(self.below(0)))
            case "sign":
                low = 1 if self.above(0) else 0 if self.at_least(0) else -1
                high = -1 if self.below(0) else 0 if self.at_most(0) else 1
                return Interval(low, high)
            case "tanh":
                return self._smooth(math.tanh, -1, 0)
            case "logistic":
                return self._smooth(logistic, 0, Fraction(1, 2))
            case "argmax":
                raise ValueError("argmax compares several numbers")

    def above(self, bound: Exact) -> bool:
        """Tell whether every number inside is greater than a bound."""
        return self.low > bound or (self.low == bound and self.low_open)

    def below(self, bound: Exact) -> bool:
        """Tell whether every number inside is less than a bound."""
        return self.high < bound or (self.high == bound and self.high_open)

    def at_least(self, bound: Exact) -> bool:
        """Tell whether no number inside is less than a bound."""
        return self.low >= bound

    def at_most(self, bound: Exact) -> bool:
        """Tell whether no number inside is greater than a bound."""
        return self.high <= bound

    def is_point(self, number: Exact) -> bool:
        """Tell whether this is one number, and that one."""
        return self.low == self.high == number

    def sign(self) -> int | None:
        """Return 1, -1 or 0 where all numbers inside have that sign, else None."""
        if self.is_point(0):
            return 0
        return 1 if self.above(0) else -1 if self.below(0) else None

    def holds(self, other: "Interval") -> bool:
        """Tell whether every number of another interval is in this one."""
        low = self.low < other.low or (
            self.low == other.low and (not self.low_open or other.low_open)
        )
        high = self.high > other.high or (
            self.high == other.high and (not self.high_open or other.high_open)
        )
        return low and high

    def joined(self, other: "Interval") -> "Interval":
        """Return the smallest interval that holds both."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Interval(
            low,
            high,
            all(i.low_open for i in (self, other) if i.low == low),
            all(i.high_open for i in (self, other) if i.high == high),
        )

    def distance(self, other: "Interval") -> float:
        """Return how far apart two intervals are, 0 where they meet."""
        return max(0.0, float(self.low - other.high), float(other.low - self.high))

    def width(self) -> float:
        """Return the length."""
        return float(self.high - self.low)

    def rounded(self) -> "Interval":
        """Return an interval with float64 ends that holds this one: exact ends grow in digits."""
        low, high = _rounded_down(self.low), -_rounded_down(-self.high)
        return Interval(
            low,
            high,
            self.low_open or low < self.low,
            self.high_open or high > self.high,
        )

    def _smooth(self, f: Callable[[float], float], bottom: int, middle: Exact) -> "Interval":
        """Apply a smooth rising function from ``bottom`` to 1 that is ``middle`` at 0."""

        def down(z: End) -> tuple[End, bool]:
            if z == 0:
                return middle, False
            value = f(_float_down(z))
            for _ in range(ULPS):
                value = math.nextafter(value, -math.inf)
            if z > 0 and value <= middle:
                return middle, True
            return (bottom, True) if value <= bottom else (simplified(Fraction(value)), False)

        def up(z: End) -> tuple[End, bool]:
            if z == 0:
                return middle, False
            value = f(-_float_down(-z))
            for _ in range(ULPS):
                value = math.nextafter(value, math.inf)
            if z < 0 and value >= middle:
                return middle, True
            return (1, True) if value >= 1 else (simplified(Fraction(value)), False)

        low, low_forced = down(self.low)
        high, high_forced = up(self.high)
        return Interval(low, high, self.low_open or low_forced, self.high_open or high_forced)


Box = tuple[Interval, ...]


def _corner(a: End, b: End, a_open: bool, b_open: bool) -> tuple[End, bool]:
    """Multiply two ends; zero times anything is zero, and is reached where the zero is."""
    if a == 0 or b == 0:
        reached = (a == 0 and not a_open) or (b == 0 and not b_open)
        return 0, not reached
    return a * b, a_open or b_open


def _float_down(z: End) -> float:
    value = to_float(z)
    return math.nextafter(value, -math.inf) if value > z else value


def _rounded_down(z: End) -> End:
    value = _float_down(z)
    return simplified(Fraction(value)) if math.isfinite(value) else -math.inf

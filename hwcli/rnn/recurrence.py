"""Sequences of rationals that obey a linear recurrence, and formulas for their terms.

The coefficients of a linear network are such sequences: u_k = w A^k v obeys, by Cayley and
Hamilton, a recurrence of order H. Two sequences that obey recurrences of orders m and n are equal
for ever when their first m + n terms are: so finitely many terms prove what holds for every T.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hwcli.rnn.exact import Exact, magnitude, simplified

# The search for rational roots is bounded by size and not by a clock, so that every machine gives
# the same answer: within these bounds it takes milliseconds.
MAX_FORMULA_ORDER = 10
MAX_FORMULA_BITS = 256


@dataclass(frozen=True)
class Recurrence:
    """u_k = a_1 u_{k-1} + ... + a_m u_{k-m} for k >= m, and the first m terms.

    A zero sequence has order 0.
    """

    coefficients: tuple[Exact, ...]
    initial: tuple[Exact, ...]

    @property
    def order(self) -> int:
        """Return m."""
        return len(self.coefficients)

    def terms(self, n: int) -> list[Exact]:
        """Return u_0 .. u_{n-1}."""
        terms = list(self.initial[:n])
        while len(terms) < n:
            recent = reversed(terms[len(terms) - self.order :])
            total = sum(a * u for a, u in zip(self.coefficients, recent, strict=True))
            terms.append(simplified(total))
        return terms

    @property
    def is_integral(self) -> bool:
        """Tell whether each term is a whole combination of the first m."""
        return all(isinstance(a, int) for a in self.coefficients)


def minimal_recurrence(terms: Sequence[Exact]) -> Recurrence:
    """Return the shortest recurrence of a sequence known to obey one of order len(terms) / 2.

    Berlekamp and Massey's algorithm (Massey 1969, Algorithm 1) over the rationals.
    """
    current: list[Fraction] = [Fraction(1)]  # 1 - a_1 x - a_2 x^2 - ...
    previous, shift, previous_discrepancy = [Fraction(1)], 1, Fraction(1)
    order = 0
    for k in range(len(terms)):
        discrepancy = Fraction(
            sum(c * terms[k - i] for i, c in enumerate(current[: order + 1]) if i <= k)
        )
        if discrepancy == 0:
            shift += 1
            continue
        factor = discrepancy / previous_discrepancy
        updated = current + [Fraction(0)] * (len(previous) + shift - len(current))
        for i, c in enumerate(previous):
            updated[i + shift] -= factor * c
        if 2 * order <= k:
            previous, previous_discrepancy, shift = current, discrepancy, 1
            order = k + 1 - order
        else:
            shift += 1
        current = updated
    padded = current[1 : order + 1] + [Fraction(0)] * (order + 1 - len(current))
    return Recurrence(tuple(simplified(-a) for a in padded), tuple(terms[:order]))


@dataclass(frozen=True)
class Formula:
    """u_k = transient_k + sum over roots r of p_r(k) r^k, all rational.

    ``powers`` maps a root to the coefficients of p_r, constant first; ``transient`` holds what
    is added to the first terms, (order of the root 0,).
    """

    powers: tuple[tuple[Exact, tuple[Exact, ...]], ...]
    transient: tuple[Exact, ...]

    def term(self, k: int) -> Exact:
        """Return u_k."""
        lasting = sum(
            c * k**j * Fraction(root) ** k
            for root, polynomial in self.powers
            for j, c in enumerate(polynomial)
        )
        return simplified(lasting + (self.transient[k] if k < len(self.transient) else 0))

    @property
    def alternates(self) -> bool:
        """Tell whether even and odd k differ in sign somewhere: a root is negative."""
        return any(root < 0 for root, _ in self.powers)


def formula(recurrence: Recurrence) -> Formula | None:
    """Return the formula of a sequence whose recurrence has rational roots only, else None.

    None also where the recurrence is too large.
    """
    m = recurrence.order
    sizes = [
        max(abs(a.numerator), a.denominator).bit_length()
        for a in (*recurrence.coefficients, *recurrence.initial)
    ]
    if m > MAX_FORMULA_ORDER or max(sizes, default=0) > MAX_FORMULA_BITS:
        return None
    roots = _rational_roots([Fraction(1), *(Fraction(-a) for a in recurrence.coefficients)])
    if roots is None:
        return None
    num_transient = sum(n for root, n in roots if root == 0)
    lasting_roots = sorted(
        ((r, n) for r, n in roots if r != 0), key=lambda pair: (-magnitude(pair[0]), -pair[0])
    )
    # Beyond the transient the m - num_transient powers alone fit the terms.
    columns = [(root, j) for root, n in lasting_roots for j in range(n)]
    terms = recurrence.terms(m)
    constants = _solved(
        [
            [Fraction(r) ** k * k**j for r, j in columns] + [Fraction(terms[k])]
            for k in range(num_transient, m)
        ]
    )
    powers = tuple(
        (root, tuple(c for c, (r, _) in zip(constants, columns, strict=True) if r == root))
        for root, _ in lasting_roots
    )
    lasting = Formula(powers, ())
    transient = [simplified(terms[k] - lasting.term(k)) for k in range(num_transient)]
    return Formula(powers, tuple(transient))


def _rational_roots(polynomial: list[Fraction]) -> list[tuple[Exact, int]] | None:
    """Return the roots of a monic polynomial with their multiplicities; None if one is irrational.

    Coefficients stand highest power first. A root p / q in lowest terms has a q that divides the
    leading coefficient over the integers, so that rounding a good float finds it; each candidate
    is verified exactly.
    """
    roots: list[tuple[Exact, int]] = []
    rest = polynomial
    while len(rest) > 1:
        found = _one_rational_root(rest)
        if found is None:
            return None
        multiplicity = 0
        while len(rest) > 1 and _value(rest, found) == 0:
            rest, multiplicity = _without_root(rest, found), multiplicity + 1
        roots.append((simplified(found), multiplicity))
    return roots


def _one_rational_root(polynomial: list[Fraction]) -> Fraction | None:
    if polynomial[-1] == 0:
        return Fraction(0)
    simple = _divided(polynomial, _common_divisor(polynomial, _derived(polynomial)))
    leading = math.lcm(*(c.denominator for c in simple))
    try:
        guesses = _float_roots([float(c) for c in simple])
    except (OverflowError, ZeroDivisionError):
        return None
    for guess in guesses:
        if not math.isfinite(guess.real) or abs(guess.imag) > 1e-4 * (1 + abs(guess)):
            continue
        candidate = Fraction(guess.real)
        for _ in range(6):  # Newton's steps double the digits until the rounding below is certain
            exact = Fraction(round(candidate * leading), leading)
            if _value(simple, exact) == 0:
                return exact
            slope = _value(_derived(simple), candidate)
            if slope == 0:
                break
            candidate -= _value(simple, candidate) / slope
            candidate = candidate.limit_denominator(leading << 64)
    return None


def _float_roots(polynomial: list[float]) -> list[complex]:
    """Approximate all roots at once (Weierstrass, Durand and Kerner)."""
    m = len(polynomial) - 1
    size = 1 + max(abs(c) for c in polynomial)
    reach = min(size, max(abs(c) ** (1 / k) for k, c in enumerate(polynomial) if k and c) + 1e-9)
    roots = [reach * complex(0.4, 0.9) ** k for k in range(m)]
    for _ in range(300):
        moved = 0.0
        for i, root in enumerate(roots):
            value, others = complex(0), complex(1)
            for c in polynomial:
                value = value * root + c
            for j, other in enumerate(roots):
                others *= 1 if i == j else root - other
            change = value / others
            roots[i] = root - change
            moved = max(moved, abs(change) / (1e-300 + abs(root)))
        if moved < 1e-14:
            break
    return roots


def _value(polynomial: list[Fraction], x: Fraction) -> Fraction:
    value = Fraction(0)
    for c in polynomial:
        value = value * x + c
    return value


def _derived(polynomial: list[Fraction]) -> list[Fraction]:
    m = len(polynomial) - 1
    return [c * (m - k) for k, c in enumerate(polynomial[:-1])]


def _without_root(polynomial: list[Fraction], root: Fraction) -> list[Fraction]:
    quotient = [polynomial[0]]
    for c in polynomial[1:-1]:
        quotient.append(quotient[-1] * root + c)
    return quotient


def _divided(
    dividend: list[Fraction], divisor: list[Fraction], *, remainder: bool = False
) -> list[Fraction]:
    """Return the quotient of a division, or its remainder without leading zeros."""
    rest, quotient = list(dividend), []
    while len(rest) >= len(divisor):
        factor = rest[0] / divisor[0]
        quotient.append(factor)
        for k, c in enumerate(divisor):
            rest[k] -= factor * c
        rest.pop(0)
    if not remainder:
        return quotient
    while rest and rest[0] == 0:
        rest.pop(0)
    return rest


def _common_divisor(left: list[Fraction], right: list[Fraction]) -> list[Fraction]:
    while right:
        left, right = right, _divided(left, right, remainder=True)
    return [c / left[0] for c in left]


def _solved(rows: list[list[Fraction]]) -> list[Exact]:
    """Solve a regular system by elimination; each row ends with its right-hand side."""
    n = len(rows)
    for i in range(n):
        pivot = next(k for k in range(i, n) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [c / rows[i][i] for c in rows[i]]
        for k in range(n):
            if k != i and rows[k][i] != 0:
                factor = rows[k][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [simplified(row[-1]) for row in rows]

"""Sequences of rationals that obey a linear recurrence, and formulas for their terms.

The coefficients of a linear network are such sequences: u_k = w A^k v obeys, by Cayley and
Hamilton, a recurrence of order H. Two sequences that obey recurrences of orders m and n are equal
for ever when their first m + n terms are: so finitely many terms prove what holds for every T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import sympy

from hwcli.rnn.exact import Exact, magnitude, simplified

# SymPy factors the characteristic polynomial and solves for the formula's constants. Both are
# bounded by size and not by a clock, so that every machine gives the same answer: within these
# bounds they take under a second.
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

    def expression(self, k: sympy.Expr, sign: sympy.Expr | None = None) -> sympy.Expr:
        """Return the lasting part for a symbolic k; ``sign`` stands in for (-1)^k where given."""
        total = sympy.Integer(0)
        for root, polynomial in self.powers:
            base = _sympy(magnitude(root)) if sign is not None else _sympy(root)
            factor = sum((_sympy(c) * k**j for j, c in enumerate(polynomial)), sympy.Integer(0))
            total += factor * base**k * (sign if sign is not None and root < 0 else 1)
        return total


def formula(recurrence: Recurrence) -> Formula | None:
    """Return the formula of a sequence whose recurrence has rational roots only, else None.

    None also where the recurrence is too large to be factored for certain in a moment.
    """
    m = recurrence.order
    sizes = [
        max(abs(a.numerator), a.denominator).bit_length()
        for a in (*recurrence.coefficients, *recurrence.initial)
    ]
    if m > MAX_FORMULA_ORDER or max(sizes, default=0) > MAX_FORMULA_BITS:
        return None
    x = sympy.Symbol("x")
    characteristic = sympy.Poly([1, *(-_sympy(a) for a in recurrence.coefficients)], x, domain="QQ")
    _, factors = sympy.factor_list(characteristic)
    if any(factor.degree() > 1 for factor, _ in factors):
        return None
    roots: list[tuple[Exact, int]] = []
    for factor, multiplicity in factors:
        slope, constant = factor.all_coeffs()
        root = Fraction(int((-constant / slope).p), int((-constant / slope).q))
        roots.append((simplified(root), multiplicity))
    num_transient = sum(n for root, n in roots if root == 0)
    roots = sorted(
        ((r, n) for r, n in roots if r != 0), key=lambda pair: (-magnitude(pair[0]), -pair[0])
    )

    # Beyond the transient the m - num_transient powers alone fit the terms.
    columns = [(root, j) for root, n in roots for j in range(n)]
    places = range(num_transient, m)
    terms = recurrence.terms(m)
    if columns:
        matrix = sympy.Matrix([[_sympy(r) ** k * k**j for r, j in columns] for k in places])
        solution = matrix.LUsolve(sympy.Matrix([_sympy(terms[k]) for k in places]))
        constants = [simplified(Fraction(int(c.p), int(c.q))) for c in solution]
    else:
        constants = []
    powers = tuple(
        (root, tuple(c for c, (r, _) in zip(constants, columns, strict=True) if r == root))
        for root, _ in roots
    )
    lasting = Formula(powers, ())
    transient = [simplified(terms[k] - lasting.term(k)) for k in range(num_transient)]
    return Formula(powers, tuple(transient))


def _sympy(number: Exact) -> sympy.Rational:
    return sympy.Rational(number.numerator, number.denominator)

"""The closed form of a linear network: what it holds at T is a weighted sum of the inputs.

    r_T = sum_{t=1}^{T} g_{T-t} . x_t + o_T,   g_k = w A^k B,   o_T the rest

for the readout r of each hidden unit and of the output's pre-activation z; A (H, H) is w_rec and
B (H, D) is w_in. The coefficients g_k (D,) and the offsets o_T obey linear recurrences, found from
their first terms: see :mod:`hwcli.rnn.recurrence`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb
from operator import mul

from hwcli.rnn.exact import Exact, greatest_common_divisor, magnitude, shown, simplified
from hwcli.rnn.network import Letter, Network, Vector
from hwcli.rnn.recurrence import Formula, Recurrence, formula, minimal_recurrence

MAX_DIGITS_IN_FORMULAS = 40


@dataclass(frozen=True)
class WeightedSum:
    """One readout: a recurrence for the coefficients of each input (D,), one for o_1, o_2, ..."""

    responses: tuple[Recurrence, ...]
    offset: Recurrence

    @cached_property
    def formulas(self) -> tuple[Formula | None, ...]:
        """Formulas of the coefficients, None where a root is irrational or the size too large."""
        return tuple(map(formula, self.responses))

    @cached_property
    def offset_formula(self) -> Formula | None:
        """A formula of o_T in k = T - 1, or None."""
        return formula(self.offset)

    def coefficients(self, n: int) -> list[Vector]:
        """Return g_0 .. g_{n-1}, (n, D): of the last input, of the one before it, ..."""
        return list(zip(*(response.terms(n) for response in self.responses), strict=True))

    def value(self, sequence: Sequence[Letter]) -> Exact:
        """Return r_T for one sequence."""
        T = len(sequence)
        known, offsets = self._computed
        if len(known) < T:
            known[:], offsets[:] = self.coefficients(2 * T), self.offset.terms(2 * T)
        total = sum(
            sum(map(mul, weights, letter))
            for weights, letter in zip(known, reversed(sequence), strict=False)
        )
        return simplified(total + offsets[T - 1])

    @cached_property
    def _computed(self) -> tuple[list[Vector], list[Exact]]:
        """Coefficients and offsets computed so far: many short sequences ask for the same."""
        return [], []

    @property
    def alternates(self) -> bool:
        """Tell whether the formulas differ in sign between even and odd T - t, or T."""
        known = [f for f in (*self.formulas, self.offset_formula) if f is not None]
        return any(f.alternates for f in known)

    @property
    def differs_by_parity(self) -> bool:
        """Tell whether even and odd T differ in more than the sign of the whole sum."""
        if not self.alternates:
            return False
        known = [f for f in (*self.formulas, self.offset_formula) if f is not None]
        flips = len(known) == len(self.formulas) + 1 and all(
            not any(f.transient) and all(root < 0 for root, _ in f.powers) for f in known
        )
        return not flips

    def least_magnitude(self, letters: Sequence[Letter]) -> Exact | None:
        """Return a lower bound of abs(r_T) over all sequences where it is not 0, if one is known.

        Where the recurrences are integral, r_T is a whole multiple of one number.
        """
        if not all(r.is_integral for r in (*self.responses, self.offset)):
            return None
        steps = [
            simplified(g * greatest_common_divisor(letter[d] for letter in letters))
            for d, response in enumerate(self.responses)
            for g in response.initial
        ]
        return greatest_common_divisor([*steps, *self.offset.initial]) or None

    def text(self, parity: str | None = None) -> str:
        """Spell the sum; ``parity`` ("even" or "odd") resolves (-1)^T for such T.

        Rules and what x_t is before the first step follow after "where".
        """
        parts: list[str] = []
        where: list[str] = []
        several = len(self.responses) > 1
        for d, (response, found) in enumerate(zip(self.responses, self.formulas, strict=True), 1):
            name, symbol = (f"x[{d}]", f"g[{d}]") if several else ("x", "g")
            if found is None:
                parts.append(f"Σ_{{t=1..T}} {symbol}_{{T-t}}·{name}_t")
                where.append(_rule(symbol, response))
                continue
            for j, c in enumerate(found.transient):
                parts.append(_times(c, f"{name}_{{T-{j}}}" if j else f"{name}_T"))
            if any(found.transient[1:]):
                where.append(f"{name}_t = 0 for t < 1")
            parts.append(_summed(found.powers, name, parity))
        found = self.offset_formula
        if found is None:
            parts.append("o_T")
            where.append(_rule("o", self.offset, first=1))
        else:
            powers = found.powers if parity is None else _resolved(found.powers, parity)
            parts += [
                _product(_shifted(polynomial), root, "T")
                if root == 1
                else _product(polynomial, root, "T - 1")
                for root, polynomial in powers
            ]
            parts += [
                _times(c, f"[T = {j}]")
                for j, c in enumerate(found.transient, 1)
                if parity is None or parity == ("odd" if j % 2 else "even")
            ]
        text = _joined([part for part in parts if part]) or "0"
        return f"{text}, where {'; '.join(dict.fromkeys(where))}" if where else text


@dataclass(frozen=True)
class ClosedForm:
    """The weighted sums of a network: of each hidden unit (H,) and of z."""

    hidden: tuple[WeightedSum, ...]
    preactivation: WeightedSum


def closed_form(network: Network) -> ClosedForm | None:
    """Return the closed form of a linear network, None for any other."""
    if not network.is_linear:
        return None
    plain = network.without_feedback()
    units = [tuple(int(i == j) for j in range(plain.num_hidden)) for i in range(plain.num_hidden)]
    hidden = tuple(_weighted_sum(plain, row, 0) for row in units[: network.num_hidden])
    return ClosedForm(hidden, _weighted_sum(plain, plain.w_out, plain.output_bias))


def _weighted_sum(network: Network, row: Vector, constant: Exact) -> WeightedSum:
    """Find the recurrences of one readout from twice as many terms as their order can be."""
    H = network.num_hidden
    # Offsets obey a recurrence of order H + 1: the constant is one more unit.
    rows = _powers(network, row, 2 * (H + 1) + 1)
    responses = [
        [simplified(sum(map(mul, r, column))) for r in rows[: 2 * H]]
        for column in zip(*network.w_in, strict=True)
    ]
    offsets, from_bias = [], constant
    for k in range(2 * (H + 1)):
        from_bias += sum(map(mul, rows[k], network.bias))
        from_start = sum(map(mul, rows[k + 1], network.initial_state))
        offsets.append(simplified(from_bias + from_start))
    return WeightedSum(tuple(map(minimal_recurrence, responses)), minimal_recurrence(offsets))


def _powers(network: Network, row: Vector, n: int) -> list[Vector]:
    """Return row A^k for k < n."""
    columns = list(zip(*network.w_rec, strict=True))
    powers = [row]
    for _ in range(n - 1):
        powers.append(tuple(simplified(sum(map(mul, powers[-1], c))) for c in columns))
    return powers


def _number(number: Exact) -> str:
    """Spell a coefficient; a formula is exact where its numbers are not absurdly long."""
    return shown(number, max_digits=MAX_DIGITS_IN_FORMULAS)


def coefficient(factor: Exact, ratio: Exact, exponent: str) -> str:
    """Spell ``factor * ratio^(exponent)``, such as ``2·(-1)^(T - t)``."""
    return _times(factor, "" if ratio == 1 else f"{_base(ratio)}^({exponent})")


def _rule(symbol: str, recurrence: Recurrence, first: int = 0) -> str:
    given = [f"{symbol}_{k} = {_number(u)}" for k, u in enumerate(recurrence.initial, first)]
    terms = [
        _times(a, f"{symbol}_{{k-{i}}}") for i, a in enumerate(recurrence.coefficients, 1) if a
    ]
    return ", ".join([*given, f"{symbol}_k = {_joined(terms) or '0'}"])


Powers = tuple[tuple[Exact, tuple[Exact, ...]], ...]


def _summed(powers: Powers, name: str, parity: str | None) -> str:
    """Spell a sum of powers times the inputs, such as ``2·Σ_{t=1..T} (-1)^(T - t)·x_t``."""
    if not powers:
        return ""
    (root, polynomial), *others = powers
    if not others and len(polynomial) == 1:
        (factor,) = polynomial
        weight = _power(root, parity)
        return _times(factor, f"Σ_{{t=1..T}} {weight}{'·' if weight else ''}{name}_t")
    terms = [_product(p, r, "T - t", weight=_power(r, parity)) for r, p in powers]
    weight = _joined(terms)
    bracketed = f"({weight})" if len(terms) > 1 or len(polynomial) > 1 else weight
    return f"Σ_{{t=1..T}} {bracketed}·{name}_t"


def _power(root: Exact, parity: str | None) -> str:
    """Spell root^(T - t); nothing for root 1."""
    if root > 0 or parity is None:
        return "" if root == 1 else f"{_base(root)}^(T - t)"
    sign = "(-1)^t" if parity == "even" else "(-1)^(t + 1)"
    return sign if root == -1 else f"{sign}·{_base(-root)}^(T - t)"


def _resolved(powers: Powers, parity: str) -> Powers:
    """Return the powers of T - 1 for even or odd T: those of a root and of its negative add up."""
    summed: dict[Exact, list[Exact]] = {}
    for root, polynomial in powers:
        # T - 1 is odd for even T.
        sign = -1 if root < 0 and parity == "even" else 1
        total = summed.setdefault(magnitude(root), [])
        total += [0] * (len(polynomial) - len(total))
        for j, c in enumerate(polynomial):
            total[j] = simplified(total[j] + sign * c)
    return tuple((root, tuple(total)) for root, total in summed.items() if any(total))


def _shifted(polynomial: tuple[Exact, ...]) -> tuple[Exact, ...]:
    """Return q with q(T) = p(T - 1)."""
    degree = len(polynomial) - 1
    return tuple(
        simplified(sum(polynomial[n] * comb(n, j) * (-1) ** (n - j) for n in range(j, degree + 1)))
        for j in range(degree + 1)
    )


def _base(root: Exact) -> str:
    text = _number(root)
    return text if text.isdigit() else f"({text})"


def _product(
    polynomial: tuple[Exact, ...], root: Exact, k: str, *, weight: str | None = None
) -> str:
    """Spell p(k) root^k, or p(k) times another weight."""
    if weight is None:
        weight = "" if root == 1 else f"{_base(root)}^({k})"
    power = k if k.isalnum() else f"({k})"
    terms = [
        _times(c, "" if j == 0 else power if j == 1 else f"{power}^{j}")
        for j, c in enumerate(polynomial)
        if c
    ]
    if len(terms) == 1 and weight:
        j, c = next((j, c) for j, c in enumerate(polynomial) if c)
        return _times(c, weight if j == 0 else f"({k}){f'^{j}' if j > 1 else ''}·{weight}")
    spelled = _joined(terms)
    return f"({spelled})·{weight}" if weight else spelled


def _times(coefficient: Exact, symbol: str) -> str:
    """Spell a multiple of a symbol, or the bare number where there is none."""
    if coefficient == 0:
        return ""
    if not symbol:
        return _number(coefficient)
    if abs(coefficient) == 1:
        return symbol if coefficient > 0 else f"-{symbol}"
    return f"{_number(coefficient)}·{symbol}"


def _joined(parts: Sequence[str]) -> str:
    text = ""
    for part in parts:
        if not text:
            text = part
        else:
            text += f" - {part[1:]}" if part.startswith("-") else f" + {part}"
    return text

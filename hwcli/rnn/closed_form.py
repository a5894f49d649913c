"""The closed form of a linear network: what it holds at T is a weighted sum of the inputs.

    r_T = sum_{t=1}^{T} g_{T-t} . x_t + o_T,   g_k = w A^k B,   o_T the rest

for the readout r of each hidden unit and of the output's pre-activation z; A (H, H) is w_rec and
B (H, D) is w_in. The coefficients g_k (D,) and the offsets o_T obey linear recurrences, found from
their first terms: see :mod:`hwcli.rnn.recurrence`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import mul

import sympy

from hwcli.rnn.exact import Exact, greatest_common_divisor, shown, simplified
from hwcli.rnn.network import Letter, Network, Vector
from hwcli.rnn.recurrence import Formula, Recurrence, formula, minimal_recurrence

_T, _t = sympy.symbols("T t", integer=True, positive=True)
_SIGN = (-1) ** _t


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
        total = sum(
            sum(map(mul, weights, letter))
            for weights, letter in zip(self.coefficients(T), reversed(sequence), strict=True)
        )
        return simplified(total + self.offset.terms(T)[-1])

    @property
    def alternates(self) -> bool:
        """Tell whether the formulas differ in sign between even and odd T - t, or T."""
        known = [f for f in (*self.formulas, self.offset_formula) if f is not None]
        return any(f.alternates for f in known)

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
        """Spell the sum; ``parity`` ("even" or "odd") resolves (-1)^T for such T."""
        signs = {None: None, "even": _SIGN, "odd": -_SIGN}
        parts: list[str] = []
        for d, (response, found) in enumerate(zip(self.responses, self.formulas, strict=True)):
            name = "x" if len(self.responses) == 1 else f"x[{d + 1}]"
            if found is None:
                symbol = "g" if len(self.responses) == 1 else f"g[{d + 1}]"
                parts.append(f"Σ_{{t=1..T}} {symbol}_{{T-t}}·{name}_t, {_rule(symbol, response)},")
                continue
            for j, c in enumerate(found.transient):
                parts.append(_times(c, f"{name}_{{T-{j}}}" if j else f"{name}_T"))
            lasting = found.expression(_T - _t, signs[parity])
            if lasting != 0:
                factor = "" if lasting == 1 else f"{_spelled(lasting)}·"
                parts.append(f"Σ_{{t=1..T}} {factor}{name}_t")
        found = self.offset_formula
        if found is None:
            parts.append(f"o_T, {_rule('o', self.offset, first=1)}")
        else:
            # o_T stands at k = T - 1: (-1)^(T-1) is -1 for even T.
            sign = {None: None, "even": sympy.Integer(-1), "odd": sympy.Integer(1)}[parity]
            lasting = sympy.expand(found.expression(_T - 1, sign))
            if lasting != 0:
                parts.append(_spelled(lasting))
            for j, c in enumerate(found.transient):
                if c:
                    parts.append(f"{shown(c)}·[T = {j + 1}]")
        return _joined([part for part in parts if part]) or "0"


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


def _rule(symbol: str, recurrence: Recurrence, first: int = 0) -> str:
    given = [f"{symbol}_{k} = {shown(u)}" for k, u in enumerate(recurrence.initial, first)]
    terms = [
        _times(a, f"{symbol}_{{k-{i}}}") for i, a in enumerate(recurrence.coefficients, 1) if a
    ]
    return f"where {', '.join(given)} and then {symbol}_k = {_joined(terms) or '0'}"


def _times(coefficient: Exact, symbol: str) -> str:
    if coefficient == 0:
        return ""
    if abs(coefficient) == 1:
        return symbol if coefficient > 0 else f"-{symbol}"
    return f"{shown(coefficient)}·{symbol}"


def _joined(parts: Sequence[str]) -> str:
    return "".join(_with_signs(parts)).strip()


def _with_signs(parts: Sequence[str]) -> Iterator[str]:
    for i, part in enumerate(parts):
        if i == 0:
            yield part
        elif part.startswith("-"):
            yield f" - {part[1:]}"
        else:
            yield f" + {part}"


def _spelled(expression: sympy.Expr) -> str:
    text = str(expression).replace("**", "^").replace("*", "·")
    return f"({text})" if expression.is_Add else text

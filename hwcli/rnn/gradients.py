"""The gradient of the last hidden state and of the output with respect to every input.

By back-propagation through time (Werbos 1990): with a_t the pre-activations of the hidden units
and v_T one row of the identity (for a hidden unit) or w_out (for z_T),

    dr/dx_t = v_t diag(f'(a_t)) W_in
    v_{t-1} = v_t diag(f'(a_t)) (W_rec + w_fb g'(z_{t-1}) w_out)

on exact numbers where the network is exact, so that nothing under- or overflows. Rows v_t of
float64 are kept with an exponent of their own: where a gradient explodes, it leaves float64's range
long before the last step is reached.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import mul

from hwcli.rnn.activations import SATURATED, derivative
from hwcli.rnn.cells import AnyNetwork
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import Exact, Number, magnitude, shown, simplified, to_float
from hwcli.rnn.network import Network
from hwcli.rnn.trace import Step


@dataclass(frozen=True)
class Gradients:
    """Gradients with respect to x_t for the last n steps, t ascending.

    Attributes:
        first: the t of the first of them.
        hidden: of each hidden unit's last value, (n, H, D).
        preactivation: of z_T, (n, D).
        z: z_T itself, at which the output's own derivative is taken.
        output_derivative: dy_T/dz_T.
    """

    first: int
    hidden: tuple[tuple[tuple[Number, ...], ...], ...]
    preactivation: tuple[tuple[Number, ...], ...]
    z: Number
    output_derivative: Number

    def sizes(self) -> list[Number]:
        """Return the largest absolute gradient of a hidden unit at each step, (n,)."""
        return [max(max(g, -g) for row in rows for g in row) for rows in self.hidden]


@dataclass(frozen=True)
class _Row:
    """A row v = numbers · 2^exponent; the numbers are exact, or floats of at most 1."""

    numbers: tuple[Number, ...]
    exponent: int = 0

    def replaced(self, numbers: Iterable[Number]) -> "_Row":
        """Return a row of other numbers, which have this row's exponent."""
        new = tuple(numbers)
        if not any(isinstance(number, float) for number in new):
            return _Row(new, self.exponent)
        shift = max(0, *(math.frexp(number)[1] for number in new))
        return _Row(tuple(math.ldexp(x, -shift) for x in new), self.exponent + shift)

    def unscaled(self, numbers: Iterable[Number]) -> tuple[Number, ...]:
        """Return numbers times 2^exponent: as floats, or exact where float64 cannot hold them."""
        if self.exponent == 0:
            return tuple(numbers)
        return tuple(_grown(to_float(number), self.exponent) for number in numbers)


def _grown(number: float, exponent: int) -> Number:
    try:
        return math.ldexp(number, exponent)
    except OverflowError:
        return simplified(Fraction(number) * 2**exponent)


def gradients(network: Network, steps: Sequence[Step]) -> Gradients:
    """Go back through consecutive steps of a trace, the last of which is the final one.

    The first step only supplies h_0 of the others, unless it is t = 1.
    """
    H = network.num_hidden
    rows = [_Row(tuple(int(i == j) for j in range(H))) for i in range(H)]
    rows.append(_Row(network.w_out))
    found: list[list[tuple[Number, ...]]] = []
    for i in reversed(range(len(steps))):
        if i == 0 and steps[0].t > 1:
            break
        if i > 0:
            hidden, fed_back = steps[i - 1].hidden, steps[i - 1].output
        else:
            hidden, fed_back = network.initial_state, network.initial_output
        slopes = [
            derivative(network.activation, a)
            for a in preactivations(network, hidden, steps[i].letter, fed_back)
        ]
        rows = [row.replaced(map(mul, row.numbers, slopes)) for row in rows]
        found.append([row.unscaled(_times(row.numbers, network.w_in)) for row in rows])
        through_output: Number = 0
        if network.has_feedback and i > 0:
            through_output = derivative(network.output_activation, steps[i - 1].preactivation)
        rows = [
            row.replaced(
                along + back * through_output * w
                for along, w in zip(_times(row.numbers, network.w_rec), network.w_out, strict=True)
            )
            for row in rows
            for back in [_dot(row.numbers, network.w_feedback)]
        ]
    found.reverse()
    last = steps[-1]
    return Gradients(
        first=last.t - len(found) + 1,
        hidden=tuple(tuple(each[:-1]) for each in found),
        preactivation=tuple(each[-1] for each in found),
        z=last.preactivation,
        output_derivative=derivative(network.output_activation, last.preactivation),
    )


def linear_gradients(network: Network, closed: ClosedForm, final: Step, num: int) -> Gradients:
    """Return those of a linear network, which are the coefficients of its closed form.

    Args:
        network: a linear one.
        closed: its closed form.
        final: the last step.
        num: with respect to so many of the last inputs, as far as there are so many.
    """
    n = min(num, final.t)
    by_unit = [unit.coefficients(n)[::-1] for unit in closed.hidden]  # (H, n, D)
    return Gradients(
        first=final.t - n + 1,
        hidden=tuple(zip(*by_unit, strict=True)),
        preactivation=tuple(closed.preactivation.coefficients(n)[::-1]),
        z=final.preactivation,
        output_derivative=derivative(network.output_activation, final.preactivation),
    )


def preactivations(
    network: Network, hidden: Sequence[Number], letter: Sequence[Exact], fed_back: Number
) -> list[Number]:
    """Return a_t = W_rec h_{t-1} + W_in x_t + w_fb y_{t-1} + b, (H,)."""
    return [
        _dot(rec, hidden) + _dot(into, letter) + (back * fed_back if back else 0) + bias
        for rec, into, back, bias in zip(
            network.w_rec, network.w_in, network.w_feedback, network.bias, strict=True
        )
    ]


def lesson(network: AnyNetwork, found: Gradients) -> str:
    """Say in a few sentences what these gradients mean for learning the weights."""
    parts = [_hidden_lesson(network, found), _bound(network), _output_lesson(network, found)]
    return " ".join(part for part in parts if part)


def _bound(network: AnyNetwork) -> str:
    """Bound the gradient of a scalar tanh or logistic unit for every sequence of every length.

    A last sentence says for which other recurrent weights it vanishes likewise.
    """
    steepest = {"tanh": Fraction(1), "logistic": Fraction(1, 4)}.get(network.activation)
    scalar = isinstance(network, Network) and network.num_hidden == network.num_inputs == 1
    if steepest is None or not scalar or network.has_feedback:
        return ""
    assert isinstance(network, Network)
    ratio = simplified(steepest * magnitude(network.w_rec[0][0]))
    first = simplified(steepest * magnitude(network.w_in[0][0]))
    size = "abs(w)" if steepest == 1 else f"abs(w)/{shown(simplified(1 / steepest))}"
    fades = (
        "goes to 0 as T grows: the gradient vanishes, whatever the inputs are"
        if ratio < 1
        else "does not go to 0: whether the gradient vanishes depends on the inputs"
    )
    return (
        f"As the slope of {network.activation} is at most {shown(steepest)}, for every sequence "
        f"abs(dh_T/dx_1) <= {shown(first)}·({shown(ratio)})^(T - 1), which {fades}. With any "
        f"other recurrent weight w, abs(dh_T/dx_1) <= {shown(first)}·({size})^(T - 1): for "
        f"abs(w) < {shown(simplified(1 / steepest))} the gradient vanishes."
    )


def _hidden_lesson(network: AnyNetwork, found: Gradients) -> str:
    sizes = found.sizes()
    n = len(sizes)
    first, last, largest, smallest = sizes[0], sizes[-1], max(sizes), min(sizes)
    if largest == 0:
        flat = network.activation in ("step", "step-ge", "sign")
        why = (
            f"{network.activation} units are flat wherever they do not jump, so gradient descent "
            "cannot learn these weights"
            if flat
            else "on this sequence no input changes the last hidden state, to first order"
        )
        return f"The gradient of the hidden state is zero: {why}."
    if n == 1:
        return (
            f"The gradient of the hidden state is {_roughly(largest)} at the only step: one step "
            "says nothing about vanishing or exploding gradients."
        )
    scalar = network.num_hidden == network.num_inputs == 1
    size = "abs(dh_T/dx_t)" if scalar else "The largest absolute gradient of the hidden state"
    if smallest == largest:
        for_all = ", whatever the inputs are" if network.is_linear else " of this sequence"
        when = "for every t" if scalar and network.is_linear else f"at each of the {n:,} steps"
        return (
            f"{size} is {shown(largest)} {when}{for_all}: the gradient neither vanishes nor "
            "explodes."
        )
    before = f"at t = {found.first:,}"
    if len(set(sizes[:-1])) == 1:
        before = "at the step before" if n == 2 else f"at each of the {n - 1:,} steps before"
    ends = f"{_roughly(last)} at the last step, {_roughly(first)} {before}"
    if 1000 * first <= last:
        return f"{size} vanishes: {ends}. The network cannot learn from what came early."
    if first >= 1000 * last:
        return f"{size} explodes: {ends}. One long sequence throws the weights far off."
    return (
        f"{size} stays between {_roughly(smallest)} and {_roughly(largest)} over {n:,} steps of "
        "this sequence."
    )


def _output_lesson(network: AnyNetwork, found: Gradients) -> str:
    activation, z = network.output_activation, found.z
    if activation in ("step", "step-ge", "sign"):
        return "The output unit is flat: its derivative is 0, and no error passes through it."
    if activation == "identity":
        return "The output unit is linear: it passes errors on unchanged."
    if activation == "relu":
        if found.output_derivative:
            return f"The output unit passes errors on unchanged, as z = {shown(z)} is positive."
        return f"The output unit is off at z = {shown(z)}: its derivative is 0."
    if abs(to_float(z)) > SATURATED:
        said = (
            f"The output unit is saturated at z_T = {shown(z)}: its derivative is {_tiny(found)}, "
            "so almost nothing of a squared error reaches the weights."
        )
        if activation == "logistic":
            said += " With cross-entropy dE/dz_T = y_T - target, without this derivative."
        return said
    slope = _roughly(found.output_derivative)
    return f"The derivative of the output unit at z = {shown(z)} is {slope}."


def _tiny(found: Gradients) -> str:
    """Say how small the derivative of a saturated unit is."""
    if found.output_derivative == 0 or to_float(found.output_derivative) < 1e-100:
        return "less than 10^-100"
    return f"about 10^{math.log10(to_float(found.output_derivative)):.0f}"


def _roughly(number: Number) -> str:
    """Spell a number with a few digits, however large or small it is."""
    if number == 0 or 1e-300 < to_float(number) < 1e300:
        return f"{to_float(number):.3g}"
    return shown(number)


def _dot(left: Sequence[Number], right: Sequence[Number]) -> Number:
    total: Number = sum(map(mul, left, right))
    return total


def _times(row: Sequence[Number], matrix: Sequence[Sequence[Number]]) -> tuple[Number, ...]:
    return tuple(_dot(row, column) for column in zip(*matrix, strict=True))

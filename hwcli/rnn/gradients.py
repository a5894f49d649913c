"""The gradient of the last hidden state and of the output with respect to every input.

By back-propagation through time (Werbos 1990): with a_t the pre-activations of the hidden units
and v_T one row of the identity (for a hidden unit) or w_out (for z_T),

    dr/dx_t = v_t diag(f'(a_t)) W_in
    v_{t-1} = v_t diag(f'(a_t)) (W_rec + w_fb g'(z_{t-1}) w_out)

on exact numbers where the network is exact, so that nothing under- or overflows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from hwcli.rnn.activations import derivative
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import Exact, Number, shown, to_float
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


def gradients(network: Network, steps: Sequence[Step]) -> Gradients:
    """Go back through consecutive steps of a trace, the last of which is the final one.

    The first step only supplies h_0 of the others, unless it is t = 1.
    """
    H = network.num_hidden
    rows: list[tuple[Number, ...]] = [tuple(int(i == j) for j in range(H)) for i in range(H)]
    rows.append(network.w_out)
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
        rows = [tuple(map(mul, row, slopes)) for row in rows]
        found.append([_times(row, network.w_in) for row in rows])
        through_output: Number = 0
        if network.has_feedback and i > 0:
            through_output = derivative(network.output_activation, steps[i - 1].preactivation)
        rows = [
            tuple(
                along + back * through_output * w
                for along, w in zip(_times(row, network.w_rec), network.w_out, strict=True)
            )
            for row in rows
            for back in [_dot(row, network.w_feedback)]
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


def lesson(network: Network, found: Gradients) -> str:
    """Say in a sentence or two what these gradients mean for learning the weights."""
    sizes = found.sizes()
    n = len(sizes)
    first, last, largest, smallest = sizes[0], sizes[-1], max(sizes), min(sizes)
    if largest == 0:
        hidden = (
            "The hidden state has no gradient at all: the units are flat wherever they do not "
            "jump. Gradient descent cannot learn these weights"
        )
    elif smallest == largest:
        hidden = (
            f"The hidden state's gradient has absolute value {shown(largest)} at each of {n:,} "
            "steps: nothing vanishes and nothing explodes, however far back"
        )
    elif 1000 * first <= last:
        hidden = (
            f"The hidden state's gradient vanishes: {_roughly(last)} at the last step, "
            f"{_roughly(first)} {n - 1:,} steps before it, so that what came early cannot be "
            "learned from"
        )
    elif first >= 1000 * last:
        hidden = (
            f"The hidden state's gradient explodes: {_roughly(last)} at the last step, "
            f"{_roughly(first)} {n - 1:,} steps before it, so that one long sequence throws the "
            "weights far off"
        )
    else:
        hidden = (
            f"The hidden state's gradient stays between {_roughly(smallest)} and "
            f"{_roughly(largest)} over {n:,} steps"
        )
    if network.output_activation in ("logistic", "tanh"):
        z = abs(to_float(found.z))
        if z > 20:
            # log10 of s(z) s(-z) ~ exp(-|z|), of 1 / cosh(z)^2 ~ 4 exp(-2|z|)
            twice = network.output_activation == "tanh"
            exponent = ((math.log(4) if twice else 0) - (1 + twice) * z) / math.log(10)
            size = (
                f"about 10^{exponent:.0f}"
                if math.isfinite(exponent)
                else "too small for its exponent to be written"
            )
            output = (
                f". The output unit is saturated at z = {shown(found.z)}: its derivative there is "
                f"{size}, so that next to nothing of an error reaches the weights"
            )
        else:
            slope = _roughly(found.output_derivative)
            output = f". The output unit's own derivative at z = {shown(found.z)} is {slope}"
    elif network.output_activation in ("step", "sign"):
        output = ". The output unit is flat: its derivative is 0, and no error passes through it"
    else:
        output = ". The output unit passes errors on as they are"
    return hidden + output + "."


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

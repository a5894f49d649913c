"""Back-propagation on a tape: the chain rule on exact numbers where the network is exact.

A variable remembers what it was computed from and its derivative with respect to each of that. It
adds and multiplies like a number, so a network's step runs on variables as it stands.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Union

from hwcli.rnn.activations import Activation, activate, derivative
from hwcli.rnn.cells import Stack
from hwcli.rnn.exact import Number, simplified, to_float
from hwcli.rnn.gradients import Gradients
from hwcli.rnn.network import Network, dynamics
from hwcli.rnn.trace import Step

Scalar = Union["Variable", Number]


@dataclass(eq=False)
class Variable:
    """A number on the tape: its value, and (parent, derivative) pairs."""

    value: Number
    parents: tuple[tuple["Variable", Number], ...] = field(default=(), repr=False)

    def __add__(self, other: Scalar) -> "Variable":
        if isinstance(other, Variable):
            return Variable(_plus(self.value, other.value), ((self, 1), (other, 1)))
        return Variable(_plus(self.value, other), ((self, 1),))

    __radd__ = __add__

    def __mul__(self, other: Scalar) -> "Variable":
        if isinstance(other, Variable):
            parents = ((self, other.value), (other, self.value))
            return Variable(_times(self.value, other.value), parents)
        return Variable(_times(self.value, other), ((self, other),))

    __rmul__ = __mul__

    def __sub__(self, other: Scalar) -> "Variable":
        return self + other * -1

    def __rsub__(self, other: Number) -> "Variable":
        return self * -1 + other

    def activated(self, activation: Activation) -> "Variable":
        """Apply an activation."""
        slope = derivative(activation, self.value)
        return Variable(activate(activation, self.value), ((self, slope),))


def backward(result: Variable) -> dict[int, Number]:
    """Return the derivative of a result with respect to every variable, by ``id``."""
    order: list[Variable] = []
    seen: set[int] = set()
    stack: list[tuple[Variable, bool]] = [(result, False)]
    while stack:
        variable, is_done = stack.pop()
        if is_done:
            order.append(variable)
        elif id(variable) not in seen:
            seen.add(id(variable))
            stack.append((variable, True))
            stack += [(parent, False) for parent, _ in variable.parents]
    found: dict[int, Number] = {id(result): 1}
    for variable in reversed(order):
        mine = found.get(id(variable), 0)
        for parent, slope in variable.parents:
            found[id(parent)] = _plus(found.get(id(parent), 0), _times(mine, slope))
    return found


def apply_on_tape(activation: Activation, z: Any) -> Any:
    """Apply an activation to a variable, or to a number that is none."""
    return z.activated(activation) if isinstance(z, Variable) else activate(activation, z)


def stack_gradients(stack: Stack, steps: Iterable[Step], state: Any) -> Gradients | None:
    """Return the gradients of the last state and of z with respect to the inputs.

    Args:
        stack: the network; None is returned for one with several outputs.
        steps: consecutive steps, the last of which is the final one.
        state: the state before the first of them.
    """
    if stack.output_activation == "argmax":
        return None
    moving = dynamics(stack, apply_on_tape)
    listed = list(steps)
    letters = [[Variable(x) for x in step.letter] for step in listed]
    for letter in letters:
        state = moving.advance(state, letter)  # type: ignore[arg-type]
    z = moving.preactivation(state)

    def of(result: Any) -> list[tuple[Number, ...]]:
        slopes = backward(result) if isinstance(result, Variable) else {}
        return [tuple(slopes.get(id(x), 0) for x in letter) for letter in letters]

    by_unit = [of(number) for number in state]
    last = listed[-1]
    return Gradients(
        first=listed[0].t,
        hidden=tuple(zip(*by_unit, strict=True)),
        preactivation=tuple(of(z)),
        z=last.preactivation,
        output_derivative=derivative(stack.output_activation, last.preactivation),
    )


def with_variables(network: Network) -> tuple[Network, dict[str, Variable]]:
    """Return a simple network whose weights are variables, and these by name."""
    weights: dict[str, Variable] = {}
    H, D = network.num_hidden, network.num_inputs

    def variable(name: str, value: Number) -> Variable:
        return weights.setdefault(name, Variable(value))

    def unit(j: int) -> str:
        return f"[{j + 1}]" if H > 1 else ""

    def matrix(key: str, rows: Any, width: int) -> Any:
        return tuple(
            tuple(
                variable(f"{key}{unit(i)}{f'[{j + 1}]' if width > 1 else ''}", w)
                for j, w in enumerate(row)
            )
            for i, row in enumerate(rows)
        )

    def vector(key: str, values: Any) -> Any:
        return tuple(variable(f"{key}{unit(i)}", w) for i, w in enumerate(values))

    feedback = vector("w_feedback", network.w_feedback) if network.has_feedback else (0,) * H
    on_tape = Network(
        w_in=matrix("w_in", network.w_in, D),
        w_rec=matrix("w_rec", network.w_rec, H),
        w_out=vector("w_out", network.w_out),
        bias=vector("bias", network.bias),
        w_feedback=feedback,
        initial_state=vector("initial_state", network.initial_state),
        output_bias=variable("output_bias", network.output_bias),  # type: ignore[arg-type]
        initial_output=network.initial_output,
        activation=network.activation,
        output_activation=network.output_activation,
    )
    return on_tape, weights


def _plus(a: Number, b: Number) -> Number:
    if not isinstance(a, float) and not isinstance(b, float):
        return simplified(a + b)
    total = to_float(a) + to_float(b)
    return total if math.isfinite(total) else simplified(Fraction(a) + Fraction(b))


def _times(a: Number, b: Number) -> Number:
    """Multiply; where float64 would leave its range, as gradients that explode do, exactly."""
    if not isinstance(a, float) and not isinstance(b, float):
        return simplified(Fraction(a * b))
    product = to_float(a) * to_float(b)
    return product if math.isfinite(product) else simplified(Fraction(a) * Fraction(b))

"""A loss and its gradients, step by step: what back-propagation through time computes by hand.

E = sum over the steps with a target of E_t
squared: E_t = (y_t - d_t)^2 / 2
cross-entropy: E_t = -d_t log y_t - (1 - d_t) log(1 - y_t), of a logistic output
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from hwcli.output.tables import Column, Table
from hwcli.rnn.activations import logistic
from hwcli.rnn.exact import Exact, Number, shown, simplified, to_float
from hwcli.rnn.letters import vector
from hwcli.rnn.network import Letter, Network, dynamics
from hwcli.rnn.tape import Variable, apply_on_tape, backward, with_variables

LossKind = Literal["squared", "cross-entropy"]


@dataclass(frozen=True)
class LossStep:
    """One step: its target, output and error, and dE/dz_t and dE/dh_t of the whole loss E."""

    t: int
    target: Exact | None
    output: Number
    error: Number | None
    output_gradient: Number
    hidden_gradient: tuple[Number, ...]


@dataclass(frozen=True)
class Loss:
    """The loss of a sequence, its steps, and its derivative with respect to every weight."""

    total: Number
    steps: tuple[LossStep, ...]
    weights: dict[str, Number]


def loss(
    network: Network,
    sequence: Sequence[Letter],
    targets: Sequence[Exact | None],
    kind: LossKind,
) -> Loss:
    """Go forward through a sequence and back again."""
    on_tape, weights = with_variables(network)
    moving = dynamics(on_tape, apply_on_tape)
    state = moving.start
    seen = []
    total: Variable = Variable(0)
    for letter, target in zip(sequence, targets, strict=True):
        state = moving.advance(state, letter)
        z = moving.preactivation(state)
        y = apply_on_tape(network.output_activation, z)
        error = None if target is None else _error(y, z, target, kind)
        if error is not None:
            total = total + error
        seen.append((target, state[: network.num_hidden], z, y, error))
    slopes = backward(total)
    steps = tuple(
        LossStep(
            t,
            target,
            y.value,
            None if error is None else error.value,
            slopes.get(id(z), 0),
            tuple(slopes.get(id(h), 0) for h in hidden),
        )
        for t, (target, hidden, z, y, error) in enumerate(seen, 1)
    )
    return Loss(total.value, steps, {name: slopes.get(id(w), 0) for name, w in weights.items()})


def _error(y: Variable, z: Variable, target: Exact, kind: LossKind) -> Variable:
    if kind == "squared":
        difference = y - target
        return difference * difference * Fraction(1, 2)
    # log y = -log(1 + e^-z) without overflow; its derivative by z is y - d.
    size = to_float(z.value)
    value = max(size, 0.0) - size * to_float(target) + math.log1p(math.exp(-abs(size)))
    return Variable(value, ((z, logistic(size) - to_float(target)),))


def loss_tables(found: Loss) -> list[Table]:
    """Return the steps, and the gradient of the loss with respect to every weight."""
    rows = [
        {
            "t": step.t,
            "target": None if step.target is None else shown(step.target),
            "output": shown(step.output),
            "error": None if step.error is None else shown(step.error),
            "output_gradient": shown(step.output_gradient),
            "hidden_gradient": vector(step.hidden_gradient),
        }
        for step in found.steps
    ]
    columns = [
        Column("t", "t"),
        Column("target", "target d_t"),
        Column("output", "y_t"),
        Column("error", "error E_t"),
        Column("output_gradient", "dE/dz_t"),
        Column("hidden_gradient", "dE/dh_t"),
    ]
    weights = [{"weight": name, "gradient": shown(g)} for name, g in found.weights.items()]
    return [
        Table(f"The loss E = {shown(simplified_number(found.total))}", columns, rows),
        Table(
            "The gradient of the loss",
            [Column("weight", "weight"), Column("gradient", "dE/dweight")],
            weights,
        ),
    ]


def simplified_number(number: Number) -> Number:
    """Return an integer as ``int``, and floats as they are."""
    return number if isinstance(number, float) else simplified(number)

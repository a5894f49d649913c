"""A recurrent network with explicit weights, and one step of it at a time.

    h_t = f(W_rec h_{t-1} + W_in x_t + w_fb y_{t-1} + b)
    z_t = w_out . h_t + b_out,   y_t = g(z_t)

Shapes: T steps, D inputs a step, H hidden units; one output unit. A *letter* is what is read in
one step: a tuple of D exact numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import mul
from typing import Any, TypeAlias

from hwcli.rnn.activations import EXACT, UNBOUNDED, Activation, activate
from hwcli.rnn.exact import Exact, Number, common_denominator, magnitude, simplified

Vector: TypeAlias = tuple[Exact, ...]
Matrix: TypeAlias = tuple[Vector, ...]
Letter: TypeAlias = Vector
State: TypeAlias = tuple[Number, ...]
"""The scaled hidden state, and behind it the output where that is fed back: see Stepper."""


@dataclass(frozen=True)
class Network:
    """The weights, exact: w_in (H, D), w_rec (H, H), the vectors (H,), and three scalars.

    ``rounded`` computes in float64 what could be exact: see :meth:`bits_per_step`.
    """

    w_in: Matrix
    w_rec: Matrix
    w_out: Vector
    bias: Vector
    w_feedback: Vector
    initial_state: Vector
    output_bias: Exact = 0
    initial_output: Exact = 0
    activation: Activation = "identity"
    output_activation: Activation = "logistic"
    rounded: bool = False

    @property
    def num_hidden(self) -> int:
        """Return H."""
        return len(self.w_in)

    @property
    def num_inputs(self) -> int:
        """Return D."""
        return len(self.w_in[0])

    @property
    def has_feedback(self) -> bool:
        """Tell whether the output of one step is an input of the next."""
        return any(self.w_feedback)

    @property
    def is_exact(self) -> bool:
        """Tell whether hidden states are rationals; otherwise they are float64."""
        fed_back_exactly = not self.has_feedback or self.output_activation in EXACT
        return self.activation in EXACT and fed_back_exactly and not self.rounded

    @property
    def is_linear(self) -> bool:
        """Tell whether the hidden state is an affine function of the inputs."""
        fed_back_linearly = not self.has_feedback or self.output_activation == "identity"
        return self.activation == "identity" and fed_back_linearly

    @property
    def may_grow(self) -> bool:
        """Tell whether exact states may need ever more digits as a sequence goes on.

        They need not where units are bounded, nor (at most one more bit each time the length
        doubles) where w_rec is integral with absolute row sums of 1 or less.
        """
        if not self.is_exact or self.activation not in UNBOUNDED:
            return False
        feeds_numbers = self.has_feedback and self.output_activation in UNBOUNDED
        calm = all(
            all(isinstance(w, int) for w in row) and sum(map(magnitude, row)) <= 1
            for row in self.w_rec
        )
        return feeds_numbers or not calm

    def bits_per_step(self) -> float:
        """Return how many binary digits an exact state may gain with each step."""
        if not self.may_grow:
            return 0.0
        rows = [
            [*row, *(back * w for w in self.w_out)]
            for row, back in zip(self.w_rec, self.w_feedback, strict=True)
        ]
        denominator = common_denominator(w for row in rows for w in row)
        growth = max(sum(map(magnitude, row)) for row in rows)
        return math.log2(denominator) + max(0.0, math.log2(growth or 1))

    def without_feedback(self) -> "Network":
        """Return a linear network's equal without feedback: its output becomes a hidden unit."""
        if not self.has_feedback:
            return self
        assert self.is_linear

        def read_out(column: Vector) -> Exact:
            return simplified(sum(map(mul, self.w_out, column)))

        rows = [(*rec, back) for rec, back in zip(self.w_rec, self.w_feedback, strict=True)]
        H = self.num_hidden
        return Network(
            w_in=(*self.w_in, tuple(map(read_out, zip(*self.w_in, strict=True)))),
            w_rec=(*rows, tuple(map(read_out, zip(*rows, strict=True)))),
            w_out=(*(0,) * H, 1),
            bias=(*self.bias, simplified(read_out(self.bias) + self.output_bias)),
            w_feedback=(0,) * (H + 1),
            initial_state=(*self.initial_state, self.initial_output),
            activation="identity",
            output_activation="identity",
        )


@dataclass(frozen=True)
class Dynamics:
    """One step of a network on any numbers that add and multiply, such as intervals.

    Attributes:
        start: the state before the first letter: h_0, and y_0 where it is fed back.
        advance: (state, x_t) -> next state.
        preactivation: state -> z_t.
    """

    start: Vector
    advance: Callable[[Any, Letter], Any]
    preactivation: Callable[[Any], Any]


def dynamics(network: Any, apply: Callable[[Activation, Any], Any]) -> Dynamics:
    """Return a network's step with exact weights; ``apply`` applies an activation."""
    if not isinstance(network, Network):
        stacked: Dynamics = network.dynamics(apply)
        return stacked
    H = network.num_hidden
    feedback = network.has_feedback
    rows = _rows(network)

    def preactivation(state: Any) -> Any:
        return sum(map(mul, network.w_out, state[:H])) + network.output_bias

    def advance(state: Any, letter: Letter) -> Any:
        known = (*state, *letter, 1)
        hidden = tuple(apply(network.activation, sum(map(mul, row, known))) for row in rows)
        if not feedback:
            return hidden
        return (*hidden, apply(network.output_activation, preactivation(hidden)))

    start = (*network.initial_state, *((network.initial_output,) if feedback else ()))
    return Dynamics(start, advance, preactivation)


def _rows(network: Network) -> list[Vector]:
    """Return the weights in each hidden unit's sum: of h, of y where it is fed back, of x, of 1."""
    feedback = network.has_feedback
    weights = zip(network.w_rec, network.w_feedback, network.w_in, network.bias, strict=True)
    return [
        (*rec, *((back,) if feedback else ()), *into, bias) for rec, back, into, bias in weights
    ]


class Stepper:
    """Steps a network; all on integers where the weights' common denominator allows it.

    A state holds ``scale * h_t``. Identity and relu units commute with a positive scale, so an
    integral w_rec leaves nothing but integers; step and sign units do not see the scale of a
    row at all. Networks with logistic or tanh units, or with such an output fed back, are
    stepped in float64.
    """

    def __init__(self, network: Network):
        self.network = network
        rows = _rows(network)
        self._scale = 1
        self._rows: list[tuple[Number, ...]]
        if not network.is_exact:
            self._rows = [tuple(map(float, row)) for row in rows]
        elif network.activation in UNBOUNDED:
            H = network.num_hidden
            scale = common_denominator(
                [w for row in rows for w in row[H:]] + list(network.initial_state)
            )
            self._scale = scale
            self._rows = [(*row[:H], *(simplified(w * scale) for w in row[H:])) for row in rows]
        else:
            self._rows = [
                tuple(simplified(w * common_denominator(row)) for w in row) for row in rows
            ]
        initial: State = tuple(simplified(h * self._scale) for h in network.initial_state)
        if not network.is_exact:
            initial = tuple(map(float, initial))
        self.start: State = (*initial, network.initial_output) if network.has_feedback else initial

    @cached_property
    def advance(self) -> Callable[[State, Letter], State]:
        """The step (state, x_t) -> next state."""
        rows, activation = self._rows, self.network.activation

        def linear(state: State, letter: Letter) -> State:
            known = (*state, *letter, 1)
            return tuple([sum(map(mul, row, known)) for row in rows])

        def nonlinear(state: State, letter: Letter) -> State:
            known = (*state, *letter, 1)
            return tuple([activate(activation, sum(map(mul, row, known))) for row in rows])

        step = linear if activation == "identity" else nonlinear
        if not self.network.has_feedback:
            return step

        def with_feedback(state: State, letter: Letter) -> State:
            hidden = step(state, letter)
            return (*hidden, self.output(hidden))

        return with_feedback

    def hidden(self, state: State) -> State:
        """Return h_t itself, (H,)."""
        return tuple([_unscaled(h, self._scale) for h in state[: self.network.num_hidden]])

    def preactivation(self, state: State) -> Number:
        """Return z_t."""
        products = map(mul, self.network.w_out, self.hidden(state))
        return _unscaled(sum(products) + self.network.output_bias, 1)

    def output(self, state: State) -> Number:
        """Return y_t."""
        return activate(self.network.output_activation, self.preactivation(state))


def _unscaled(number: Number, scale: int) -> Number:
    if isinstance(number, float) or (scale == 1 and isinstance(number, int)):
        return number
    return simplified(Fraction(number, scale))

"""Networks beyond one simple layer: LSTM and GRU cells, stacked layers, an output with a memory.

Each layer's step is written once, on any numbers that add and multiply: exact numbers, float64,
intervals and the variables of a tape go through the same lines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any, Literal

from hwcli.rnn.activations import EXACT, UNBOUNDED, Activation, activate
from hwcli.rnn.exact import Exact, Number, simplified
from hwcli.rnn.network import Dynamics, Letter, Matrix, Network, State, Stepper, Vector

Apply = Callable[[Activation, Any], Any]
CellKind = Literal["simple", "lstm", "gru"]
GATES: dict[CellKind, tuple[str, ...]] = {
    "simple": ("hidden",),
    "lstm": ("input", "forget", "output", "candidate"),
    "gru": ("reset", "update", "candidate"),
}


@dataclass(frozen=True)
class Gate:
    """f(w_in x + w_rec h + bias): w_in (H, D), w_rec (H, H), bias (H,)."""

    w_in: Matrix
    w_rec: Matrix
    bias: Vector
    activation: Activation

    def __call__(self, apply: Apply, x: Sequence[Any], h: Sequence[Any]) -> list[Any]:
        """Return the gate's values, (H,)."""
        return [
            apply(self.activation, sum(map(mul, into, x)) + sum(map(mul, rec, h)) + b)
            for into, rec, b in zip(self.w_in, self.w_rec, self.bias, strict=True)
        ]


@dataclass(frozen=True)
class Layer:
    """One layer of cells.

    Attributes:
        kind: of its cells.
        gates: by name, see :data:`GATES`.
        initial: h_0, and c_0 behind it in an LSTM.
        cell_activation: of an LSTM's cell before the output gate.
    """

    kind: CellKind
    gates: dict[str, Gate]
    initial: Vector
    cell_activation: Activation = "tanh"

    @property
    def num_units(self) -> int:
        """Return H."""
        return len(next(iter(self.gates.values())).bias)

    def step(self, apply: Apply, state: Sequence[Any], x: Sequence[Any]) -> tuple[Any, ...]:
        """Return the next state: h_t, and c_t behind it in an LSTM."""
        H = self.num_units
        h = state[:H]
        gate = self.gates
        if self.kind == "simple":
            return tuple(gate["hidden"](apply, x, h))
        if self.kind == "lstm":
            i, f, o, g = (gate[name](apply, x, h) for name in GATES["lstm"])
            kept = map(mul, f, state[H:])
            c = [old + new for old, new in zip(kept, map(mul, i, g), strict=True)]
            return (*(a * apply(self.cell_activation, b) for a, b in zip(o, c, strict=True)), *c)
        r, u = (gate[name](apply, x, h) for name in GATES["gru"][:2])
        # As in torch, the reset gate multiplies w_rec h, not h: n = tanh(w_in x + r (w_rec h) + b)
        # and h' = (1 - u) n + u h. Torch's second bias of the candidate, r (w_rec h + b_hn), is 0.
        n = [
            apply(
                gate["candidate"].activation,
                sum(map(mul, into, x)) + reset * sum(map(mul, rec, h)) + b,
            )
            for into, rec, b, reset in zip(
                gate["candidate"].w_in,
                gate["candidate"].w_rec,
                gate["candidate"].bias,
                r,
                strict=True,
            )
        ]
        return tuple((1 - a) * new + a * old for a, new, old in zip(u, n, h, strict=True))

    def is_exact(self, *, reads_states: bool) -> bool:
        """Tell whether its states are rationals whose digits grow no faster than the length.

        Gates multiply the state. Where a gate without bounds is computed from that state, the
        digits would double with each step. Where it is computed from a layer below, they would
        grow with the square of the length.

        Args:
            reads_states: its inputs are the states of a layer below.
        """
        used = {gate.activation for gate in self.gates.values()}
        if self.kind == "lstm":
            used.add(self.cell_activation)
        factors = {
            gate.activation
            for name, gate in self.gates.items()
            if name not in ("hidden", "candidate") and (reads_states or any(map(any, gate.w_rec)))
        }
        return used <= EXACT and not factors & UNBOUNDED


@dataclass(frozen=True)
class Stack:
    """Layers, each of which reads the one below; the last one is read out.

    Attributes:
        layers: the lowest first.
        w_out: output weights, (K, H) for K outputs.
        output_bias: (K,).
        output_activation: of the outputs; with ``argmax`` the class is the largest output's number.
    """

    layers: tuple[Layer, ...]
    w_out: Matrix
    output_bias: Vector
    output_activation: Activation
    has_feedback: bool = False
    is_linear: bool = False
    initial_output: Exact = 0

    @property
    def num_hidden(self) -> int:
        """Return the number of numbers in a state."""
        return sum(len(layer.initial) for layer in self.layers)

    @property
    def num_inputs(self) -> int:
        """Return D."""
        return len(next(iter(self.layers[0].gates.values())).w_in[0])

    @property
    def initial_state(self) -> Vector:
        """Return the state before the first step."""
        return tuple(number for layer in self.layers for number in layer.initial)

    @property
    def activation(self) -> Activation:
        """Return the activation of the top layer."""
        return list(self.layers[-1].gates.values())[-1].activation

    @property
    def is_exact(self) -> bool:
        """Tell whether states are rationals."""
        return all(layer.is_exact(reads_states=i > 0) for i, layer in enumerate(self.layers))

    @property
    def may_grow(self) -> bool:
        """Tell whether exact states may need ever more digits."""
        kinds = {gate.activation for layer in self.layers for gate in layer.gates.values()}
        return self.is_exact and bool(kinds & UNBOUNDED)

    def dynamics(self, apply: Apply) -> Dynamics:
        """Return one step on any numbers."""
        sizes = [len(layer.initial) for layer in self.layers]
        top = self.layers[-1].num_units

        def advance(state: Any, letter: Letter) -> Any:
            x: Sequence[Any] = letter
            after: tuple[Any, ...] = ()
            start = 0
            for layer, size in zip(self.layers, sizes, strict=True):
                new = layer.step(apply, state[start : start + size], x)
                after, start, x = (*after, *new), start + size, new[: layer.num_units]
            return after

        def preactivation(state: Any) -> Any:
            read = state[len(state) - sizes[-1] :][:top]
            z = [
                sum(map(mul, row, read)) + b
                for row, b in zip(self.w_out, self.output_bias, strict=True)
            ]
            return tuple(z) if self.output_activation == "argmax" else z[0]

        return Dynamics(self.initial_state, advance, preactivation)


class StackStepper:
    """Steps a stack on exact numbers, or on float64 where it has units that are not exact."""

    def __init__(self, stack: Stack):
        self.stack = stack
        self._moving = stack.dynamics(_on_numbers if stack.is_exact else _on_floats)
        start = self._moving.start
        self.start: State = start if stack.is_exact else tuple(map(float, start))

    def advance(self, state: State, letter: Letter) -> State:
        """Return the next state."""
        return self._moving.advance(state, letter)  # type: ignore[no-any-return]

    def hidden(self, state: State) -> State:
        """Return the numbers of the state."""
        return state

    def preactivation(self, state: State) -> Any:
        """Return z_t: one number, or one for each output."""
        return self._moving.preactivation(state)

    def output(self, state: State) -> Number:
        """Return y_t."""
        return activate(self.stack.output_activation, self.preactivation(state))


AnyNetwork = Network | Stack


def make_stepper(network: AnyNetwork) -> Stepper | StackStepper:
    """Return what steps a network."""
    return StackStepper(network) if isinstance(network, Stack) else Stepper(network)


def _on_numbers(activation: Activation, z: Any) -> Any:
    value = activate(activation, z)
    return value if isinstance(value, float) else simplified(value)


def _on_floats(activation: Activation, z: Any) -> float:
    return float(activate(activation, z))

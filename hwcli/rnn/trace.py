"""The exact course of a network over one sequence, and a jump to its end where that is faster."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from operator import mul
from typing import Any, TypeAlias

from hwcli.rnn.activations import activate
from hwcli.rnn.cells import AnyNetwork, Stack, make_stepper
from hwcli.rnn.exact import Exact, Number, common_denominator, simplified
from hwcli.rnn.network import Letter, Network, State

# So many steps are kept at each end of a long sequence, for tables, pictures and gradients.
WINDOW = 2000
# A jump folds blocks of this length by stepping, and the blocks by products.
BLOCK = 64

IntVector: TypeAlias = tuple[int, ...]
IntMatrix: TypeAlias = tuple[IntVector, ...]


@dataclass(frozen=True)
class Step:
    """What the network holds after reading x_t; t counts from 1."""

    t: int
    letter: Letter
    hidden: State
    preactivation: Any
    output: Number


@dataclass(frozen=True)
class Trace:
    """The first and the last steps of a sequence of T letters, WINDOW of each at most.

    Where a linear network jumped to its end, ``tail`` holds the final step only.
    """

    length: int
    head: tuple[Step, ...]
    tail: tuple[Step, ...]

    @property
    def final(self) -> Step:
        """Return the step at t = T."""
        return self.tail[-1]


def trace(network: AnyNetwork, sequence: Sequence[Letter]) -> Trace:
    """Run a network over a sequence of T >= 1 letters.

    Costs O(T) where the states keep their size. A linear network whose states grow (w_rec = 2,
    or 1/2: one more binary digit a step) is stepped through its first WINDOW letters, and its
    end is found by divide and conquer in O(M(T) log T) for products of T digits.
    """
    T = len(sequence)
    stepper = make_stepper(network)
    head = _steps(stepper, stepper.start, sequence[:WINDOW], 1)
    if T <= WINDOW:
        return Trace(T, head, head)
    if not isinstance(network, Stack) and network.is_linear and network.may_grow:
        hidden = jump(network.without_feedback(), sequence)[: network.num_hidden]
        return Trace(T, head, (_read_out(network, T, sequence[-1], hidden),))
    state = stepper.start
    advance = stepper.advance
    for letter in sequence[:-WINDOW]:
        state = advance(state, letter)
    return Trace(T, head, _steps(stepper, state, sequence[-WINDOW:], T - WINDOW + 1))


def _steps(stepper: Any, state: State, letters: Sequence[Letter], first: int) -> tuple[Step, ...]:
    steps = []
    for t, letter in enumerate(letters, first):
        state = stepper.advance(state, letter)
        steps.append(
            Step(
                t,
                letter,
                stepper.hidden(state),
                stepper.preactivation(state),
                stepper.output(state),
            )
        )
    return tuple(steps)


def _read_out(network: Network, t: int, letter: Letter, hidden: tuple[Exact, ...]) -> Step:
    z = simplified(sum(map(mul, network.w_out, hidden)) + network.output_bias)
    return Step(t, letter, hidden, z, activate(network.output_activation, z))


def jump(network: Network, sequence: Sequence[Letter]) -> tuple[Exact, ...]:
    """Return h_T of a linear network without feedback, (H,), by folding affine maps.

    With w_rec = P / q and all other numbers over the denominator d, n letters map h to
    (P^n h + u / d) / q^n for an integer vector u. Two such maps compose into one of that form,
    so that all but the last division is done on integers.
    """
    H = network.num_hidden
    q = common_denominator(w for row in network.w_rec for w in row)
    P: IntMatrix = tuple(tuple(int(w * q) for w in row) for row in network.w_rec)
    others = [
        *(w for row in network.w_in for w in row),
        *network.bias,
        *network.initial_state,
    ]
    d_weights = common_denominator(others)
    d_inputs = common_denominator(number for letter in sequence for number in letter)
    d = d_weights * d_inputs
    rows = [
        tuple(int(w * d_weights) for w in (*into, bias))
        for into, bias in zip(network.w_in, network.bias, strict=True)
    ]

    def pushed(letter: Letter) -> IntVector:
        known = [*(int(number * d_inputs) for number in letter), d_inputs]
        return tuple([sum(map(mul, row, known)) for row in rows])

    @cache
    def power(n: int) -> tuple[IntMatrix, int]:
        """Return P^n and q^n."""
        if n == 1:
            return P, q
        half, scale = power(n // 2)
        whole = _product(half, half)
        return (_product(whole, P), scale * scale * q) if n % 2 else (whole, scale * scale)

    def fold(start: int, stop: int) -> IntVector:
        """Return u of the letters from ``start`` to ``stop``."""
        if stop - start <= BLOCK:
            u: IntVector = (0,) * H
            scale = 1
            for letter in sequence[start:stop]:
                scale *= q
                u = _combined(P, u, scale, pushed(letter))
            return u
        middle = (start + stop) // 2
        grown, _ = power(stop - middle)
        _, shrunk = power(middle - start)
        return _combined(grown, fold(start, middle), shrunk, fold(middle, stop))

    T = len(sequence)
    grown, shrunk = power(T)
    start = tuple(int(h * d) for h in network.initial_state)
    ends = _combined(grown, start, 1, fold(0, T))
    return tuple(simplified(Fraction(end, d * shrunk)) for end in ends)


def _combined(matrix: IntMatrix, x: IntVector, scale: int, y: IntVector) -> IntVector:
    """Return matrix x + scale y."""
    return tuple([sum(map(mul, row, x)) + scale * b for row, b in zip(matrix, y, strict=True)])


def _product(left: IntMatrix, right: IntMatrix) -> IntMatrix:
    columns = tuple(zip(*right, strict=True))
    return tuple(tuple([sum(map(mul, row, column)) for column in columns]) for row in left)

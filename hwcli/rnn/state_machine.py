"""Moore machines: a network with finitely many states, explored, minimised and compared.

A machine reads letters and shows an output after each. Before the first letter it shows nothing
(the output of its start is None): a sequence has at least one step. Two machines over the same
letters show the same for every sequence, of every length, exactly when their minimal machines are
equal up to the names of the states, and :meth:`MooreMachine.minimal` names those by the order in
which a breadth-first walk meets them, so that equality is ``==``.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from hwcli.rnn.cells import AnyNetwork, make_stepper
from hwcli.rnn.exact import Number
from hwcli.rnn.network import Letter


@dataclass(frozen=True)
class MooreMachine:
    """States 0 .. S-1, of which 0 is the start.

    Attributes:
        letters: what can be read, (L,).
        transitions: the next state of each state and letter, (S, L).
        outputs: what each state shows, (S,); None for a start that is never reached again.
    """

    letters: tuple[Letter, ...]
    transitions: tuple[tuple[int, ...], ...]
    outputs: tuple[Number | None, ...]

    @property
    def num_states(self) -> int:
        """Return S."""
        return len(self.outputs)

    @property
    def values(self) -> tuple[Number, ...]:
        """Return the different outputs, ascending."""
        return tuple(sorted({output for output in self.outputs if output is not None}))

    def run(self, sequence: Sequence[Letter]) -> Number:
        """Return the output after the last letter of a sequence of T >= 1 letters."""
        index = {letter: i for i, letter in enumerate(self.letters)}
        state = 0
        for letter in sequence:
            state = self.transitions[state][index[letter]]
        output = self.outputs[state]
        assert output is not None
        return output

    def minimal(self) -> "MooreMachine":
        """Return the smallest machine that shows the same (Moore 1956: refine until it is stable).

        States start in one class for each output, and are parted as long as a letter leads two of
        one class into different ones.
        """
        classes: list[Any] = list(self.outputs)
        num_classes = len(set(classes))
        while True:
            seen: dict[Hashable, int] = {}
            signatures = [
                (classes[state], *(classes[target] for target in row))
                for state, row in enumerate(self.transitions)
            ]
            classes = [seen.setdefault(signature, len(seen)) for signature in signatures]
            if len(seen) == num_classes:
                break
            num_classes = len(seen)
        member = {c: state for state, c in reversed(list(enumerate(classes)))}
        return _walk(
            self.letters,
            classes[0],
            lambda c, letter: classes[self.transitions[member[c]][self.letters.index(letter)]],
            lambda c: self.outputs[member[c]],
            limit=num_classes,
        )

    def without_idle_start(self) -> "MooreMachine":
        """Let a start that shows nothing be played by a state that leads to the same places.

        No sequence of one step or more tells the difference, and the picture has one state less.
        """
        if self.outputs[0] is not None:
            return self
        twin = next(
            (s for s in range(1, self.num_states) if self.transitions[s] == self.transitions[0]),
            None,
        )
        if twin is None:
            return self
        return _walk(
            self.letters,
            twin,
            lambda state, letter: self.transitions[state][self.letters.index(letter)],
            lambda state: self.outputs[state],
            limit=self.num_states,
        )


class TooManyStatesError(Exception):
    """An exploration met more states than it was allowed to."""


def explore(
    start: Hashable,
    letters: Sequence[Letter],
    step: Callable[[Any, Letter], Hashable],
    output: Callable[[Any], Number],
    *,
    limit: int,
) -> MooreMachine:
    """Build the machine of all states that can be reached from a start.

    Raises:
        TooManyStatesError: there are more than ``limit``.
    """
    # The start is a state of its own: whatever it would show is not shown before the first letter.
    before = ("before the first letter",)
    return _walk(
        tuple(letters),
        before,
        lambda state, letter: step(start if state == before else state, letter),
        lambda state: None if state == before else output(state),
        limit=limit + 1,
    )


def network_machine(
    network: AnyNetwork,
    letters: Sequence[Letter],
    decide: Callable[[Any], Number],
    *,
    limit: int,
) -> MooreMachine:
    """Explore the exact states of a network, ``decide(z)`` being what a state shows.

    Raises:
        TooManyStatesError: there are more than ``limit``.
        ValueError: the network's states are floats, whose finite number would prove nothing.
    """
    if not network.is_exact:
        raise ValueError("only exact states can be explored")
    stepper = make_stepper(network)
    return explore(
        stepper.start,
        letters,
        stepper.advance,
        lambda state: decide(stepper.preactivation(state)),
        limit=limit,
    )


def _walk(
    letters: tuple[Letter, ...],
    start: Hashable,
    step: Callable[[Any, Letter], Hashable],
    output: Callable[[Any], Number | None],
    *,
    limit: int,
) -> MooreMachine:
    """Number states in the order in which a breadth-first walk meets them."""
    number: dict[Hashable, int] = {start: 0}
    states = [start]
    transitions = []
    for state in states:  # grows while it is walked
        row = []
        for letter in letters:
            target = step(state, letter)
            if target not in number:
                if len(states) == limit:
                    raise TooManyStatesError
                number[target] = len(states)
                states.append(target)
            row.append(number[target])
        transitions.append(tuple(row))
    return MooreMachine(letters, tuple(transitions), tuple(map(output, states)))

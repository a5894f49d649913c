"""Machines over classes of letters: letters that lead to the same places from every state.

A partition of the states that every class of letters respects is a smaller machine (Hartmanis and
Stearns 1966).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwcli.rnn.letters import Alphabet
from hwcli.rnn.network import Letter
from hwcli.rnn.state_machine import MooreMachine

MAX_PARTITIONS = 80


@dataclass(frozen=True)
class Reduced:
    """A machine over classes of letters.

    Attributes:
        alphabet: the letters.
        sets: the letters of each class, (C,).
        next: the next state of each state and class, (S, C); state 0 is the start.
        out: what each state shows, (S,); None for a start that is never reached again.
    """

    alphabet: Alphabet
    sets: tuple[tuple[Letter, ...], ...]
    next: tuple[tuple[int, ...], ...]
    out: tuple[Any, ...]

    @property
    def states(self) -> range:
        """Return all states."""
        return range(len(self.out))

    @property
    def classes(self) -> range:
        """Return all classes of letters."""
        return range(len(self.sets))

    def after(self, state: int, word: Sequence[int]) -> int:
        """Return the state that a word of classes leads to."""
        for c in word:
            state = self.next[state][c]
        return state

    def union(self, classes: Sequence[int]) -> list[Letter]:
        """Return the letters of some classes."""
        return [letter for c in classes for letter in self.sets[c]]

    def is_absorbing(self, state: int) -> bool:
        """Tell whether a state is never left."""
        return all(target == state for target in self.next[state])


def reduce(machine: MooreMachine, alphabet: Alphabet) -> Reduced:
    """Merge the letters that lead to the same places from every state."""
    columns: dict[tuple[int, ...], list[Letter]] = {}
    for i, letter in enumerate(machine.letters):
        columns.setdefault(tuple(row[i] for row in machine.transitions), []).append(letter)
    sets = tuple(map(tuple, columns.values()))
    rows = tuple(zip(*columns, strict=True))
    return Reduced(alphabet, sets, rows, machine.outputs)


def minimal(machine: Reduced) -> tuple[Reduced, dict[int, int]]:
    """Merge states, and classes of letters, that the output does not need."""
    letters = tuple((c,) for c in machine.classes)
    small = MooreMachine(letters, machine.next, machine.out).minimal().without_idle_start()
    sent, queue = {0: 0}, [0]
    for state in queue:
        for c in machine.classes:
            target = machine.next[state][c]
            if target not in sent:
                sent[target] = small.transitions[sent[state]][c]
                queue.append(target)
    columns: dict[tuple[int, ...], list[int]] = {}
    for c in machine.classes:
        columns.setdefault(tuple(row[c] for row in small.transitions), []).append(c)
    sets = tuple(tuple(machine.union(classes)) for classes in columns.values())
    rows = tuple(zip(*columns, strict=True))
    return Reduced(machine.alphabet, sets, rows, small.outputs), sent


def shortest_word(machine: Reduced, goal: int) -> tuple[int, ...]:
    """Return a shortest word of classes that leads from the start to a state."""
    words: dict[int, tuple[int, ...]] = {0: ()}
    queue = [0]
    for state in queue:
        for c in machine.classes:
            target = machine.next[state][c]
            if target not in words:
                words[target] = (*words[state], c)
                queue.append(target)
    return words[goal]


def partitions(machine: Reduced) -> list[tuple[int, ...]]:
    """Return partitions of the states that every class of letters respects, small ones first."""
    S = len(machine.out)
    found: dict[tuple[int, ...], None] = {}
    for s in range(S):
        for t in range(s):
            found[_respected(machine, [(s, t)])] = None
    basic = list(found)
    for i, one in enumerate(basic):
        for other in basic[:i]:
            if len(found) > MAX_PARTITIONS:
                break
            pairs = [(s, blocks.index(blocks[s])) for blocks in (one, other) for s in range(S)]
            found[_respected(machine, pairs)] = None
    return sorted((p for p in found if 1 < max(p) + 1 < S), key=max)


def _respected(machine: Reduced, pairs: list[tuple[int, int]]) -> tuple[int, ...]:
    """Merge pairs of states, and all states that must then be equal too."""
    parent = list(machine.states)

    def root(state: int) -> int:
        while parent[state] != state:
            state = parent[state]
        return state

    waiting = list(pairs)
    while waiting:
        s, t = map(root, waiting.pop())
        if s == t:
            continue
        parent[max(s, t)] = min(s, t)
        members = [u for u in machine.states if root(u) == min(s, t)]
        for c in machine.classes:
            waiting += [(machine.next[members[0]][c], machine.next[u][c]) for u in members[1:]]
    number: dict[int, int] = {}
    return tuple(number.setdefault(root(state), len(number)) for state in machine.states)

"""Words for a state machine: which property of the inputs does it keep?

A recogniser may know the machine, or it may be the product of two machines that recognisers know.
What is found is what the machine does, for every sequence; nothing is sampled.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from hwcli.rnn.classes import Reduced, minimal, partitions, reduce
from hwcli.rnn.exact import Number
from hwcli.rnn.letters import Alphabet
from hwcli.rnn.properties import counted_properties
from hwcli.rnn.recognisers import Words, recognise
from hwcli.rnn.state_machine import MooreMachine

MAX_PRODUCT_STATES = 40


def describe(machine: MooreMachine, alphabet: Alphabet) -> Words | None:
    """Return a minimal machine's property in words, or None where none are known."""
    machine = machine.without_idle_start()
    reduced = reduce(machine, alphabet)
    return _named(machine, alphabet) or recognise(reduced) or _of_two(reduced)


def sentence(words: Words, spell: Callable[[Number], str]) -> str:
    """Say it: "y_T is 1 when the number of ones is odd, 0 when the number of ones is even."."""
    cases = {output: " or when ".join(clauses) for output, clauses in words.cases.items()}
    order = sorted(cases, reverse=True)
    if len(order) == 1:
        return f"y_T is {spell(order[0])} whatever the inputs are."
    # The hardest case goes without saying, unless there are two that are both easy.
    hardest = max(
        order, key=lambda o: (not cases[o], len(words.cases[o]), cases[o].startswith("not ("))
    )
    parts = [f"{spell(output)} when {cases[output]}" for output in order]
    easy = len(words.cases[hardest]) == 1 and not cases[hardest].startswith("not (")
    if len(order) > 2 or not easy:
        order.remove(hardest)
        parts = [f"{spell(output)} when {cases[output]}" for output in order]
        parts.append(f"{spell(hardest)} otherwise")
    note = f" Here {words.note}." if words.note else ""
    return f"y_T is {', '.join(parts)}.{note}"


def _named(machine: MooreMachine, alphabet: Alphabet) -> Words | None:
    """Recognise what has a definition of its own: an adder, two equal streams."""
    for candidate in counted_properties(alphabet):
        ordered = replace(candidate, letters=machine.letters).machine().without_idle_start()
        if ordered.transitions != machine.transitions:
            continue
        pairs = {
            (label, output)
            for label, output in zip(ordered.outputs, machine.outputs, strict=True)
            if label is not None
        }
        if len(dict(pairs)) == len(pairs) == len({output for _, output in pairs}):
            return Words(
                f"function-of-{candidate.id}", {out: (candidate.cases[int(k)],) for k, out in pairs}
            )
    return None


def _of_two(machine: Reduced) -> Words | None:
    """Recognise two properties of which the output is a function, each of a smaller machine."""
    if len(machine.out) > MAX_PRODUCT_STATES:
        return None
    parts = [found for p in partitions(machine) for found in _of_partition(machine, p)]
    best: Words | None = None
    for i, (first, first_id, first_note) in enumerate(parts):
        for second, second_id, second_note in parts[:i]:
            if first_note and second_note and first_note != second_note:
                continue
            cases = _combined(machine, first, second)
            if cases is None:
                continue
            note = first_note or second_note
            words = Words(f"{second_id}+{first_id}", cases, note)
            if best is None or _length(words) < _length(best):
                best = words
    return best


def _length(words: Words) -> int:
    return sum(len(clause) for clauses in words.cases.values() for clause in clauses)


def _combined(
    machine: Reduced, first: list[str | None], second: list[str | None]
) -> dict[Any, tuple[str, ...]] | None:
    """Say for each output which two clauses show it; None where the clauses do not decide it."""
    table: dict[tuple[str, str], Any] = {}
    for state, output in enumerate(machine.out):
        if output is None:
            continue
        left, right = second[state], first[state]
        if left is None or right is None:
            return None
        if table.setdefault((left, right), output) != output:
            return None
    cases: dict[Any, list[str]] = {}
    for left in dict.fromkeys(key[0] for key in table):
        row = {right: output for (each, right), output in table.items() if each == left}
        if len(set(row.values())) == 1:
            cases.setdefault(next(iter(row.values())), []).append(left)
            continue
        for right, output in row.items():
            column = {out for (_, each), out in table.items() if each == right}
            clause = right if len(column) == 1 else f"{_operand(left)} and {_operand(right)}"
            listed = cases.setdefault(output, [])
            if clause not in listed:
                listed.append(clause)
    return {output: tuple(clauses) for output, clauses in cases.items()}


def _operand(clause: str) -> str:
    """Put brackets around a clause of several parts, so that "and" takes the whole of it."""
    return f"({clause})" if ") or (" in clause or ", later " in clause else clause


def _of_partition(
    machine: Reduced, blocks: tuple[int, ...]
) -> Iterator[tuple[list[str | None], str, str]]:
    """Yield words for the machine of a partition, as a clause for each state."""
    num = max(blocks) + 1
    member = {block: state for state, block in reversed(list(enumerate(blocks)))}
    rows = tuple(
        tuple(blocks[machine.next[member[b]][c]] for c in machine.classes) for b in range(num)
    )
    entered = {target for row in rows for target in row}
    labels = [None if b == blocks[0] and b not in entered else b for b in range(num)]
    quotient = Reduced(machine.alphabet, machine.sets, rows, tuple(labels))
    absorbing = [None if b is None else int(quotient.is_absorbing(b)) for b in labels]
    for out in (labels, absorbing):
        if len(set(out) - {None}) < 2:
            continue
        merged, sent = minimal(replace(quotient, out=tuple(out)))
        found = recognise(merged)
        if found is None or any(len(clauses) > 2 for clauses in found.cases.values()):
            continue
        if not all(found.cases.values()):
            continue
        spelled = {k: " or ".join(_each(clauses)) for k, clauses in found.cases.items()}
        yield [spelled.get(merged.out[sent[b]]) for b in blocks], found.id, found.note


def _each(clauses: tuple[str, ...]) -> tuple[str, ...]:
    return clauses if len(clauses) == 1 else tuple(f"({clause})" for clause in clauses)

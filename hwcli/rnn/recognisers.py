"""Recognisers: each finds one kind of property and says when each output is shown.

They look at what the classes of letters do to the states.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from hwcli.rnn.classes import Reduced, shortest_word
from hwcli.rnn.letters import a
from hwcli.rnn.state_machine import MooreMachine

# A property of more of the last inputs, or with more cases, has no words that help.
MAX_LAST = 4
MAX_LAST_WORDS = 300
MAX_CUBES = 6


@dataclass(frozen=True)
class Words:
    """A property in words.

    Attributes:
        id: a word for its kind, whatever outputs stand for its cases.
        cases: for each output its clauses, one of which holds; no clauses mean "otherwise".
        note: what the clauses assume, such as x_t for t < 1.
    """

    id: str
    cases: dict[Any, tuple[str, ...]]
    note: str = ""


def gather(clauses: Iterable[tuple[Any, str]]) -> dict[Any, tuple[str, ...]]:
    """Gather the clauses of each output."""
    cases: dict[Any, list[str]] = {}
    for output, clause in clauses:
        cases.setdefault(output, []).append(clause)
    return {output: tuple(each) for output, each in cases.items()}


def _by_output(machine: Reduced, clauses: dict[int, str], id: str) -> Words:
    """Return words of a clause for each state; outputs that are never shown need none."""
    shown = ((machine.out[state], clause) for state, clause in clauses.items())
    return Words(id, gather((out, clause) for out, clause in shown if out is not None))


# --------------------------------------------------------------------------------------
# Counting


def _count_modulo(machine: Reduced) -> Words | None:
    """Recognise a remainder: each class turns one circle of states by a fixed number of places."""
    m = len(machine.out)
    if m < 2 or None in machine.out:
        return None
    best: tuple[int, str, list[int]] | None = None
    for generator in machine.classes:
        place = [-1] * m
        state = 0
        for i in range(m):
            if place[state] >= 0:
                break
            place[state] = i
            state = machine.next[state][generator]
        if -1 in place or state != 0:
            continue
        turns = [place[machine.next[0][c]] for c in machine.classes]
        if any(
            place[machine.next[s][c]] != (place[s] + turns[c]) % m
            for s in machine.states
            for c in machine.classes
        ):
            continue
        quantity, order = _counted_quantity(machine, turns, m)
        place = [order * p % m for p in place]
        if best is None or len(quantity) < best[0]:
            best = (len(quantity), quantity, place)
    if best is None:
        return None
    _, quantity, place = best
    remainders: dict[Any, list[int]] = {}
    for state, output in enumerate(machine.out):
        remainders.setdefault(output, []).append(place[state])

    def leaves(places: list[int]) -> str:
        if m == 2:
            return f"is {('even', 'odd')[places[0]]}"
        return f"leaves remainder {' or '.join(map(str, sorted(places)))} when divided by {m}"

    cases: dict[Any, tuple[str, ...]] = {
        output: (f"{quantity} {leaves(places)}",) for output, places in remainders.items()
    }
    return Words(f"remainder-mod-{m}", cases)


def _counted_quantity(machine: Reduced, turns: list[int], m: int) -> tuple[str, int]:
    """Return what is counted, and by what places have to be multiplied to be its remainder."""
    alphabet = machine.alphabet
    if set(turns) <= {0, 1}:
        counted = machine.union([c for c in machine.classes if turns[c]])
        return f"the number of {alphabet.plural(counted)}", 1
    numbers = [(letter, turns[c]) for c in machine.classes for letter in machine.sets[c]]
    if not alphabet.names and all(len(x) == 1 and isinstance(x[0], int) for x, _ in numbers):
        # Another factor gives two remainders of the sum one place.
        for factor in (number for number in range(1, m) if math.gcd(number, m) == 1):
            if all(int(x[0]) % m == factor * turn % m for x, turn in numbers):
                return "the sum of all inputs", factor
    terms = []
    for turn in sorted(set(turns) - {0}):
        counted = machine.union([c for c in machine.classes if turns[c] == turn])
        times = "" if turn == 1 else f"{turn} times "
        terms.append(f"{times}the number of {alphabet.plural(counted)}")
    return " plus ".join(terms), 1


def _events(machine: Reduced) -> Words | None:
    """Recognise events that have to come one after the other: states in a row, none skipped."""
    chain, moving = [0], []
    while not machine.is_absorbing(chain[-1]):
        state = chain[-1]
        targets = {t for t in machine.next[state] if t != state}
        if len(targets) != 1 or targets & set(chain):
            return None
        (target,) = targets
        moving.append(tuple(c for c in machine.classes if machine.next[state][c] == target))
        chain.append(target)
    if len(chain) != len(machine.out) or len(chain) < 2:
        return None
    alphabet = machine.alphabet
    if len(set(moving)) == 1 and machine.out[0] is not None:
        letters = machine.union(moving[0])
        if len(chain) == 2:
            one = alphabet.singular(letters)
            came = {1: f"{a(one)} has come", 0: f"{_none(one)} has come"}
            return _by_output(machine, {chain[k]: came[k] for k in (0, 1)}, "latch")
        count = f"the number of {alphabet.plural(letters)}"
        return Words(f"at-least-{len(chain) - 1}", _ranges(machine, chain, count))
    outputs = {machine.out[s] for s in chain[:-1]} - {None}
    if len(outputs) != 1:
        return None
    events = [a(alphabet.singular(machine.union(classes))) for classes in moving]
    words = ", later ".join(events)
    has = f"there has been {words}"
    return Words(
        "events-in-order",
        {machine.out[chain[-1]]: (has,), outputs.pop(): (f"not ({has})",)},
    )


def _none(noun: str) -> str:
    """Deny a noun; "no one" would be read as nobody."""
    return "not a single one" if noun == "one" else f"no {noun}"


def _ranges(machine: Reduced, chain: list[int], count: str) -> dict[Any, tuple[str, ...]]:
    """Say for each output in which ranges the count lies."""
    last = len(chain) - 1
    clauses = []
    k = 0
    while k <= last:
        end = k
        while end < last and machine.out[chain[end + 1]] == machine.out[chain[k]]:
            end += 1
        if end == last:
            words = f"{count} is at least {k}"
        elif k == end:
            words = f"{count} is {k}"
        elif k == 0:
            words = f"{count} is at most {end}"
        else:
            words = f"{count} is from {k} to {end}"
        clauses.append((machine.out[chain[k]], words))
        k = end + 1
    return gather(clauses)


# --------------------------------------------------------------------------------------
# The last inputs, the first, the largest


def _last_inputs(machine: Reduced) -> Words | None:
    """Recognise what depends on the last k inputs only."""
    C = len(machine.sets)
    for k in range(1, MAX_LAST + 1):
        if C**k > MAX_LAST_WORDS:
            return None
        shown = {
            word: {machine.out[machine.after(s, word)] for s in machine.states}
            for word in product(machine.classes, repeat=k)
        }
        if all(len(outputs) == 1 for outputs in shown.values()):
            break
    else:
        return None
    table = {word: next(iter(outputs)) for word, outputs in shown.items()}
    note = ""
    if k > 1:
        before = _before_the_first(machine, table, k)
        if before is None:
            return None
        note = f"x_t counts as {machine.alphabet.spell(machine.sets[before][0])} for t < 1"
    cases: dict[Any, tuple[str, ...]] = {}
    too_many = []
    for output in dict.fromkeys(table.values()):
        cubes = _cubes([word for word, shown_ in table.items() if shown_ == output], C)
        if len(cubes) > MAX_CUBES:
            too_many.append(output)
            cubes = []
        cases[output] = tuple(_cube_in_words(machine, cube) for cube in cubes)
    if len(too_many) > 1:
        return None
    if too_many:
        cases[too_many[0]] = ()
    return Words("function-of-last-input" if k == 1 else f"last-{k}-inputs", cases, note)


def _before_the_first(machine: Reduced, table: dict[Any, Any], k: int) -> int | None:
    """Return a class such that the start is where k of it would have led."""
    by_size = sorted(
        machine.classes, key=lambda c: (0,) * len(machine.sets[c][0]) not in machine.sets[c]
    )
    for c in by_size:
        if all(
            machine.out[machine.after(0, word)] == table[(c,) * (k - j) + word]
            for j in range(1, k)
            for word in product(machine.classes, repeat=j)
        ):
            return c
    return None


def _cubes(words: list[Any], C: int) -> list[list[frozenset[int]]]:
    """Cover words by products of sets, one set for each place, greedily."""
    todo, all_words, cubes = list(words), set(words), []
    while todo:
        cube = [frozenset({c}) for c in todo[0]]
        for i in range(len(cube)):
            for c in range(C):
                wider = [*cube[:i], cube[i] | {c}, *cube[i + 1 :]]
                if set(product(*wider)) <= all_words:
                    cube = wider
        covered = set(product(*cube))
        todo = [word for word in todo if word not in covered]
        cubes.append(cube)
    return cubes


def _cube_in_words(machine: Reduced, cube: list[frozenset[int]]) -> str:
    k, atoms = len(cube), []
    for i, classes in enumerate(cube):
        if len(classes) == len(machine.sets):
            continue
        words = machine.alphabet.adjective(machine.union(sorted(classes)))
        name = "the last input" if k == 1 else f"x_{{T-{k - 1 - i}}}" if i < k - 1 else "x_T"
        atoms.append(f"{name} is {words}")
    return " and ".join(atoms)


def _first_input(machine: Reduced) -> Words | None:
    """Recognise what the first input decides for ever."""
    if not all(map(machine.is_absorbing, machine.states[1:])) or machine.is_absorbing(0):
        return None
    clauses = {}
    for state in machine.states[1:]:
        letters = machine.union([c for c in machine.classes if machine.next[0][c] == state])
        clauses[state] = f"the first input is {machine.alphabet.adjective(letters)}"
    return (
        _by_output(machine, clauses, "function-of-first-input") if machine.out[0] is None else None
    )


def _last_of_some(machine: Reduced) -> Words | None:
    """Recognise what the last input of some kind decides, while others change nothing."""
    if None in machine.out:
        return None
    leads: dict[int, list[int]] = {}
    for c in machine.classes:
        targets = {machine.next[s][c] for s in machine.states}
        if len(targets) == 1:
            leads.setdefault(targets.pop(), []).append(c)
        elif any(machine.next[s][c] != s for s in machine.states):
            return None
    deciding = [c for classes in leads.values() for c in classes]
    if not 2 <= len(deciding) < len(machine.sets):
        return None
    one = machine.alphabet.singular(machine.union(sorted(deciding)))
    clauses = []
    for state, classes in leads.items():
        words = machine.alphabet.adjective(machine.union(classes))
        clauses.append((machine.out[state], f"the last {one} is {words}"))
    clauses.append((machine.out[0], f"{_none(one)} has come"))
    return Words("last-of-some", gather(clauses))


def _extreme(machine: Reduced) -> Words | None:
    """Recognise the largest or the smallest input so far."""
    alphabet = machine.alphabet
    if alphabet.names or any(len(letter) != 1 for letter in alphabet.letters):
        return None
    up = sorted(machine.classes, key=lambda c: machine.sets[c][0])
    numbers = [x for c in up for x in machine.sets[c]]
    if numbers != sorted(numbers):
        return None
    for word, order in (("largest", up), ("smallest", up[::-1])):
        rank = {c: i for i, c in enumerate(order)}
        reached = [machine.next[0][c] for c in order]
        if len({*reached, 0}) < len(machine.out):
            continue
        if any(
            machine.next[machine.next[0][b]][c] != machine.next[0][max(b, c, key=rank.__getitem__)]
            for b in order
            for c in order
        ):
            continue
        clauses = {}
        for state in dict.fromkeys(reached):
            letters = machine.union([c for c in order if machine.next[0][c] == state])
            clauses[state] = f"the {word} input so far is {alphabet.adjective(letters)}"
        return _by_output(machine, clauses, f"{word}-input")
    return None


def _in_a_row(machine: Reduced) -> Words | None:
    """Recognise whether a word has come: by comparing with the machine that searches for it."""
    last = [s for s in machine.states if machine.is_absorbing(s)]
    others = {machine.out[s] for s in machine.states if s not in last} - {None}
    if len(last) != 1 or len(others) != 1 or machine.out[last[0]] in others:
        return None
    word = shortest_word(machine, last[0])
    if len(word) < 2:
        return None
    rows = [
        tuple(_num_matched((*word[:matched], c), word) for c in machine.classes)
        for matched in range(len(word))
    ]
    rows.append((len(word),) * len(machine.sets))
    letters = tuple((c,) for c in machine.classes)
    (no,), yes = others, machine.out[last[0]]
    searching = MooreMachine(letters, tuple(rows), (*(no,) * len(word), yes))
    if searching.minimal() != MooreMachine(letters, machine.next, machine.out).minimal():
        return None
    spelled = ", ".join(machine.alphabet.adjective(machine.sets[c]) for c in word)
    return Words(
        "in-a-row",
        {
            yes: (f"the inputs {spelled} have come in a row",),
            no: (f"the inputs {spelled} have not come in a row",),
        },
    )


def _num_matched(read: tuple[int, ...], word: tuple[int, ...]) -> int:
    """Return how many of the last letters read are the first ones of a word."""
    return next(n for n in range(len(read), -1, -1) if read[len(read) - n :] == word[:n])


RECOGNISERS: tuple[Callable[[Reduced], Words | None], ...] = (
    _count_modulo,
    _events,
    _last_inputs,
    _first_input,
    _last_of_some,
    _extreme,
    _in_a_row,
)


def recognise(machine: Reduced) -> Words | None:
    """Return the words of the first recogniser that knows the machine."""
    return next((words for each in RECOGNISERS if (words := each(machine))), None)

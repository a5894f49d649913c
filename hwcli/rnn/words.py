"""Words for a state machine: which property of the inputs does it keep?

Letters that lead to the same places from every state are one class of letters. Each recogniser
below looks at what the classes do to the states: it finds a kind of property and says, for each
output, when it is shown. A machine that none of them knows may be the product of two that they do
know. What is found is what the machine does, for every sequence; nothing is sampled.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from hwcli.rnn.exact import Number
from hwcli.rnn.letters import Alphabet, a
from hwcli.rnn.network import Letter
from hwcli.rnn.properties import counted_properties
from hwcli.rnn.state_machine import MooreMachine

# What depends on more of the last inputs, or needs more cases, is no words that help.
MAX_LAST = 4
MAX_LAST_WORDS = 300
MAX_CUBES = 6
MAX_PRODUCT_STATES = 40
MAX_PARTITIONS = 80


@dataclass(frozen=True)
class Words:
    """A property in words.

    Attributes:
        id: its name.
        cases: for each output, the clauses of which one has to hold; none where the output is
            shown in every other case.
        note: what the clauses take for granted, such as x_t for t < 1.
    """

    id: str
    cases: dict[Any, tuple[str, ...]]
    note: str = ""


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


def describe(machine: MooreMachine, alphabet: Alphabet) -> Words | None:
    """Return a minimal machine's property in words, or None where none are known."""
    machine = machine.without_idle_start()
    reduced = _reduced(machine, alphabet)
    return _named(machine, alphabet) or _simple(reduced) or _of_two(reduced)


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


def _reduced(machine: MooreMachine, alphabet: Alphabet) -> Reduced:
    columns: dict[tuple[int, ...], list[Letter]] = {}
    for i, letter in enumerate(machine.letters):
        columns.setdefault(tuple(row[i] for row in machine.transitions), []).append(letter)
    sets = tuple(map(tuple, columns.values()))
    rows = tuple(zip(*columns, strict=True))
    return Reduced(alphabet, sets, rows, machine.outputs)


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
            return Words(candidate.id, {out: (candidate.cases[int(k)],) for k, out in pairs})
    return None


def _simple(machine: Reduced) -> Words | None:
    for recogniser in (
        _count_modulo,
        _events,
        _last_inputs,
        _first_input,
        _last_of_some,
        _extreme,
        _in_a_row,
    ):
        if found := recogniser(machine):
            return found
    return None


def _by_output(machine: Reduced, clauses: dict[int, str], id: str, note: str = "") -> Words:
    """Gather the clauses of the states that show the same."""
    cases: dict[Any, list[str]] = {}
    for state, clause in clauses.items():
        if machine.out[state] is not None:
            cases.setdefault(machine.out[state], []).append(clause)
    return Words(id, {output: tuple(each) for output, each in cases.items()}, note)


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
    if m == 2:
        even_odd = ("even", "odd")
        cases: dict[Any, tuple[str, ...]] = {
            output: (f"{quantity} is {even_odd[r[0]]}",) for output, r in remainders.items()
        }
    else:
        cases = {
            output: (
                f"{quantity} leaves remainder {' or '.join(map(str, sorted(r)))} "
                f"when divided by {m}",
            )
            for output, r in remainders.items()
        }
    return Words("parity" if m == 2 else f"count-mod-{m}", cases)


def _counted_quantity(machine: Reduced, turns: list[int], m: int) -> tuple[str, int]:
    """Return what is counted, and by what places have to be multiplied to be its remainder."""
    alphabet = machine.alphabet
    if set(turns) <= {0, 1}:
        counted = machine.union([c for c in machine.classes if turns[c]])
        return f"the number of {alphabet.plural(counted)}", 1
    numbers = [(letter, turns[c]) for c in machine.classes for letter in machine.sets[c]]
    if not alphabet.names and all(len(x) == 1 and isinstance(x[0], int) for x, _ in numbers):
        for factor in range(1, m):
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
            came = {1: f"{a(one)} has come", 0: f"no {one} has come"}
            name = "latch" if not alphabet.are_bits else f"latch-first-{one}"
            return _by_output(machine, {chain[k]: came[k] for k in (0, 1)}, name)
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


def _ranges(machine: Reduced, chain: list[int], count: str) -> dict[Any, tuple[str, ...]]:
    """Say for each output in which ranges the count lies."""
    last = len(chain) - 1
    cases: dict[Any, list[str]] = {}
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
        cases.setdefault(machine.out[chain[k]], []).append(words)
        k = end + 1
    return {output: tuple(words) for output, words in cases.items()}


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
    return Words("last-input" if k == 1 else f"last-{k}-inputs", cases, note)


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
    return _by_output(machine, clauses, "first-input") if machine.out[0] is None else None


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
        clauses.append((state, f"the last {one} is {words}"))
    clauses.append((0, f"no {one} has come"))
    cases: dict[Any, list[str]] = {}
    for state, clause in clauses:
        cases.setdefault(machine.out[state], []).append(clause)
    name = "last-nonzero-input" if one == "non-zero input" else "last-of-some"
    return Words(name, {output: tuple(each) for output, each in cases.items()})


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
    word = _shortest_word(machine, last[0])
    if len(word) < 2:
        return None
    rows = []
    for matched in range(len(word)):
        row = []
        for c in machine.classes:
            read = (*word[:matched], c)
            row.append(next(n for n in range(len(read), -1, -1) if n <= len(word)
                            and read[len(read) - n :] == word[:n]))  # fmt: skip
        rows.append(tuple(row))
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


def _shortest_word(machine: Reduced, goal: int) -> tuple[int, ...]:
    words: dict[int, tuple[int, ...]] = {0: ()}
    for state in _breadth_first(machine, words):
        if state == goal:
            break
    return words[goal]


def _breadth_first(machine: Reduced, words: dict[int, tuple[int, ...]]) -> Iterator[int]:
    """Yield states by distance from the start, and fill in a shortest word to each."""
    queue = list(words)
    for state in queue:
        yield state
        for c in machine.classes:
            target = machine.next[state][c]
            if target not in words:
                words[target] = (*words[state], c)
                queue.append(target)


# --------------------------------------------------------------------------------------
# Two at a time


def _of_two(machine: Reduced) -> Words | None:
    """Recognise two properties of which the output is a function.

    A partition of the states that every class of letters respects is a smaller machine (Hartmanis
    and Stearns 1966). Two of them that have words, and of which the output is a function, are words
    for the whole.
    """
    if len(machine.out) > MAX_PRODUCT_STATES:
        return None
    parts = [found for p in _partitions(machine) for found in _of_partition(machine, p)]
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
            clause = right if len(column) == 1 else f"{left} and {right}"
            listed = cases.setdefault(output, [])
            if clause not in listed:
                listed.append(clause)
    return {output: tuple(clauses) for output, clauses in cases.items()}


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
        merged, sent = _minimal(replace(quotient, out=tuple(out)))
        found = _simple(merged)
        if found is None or any(len(clauses) > 2 for clauses in found.cases.values()):
            continue
        if not all(found.cases.values()):
            continue
        spelled = {k: " or ".join(_each(clauses)) for k, clauses in found.cases.items()}
        yield [spelled.get(merged.out[sent[b]]) for b in blocks], found.id, found.note


def _each(clauses: tuple[str, ...]) -> tuple[str, ...]:
    return clauses if len(clauses) == 1 else tuple(f"({clause})" for clause in clauses)


def _minimal(machine: Reduced) -> tuple[Reduced, dict[int, int]]:
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


def _partitions(machine: Reduced) -> list[tuple[int, ...]]:
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
    """Merge pairs of states, and whatever has to be merged for that."""
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

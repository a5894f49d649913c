"""How a user writes numbers, alphabets and input sequences down."""

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from hwcli.ranges import MAX_RANGE_LENGTH, parse_range
from hwcli.rnn.exact import Exact, parse_exact, to_json
from hwcli.rnn.network import Letter


def to_yaml(value: object) -> object:
    """Spell exact numbers, and tuples of them, as YAML."""
    if isinstance(value, tuple):
        return [to_yaml(part) for part in value]
    assert isinstance(value, int | Fraction)
    return to_json(value)


def parse_numbers(value: object) -> tuple[Exact, ...]:
    """Read ``0,1``, ``-3..3`` or a list of such into exact numbers.

    Raises:
        ValueError: no such text, an empty one, or over 10,000 numbers.
    """
    if isinstance(value, list | tuple):
        numbers = tuple(number for part in value for number in parse_numbers(part))
    elif isinstance(value, str) and "," in value:
        numbers = parse_numbers(value.split(","))
    elif isinstance(value, str) and ".." in value:
        numbers = parse_range(value.strip())
    else:
        numbers = (parse_exact(value),)
    if not 0 < len(numbers) <= MAX_RANGE_LENGTH:
        raise ValueError(f"expected from 1 to {MAX_RANGE_LENGTH:,} numbers")
    return numbers


def parse_sequence(value: object) -> tuple[Letter, ...]:
    """Read an input sequence: steps parted by commas, the numbers of one step by blanks.

    ``3,-1,4`` is three steps of a network with one input, ``1 0, 0 1`` two steps of one with
    two; a list holds one number or one list for each step.

    Raises:
        ValueError: a step is empty or holds something that is no number.
    """
    if isinstance(value, str):
        steps: list[object] = [part.split() for part in value.strip().rstrip(",").split(",")]
    elif isinstance(value, list | tuple):
        steps = list(value)
    else:
        steps = [value]
    sequence = []
    for t, step in enumerate(steps, 1):
        numbers = step if isinstance(step, list | tuple) else [step]
        if not numbers:
            raise ValueError(f"step {t} is empty; write 3,-1,4 or, for two inputs, 1 0, 0 1")
        try:
            sequence.append(tuple(map(parse_exact, numbers)))
        except ValueError as error:
            raise ValueError(f"step {t}: {error}") from None
    if not sequence:
        raise ValueError("a sequence needs at least one step")
    return tuple(sequence)


def read_sequence(text: str, letters: dict[str, Letter] | None = None) -> tuple[Letter, ...]:
    """Read a file's sequence: one step a line, or steps parted by commas on any lines.

    Args:
        text: what the file holds.
        letters: names that may stand in the place of numbers.

    Raises:
        ValueError: as in :func:`parse_sequence`.
    """
    lines = [line.strip().rstrip(",") for line in text.splitlines()]
    joined = ",".join(line for line in lines if line)
    return parse_sequence(joined if letters is None else with_named_letters(joined, letters))


def _optional_sequence(value: object) -> tuple[Letter, ...] | None:
    return None if value is None else parse_sequence(value)


def _spelled_sequence(sequence: tuple[Letter, ...] | None) -> object:
    """Spell the letters of a network with one input as numbers, of others as lists."""
    if sequence is None:
        return None
    return [to_yaml(letter[0] if len(letter) == 1 else letter) for letter in sequence]


def parse_letters(value: object) -> dict[str, Letter] | None:
    """Read named letters: a mapping of names to numbers or lists of numbers.

    Raises:
        ValueError: it is no such mapping, or two names have the same numbers.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        raise ValueError("write a mapping such as {a: [1, 0], b: [0, 1]}")
    letters = {
        str(name): tuple(map(parse_exact, x if isinstance(x, list | tuple) else [x]))
        for name, x in value.items()
    }
    if len(set(letters.values())) < len(letters):
        raise ValueError("two letters have the same numbers")
    return letters


def with_named_letters(inputs: object, letters: dict[Any, Any]) -> object:
    """Put numbers in the place of names: ``abba``, ``a b b a`` or ``a, b, b, a``."""
    known = {str(name): x for name, x in letters.items()}
    if isinstance(inputs, str):
        parts: list[Any] = inputs.replace(",", " ").split()
        if len(parts) == 1 and parts[0] not in known:
            parts = list(parts[0])
    else:
        assert isinstance(inputs, list)
        parts = inputs
    if not all(str(part) in known for part in parts):
        return inputs
    return [known[str(part)] for part in parts]


def _targets(value: object) -> tuple[Exact | None, ...] | None:
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        parts = [parts]
    blank = (None, "null", "", "-")
    return tuple(None if part in blank else parse_exact(part) for part in parts)


def _spelled_letters(letters: dict[str, Letter] | None) -> object:
    return None if letters is None else {name: to_yaml(x) for name, x in letters.items()}


def _spelled_targets(targets: tuple[Exact | None, ...] | None) -> object:
    return None if targets is None else [None if d is None else to_json(d) for d in targets]


AlphabetField = Annotated[Any, BeforeValidator(parse_numbers), PlainSerializer(to_yaml)]
"""A config field that holds exact numbers: what one input ranges over."""
SequenceField = Annotated[
    Any, BeforeValidator(_optional_sequence), PlainSerializer(_spelled_sequence)
]
"""A config field that holds a sequence of letters, or None."""
LettersField = Annotated[Any, BeforeValidator(parse_letters), PlainSerializer(_spelled_letters)]
"""A config field that holds named letters, or None."""
TargetsField = Annotated[Any, BeforeValidator(_targets), PlainSerializer(_spelled_targets)]
"""A config field that holds a target or None for each step, or None."""

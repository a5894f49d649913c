"""Integers as a user writes them: ``4..8``, ``256..65536*2``, ``2,3,4``, and ``auto``."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator

from hwcli.errors import short

MAX_RANGE_LENGTH = 10_000


def parse_range(value: object) -> tuple[int, ...]:
    """Expand ``4..8``, ``4..8..2``, ``256..65536*2``, ``2,3,4`` or ``5`` into integers.

    Ranges include their end where a step meets it; parts joined by commas are concatenated.
    Integers and lists of integers pass through.

    Raises:
        ValueError: the text is no range, is empty, repeats a value, or has over 10,000 values
            (refused before it is expanded).
    """
    if isinstance(value, bool):
        raise ValueError("expected a range such as 4..8, 2,3,4 or 5")
    if isinstance(value, int):
        check_size(value)
        return (value,)
    if isinstance(value, list | tuple) and len(value) > MAX_RANGE_LENGTH:
        raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
    if isinstance(value, list | tuple):
        parts: list[Sequence[int]] = [parse_range(part) for part in value]
    elif isinstance(value, str):
        texts = value.split(",", maxsplit=MAX_RANGE_LENGTH)
        if len(texts) > MAX_RANGE_LENGTH:
            raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
        parts = [_parse_part(part.strip()) for part in texts]
    else:
        raise ValueError("expected a range such as 4..8, 2,3,4 or 5")
    if sum(map(len, parts)) > MAX_RANGE_LENGTH:
        raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
    numbers = tuple(number for part in parts for number in part)
    if not numbers:
        raise ValueError("a range needs at least one value")
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise ValueError(f"{number} is listed twice")
        seen.add(number)
    return numbers


_PART = re.compile(r"(-?\d+)(?:\.\.(-?\d+)(?:\.\.(\d+)|\*(\d+))?)?", re.ASCII)
LONGEST_PART = 90  # four numbers of 64 bits


def _parse_part(text: str) -> Sequence[int]:
    match = _PART.fullmatch(text) if len(text) <= LONGEST_PART else None
    if match is None:
        raise ValueError(
            f"{short(text)} is not a range; write 4..8, 4..8..2, 256..65536*2, 2,3,4 or one integer"
        )
    first, last, step, factor = (None if g is None else int(g) for g in match.groups())
    assert first is not None
    for number in (first, last, step, factor):
        check_size(number or 0)
    if last is None:
        return (first,)
    if last < first:
        raise ValueError(f"the range ends at {last}, before its start {first}")
    if factor is not None:
        if factor < 2 or first < 1:
            raise ValueError("a geometric range starts at 1 or more and grows by 2 or more")
        numbers = [first]
        while numbers[-1] * factor <= last:
            numbers.append(numbers[-1] * factor)
        return numbers
    step = 1 if step is None else step
    if step < 1:
        raise ValueError("the step of a range is 1 or more")
    if (last - first) // step + 1 > MAX_RANGE_LENGTH:
        raise ValueError(f"more than {MAX_RANGE_LENGTH:,} values")
    return range(first, last + 1, step)


IntRange = Annotated[tuple[int, ...], BeforeValidator(parse_range)]
"""A config field that takes any spelling of :func:`parse_range`."""


def auto_or_number(value: object) -> object:
    """Read ``auto`` or an integer from 1.

    Raises:
        ValueError: it is neither.
    """
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number != "auto" and not (type(number) is int and number >= 1):
        raise ValueError("expected auto, or a number from 1")
    return number


def check_size(number: int) -> None:
    """Refuse an integer that 64 bits cannot hold.

    Raises:
        ValueError: it is one.
    """
    if not -(2**63) <= number < 2**63:
        raise ValueError("a number beyond 64 bits")

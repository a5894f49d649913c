"""The rows of a run's ``trials.csv``: dotted keys and texts; loads neither torch nor NumPy.

A setting is ``model.width``; ``point.*``, ``identity.*`` and ``result.*`` are what their names say.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Columns that belong to neither the identity nor the result.
OWN = ("id", "axes", "state", "reason")

PREFIXES = ("point", "identity", "result")


def read_fields(row: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Yield the part, the dotted name and the value of each field of a trial's identity and result.

    The part is one of :data:`PREFIXES`, or ``config``.

    Raises:
        TypeError: the row has more fields than there are columns.
    """
    for key, text in row.items():
        # An empty field is a key that this trial does not have: a null is spelled.
        if key in OWN or not text:
            continue
        value = read_value(text)
        prefix, dot, name = key.partition(".")
        if dot and prefix in PREFIXES:
            yield prefix, name, value
        else:
            yield "config", key, value


def spell_value(value: Any) -> str:
    """Spell a value as JSON, and a text as it is unless that would read as something else."""
    is_plain = isinstance(value, str) and value != "" and read_value(value) == value
    return str(value) if is_plain else json.dumps(value)


def read_value(text: str) -> Any:
    """Read a value that is spelled as JSON, or as plain text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text

"""What a flag of an experiment is: a text for one field of the experiment's config."""

from dataclasses import dataclass
from functools import cache
from typing import Any

Text = str | None
"""A flag's value as typed: the config reads it, and names key, value and choices if it is wrong."""

Flags = dict[str, object]
"""Values by dotted config key."""


@dataclass(frozen=True)
class Flag:
    """In a parameter's annotation: the config field that a flag sets, and how it is written.

    Attributes:
        key: the dotted key of the field, whose description is the flag's help.
        metavar: the placeholder of the value in the help; None for a switch.
        name: the flag itself where it is not the parameter's name.
    """

    key: str
    metavar: str | None = None
    name: str | None = None


COMMANDS: dict[str, dict[str, Flag]] = {}
"""The flags of each experiment, by the name of their parameter."""


@cache
def fields(command: str) -> dict[str, dict[str, Any]]:
    """Return the fields of a command's config by dotted key, from its schema."""
    from hwcli import schema

    return dict(schema.fields(schema.read_schema(command)))

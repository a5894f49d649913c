"""What a notebook is made of, before it is one: text, code, and prompts for the author's words."""

import re
import textwrap
from dataclasses import dataclass
from typing import Literal

CellKind = Literal["text", "code", "prompt"]

PROMPT = "✎ "
"""Every prompt begins with this sign."""


@dataclass(frozen=True)
class Cell:
    """One generated cell.

    Attributes:
        kind: ``prompt`` invites the author to write.
        source: its text.
        id: stays the same from build to build, so that the author's edits are found again.
    """

    kind: CellKind
    source: str
    id: str


def text(source: str, id: str) -> Cell:
    """Return a Markdown cell; the source may be indented like the code around it."""
    return Cell("text", textwrap.dedent(source).strip(), id)


def code(source: str, id: str) -> Cell:
    """Return a code cell; the source may be indented like the code around it."""
    return Cell("code", textwrap.dedent(source).strip(), id)


def words(place: str, prompt: str) -> Cell:
    """Return a prompt for the author's own words."""
    return Cell("prompt", f"{PROMPT}{prompt}", f"own-{place}")


_MARK = re.compile(r"^%% (text|code|prompt) ([a-z0-9-]+)$", re.MULTILINE)


def as_content(value: object) -> object:
    """Return a value of a template so that no line of it begins a cell.

    A run folder may be somebody else's: a cell of code that its texts begin would be executed.
    """
    return re.sub("^%%", r"\\%%", value, flags=re.MULTILINE) if isinstance(value, str) else value


def parse(rendered: str) -> list[Cell]:
    """Split a rendered section into cells; a line ``%% kind id`` begins each.

    Cells without content are left out: a template's condition was false.
    """
    _, *parts = _MARK.split(rendered)
    cells = []
    for kind, id_, source in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        source = source.strip()
        if source:
            sign = PROMPT if kind == "prompt" else ""
            cells.append(Cell(kind, f"{sign}{source}", id_))  # type: ignore[arg-type]
    return cells

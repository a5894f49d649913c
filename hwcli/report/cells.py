"""What a notebook is made of, before it is one: text, code, and room for the author's words."""

import textwrap
from dataclasses import dataclass
from typing import Literal

OWN_WORDS = "own-words"
"""Tag of the cells that are the author's."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    ``words`` invites the author: it keeps its ``id`` for good, so that what was written there
    is found again when the report is made anew.
    """

    kind: Literal["text", "code", "words"]
    source: str
    id: str | None = None


def text(source: str) -> Cell:
    """Return a Markdown cell; the source may be indented as the code around it is."""
    return Cell("text", textwrap.dedent(source).strip())


def code(source: str) -> Cell:
    """Return a code cell; the source may be indented as the code around it is."""
    return Cell("code", textwrap.dedent(source).strip())


def words(place: str, prompt: str) -> Cell:
    """Return a marked place for the author's own words; left as it is, it is not printed."""
    return Cell("words", f"*✎ In your own words: {prompt}*", id=f"own-{place}")


def not_run_yet(what: str, command: str) -> Cell:
    """Return what stands in the place of a run that is not there."""
    return text(f"**Not run yet:** {what}. Made by `{command}`.")

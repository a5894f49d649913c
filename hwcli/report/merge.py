"""Build a notebook anew without losing anything that its author typed.

Each generated cell carries its id and the text that was generated, in its metadata. Comparing that
text with what the cell holds now tells what the author changed:

* a cell as it was generated is replaced by the new text;
* a cell that the author changed stays as it is, and is named;
* a cell that the author added stays after the cell it follows;
* a generated cell that the author deleted stays deleted.

Some tools clear the metadata of cells. The notebook's own metadata therefore keeps a digest of each
generated text, by the cell's id, which such tools leave in place.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from nbformat import NotebookNode, v4

from hwcli.report.cells import PROMPT, Cell, CellKind

KEY = "hw2"
"""Of our entries in the metadata of a notebook and of its cells."""


@dataclass(frozen=True)
class Merged:
    """The cells of the new notebook, and the ids of generated cells that the author changed."""

    cells: list[NotebookNode]
    changed: list[str] = field(default_factory=list)


def merge(new: Sequence[Cell], old: NotebookNode | None) -> Merged:
    """Return the new cells with everything that the author typed into the old notebook.

    Args:
        new: the generated cells.
        old: as :func:`hwcli.report.notebook.read` returns it; cells without an entry of ours get
            back the one that they had.
    """
    generated = {cell.id: cell for cell in new}
    assert len(generated) == len(new), "ids are unique"
    if old is None:
        return Merged([to_node(cell) for cell in new])
    _give_back_entries(old, generated)
    known = _digests(old)
    cells: list[NotebookNode] = []
    changed: list[str] = []
    placed: set[str] = set()
    for node in old.cells:
        id_ = id_of(node)
        is_copy = id_ in placed
        if id_ is None or (is_copy and not is_untouched(node)):
            cells.append(_as_added(node))
            continue
        placed.add(id_)
        if not is_untouched(node):
            # The text that was generated stays beside the author's, for the next build.
            cells.append(copy.deepcopy(node))
            if not is_prompt(node):
                changed.append(id_)
        elif id_ in generated and not is_copy:  # a copy has no word of the author's
            cells.append(to_node(generated[id_]))
    # New generated cells go after the cell that they follow and the author's cells below it.
    for position, cell in enumerate(new):
        if cell.id in placed or cell.id in known:
            continue
        before = {earlier.id for earlier in new[:position]}
        at = max((i + 1 for i, node in enumerate(cells) if id_of(node) in before), default=0)
        while 0 < at < len(cells) and id_of(cells[at]) is None:
            at += 1
        cells.insert(at, to_node(cell))
        placed.add(cell.id)
    return Merged(cells, changed)


def is_mergeable(old: NotebookNode) -> bool:
    """Tell whether a notebook still says of some cell that it was generated."""
    known = _digests(old)
    return any(id_of(node) is not None or node.get("id") in known for node in old.cells)


def _give_back_entries(old: NotebookNode, generated: Mapping[str, Cell]) -> None:
    """Give the cells whose metadata was cleared the entry that they had, as far as it is known.

    The text that was generated is known where the cell still holds it. Elsewhere the new text takes
    its place: only a prompt's is read again, and a prompt rarely changes.
    """
    known = _digests(old)
    for node in old.cells:
        id_ = node.get("id")
        if id_of(node) is not None or id_ not in known:
            continue
        kind: CellKind = "code" if node.cell_type == "code" else "text"
        cell = generated.get(id_, Cell(kind, "", id_))
        is_as_it_was = known[id_] == _digest(node.source)
        node.metadata[KEY] = _entry(replace(cell, source=node.source) if is_as_it_was else cell)


def _digests(notebook: NotebookNode) -> dict[str, str | None]:
    """Return a digest of the text of each generated cell, by its id; None where it is not kept."""
    kept = notebook.metadata.get(KEY, {}).get("generated", {})
    if isinstance(kept, list):  # earlier notebooks list the ids alone
        return dict.fromkeys(map(str, kept))
    return dict(kept) if isinstance(kept, Mapping) else {}


def kept_digests(cells: Sequence[Cell]) -> dict[str, str]:
    """Return what a notebook's metadata keeps of its generated cells: see :func:`merge`."""
    return {cell.id: _digest(cell.source) for cell in cells}


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def is_untouched(node: NotebookNode) -> bool:
    """Tell whether a cell still holds what was generated, and nothing else."""
    entry = node.metadata.get(KEY, {})
    cell_type = "code" if entry.get("kind") == "code" else "markdown"
    return bool(node.source == entry.get("source") and node.cell_type == cell_type)


def id_of(node: NotebookNode) -> str | None:
    """Return the id of a generated cell, None for one that the author added."""
    id_: str | None = node.metadata.get(KEY, {}).get("id")
    return id_


def hand_on(node: NotebookNode) -> Literal["changed", "added"] | None:
    """Tell what the author did to a cell; None for one as it was generated, and for a prompt."""
    if id_of(node) is None:
        return "added"
    return None if is_prompt(node) or is_untouched(node) else "changed"


def names_of(notebook: NotebookNode) -> list[str]:
    """Name each cell by its id, and one that the author added by the cell that it follows."""
    names: list[str] = []
    before = "at the top"
    for node in notebook.cells:
        id_ = id_of(node)
        names.append(id_ or f"a cell {before}")
        before = f"after {id_}" if id_ else before
    return names


def deleted_ids(notebook: NotebookNode) -> list[str]:
    """Return the ids of generated cells that the author deleted."""
    there = {id_of(node) for node in notebook.cells}
    return [id_ for id_ in _digests(notebook) if id_ not in there]


def to_node(cell: Cell) -> NotebookNode:
    """Return a generated cell as nbformat has it."""
    is_code = cell.kind == "code"
    node = v4.new_code_cell(cell.source) if is_code else v4.new_markdown_cell(cell.source)
    node.id = cell.id
    node.metadata[KEY] = _entry(cell)
    made: NotebookNode = node
    return made


def _as_added(node: NotebookNode) -> NotebookNode:
    """Return a copy of a cell as one that the author added: without our entry."""
    copied: NotebookNode = copy.deepcopy(node)
    copied.metadata.pop(KEY, None)
    return copied


def is_entry(value: object) -> bool:
    """Tell whether what stands under our key in a cell's metadata is what we write there."""
    keys = ("id", "kind", "source")
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in keys)


def _entry(cell: Cell) -> dict[str, str]:
    return {"id": cell.id, "kind": cell.kind, "source": cell.source}


def is_prompt(node: NotebookNode) -> bool:
    """Tell whether a cell is a place for the author's words; one turned into code is none."""
    is_one = node.metadata.get(KEY, {}).get("kind") == "prompt"
    return bool(is_one and node.cell_type == "markdown")


def is_open(node: NotebookNode) -> bool:
    """Tell whether a cell is a prompt that the author has not answered."""
    return is_prompt(node) and node.source.strip() in ("", node.metadata[KEY]["source"].strip())


def answers_below(cells: Sequence[NotebookNode]) -> dict[int, list[int]]:
    """Find the author's cells right below a prompt that is still open: they answer it.

    Empty cells among them stand for nothing.

    Returns:
        positions among the cells, by the prompt's; prompts without such a cell are not in it.
    """
    found: dict[int, list[int]] = {}
    prompt: int | None = None
    for position, cell in enumerate(cells):
        if id_of(cell) is not None:
            prompt = position if is_open(cell) else None
        elif prompt is not None and cell.source.strip():
            found.setdefault(prompt, []).append(position)
    return found


def unanswered(cells: Sequence[NotebookNode]) -> list[str]:
    """Return the ids of the prompts that the author has not answered, in or below them."""
    answered = answers_below(cells)
    return [str(id_of(c)) for k, c in enumerate(cells) if is_open(c) and k not in answered]


def answer(node: NotebookNode) -> str:
    """Return what the author wrote into a prompt, without the prompt where it still stands."""
    prompt = str(node.metadata[KEY]["source"])
    return str(node.source).replace(prompt, "", 1).strip()


def question(node: NotebookNode) -> str:
    """Return what a prompt asks for."""
    return str(node.metadata[KEY]["source"]).removeprefix(PROMPT)

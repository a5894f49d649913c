"""Build a notebook anew without losing anything that its author typed.

Each generated cell carries its id and the text that was generated, in the notebook's metadata.
Comparing that text with what the cell holds now tells what the author changed:

* a cell as it was generated is replaced by the new text;
* a cell that the author changed stays as it is, and is named;
* a cell that the author added stays after the cell it follows;
* a generated cell that the author deleted stays deleted.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nbformat import NotebookNode, v4

from hwcli.report.cells import PROMPT, Cell

KEY = "hw2"
"""Of our entries in the metadata of a notebook and of its cells."""


@dataclass(frozen=True)
class Merged:
    """The cells of the new notebook, and the ids of generated cells that the author changed."""

    cells: list[NotebookNode]
    changed: list[str] = field(default_factory=list)


def merge(new: Sequence[Cell], old: NotebookNode | None) -> Merged:
    """Return the new cells with everything that the author typed into the old notebook."""
    generated = {cell.id: cell for cell in new}
    assert len(generated) == len(new), "ids are unique"
    if old is None:
        return Merged([to_node(cell) for cell in new])
    known = set(old.metadata.get(KEY, {}).get("generated", ()))
    cells: list[NotebookNode] = []
    changed: list[str] = []
    placed: set[str] = set()
    for node in old.cells:
        entry = node.metadata.get(KEY, {})
        id_ = entry.get("id")
        is_first = id_ is not None and id_ not in placed
        if is_first and is_untouched(node):
            placed.add(id_)
            if id_ in generated:
                cells.append(to_node(generated[id_]))
            continue
        kept = own_node(node)
        if is_first:
            # The text that was generated stays beside the author's, for the next build.
            placed.add(id_)
            kept.metadata[KEY] = entry
            if entry.get("kind") != "prompt":
                changed.append(id_)
        cells.append(kept)
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
    return [id_ for id_ in notebook.metadata.get(KEY, {}).get("generated", ()) if id_ not in there]


def to_node(cell: Cell) -> NotebookNode:
    """Return a generated cell as nbformat has it."""
    is_code = cell.kind == "code"
    node = v4.new_code_cell(cell.source) if is_code else v4.new_markdown_cell(cell.source)
    node.id = cell.id
    node.metadata[KEY] = {"id": cell.id, "kind": cell.kind, "source": cell.source}
    made: NotebookNode = node
    return made


def own_node(node: NotebookNode) -> NotebookNode:
    """Return a copy of an author's cell without old outputs and without our entry."""
    copied: NotebookNode = copy.deepcopy(node)
    copied.metadata = {k: v for k, v in node.metadata.items() if k != KEY}
    if copied.cell_type == "code":
        copied.outputs, copied.execution_count = [], None
    return copied


def is_open(node: NotebookNode) -> bool:
    """Tell whether a cell is a prompt that the author has not answered."""
    entry = node.metadata.get(KEY, {})
    if entry.get("kind") != "prompt":
        return False
    return node.source.strip() in ("", str(entry.get("source")).strip())


def answers_below(cells: Sequence[NotebookNode]) -> dict[int, list[NotebookNode]]:
    """Return the author's texts right below a prompt that is still open: they answer it.

    Returns:
        by the prompt's position among the cells; prompts without such a text are not in it.
    """
    found: dict[int, list[NotebookNode]] = {}
    prompt: int | None = None
    for position, cell in enumerate(cells):
        if is_open(cell):
            prompt = position
        elif prompt is not None and _is_own_text(cell):
            found.setdefault(prompt, []).append(cell)
        else:
            prompt = None
    return found


def _is_own_text(node: NotebookNode) -> bool:
    return id_of(node) is None and node.cell_type == "markdown" and bool(node.source.strip())


def is_prompt(node: NotebookNode) -> bool:
    """Tell whether a cell is a place for the author's words."""
    return bool(node.metadata.get(KEY, {}).get("kind") == "prompt")


def answer(node: NotebookNode) -> str:
    """Return what the author wrote into a prompt, without the prompt where it still stands."""
    prompt = str(node.metadata[KEY]["source"])
    return str(node.source).replace(prompt, "", 1).strip() or str(node.source)


def question(node: NotebookNode) -> str:
    """Return what a prompt asks for."""
    return str(node.metadata[KEY]["source"]).removeprefix(PROMPT)

"""Whatever an author does to the notebook, a rebuild keeps every character that was typed."""

import nbformat
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode, v4

from hwcli.report import notebook
from hwcli.report.cells import Cell
from hwcli.report.merge import answer, answers_below, is_open, merge

CELLS = [
    Cell("text", "**Title**", "title"),
    Cell("text", "The answer is 7.", "q1-answer"),
    Cell("code", "print(7)", "q1-code"),
    Cell("prompt", "✎ Explain the recurrence.", "own-q1"),
    Cell("text", "The end.", "end"),
]
NEWER = [
    CELLS[0],
    Cell("text", "The answer is 8.", "q1-answer"),
    CELLS[2],
    Cell("prompt", "✎ Explain the recurrence in three steps.", "own-q1"),
    Cell("text", "A new paragraph.", "q1-new"),
    CELLS[4],
]
AUTHOR = notebook.Author("Ada", ("Talked with a friend.",))


def build(cells: list[Cell], old: NotebookNode | None) -> NotebookNode:
    made = notebook.to_notebook(notebook.assemble(cells, AUTHOR, old), cells, AUTHOR)
    nbformat.validate(made)
    # As it is written and read again.
    return nbformat.reads(nbformat.writes(made), as_version=4)


def sources(made: NotebookNode) -> list[str]:
    return [cell.source for cell in made.cells]


def test_an_untouched_notebook_becomes_the_new_one() -> None:
    made = build(NEWER, build(CELLS, None))
    assert sources(made) == [cell.source for cell in NEWER]


def test_words_under_over_and_inside_a_prompt_stay_and_are_printed_without_it() -> None:
    for written in ("{}\n\nIt flips.", "It flips.\n\n{}", "✎ Explain It flips. the recurrence."):
        old = build(CELLS, None)
        old.cells[3].source = written.format(old.cells[3].source)
        made = build(NEWER, build(CELLS, old))
        (cell,) = [c for c in made.cells if c.metadata.get("hw2", {}).get("id") == "own-q1"]
        assert cell.source == old.cells[3].source
        assert not is_open(cell)
        assert "It flips." in answer(cell)
        assert CELLS[3].source not in answer(cell)


def test_texts_right_below_an_open_prompt_answer_it_until_another_cell_comes() -> None:
    def below(*added: NotebookNode, prompt: str = CELLS[3].source) -> dict[int, list[str]]:
        old = build(CELLS, None)
        old.cells[3].source = prompt
        old.cells[4:4] = added
        made = build(NEWER, build(CELLS, old))
        return {at: [cell.source for cell in c] for at, c in answers_below(made.cells).items()}

    own, code = v4.new_markdown_cell, v4.new_code_cell("1")
    assert below(own("It flips."), own("Twice.")) == {3: ["It flips.", "Twice."]}
    assert below(own("It flips."), code, own("Twice.")) == {3: ["It flips."]}
    assert below(own(" ")) == below(code, own("It flips.")) == below() == {}
    assert below(own("A remark."), prompt="It flips.") == {}


def test_a_changed_cell_stays_and_is_named() -> None:
    old = build(CELLS, None)
    old.cells[1].source = "My own answer."
    merged = merge(NEWER, old)
    assert merged.changed == ["q1-answer"]
    assert merged.cells[1].source == "My own answer."


def test_a_deleted_cell_stays_deleted_and_a_new_one_finds_its_place() -> None:
    old = build(CELLS, None)
    del old.cells[1]
    made = build(NEWER, build(NEWER, old))
    assert "The answer is 8." not in sources(made)
    assert sources(made).index("A new paragraph.") == sources(made).index(NEWER[3].source) + 1


def test_a_notebook_without_ids_of_cells_keeps_its_words() -> None:
    old = build(CELLS, None)
    old.cells[3].source = "It flips."
    old.cells.insert(2, v4.new_markdown_cell("Mine."))
    old.nbformat_minor = 4
    for cell in old.cells:
        del cell["id"]
    assert {"It flips.", "Mine."} <= set(sources(build(NEWER, old)))


def test_what_was_declared_can_be_taken_back() -> None:
    assert AUTHOR.with_declared(None, ["Thanks."], None).acknowledged == (
        "Talked with a friend.",
        "Thanks.",
    )
    assert AUTHOR.with_declared("", ["", "Alone."], "") == notebook.Author("", ("Alone.",))


def test_name_and_acknowledgements_stay() -> None:
    made = build(CELLS, None)
    again = notebook.Author.of(made).with_declared(None, ["Used a spell checker."], None)
    assert again == notebook.Author("Ada", ("Talked with a friend.", "Used a spell checker."))


def test_a_notebook_without_marks_cannot_be_merged() -> None:
    assert not notebook.is_mergeable(v4.new_notebook(cells=[v4.new_markdown_cell("mine")]))


WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["under", "over", "replace", "insert", "delete", "split", "move", "code"]),
        st.integers(0, 20),
        WORDS,
    ),
    max_size=8,
)


@given(EDITS)
def test_no_edit_is_ever_lost(edits: list[tuple[str, int, str]]) -> None:
    """Random edits, then two rebuilds from other runs: all that was typed is there, in order."""
    old = build(CELLS, None)
    for kind, place, words in edits:
        typed = f"<{words}>"
        at = place % len(old.cells) if old.cells else 0
        if kind in ("insert", "code") or not old.cells:
            make = v4.new_code_cell if kind == "code" else v4.new_markdown_cell
            old.cells.insert(at, make(typed))
        elif kind == "delete":
            del old.cells[at]
        elif kind == "move":
            old.cells.append(old.cells.pop(at))
        elif kind == "split":
            second = nbformat.from_dict(old.cells[at])
            second.id = f"split-{len(old.cells)}-{place}"
            second.source = typed
            old.cells.insert(at + 1, second)
        else:
            cell = old.cells[at]
            before = cell.source
            cell.source = {
                "under": f"{before}\n{typed}",
                "over": f"{typed}\n{before}",
                "replace": typed,
            }[kind]
    generated = {cell.source for cell in CELLS}
    typed_cells = [source for source in sources(old) if source not in generated]
    made = build(NEWER, build(NEWER, old))
    assert [s for s in sources(made) if s in set(typed_cells)] == typed_cells
    ids = [cell.id for cell in made.cells]
    assert len(set(ids)) == len(ids)

"""Whatever an author does to the notebook, a rebuild keeps every character that was typed."""

import nbformat
from hypothesis import given
from hypothesis import strategies as st
from nbformat import NotebookNode, v4

from hwcli.report import notebook
from hwcli.report.cells import Cell
from hwcli.report.merge import (
    answer,
    answers_below,
    hand_on,
    is_mergeable,
    is_open,
    merge,
    unanswered,
)

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
    made = notebook.to_notebook(notebook.assemble(cells, old), cells, AUTHOR)
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


def test_cells_right_below_an_open_prompt_answer_it_until_a_generated_one_comes() -> None:
    def below(*added: NotebookNode) -> list[str]:
        old = build(CELLS, None)
        old.cells[4:4] = added
        made = build(NEWER, build(CELLS, old))
        found = answers_below(made.cells)
        assert set(found) <= {3}
        assert unanswered(made.cells) == ([] if found else ["own-q1"])
        return [made.cells[at].source for at in found.get(3, ())]

    own, code = v4.new_markdown_cell, v4.new_code_cell("1")
    assert below(own("It flips."), own("Twice.")) == ["It flips.", "Twice."]
    assert below(own("It flips."), code, own("Twice.")) == ["It flips.", "1", "Twice."]
    assert below(code) == ["1"]
    assert below(own(" "), own("It flips.")) == ["It flips."]
    assert below(own(" ")) == below() == []
    old = build(CELLS, None)
    old.cells[3].source = "It flips."
    old.cells[4:4] = [own("A remark.")]
    assert answers_below(build(NEWER, old).cells) == {}


def test_a_copy_of_a_generated_cell_adds_nothing_but_what_was_typed_into_it() -> None:
    old = build(CELLS, None)
    copies = [nbformat.from_dict(old.cells[at]) for at in (3, 3, 2)]
    for number, cell in enumerate(copies):
        cell.id = f"copy-{number}"
    copies[1].source = "It flips."
    old.cells[4:4] = copies
    made = build(NEWER, build(CELLS, old))
    expected = [cell.source for cell in NEWER]
    assert sources(made) == [*expected[:4], "It flips.", *expected[4:]]


def test_a_prompt_turned_into_code_is_a_changed_cell() -> None:
    old = build(CELLS, None)
    old.cells[3] = v4.new_code_cell(
        "print(7)", id=old.cells[3].id, metadata=dict(old.cells[3].metadata)
    )
    made = build(NEWER, build(CELLS, old))
    assert (made.cells[3].cell_type, made.cells[3].source) == ("code", "print(7)")
    assert hand_on(made.cells[3]) == "changed"
    assert not is_open(made.cells[3])
    assert merge(NEWER, old).changed == ["own-q1"]


def test_a_notebook_whose_cells_lost_their_metadata_is_made_anew_with_all_words() -> None:
    old = build(CELLS, None)
    old.cells[2].source = "print(17)"
    old.cells[3].source += "\n\nIt flips."
    old.cells.insert(2, v4.new_markdown_cell("Mine."))
    del old.cells[-1]
    for cell in old.cells:
        cell.metadata = {}
    assert is_mergeable(old)
    made = build(NEWER, old)
    assert sources(made) == [
        *("**Title**", "The answer is 8.", "Mine.", "print(17)"),
        *(f"{CELLS[3].source}\n\nIt flips.", "A new paragraph."),
    ]
    assert [hand_on(cell) for cell in made.cells] == [None, None, "added", "changed", None, None]
    assert not is_open(made.cells[4])
    # A cell that is no longer generated goes, as it would with its metadata.
    for cell in made.cells:
        cell.metadata = {}
    assert sources(build(NEWER[:1], made))[:2] == ["**Title**", "Mine."]
    assert "A new paragraph." not in sources(build(NEWER[:1], made))


def test_a_notebook_of_an_earlier_version_lists_ids_alone() -> None:
    old = build(CELLS, None)
    old.metadata["hw2"]["generated"] = [cell.id for cell in CELLS]
    del old.cells[1]
    assert sources(build(NEWER, old)) == [cell.source for cell in NEWER if cell.id != "q1-answer"]


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
    assert not is_mergeable(v4.new_notebook(cells=[v4.new_markdown_cell("mine")]))
    # Nor one whose cells have lost metadata and ids.
    old = build(CELLS, None)
    for number, cell in enumerate(old.cells):
        cell.metadata, cell.id = {}, f"other-{number}"
    assert not is_mergeable(old)


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

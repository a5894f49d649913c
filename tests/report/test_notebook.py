"""The notebook as a file and as a program: what is read of it, and how it is run."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from hwcli.errors import OutputError
from hwcli.report import notebook
from hwcli.report.cells import Cell

CELLS = [Cell("text", "The answer is 7.", "q1-answer"), Cell("prompt", "✎ Why?", "own-q1")]


def written(folder: Path, *added: dict[str, Any]) -> Path:
    """Write a notebook of the generated cells and of others, whatever these look like."""
    made = notebook.to_notebook(notebook.assemble(CELLS, None), CELLS, notebook.Author())
    content = json.loads(nbformat.writes(made))
    content["cells"] += added
    path = folder / "hw2.ipynb"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "more",
    [
        {"outputs": []},
        {"id": "with a space"},
        {"id": "x" * 65},
        {"id": 7},
        {"cell_type": "code", "attachments": {}, "outputs": [{"output_type": "odd"}]},
        {"cell_type": "code"},
        {"cell_type": "raw", "execution_count": 3},
        {"metadata": {"tags": "one"}},
    ],
)
def test_what_a_cell_cannot_have_is_left_out_and_its_words_stay(
    tmp_path: Path, more: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    cell = {"cell_type": "markdown", "id": "mine", "metadata": {}, "source": ["Words ", "of mine."]}
    old = notebook.read(written(tmp_path, cell | more))
    made = notebook.to_notebook(notebook.assemble(CELLS, old), CELLS, notebook.Author())
    nbformat.validate(made)
    assert [c.source for c in made.cells] == ["The answer is 7.", "✎ Why?", "Words of mine."]
    assert made.cells[-1].cell_type == more.get("cell_type", "markdown")
    assert made.cells[-1].id == ("own-cell-2" if "id" in more else "mine")
    assert capfd.readouterr() == ("", "")


def test_an_odd_entry_of_metadata_goes_and_the_others_stay(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = json.loads(path.read_text())
    content["cells"][0]["metadata"] |= {"tags": ["a", "a"], "slideshow": {"slide_type": "skip"}}
    path.write_text(json.dumps(content))
    old = notebook.read(path)
    assert old is not None
    assert sorted(old.cells[0].metadata) == ["hw2", "slideshow"]
    made = notebook.to_notebook(notebook.assemble(CELLS, old), CELLS, notebook.Author())
    nbformat.validate(made)
    assert [cell.source for cell in made.cells] == ["The answer is 7.", "✎ Why?"]


def test_an_entry_of_ours_that_was_edited_by_hand_counts_as_none(tmp_path: Path) -> None:
    for odd in (3, {}, {"id": 3, "kind": "text", "source": ""}, {"id": "a", "kind": "prompt"}):
        path = written(tmp_path)
        content = json.loads(path.read_text())
        for cell in content["cells"]:
            cell["metadata"]["hw2"] = odd
        path.write_text(json.dumps(content))
        made = notebook.assemble(CELLS, notebook.read(path))
        assert [cell.source for cell in made.cells] == ["The answer is 7.", "✎ Why?"]


@pytest.mark.parametrize(
    "odd",
    [
        {"kernelspec": {"name": "python3"}},
        {"language_info": {}},
        {"authors": 3},
        {"title": 3},
        {"hw2": 3},
        {"hw2": {"author": 3, "generated": 3}},
        {"hw2": {"author": {"name": 3, "acknowledged": 3, "title": [], "paper": "b7"}}},
    ],
)
def test_the_notebooks_own_metadata_may_be_odd(tmp_path: Path, odd: dict[str, Any]) -> None:
    path = written(tmp_path)
    content = json.loads(path.read_text())
    content["metadata"] |= odd
    path.write_text(json.dumps(content))
    old = notebook.read(path)
    made = notebook.to_notebook(notebook.assemble(CELLS, old), CELLS, notebook.Author.of(old))
    nbformat.validate(made)
    assert [cell.source for cell in made.cells] == ["The answer is 7.", "✎ Why?"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"cell_type": "heading"}, " (cell 3 has no usable 'cell_type')"),
        ({"source": 7}, " (cell 3 has no usable 'source')"),
        ({"attachments": {"a.png": {"x": 7}}}, " (cell 3 has no usable 'attachments.a.png.x')"),
        ({"attachments": {"a.png": 7}}, ""),
        ({"metadata": []}, ""),
    ],
)
def test_a_notebook_that_cannot_be_read_is_one_line(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    cell = {"cell_type": "markdown", "id": "mine", "metadata": {}, "source": "Mine."}
    path = written(tmp_path, cell | more)
    with pytest.raises(OutputError) as raised:
        notebook.read(path)
    assert str(raised.value) == (
        f"{path}: not a readable notebook{reason}, but it may hold your words; repair it or move it"
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("{", "", "Notebook does not appear to be JSON"),
        ("answer", "\\ud83d", "'utf-8' codec can't encode character"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(OutputError, match=rf"notebook \({reason}[^\n]*\), but it may hold"):
        notebook.read(path)


def code(source: str) -> nbformat.NotebookNode:
    return v4.new_notebook(cells=[v4.new_code_cell(source)])


@pytest.fixture
def _ctrl_c_interrupts() -> Iterator[None]:
    """Take Ctrl-C, which a shell lets its background programs ignore, whoever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_interrupts")
def test_ctrl_c_stops_the_notebook_and_its_kernel(tmp_path: Path) -> None:
    """A cell sends the signal to this process and goes on: nothing but the kernel's end ends it."""
    source = """
        import os, signal, time
        from pathlib import Path
        Path("kernel").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(600)
    """
    made = code("\n".join(line.strip() for line in source.splitlines()))
    with pytest.raises(KeyboardInterrupt):
        notebook.execute(made, tmp_path, print)
    kernel = int((tmp_path / "kernel").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_a_kernel_that_does_not_start_or_dies_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match="could not be executed: Kernel died; does a cell of you"):
        notebook.execute(code("import os\nos._exit(1)"), tmp_path, print)
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(OutputError, match=r"executed: Kernel died before replying to kernel_info$"):
        notebook.execute(code("1"), tmp_path, print)

"""The whole report, on the files it makes."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path

import nbformat
import pytest

from hwcli.report import make
from hwcli.report.cells import words
from hwcli.report.merge import Merged, to_node

from .conftest import COMMITTED, SHOWN, link_committed

KINDS = ("ipynb", "pdf", "html")


def make_report(runs: Path, out: Path, **more: object) -> list[Path]:
    said: list[str] = []
    return make.build(runs, out, formats=make.FORMATS, say=said.append, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a user's own runs."""
    root = tmp_path_factory.mktemp("runs")
    link_committed(root, *SHOWN)
    make_report(root, root, author="A. Student", acknowledged=["Worked with B. Friend."])
    return root / "report"


def pdf_text(path: Path) -> tuple[int, str]:
    pypdf = pytest.importorskip("pypdf")
    reader = pypdf.PdfReader(path)
    text = " ".join(page.extract_text() for page in reader.pages)
    return len(reader.pages), " ".join(text.split())


# In the print, in this order: a strict grader's list.
PRINTED = (
    *("A. Student", "Question 1", "1,000 (even)", "even positions", "Proof"),
    *("Not written yet", "Question 2", "Answer", "rearrangement fails", "softmax", "Question 3"),
    *("92.62", "What this supports", "class Attention", "largest difference of the logits"),
    *("def batches", "def make_optimizers", "def train", "def classify", "Question 4"),
    *("112,241,409", "2,759,169", "Q1a vocabulary size", "30,522", "class GRUHead"),
    *("def batch_loss", "def mean_of", "Q4b", "Worked with B. Friend.", "Appendix"),
)


@pytest.mark.slow
def test_the_print_has_what_is_asked_for_in_its_order(made: Path) -> None:
    num_pages, text = pdf_text(made / "hw2.pdf")
    assert num_pages <= 20
    at = 0
    for wanted in PRINTED:
        assert wanted in text[at:], wanted
        at = text.index(wanted, at)


@pytest.mark.slow
def test_a_rebuild_keeps_words_name_and_acknowledgements(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made.parent, tmp_path / "runs")
    runs = tmp_path / "runs"
    before = {kind: (runs / f"report/hw2.{kind}").read_bytes() for kind in KINDS}
    make_report(runs, runs)
    assert {kind: (runs / f"report/hw2.{kind}").read_bytes() for kind in KINDS} == before
    notebook = nbformat.read(runs / "report/hw2.ipynb", as_version=4)
    prompt = next(cell for cell in notebook.cells if cell.id == "own-q3")
    prompt.source += "\n\nEpochs, I would say."
    notebook.cells.insert(4, nbformat.v4.new_code_cell("print('MY', 'OWN', 'CELL')"))
    nbformat.write(notebook, runs / "report/hw2.ipynb")
    for _ in range(2):
        make_report(runs, runs)
    again = nbformat.read(runs / "report/hw2.ipynb", as_version=4)
    assert next(c for c in again.cells if c.id == "own-q3").source == prompt.source
    for kind in KINDS:
        path = runs / f"report/hw2.{kind}"
        text = pdf_text(path)[1] if kind == "pdf" else path.read_text()
        assert "Epochs, I would say." in text, kind
        assert "MY OWN CELL" in text, kind
        assert ("Added by the author" in text) == (kind != "ipynb"), kind
        assert "A. Student" in text, kind
        assert "Worked with B. Friend." in text, kind


@pytest.mark.slow
def test_what_is_saved_while_the_report_is_made_is_kept(tmp_path: Path) -> None:
    path, said = tmp_path / "report/hw2.ipynb", list[str]()

    def say(line: str) -> None:
        if line.startswith("running the notebook") and "Typed meanwhile." not in path.read_text():
            notebook = nbformat.read(path, as_version=4)
            next(c for c in notebook.cells if c.id == "own-q3").source += "\n\nTyped meanwhile."
            nbformat.write(notebook, path)
        said.append(line)

    make.build(tmp_path, tmp_path, formats=("ipynb",), say=lambda line: None)
    make.build(tmp_path, tmp_path, formats=("ipynb",), say=say)
    assert "hw2.ipynb was saved in the meantime; starting again with it" in said
    assert "Typed meanwhile." in path.read_text()


@pytest.mark.slow
def test_code_that_is_deleted_or_fails_or_is_slow_stops_no_hand_in(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, said = tmp_path / "runs", list[str]()
    shutil.copytree(made.parent, root)
    path = root / "report/hw2.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "q2-times"]
    for code in ("import sys\nprint(file=sys.stderr)", "1 / 0", "import time\ntime.sleep(99)"):
        notebook.cells.append(nbformat.v4.new_code_cell(code))
    nbformat.write(notebook, path)
    monkeypatch.setattr("hwcli.report.notebook.CELL_TIMEOUT_S", 25)
    make.build(root, root, formats=("ipynb",), say=said.append)
    lines = "\n".join(said)
    assert "a cell of yours failed: ZeroDivisionError: division by zero" in lines
    assert "a cell of yours failed: stopped after 25 s, which is as long as" in lines
    assert re.search(r"^q2-\S+: failed, maybe for want of code .*: NameError", lines, re.MULTILINE)
    assert "time.sleep(99)" in path.read_text()


@pytest.mark.slow
def test_a_folder_without_runs_and_one_with_reference_runs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_report(tmp_path / "empty", tmp_path / "empty")
    assert pdf_text(tmp_path / "empty/report/hw2.pdf")[1].count("Not run yet") == 4
    make_report(tmp_path / "empty", tmp_path / "shown", reference=COMMITTED, paper="letter")
    text = pdf_text(tmp_path / "shown/report/hw2.pdf")[1]
    assert "the author of this hand-in did not make them" in text


@pytest.mark.slow
def test_nothing_of_a_notebook_beside_the_runs_is_read_where_the_hand_in_is_made_anew(
    tmp_path: Path,
) -> None:
    """What docs/hand-in.md promises a teaching assistant, who runs no code of a student's."""
    runs, new = tmp_path / "runs", tmp_path / "new"
    link_committed(runs, *SHOWN)
    make.build(runs, runs, formats=("ipynb",), author="A. Student", title="Mine", say=print)
    path = runs / "report/hw2.ipynb"
    notebook = nbformat.read(path, as_version=4)
    mark = f"from pathlib import Path\nPath({str(tmp_path / 'executed')!r}).touch()"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"{mark}\nprint('Quixotic')"))
    notebook.cells.insert(3, nbformat.v4.new_markdown_cell("Quixotic words."))
    generated = next(
        cell for cell in notebook.cells if cell.cell_type == "code" and cell.id[0] == "q"
    )
    generated.source = f"{mark}  # quixotic\n{generated.source}"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    (made,) = make.build(runs, new, formats=("ipynb",), say=print)
    assert made == (new / "report/hw2.ipynb").resolve()
    assert [each.name for each in (new / "report").iterdir()] == ["hw2.ipynb"]
    text = made.read_text()
    for word in ("quixotic", "Quixotic", "executed", "A. Student", "Mine"):
        assert word not in text, word
    assert not (tmp_path / "executed").exists()
    assert path.read_bytes() == before


@pytest.mark.slow
def test_title_and_paper_are_kept_from_build_to_build(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    for more in ({"title": "My Own Title", "paper": "letter"}, {}):
        make_report(tmp_path, tmp_path, **more)
        first, *_ = pypdf.PdfReader(tmp_path / "report/hw2.pdf").pages
        assert "My Own Title" in " ".join(first.extract_text().split())
        assert tuple(first.mediabox) == (0, 0, 612, 792)
        assert "<title>My Own Title</title>" in (tmp_path / "report/hw2.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_a_phone_and_a_desk(made: Path, tmp_path: Path, width: int) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        pytest.skip("no chromium here")
    # A window is at least 500 wide; a frame within it is as wide as it is told to be.
    frame = escape((made / "hw2.html").read_text())
    page = tmp_path / "page.html"
    page.write_text(
        f'<!doctype html><iframe width="{width}" height="900" style="border: 0" srcdoc="{frame}">'
        """</iframe><script>
        document.querySelector("iframe").onload = ({target}) => {
          const inner = target.contentDocument, d = document.documentElement;
          d.dataset.widths = `${inner.documentElement.scrollWidth} ${target.clientWidth}`;
          d.dataset.broken = [...inner.images].filter(image => !image.naturalWidth).length;
          d.dataset.formulas = inner.querySelectorAll("math").length;
        };</script>"""
    )
    dom = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,900",
            "--virtual-time-budget=5000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    found = re.search(r'data-widths="(\d+) (\d+)"', dom)
    assert found is not None
    assert int(found[2]) == width
    assert int(found[1]) <= width
    assert 'data-broken="0"' in dom
    formulas = re.search(r'data-formulas="(\d+)"', dom)
    assert formulas is not None
    assert int(formulas[1]) > 30


def test_a_notebook_without_marks_is_kept_and_never_printed_without_its_words(
    refused: Callable[[list[str], str], None], tmp_path: Path
) -> None:
    path = tmp_path / "results/report/hw2.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("Mine.")]), path)
    line = f"{path.relative_to(tmp_path)} does not say which cells were generated, so its words"
    refused(["report", "--quiet", "--format", "pdf"], line)
    refused(["report", "--quiet", "--format", "html"], line)
    # Each try keeps it; one copy is enough.
    said = list[str]()
    for _ in range(2):
        assert make._mergeable(path, make.FORMATS, said.append) is None
    assert [each.name for each in sorted(path.parent.iterdir())] == ["hw2.ipynb", "hw2.old-1.ipynb"]
    assert said == 2 * [
        "hw2.ipynb does not say which cells were generated; it is kept as hw2.old-1.ipynb"
    ]
    path.write_text(path.read_text().replace("Mine.", "Mine, too."))
    make._mergeable(path, make.FORMATS, said.append)
    assert "Mine." in (path.parent / "hw2.old-1.ipynb").read_text()
    assert "Mine, too." in (path.parent / "hw2.old-2.ipynb").read_text()


@pytest.mark.parametrize(
    ("prompts", "line"),
    [
        (["own-q1"], "1 prompt waits for your own words: q1. Write under it in hw2.ipynb, save"),
        (["own-q1", "own-q4b"], "2 prompts wait for your own words: q1, q4b. Write under them in"),
    ],
)
def test_prompts_that_wait_are_counted_and_named(prompts: list[str], line: str) -> None:
    cells = [to_node(words(id_.removeprefix("own-"), "Why?")) for id_ in prompts]
    said = list[str]()
    made = nbformat.v4.new_notebook(cells=cells)
    make._tell_what_is_open(made, Merged(cells), make.FORMATS, said.append)
    assert len(said) == 1
    assert said[0].startswith(line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--format", "doc"], "format = 'doc': unknown; choices: ipynb, pdf, html, all"),
        (["--runs", "nowhere"], "runs = 'nowhere': no such folder"),
        (["--runs", ".", "--out", "file"], "out: file/report cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    refused: Callable[[list[str], str], None], tmp_path: Path, arguments: list[str], line: str
) -> None:
    (tmp_path / "file").touch()
    refused(["report", *arguments], line)


def test_an_earlier_copy_that_cannot_be_read_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, locked = tmp_path / "hw2.ipynb", tmp_path / "hw2.old-1.ipynb"
    path.write_text("new words")
    locked.write_text("old words")
    read = Path.read_bytes

    def refuse(asked: Path) -> bytes:
        if asked == locked:
            raise PermissionError
        return read(asked)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for _ in range(2):  # the second time the copy is there already
        assert make._keep_beside(path).name == "hw2.old-2.ipynb"
    assert locked.read_text() == "old words"
    assert (tmp_path / "hw2.old-2.ipynb").read_text() == "new words"

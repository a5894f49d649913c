"""The whole report, on the files it makes."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path

import nbformat
import pytest

from hwcli.report import make
from hwcli.report.cells import OWN_WORDS

from .conftest import COMMITTED, link_committed, write_sweep

KINDS = ("ipynb", "pdf", "html")


def make_report(runs: Path, out: Path) -> list[Path]:
    return make.build(
        runs,
        out,
        formats=make.FORMATS,
        title=make.TITLE,
        author="A. Student",
        acknowledged=["Worked with B. Friend."],
        say=lambda line: None,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of every run there may be, one of which is not finished."""
    from .conftest import write_sentiment

    root = tmp_path_factory.mktemp("runs")
    link_committed(root, "rnn-trace/alternating-sum", "attention-bench/default")
    write_sweep(root, "standard")
    write_sweep(root, "strong")
    write_sentiment(root, "homework")
    (write_sweep(root, "linear", attention="linear") / "summary.json").unlink()
    make_report(root, root)
    return root / "report"


def pdf_text(path: Path) -> tuple[int, str]:
    pypdf = pytest.importorskip("pypdf")
    reader = pypdf.PdfReader(path)
    text = " ".join(page.extract_text() for page in reader.pages)
    return len(reader.pages), " ".join(text.split())


def html_text(path: Path) -> str:
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", path.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@pytest.mark.slow
def test_every_section_cell_and_answer_stands_in_every_form(made: Path) -> None:
    num_pages, pdf = pdf_text(made / "hw2.pdf")
    assert 10 <= num_pages <= 25
    notebook = (made / "hw2.ipynb").read_text()
    summary = json.loads((made.parent / "vit-sweep/standard/summary.json").read_text())
    expected = [
        "Question 1: Recurrences using RNNs",
        "Question 2: Attention! My code takes too long",
        "Question 3: Vision Transformers",
        "Question 4: Sentiment analysis using Transformer models",
        "Collaborators and tools",
        "Environment",
        "Worked with B. Friend.",
        "Q2c trainable after freezing",
        "2,345,678",
        "vit-sweep/linear",
        "not finished: it has no summary.json",
        "Not run yet",
        "sentiment-train --preset strong",
        *(f"{100 * cell['test_accuracy_mean']:.2f} ± 0.30 %" for cell in summary["cells"]),
    ]
    for form in (pdf, html_text(made / "hw2.html"), notebook):
        text = form.replace("\\u00b1", "±")
        assert [word for word in expected if word not in text] == []


@pytest.mark.slow
def test_formulas_are_formulas(made: Path) -> None:
    page = (made / "hw2.html").read_text()
    assert page.count("<math") > 30
    assert 'encoding="application/x-tex">y_i = ' in page
    for tex in (r"h_T = \sum_{t=1}^{T} (-1)^{T-t}", r"\frac{q_i^\top S}{q_i^\top z}"):
        assert tex.replace("&", "&amp;") in page
    assert r"\sum" not in pdf_text(made / "hw2.pdf")[1]


@pytest.mark.slow
def test_the_notebook_is_valid_executed_and_without_paths(made: Path) -> None:
    notebook = nbformat.read(made / "hw2.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(o.output_type == "error" for cell in code for o in cell.outputs)
    assert any('RUNS = Path("..")' in cell.source for cell in code)
    assert str(made.parent) not in (made / "hw2.ipynb").read_text()
    assert sum(OWN_WORDS in cell.metadata.get("tags", []) for cell in notebook.cells) == 5


@pytest.mark.slow
def test_the_same_runs_give_the_same_files_and_own_words_are_kept(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made.parent, tmp_path / "runs")
    notebook = nbformat.read(tmp_path / "runs/report/hw2.ipynb", as_version=4)
    make_report(tmp_path / "runs", tmp_path / "runs")
    for kind in KINDS:
        again = tmp_path / f"runs/report/hw2.{kind}"
        assert again.read_bytes() == (made / f"hw2.{kind}").read_bytes(), kind
    next(cell for cell in notebook.cells if cell.id == "own-q3").source = "Epochs, I would say."
    nbformat.write(notebook, tmp_path / "runs/report/hw2.ipynb")
    make_report(tmp_path / "runs", tmp_path / "runs")
    for kind in KINDS:
        again = tmp_path / f"runs/report/hw2.{kind}"
        text = pdf_text(again)[1] if kind == "pdf" else again.read_text()
        assert "Epochs, I would say." in text, kind


@pytest.mark.slow
def test_a_clean_clone_and_an_empty_folder_have_their_report(tmp_path: Path) -> None:
    # What git holds of the results: no checkpoints, no data.
    listed = subprocess.run(
        ["git", "ls-files", "."], cwd=COMMITTED, capture_output=True, text=True
    ).stdout.split()
    if not listed:
        pytest.skip("no git repository here")
    for name in listed:
        if not name.startswith("report/"):
            copy = tmp_path / "results" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(COMMITTED / name, copy)
    make_report(tmp_path / "results", tmp_path / "out")
    assert "Question 4" in pdf_text(tmp_path / "out/report/hw2.pdf")[1]
    (tmp_path / "empty").mkdir()
    make_report(tmp_path / "empty", tmp_path / "empty")
    assert pdf_text(tmp_path / "empty/report/hw2.pdf")[1].count("Not run yet") == 5


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

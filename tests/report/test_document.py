"""From a notebook to pages: captions, figures, and the same bytes each time."""

import io
from pathlib import Path

import pytest
from nbformat import v4

from hwcli.output.plots import figure
from hwcli.report import document, html, pdf
from hwcli.report.cells import Cell
from hwcli.report.display import to_svg
from hwcli.report.merge import to_node

TABLE = "**A title**\n\n| name | n |\n| --- | ---: |\n| a<br>b | 17 |\n\nA note.\n"


def test_a_bold_title_above_a_table_becomes_its_caption() -> None:
    text = document.with_captions(f"Before.\n\n{TABLE}")
    assert "Table: A title\n\n| name | n |\n| :--- | ---: |" in text
    assert text.rstrip().endswith("A note.")
    assert document.with_captions("**No table.** Text.") == "**No table.** Text."


def test_a_table_longer_than_a_page_may_break() -> None:
    rows = "| 1 |\n" * 40
    assert "breakable: true" in document.with_captions(f"**T**\n\n| a |\n| ---: |\n{rows}")
    assert "breakable" not in document.with_captions(TABLE)


def test_a_figure_is_the_same_text_each_time() -> None:
    def draw() -> str:
        made, (axes,) = figure(width=3, height=2)
        axes.plot([1, 2], [3, 5], label="line")
        axes.legend()
        return to_svg(made)

    assert draw() == draw()
    assert "<dc:date>" not in draw()


@pytest.fixture
def text(tmp_path: Path) -> str:
    made, (axes,) = figure(width=3, height=2)
    axes.plot([1, 2], [3, 5])
    cell = v4.new_code_cell("print(17)")
    cell.outputs = [
        v4.new_output("stream", name="stdout", text="seventeen\n"),
        v4.new_output("display_data", {"text/markdown": TABLE, "text/plain": "A title"}),
        v4.new_output("display_data", {"image/svg+xml": to_svg(made), "text/plain": "A caption"}),
    ]
    words = to_node(Cell("prompt", "✎ In your own words: why?", "own-q1"))
    title = to_node(Cell("text", "**Title**", "title"))
    notebook = v4.new_notebook(
        cells=[
            title,
            v4.new_markdown_cell("# Question 1\n\n$$h_T = \\sum_{t=1}^T x_t$$"),
            cell,
            words,
        ]
    )
    return document.to_markdown(notebook, tmp_path)


def test_a_pdf_holds_text_code_table_and_caption_and_no_date(text: str, tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    made = pdf.to_pdf(text, tmp_path, title='A "title"', author="A. Student")
    assert made == pdf.to_pdf(text, tmp_path, title='A "title"', author="A. Student")
    reader = pypdf.PdfReader(io.BytesIO(made))
    words = " ".join(page.extract_text() for page in reader.pages)
    for word in ("A. Student", "Question 1", "print", "seventeen", "A title", "A caption", "1 / 1"):
        assert word in words
    assert "Not written yet." in words
    assert "/CreationDate" not in (reader.metadata or {})


def test_a_page_needs_no_other_file(text: str, tmp_path: Path) -> None:
    made = html.to_html(text, tmp_path, title="T", author=None)
    assert "<math" in made
    assert "<svg" in made or "data:image/svg+xml" in made
    assert 'src="http' not in made
    assert 'href="http' not in made
    assert 'name="viewport"' in made
    assert "Not written yet." in made

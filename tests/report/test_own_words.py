"""What the author wrote, as it is printed: pictures, answers, formulas, and their direction."""

import base64
import io
import re
from pathlib import Path

import pytest
from nbformat import v4
from PIL import Image

from hwcli.output.plots import figure
from hwcli.report import document, pdf
from hwcli.report.cells import Cell
from hwcli.report.merge import to_node

from .conftest import markdown


def test_the_authors_pictures_are_printed_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    beside, told = tmp_path / "beside", list[str]()
    beside.mkdir()
    Image.new("RGB", (3, 2)).save(beside / "my drawing.png")
    (beside / "torn.png").write_bytes(b"no picture")
    pasted = v4.new_markdown_cell("Seen: ![a](attachment:image.png)")
    content = base64.b64encode((beside / "my drawing.png").read_bytes()).decode()
    pasted.attachments = {"image.png": {"image/png": content}}
    named = v4.new_markdown_cell(
        "![b](my%20drawing.png) ![c](torn.png) ![](attachment:gone.png) ![d](http://a.b/c.png)"
    )
    text = markdown([pasted, named], tmp_path, told)
    printed = re.findall(r"!\[(.)\]\((own-\w+\.png)\)", text)
    assert [name for name, _ in printed] == ["a", "b"]
    assert all((tmp_path / path).exists() for _, path in printed)
    missing = ("torn.png", "attachment:gone.png", "http://a.b/c.png")
    assert all(f"**[the picture {name} is missing]**" in text for name in missing)
    assert told == [
        f"a cell at the top: the picture {name} is not there, or cannot be printed"
        for name in missing
    ]


def test_pictures_are_found_however_they_are_spelled(tmp_path: Path) -> None:
    beside, told = tmp_path / "beside", list[str]()
    beside.mkdir()
    Image.new("RGB", (3, 2)).save(beside / "a.png")
    Image.new("RGB", (3, 2)).save(beside / "named as.png", format="JPEG")
    for name in ("plot(1).png", "plot (1).png"):
        Image.new("RGB", (3, 2)).save(beside / name)
    (beside / "torn.svg").write_text("<svg")
    content = base64.b64encode((beside / "a.png").read_bytes()).decode()
    cell = v4.new_markdown_cell(
        f"![1][one] ![2](data:image/png;base64,{content}) <img src='a.png' width=300 alt=3> "
        "![4 [of 5]](a.png) ![](torn.svg) ![not defined]\n\n![5](<named as.png>)\n\n"
        "![6](plot(1).png) ![7](plot%20(1).png 'a title')\n\n"
        "[one]: a.png"
    )
    text = markdown([cell], tmp_path, told)
    printed = re.findall(r"!\[([^\[\]]*(?:\[of 5\])?)\]\(own-\w+(\.\w+)[^)]*\)", text)
    assert printed == [
        *(("1", ".png"), ("2", ".png"), ("3", ".png"), ("4 [of 5]", ".png"), ("5", ".jpg")),
        *(("6", ".png"), ("7", ".png")),
    ]
    assert told == ["a cell at the top: the picture torn.svg is not there, or cannot be printed"]
    assert "![not defined]" in text
    # What a cell of the author's shows is looked through, too.
    shows = v4.new_code_cell("display(Markdown('![](a.png)'))")
    shows.outputs = [v4.new_output("display_data", {"text/markdown": "![](a.png)"})]
    assert "](own-" in markdown([shows], tmp_path)


def test_a_picture_that_is_too_large_to_open_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, told = tmp_path / "beside", list[str]()
    beside.mkdir()
    Image.new("1", (30, 20)).save(beside / "scan.png")
    (beside / "odd.svg").write_text("<?xml version='1.0' encoding='no-such'?><svg/>")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    markdown([v4.new_markdown_cell("![](scan.png) ![](odd.svg)")], tmp_path, told)
    assert [line.partition(": ")[2].split()[2] for line in told] == ["scan.png", "odd.svg"]


def test_a_plot_of_the_authors_has_no_caption_of_pythons(tmp_path: Path) -> None:
    made, (axes,) = figure(width=3, height=2)
    axes.plot([1, 2], [3, 5])
    buffer = io.BytesIO()
    made.savefig(buffer)
    cell = v4.new_code_cell("plt.show()")
    content = base64.encodebytes(buffer.getvalue()).decode()
    data = {"image/png": content, "text/plain": f"{made!r}"}
    cell.outputs = [v4.new_output("display_data", data)]
    text = markdown([cell], tmp_path)
    assert re.search(r"!\[\]\([\w-]+\.png\)", text)
    assert "Figure size" not in text


def test_the_name_of_a_missing_picture_is_text(tmp_path: Path) -> None:
    text = markdown([v4.new_markdown_cell("![](_*a*_b_c.png)")], tmp_path)
    made = document.run_pandoc(text, "html", tmp_path)
    assert "[the picture _*a*_b_c.png is missing]" in made


def test_an_answer_stands_below_what_was_asked(tmp_path: Path) -> None:
    prompt = to_node(Cell("prompt", "✎ Why linear in $T$?", "own-why"))
    assert "**Not written yet.** Why linear in $T$?" in markdown([prompt], tmp_path)
    prompt.source += "\n\nBecause sums are kept."
    text = markdown([prompt], tmp_path)
    assert "**Asked:** Why linear in $T$?" in text
    assert text.index("Asked") < text.index("Because sums are kept.")


def test_an_answer_in_new_cells_below_the_prompt_is_its_answer(tmp_path: Path) -> None:
    cells = [
        to_node(Cell("prompt", "✎ Why linear in $T$?", "own-why")),
        v4.new_markdown_cell("Because sums are kept."),
        v4.new_markdown_cell("And never undone."),
        to_node(Cell("text", "As generated.", "q2-next")),
        v4.new_markdown_cell("A remark."),
    ]
    text = markdown(cells, tmp_path, generated=("own-why", "q2-next"))
    assert "Not written yet" not in text
    words = ("**Asked:** Why linear", "Because sums", "never undone", "As generated.", "A remark.")
    assert [text.index(each) for each in words] == sorted(text.index(each) for each in words)
    # The remark alone stands on its own.
    assert text.count("**Added by the author**") == 1
    assert "Added by the author: a cell after q2-next." in text


def test_code_below_a_prompt_is_its_answer_with_what_it_shows(tmp_path: Path) -> None:
    code = v4.new_code_cell("T @ T")
    code.outputs = [v4.new_output("stream", name="stdout", text="forty-nine\n")]
    cells = [
        to_node(Cell("prompt", "✎ Why linear in $T$?", "own-why")),
        code,
        v4.new_markdown_cell("Because sums are kept."),
    ]
    text = markdown(cells, tmp_path, generated=("own-why",))
    words = ("**Asked:** Why linear", "T @ T", "forty-nine", "Because sums")
    assert [text.index(each) for each in words] == sorted(text.index(each) for each in words)
    assert "Not written yet" not in text
    assert "Added by the author" not in text


def test_a_prompt_turned_into_code_is_printed_as_what_it_is(tmp_path: Path) -> None:
    prompt = to_node(Cell("prompt", "✎ Why?", "own-q1"))
    cell = v4.new_code_cell("print(7)", id=prompt.id, metadata=dict(prompt.metadata))
    cell.outputs = [v4.new_output("stream", name="stdout", text="seven\n")]
    text = markdown([cell], tmp_path, generated=("own-q1",))
    assert "**Changed by the author** (own-q1)" in text
    assert text.index("print(7)") < text.index("seven")


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP"])
def test_pictures_of_any_kind_that_the_authors_code_shows_are_printed(
    tmp_path: Path, kind: str
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, format=kind)
    content = base64.encodebytes(buffer.getvalue()).decode()
    cell = v4.new_code_cell("photo")
    data = {f"image/{kind.lower()}": content, "text/plain": "<a picture>"}
    cell.outputs = [v4.new_output("display_data", data)]
    text = markdown([cell], tmp_path)
    (name,) = re.findall(r"!\[\]\((own-\w+\.\w+)\)", text)
    assert (tmp_path / name).read_bytes() == buffer.getvalue()
    assert "a picture" not in text
    assert pdf.to_pdf(text, tmp_path, title="T", author=None).startswith(b"%PDF")


def test_a_formula_that_the_authors_code_shows_is_printed_as_one(tmp_path: Path) -> None:
    cell = v4.new_code_cell("latex")
    cell.outputs = [
        v4.new_output("execute_result", {"text/latex": latex, "text/plain": "x**2"})
        for latex in ("$\\displaystyle x^{2}$", "\\begin{align}a &= b\\end{align}")
    ]
    made = document.run_pandoc(markdown([cell], tmp_path), "html5", tmp_path, "--mathml")
    assert made.count("<math") == 2
    assert "x**2" not in made


def test_a_long_line_in_a_table_of_the_authors_does_not_set_its_columns(tmp_path: Path) -> None:
    table = f"| a | {'long ' * 30}|\n| - | - |\n| 1 | 2 |\n"
    made = document.run_pandoc(markdown([v4.new_markdown_cell(table)], tmp_path), "html5", tmp_path)
    assert "<th>a</th>" in made
    assert "<col" not in made


HEBREW, ARABIC = "התשובה היא $x$.", "مرحبا بالعالم."


@pytest.mark.parametrize(
    ("words", "is_right_to_left"),
    [
        (HEBREW, True),
        (f"$x_1$ {ARABIC}", True),
        (f"1. `x` {HEBREW}", True),
        (f"An answer with {HEBREW}", False),
        ("17", False),
    ],
)
def test_words_run_in_the_direction_of_their_first_letter(
    tmp_path: Path, words: str, is_right_to_left: bool
) -> None:
    prompt = to_node(Cell("prompt", "✎ Why?", "own-q1"))
    prompt.source = words
    text = markdown([prompt], tmp_path)
    page = document.run_pandoc(text, "html5", tmp_path)
    assert ('dir="rtl"' in page) == is_right_to_left
    # What was asked is in English.
    assert page.index("Asked") < page.index("dir=" if is_right_to_left else "</div>")
    assert ("#set text(dir: rtl)" in document.run_pandoc(text, "typst", tmp_path)) == (
        is_right_to_left
    )

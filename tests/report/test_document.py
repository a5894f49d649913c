"""From a notebook to pages: captions, figures, and the same bytes each time."""

import io
import re
from pathlib import Path

import pytest
from nbformat import NotebookNode, v4
from PIL import Image

from hwcli.output.plots import figure
from hwcli.report import display, document, html, pdf
from hwcli.report.cells import Cell
from hwcli.report.display import to_svg
from hwcli.report.merge import to_node

from .conftest import markdown

TABLE = "**A title**\n\n| name | n |\n| --- | ---: |\n| a<br>b | 17 |\n\nA note.\n"


def test_a_bold_title_above_a_table_becomes_its_caption() -> None:
    text = document.with_captions(f"Before.\n\n{TABLE}")
    assert "Table: A title\n\n| name | n |\n| :--- | ---: |" in text
    assert text.rstrip().endswith("A note.")
    assert document.with_captions("**No table.** Text.") == "**No table.** Text."


@pytest.mark.parametrize("is_own", [False, True])
def test_a_table_longer_than_a_page_may_break(tmp_path: Path, is_own: bool) -> None:
    def set_with(num_rows: int) -> str:
        table = "**T**\n\n| a |\n| ---: |\n" + "| 1 |\n" * num_rows
        cell = v4.new_markdown_cell(table) if is_own else to_node(Cell("text", table, "q1"))
        return document.run_pandoc(markdown([cell], tmp_path), "typst", tmp_path)

    assert "breakable: true" in set_with(31)
    assert "breakable" not in set_with(30)


def test_a_link_to_nothing_stops_no_pdf(tmp_path: Path) -> None:
    cell = v4.new_markdown_cell("See [Q3](#Question-3:-Vision-Transformers) and [this]().")
    text = markdown([cell], tmp_path)
    assert pdf.to_pdf(text, tmp_path, title="T", author=None).startswith(b"%PDF")


def test_what_cannot_be_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(pdf.UnprintableError, match=r"^hw2.pdf could not be made \(.*gone.png"):
        pdf.to_pdf("![](gone.png)", tmp_path, title="T", author=None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ünal, Ωmega, Жук, שלום, ℵ ª 𝔸", ""),
        ("王小明", "王 小 明"),
        ("नमस्ते", "न म स त"),
        ("ok 🙂", "🙂"),
    ],
)
def test_letters_without_a_font_of_typsts_own_are_told(text: str, found: str) -> None:
    assert pdf.foreign_letters(text) == found


def changed_answer() -> NotebookNode:
    cell = to_node(Cell("text", "# Question 3\n\nAll reach 92 %.", "q3-answer"))
    cell.source = cell.source.replace("92", "98")
    return cell


def test_what_the_author_changed_or_added_stands_in_a_box_and_in_the_appendix(
    tmp_path: Path,
) -> None:
    code = to_node(Cell("code", "print(7)", "q3-code"))
    code.source = "print(8)"
    code.outputs = [v4.new_output("stream", name="stdout", text="8\n")]
    cells = [
        to_node(Cell("text", "As generated.", "q1-answer")),
        changed_answer(),
        code,
        v4.new_markdown_cell("Mine."),
        v4.new_raw_cell("Raw."),
        to_node(Cell("prompt", "✎ Why?", "own-q3")),
    ]
    known = ("title", "q1-answer", "q3-answer", "q3-code", "own-q3")
    made = document.run_pandoc(markdown(cells, tmp_path, generated=known), "html", tmp_path)
    before, *boxes = made.split('<div class="own"')
    assert "As generated." in before
    holding = ("98 %", "print", "Mine.", "Raw.")
    labels = (
        *("Changed by the author</strong> (q3-answer)", "Changed by the author</strong> (q3-code)"),
        *("Added by the author</strong>",) * 2,
    )
    assert len(boxes) == 4
    for box, words, label in zip(boxes, holding, labels, strict=True):
        assert words in box
        assert label in box
    listed = " ".join(re.sub(r"<[^>]*>", " ", boxes[-1]).split())
    assert listed.endswith(
        "Cells that are not as generated. Changed by the author: q3-answer , q3-code . Added by "
        "the author: a cell after q3-code, a cell after q3-code. Deleted by the author: title ."
    )
    assert "not as generated" not in markdown(cells[:1], tmp_path, generated=("q1-answer",))


@pytest.mark.parametrize(
    "attack",
    [
        "::::::::",
        "```{=typst}\n]\n```",
        "</div></div>",
        "a </div> b",
        "---\ntitle: x\n---",
        "% x",
        "``````",
    ],
)
def test_nothing_that_the_author_writes_ends_its_box(tmp_path: Path, attack: str) -> None:
    asked = to_node(Cell("prompt", f"{attack}\n\nASKED", "own-q1"))
    answered = to_node(Cell("prompt", f"{attack}\n\nASKED", "own-q2"))
    answered.source = "Mine."
    cells = [
        v4.new_markdown_cell(f"{attack}\n\nSMUGGLED"),
        asked,
        answered,
        to_node(Cell("text", "As generated.", "q1-answer")),
    ]
    text = markdown(cells, tmp_path)
    page = document.run_pandoc(text, "html", tmp_path)
    boxes = page[page.index('<div class="own"') : page.index("As generated.")]
    assert "SMUGGLED" in boxes
    assert boxes.count("ASKED") == 2
    assert boxes.count("<div") == boxes.count("</div>") == 5
    pypdf = pytest.importorskip("pypdf")
    made = pdf.to_pdf(text, tmp_path, title="T", author=None)
    printed = pypdf.PdfReader(io.BytesIO(made)).pages[0].extract_text()
    assert "SMUGGLED" in printed
    assert "As generated." in printed


def test_a_changed_title_and_setup_are_printed(tmp_path: Path) -> None:
    for kind, id_ in (("text", "title"), ("code", "front-setup")):
        cell = to_node(Cell(kind, "as generated", id_))  # type: ignore[arg-type]
        assert "generated" not in markdown([cell], tmp_path)
        cell.source = "as I like it"
        text = markdown([cell], tmp_path)
        assert f"**Changed by the author** ({id_})" in text
        assert "as I like it" in text


def test_a_formula_that_cannot_be_read_is_named_with_its_cell(tmp_path: Path) -> None:
    prompt = to_node(Cell("prompt", "✎ Why?", "own-q2"))
    prompt.source += "\n\nSince $\\alfa = 1$ and $\\beta$.\n\n$$\\fraq{1}\n{2}$$"
    quoted = v4.new_markdown_cell("> $^$, $\\bta +\n> 1$")
    bare = v4.new_markdown_cell("$ \\gama $\n\n\\begin{align}\n\\delt\n\\end{align}")
    answer = to_node(Cell("text", "$x^2$", "q2-answer"))
    made = v4.new_notebook(cells=[answer, prompt, quoted, bare])
    text = document.to_markdown(made, tmp_path, tmp_path, print)
    wanted = [
        "own-q2: the formula \\alfa = 1 cannot be read",
        "own-q2: the formula \\fraq{1} {2} cannot be read",
        "a cell after own-q2: the formula ^ cannot be read",
        "hw2.ipynb: the formula \\bta + 1 cannot be read",
        "a cell after own-q2: the formula \\gama cannot be read",
        "a cell after own-q2: the formula \\begin{align} \\delt \\end{align} cannot be read",
    ]
    for target in ("typst", "html"):
        document.run_pandoc(text, target, tmp_path, *["--mathml"] * (target == "html"))
        assert document.unreadable_formulas(made, tmp_path) == wanted
    pypdf = pytest.importorskip("pypdf")
    printed = pypdf.PdfReader(io.BytesIO(pdf.to_pdf(text, tmp_path, title="T", author=None)))
    assert "\\alfa = 1" in printed.pages[0].extract_text()


@pytest.mark.parametrize("answer", ["First words of mine.\n\nMore.", "![](wide.png)"])
def test_a_question_never_stands_without_its_answers_first_lines(
    tmp_path: Path, answer: str
) -> None:
    pypdf = pytest.importorskip("pypdf")
    (tmp_path / "beside").mkdir()
    Image.new("RGB", (300, 60)).save(tmp_path / "beside/wide.png")
    prompt = to_node(Cell("prompt", "✎ Why is it so?", "own-q1"))
    prompt.source = answer
    seen = set()
    for above in range(31, 45):
        lines = "\n\n".join(f"Paragraph {k}." for k in range(above))
        text = markdown([to_node(Cell("text", lines, "q1-answer")), prompt], tmp_path)
        made = pdf.to_pdf(text, tmp_path, title="T", author=None)
        for number, page in enumerate(pypdf.PdfReader(io.BytesIO(made)).pages):
            if "Asked:" in page.extract_text():
                assert "First words" in page.extract_text() or len(page.images), above
                seen.add(number)
    assert seen == {0, 1}


def test_lists_and_tex_of_an_answer_are_kept(tmp_path: Path) -> None:
    made = document.run_pandoc("First:\n- one\n- two\n\n\\fraq{1}{2} here", "html", tmp_path)
    assert made.count("<li>") == 2
    assert "fraq" in made


def test_print_leaves_out_generated_code_that_only_shows_something(tmp_path: Path) -> None:
    sources = {
        "shown": "from hwcli.report import vision\n\nsweep = read_run(RUNS / 'a')\nshow(f(sweep))",
        "computed": "x = 2 + 2\nshow(x)",
        "printed": "print(17)",
    }
    cells = [to_node(Cell("code", source, name)) for name, source in sources.items()]
    text = markdown(cells, tmp_path)
    assert "read_run" not in text
    assert sources["computed"] in text
    assert sources["printed"] in text
    # What the author changed or added is printed, whatever it does.
    changed = to_node(Cell("code", sources["shown"], "shown"))
    changed.source += "  # mine"
    added = v4.new_code_cell("show(mine)")
    text = markdown([changed, added], tmp_path)
    assert "# mine" in text
    assert "show(mine)" in text
    broken = to_node(Cell("code", "show(1)", "shown"))
    broken.source = "show(1"
    assert "show(1" in markdown([broken], tmp_path)


def test_source_is_shown_a_block_for_each_function_under_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(display, "_publish", shown.append)
    display.show_source(display.to_svg, Cell)
    (output,) = shown
    blocks = output["text/markdown"].split("\n\n```py\n")
    assert [block.removeprefix("```py\n").splitlines()[0] for block in blocks] == [
        "# hwcli/report/display.py",
        "# hwcli/report/cells.py",
    ]
    assert "class Cell:" in blocks[1]


@pytest.mark.parametrize("num_lines", [12, 36])
def test_a_block_of_code_that_fits_is_not_broken_over_pages(tmp_path: Path, num_lines: int) -> None:
    pypdf = pytest.importorskip("pypdf")
    code = "\n".join(f"line_{k} = {k}" for k in range(num_lines))
    for above in (20, 28, 36):
        lines = "\n\n".join(f"Paragraph {k}." for k in range(above))
        made = pdf.to_pdf(f"{lines}\n\n```python\n{code}\n```\n", tmp_path, title="T", author=None)
        pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(made)).pages]
        holding = [k for k, page in enumerate(pages) if "line_" in page]
        assert len(holding) == 1, above


def test_the_table_that_is_asked_for_is_larger_in_print(tmp_path: Path) -> None:
    cell = to_node(Cell("code", "", "q3-accuracies"))
    cell.outputs = [
        v4.new_output("display_data", {"text/markdown": TABLE}, metadata={display.ANSWER: True}),
        v4.new_output("display_data", {"text/markdown": TABLE}),
    ]
    text = markdown([cell], tmp_path)
    pypdf = pytest.importorskip("pypdf")
    made = pdf.to_pdf(text, tmp_path, title="T", author=None)
    sizes: list[float] = []

    def see(text: str, _: object, matrix: list[float], font: object, size: float) -> None:
        if "17" in text:
            sizes.append(round(abs(size * matrix[0]), 1))

    pypdf.PdfReader(io.BytesIO(made)).pages[0].extract_text(visitor_text=see)
    assert sizes == [document.ANSWER_SIZE_PT, 8.8]


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
    return document.to_markdown(notebook, tmp_path, tmp_path, print)


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

"""A run folder may be somebody else's: it is read and shown, and nothing in it is executed."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat import v4

from hwcli.report import document, html, notebook, pdf, recurrences
from hwcli.report.cells import Cell
from hwcli.report.merge import to_node
from hwcli.report.runs import find_runs

from .conftest import COMMITTED, link_committed

CELL = "\n%% code evil\nraise SystemExit\n%% text evil-too\nend"


def texts_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Give the place of each text in nested lists and mappings: what holds it, and its key."""
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if isinstance(inner, str):
                yield value, key
            yield from texts_in(inner)


def put_into_every_text(root: Path, name: str, added: str) -> int:
    """Add something to each text of a run that leaves it a run to show; return their number."""
    number = 0
    for path in (root / name / "summary.json", root / name / "env.json"):
        stored = json.loads(path.read_text())
        for holder, key in texts_in(stored):
            before = holder[key]
            holder[key] += added
            path.write_text(json.dumps(stored))
            is_shown = notebook.used_runs(find_runs(root)) != []
            number += is_shown
            holder[key] = holder[key] if is_shown else before
        path.write_text(json.dumps(stored))
    return number


def cells_of(root: Path) -> list[Cell]:
    return notebook.all_cells(find_runs(root), {"runs": ".."}, notebook.Author())


@pytest.mark.parametrize(
    ("name", "num_texts"),
    [
        ("rnn-trace/alternating-sum", 40),
        ("attention-bench/default", 10),
        ("vit-sweep/quick", 10),
        ("sentiment-train/homework", 30),
    ],
)
def test_no_text_of_a_run_becomes_a_cell(tmp_path: Path, name: str, num_texts: int) -> None:
    link_committed(tmp_path, name)
    before = cells_of(tmp_path)
    assert put_into_every_text(tmp_path, name, CELL) > num_texts
    after = cells_of(tmp_path)
    assert [(cell.kind, cell.id) for cell in after] == [(cell.kind, cell.id) for cell in before]
    assert "\n\\%% code evil\nraise SystemExit" in "\n".join(cell.source for cell in after)


def test_a_number_that_is_code_is_not_executed() -> None:
    spelled = recurrences._in_python([("1/3",), ('1") or exit("',)])
    assert spelled["letters"] == """[(Fraction('1/3'),), (Fraction('1") or exit("'),)]"""
    with pytest.raises(ValueError, match="Invalid literal for Fraction"):
        exec(f"{spelled['imports']}\n{spelled['letters']}", {})


ATTACKS = (
    "```{=html5}\n<b>SMUGGLED</b>\n```",
    "`<b>SMUGGLED</b>`{=html4}",
    "<b onclick='x()'>SMUGGLED</b>",
    "[SMUGGLED](javascript:x())",
    "[SMUGGLED]( JavaScript:x())",
    "<javascript:SMUGGLED>",
    "![SMUGGLED](/etc/hostname)",
    "```{=typst}\n#SMUGGLED()\n```",
    "::: {typst:text:size='#SMUGGLED()'}\nSMUGGLED\n:::",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_a_run_runs_or_reads_anything_where_it_is_printed(
    tmp_path: Path, attack: str
) -> None:
    shown = to_node(Cell("code", "show(table)", "q1-table"))
    shown.outputs = [v4.new_output("display_data", {"text/markdown": attack})]
    made = v4.new_notebook(cells=[to_node(Cell("text", attack, "q1-answer")), shown])
    text = document.to_markdown(made, tmp_path, tmp_path, print)
    page = html.to_html(text, tmp_path, title="T", author=None)
    body = page[page.index("<body>") :]
    assert body.count("SMUGGLED") >= 2
    assert not re.search("<b[ >]|<img|<a |href=|src=|data:", body)
    pypdf = pytest.importorskip("pypdf")
    pdf_file = io.BytesIO(pdf.to_pdf(text, tmp_path, title="T", author=None))
    assert "/Annots" not in pypdf.PdfReader(pdf_file).pages[0]


WITH_ATTRIBUTES = (
    """`SMUGGLED`{autofocus="" tabindex="0" onfocus="x()"}""",
    """[SMUGGLED](https://example.org){onclick="x()"}""",
    """<https://example.org/SMUGGLED>{style="x"}""",
    """[SMUGGLED]\n\n[SMUGGLED]: https://example.org {onclick="x()"}""",
    """```{.py onclick="x()" style="x"}\nSMUGGLED\n```""",
    """| SMUGGLED |\n|---|\n| 1 |\n\n: c {typst:stroke="panic()" onclick="x()"}""",
    """~~~ {class="py```#panic()"}\n#panic("SMUGGLED")\n~~~""",
    """~~~\n```\n#panic("SMUGGLED")\n~~~""",
)


@pytest.mark.parametrize("attack", WITH_ATTRIBUTES)
def test_no_attribute_runs_anything_in_a_text_or_where_the_author_quotes_it(
    tmp_path: Path, attack: str
) -> None:
    quoted = to_node(Cell("text", "As generated.", "q2-answer"))
    quoted.source = attack
    made = v4.new_notebook(cells=[to_node(Cell("text", attack, "q1-answer")), quoted])
    text = document.to_markdown(made, tmp_path, tmp_path, print)
    page = html.to_html(text, tmp_path, title="T", author=None)
    body = page[page.index("<body>") :]
    assert body.count("SMUGGLED") >= 2
    assert re.findall(r"<[^>]*\s(?:on\w+|style|autofocus)=[^>]*>", body) == []
    assert pdf.to_pdf(text, tmp_path, title="T", author=None).startswith(b"%PDF")


def test_what_runs_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(
        (COMMITTED / "rnn-trace/alternating-sum/trace.png").read_bytes()
    )
    text = "# A heading\n\n```c++\n1\n```\n\n![](a.png){width=30% onclick=x .inline-svg}"
    cell = v4.new_markdown_cell(text)
    made = document.to_markdown(v4.new_notebook(cells=[cell]), tmp_path, tmp_path, print)
    page = document.run_pandoc(made, "html", tmp_path)
    assert '<h1 id="a-heading">' in page
    assert '<pre class="c++">' in page or 'class="sourceCode cpp"' in page
    assert re.search(r'<img src="own-\w+\.png" style="width:30\.0%" />', page)

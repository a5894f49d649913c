"""From the executed notebook to one Markdown text and its figures, which pandoc sets."""

import ast
import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from nbformat import NotebookNode

from hwcli.report.display import ANSWER, TEXT_WIDTH_IN, png_width_in
from hwcli.report.merge import answer, id_of, is_open, is_prompt, is_untouched, question
from hwcli.report.own_pictures import with_pictures

# Of pandoc's Markdown, what a measured text could trip over is left out.
FORMAT = (
    "markdown-smart-citations-subscript-superscript-example_lists-fancy_lists-definition_lists"
    # As a notebook shows it: a list needs no empty line before it, TeX outside of $ is text.
    "-raw_tex+lists_without_preceding_blankline"
)

# A line break within a table's cell has no other spelling in Markdown.
LINE_BREAKS = """
function RawInline(inline)
  if inline.format == "html" and inline.text:match("^<br") then return pandoc.LineBreak() end
end
"""

# A table of details has 8.8 pt.
ANSWER_SIZE_PT = 11.5

# A longer table may not fit on one page.
MAX_UNBROKEN_ROWS = 30

_TABLE = re.compile(
    r"^\*\*(?P<title>[^\n]+?)\*\*\n\n(?P<body>(?:\|[^\n]*(?:\n|\Z))+)", re.MULTILINE
)
_RULES = re.compile(r"(?<=\| )---(?= \|)")


def to_markdown(
    notebook: NotebookNode, folder: Path, beside: Path, say: Callable[[str], None]
) -> str:
    """Return the notebook as pandoc's Markdown, and write its figures into a folder.

    The title is left to the page's own heading, and the generated code that only shows something
    to the notebook. The author's words stand in boxes; a prompt that is still open says so in its
    box.

    Args:
        notebook: an executed one.
        folder: for the figures.
        beside: the notebook's own folder, where the author's pictures are looked for.
        say: prints a line of progress.
    """
    parts: list[str] = []
    num_figures = 0
    for cell in notebook.cells:
        if id_of(cell) == "title":
            continue
        if is_prompt(cell):
            parts.append(with_pictures(_box(cell), cell, beside, folder, say))
            continue
        if cell.cell_type == "raw":
            parts.append(_fenced(cell.source, "output"))
            continue
        if cell.cell_type == "markdown":
            shown = with_pictures(cell.source, cell, beside, folder, say)
            parts.append(with_captions(shown))
            continue
        if not _only_shows(cell):
            parts.append(_fenced(cell.source, "python"))
        for output in cell.outputs:
            if output.output_type == "stream":
                parts.append(_fenced(output.text.rstrip(), "output"))
            elif output.output_type == "error":
                parts.append(_fenced(f"{output.ename}: {output.evalue}", "output"))
            elif "text/markdown" in output.data:
                shown = with_captions(output.data["text/markdown"])
                parts.append(_answer(shown) if output.metadata.get(ANSWER) else shown)
            elif "image/svg+xml" in output.data or "image/png" in output.data:
                num_figures += 1
                parts.append(_figure(output.data, folder, num_figures))
            elif "text/plain" in output.data:
                parts.append(_fenced(output.data["text/plain"], "output"))
    return "\n\n".join(parts) + "\n"


SHOWING = ("show", "show_source", "read_run")


def _only_shows(cell: NotebookNode) -> bool:
    """Tell whether a cell is as generated, and only imports, reads runs and shows them.

    Its caption or the source that it shows would be printed twice.
    """
    if id_of(cell) == "front-setup":
        return True
    if id_of(cell) is None or not is_untouched(cell):
        return False
    return all(map(_is_showing, ast.parse(cell.source).body))


def _is_showing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.Assign):
        called = {n.func.id for n in ast.walk(statement) if _is_plain_call(n)}
        return isinstance(statement.value, ast.Subscript) or "read_run" in called
    if not (isinstance(statement, ast.Expr) and _is_plain_call(statement.value)):
        return False
    return statement.value.func.id in SHOWING


def _is_plain_call(node: ast.AST) -> TypeGuard[Any]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def _box(cell: NotebookNode) -> str:
    """Return a place for the author's words as a box: what was written, or what is asked for."""
    if is_open(cell):
        return _div("open", f"**Not written yet.** {question(cell)}")
    asked = f'[**Asked:** {question(cell)}]{{typst:text:size="8.5pt"}}'
    return _div("own", f"{asked}\n\n{answer(cell)}")


def _div(kind: str, content: str) -> str:
    stroke = "0.6pt + luma(120)" if kind == "own" else '(dash: "dashed", thickness: 0.6pt)'
    style = {"inset": "7pt", "radius": "3pt", "width": "100%", "stroke": stroke}
    attributes = " ".join(
        f"typst:{key}='{value}'" if '"' in value else f'typst:{key}="{value}"'
        for key, value in style.items()
    )
    return f"::::: {{.{kind} {attributes}}}\n{content}\n:::::"


def _fenced(source: str, kind: str) -> str:
    fence = "`" * (1 + max([2, *(len(run) for run in re.findall(r"`+", source))]))
    return f"{fence}{{.{kind}}}\n{source}\n{fence}"


def with_captions(markdown: str) -> str:
    """Make the bold title above each table its caption, and align texts left."""
    return _TABLE.sub(_with_caption, markdown)


def _with_caption(match: re.Match[str]) -> str:
    body = _RULES.sub(":---", match["body"].rstrip())
    table = f"Table: {match['title']}\n\n{body}\n"
    if body.count("\n") > MAX_UNBROKEN_ROWS:
        table = (
            "```{=typst}\n#[#show figure: set block(breakable: true)\n```\n\n"
            f"{table}\n```{{=typst}}\n]\n```\n"
        )
    return table


def _answer(table: str) -> str:
    """Set a table larger than the others: it is what the question asks for."""
    larger = f"#[#show table: set text(size: {ANSWER_SIZE_PT}pt)"
    return (
        f"```{{=typst}}\n{larger}\n```\n\n::::: {{.answer}}\n{table}\n:::::\n\n"
        "```{=typst}\n]\n```"
    )


def _figure(data: NotebookNode, folder: Path, number: int) -> str:
    if "image/svg+xml" in data:
        svg = data["image/svg+xml"]
        points = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', svg)
        width = float(points[1]) / 72 if points else TEXT_WIDTH_IN
        path = folder / f"figure-{number}.svg"
        path.write_text(svg, encoding="utf-8")
    else:
        png = base64.b64decode(data["image/png"])
        width = png_width_in(png)
        path = folder / f"figure-{number}.png"
        path.write_bytes(png)
    caption = data.get("text/plain", "").strip()
    return f"![{caption}]({path.name}){{width={min(width, TEXT_WIDTH_IN):.2f}in}}"


def run_pandoc(markdown: str, target: str, folder: Path, *arguments: str) -> str:
    """Convert Markdown by pandoc, in a folder that holds the figures."""
    import pypandoc

    rules = folder / "line_breaks.lua"
    rules.write_text(LINE_BREAKS, encoding="utf-8")
    converted: str = pypandoc.convert_text(
        markdown,
        target,
        format=FORMAT,
        # Columns by their content: a long line in the source says nothing about them.
        extra_args=["--columns=10000", "--wrap=none", f"--lua-filter={rules}", *arguments],
        cworkdir=str(folder),
    )
    return converted

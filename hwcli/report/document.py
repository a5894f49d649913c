"""From the executed notebook to one Markdown text and its figures, which pandoc sets."""

import ast
import base64
import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from nbformat import NotebookNode

from hwcli.report.display import ANSWER, TEXT_WIDTH_IN, png_width_in
from hwcli.report.merge import (
    answer,
    answers_below,
    deleted_ids,
    hand_on,
    id_of,
    is_open,
    is_prompt,
    is_untouched,
    names_of,
    question,
)
from hwcli.report.own_pictures import with_pictures

# Of pandoc's Markdown, what a measured text could trip over is left out.
FORMAT = (
    "markdown-smart-citations-subscript-superscript-example_lists-fancy_lists-definition_lists"
    # As a notebook shows it: a list needs no empty line before it, TeX outside of $ is text.
    "-raw_tex+lists_without_preceding_blankline"
)

# What is in the author's hands is read on its own: nothing in it ends the box that it stands in.
AUTHORS_FORMAT = (
    f"{FORMAT}-fenced_divs-native_divs-bracketed_spans-native_spans-raw_attribute-header_attributes"
    "-yaml_metadata_block-pandoc_title_block"
)

# A longer table may not fit on one page.
MAX_UNBROKEN_ROWS = 30

# Of HTML, the line break is kept: within a table's cell it has no other spelling in Markdown.
FILTER = f"""
local function read_author(block)
  if block.classes[1] == "author" then
    return pandoc.read(block.text, "{AUTHORS_FORMAT}").blocks
  end
end

local function without_tag(raw)
  if raw.format ~= "html" then return nil end
  return raw.text:match("^<br") and raw.tag == "RawInline" and pandoc.LineBreak() or {{}}
end

-- A notebook's anchors are not those of a document, and Typst stops at a link to nothing.
local function unlink(link)
  if link.target == "" or link.target:sub(1, 1) == "#" then return link.content end
end

local function let_break(long)
  if #long.bodies > 0 and #long.bodies[1].body > {MAX_UNBROKEN_ROWS} then
    return {{
      pandoc.RawBlock("typst", "#[#show figure: set block(breakable: true)"), long,
      pandoc.RawBlock("typst", "]"),
    }}
  end
end

return {{
  {{ CodeBlock = read_author }},
  {{ RawInline = without_tag, RawBlock = without_tag, Table = let_break, Link = unlink }},
}}
"""

# What pandoc could not do, as it wrote it down.
LOG = "pandoc.json"

# A table of details has 8.8 pt.
ANSWER_SIZE_PT = 11.5

# Each begins a page. A box cannot: the break stands before the cell.
_PARTS = re.compile(r"# (Question [2-4]|Appendix)")
_NEW_PAGE = "```{=typst}\n#pagebreak(weak: true)\n```"

_TABLE = re.compile(
    r"^\*\*(?P<title>[^\n]+?)\*\*\n\n(?P<body>(?:\|[^\n]*(?:\n|\Z))+)", re.MULTILINE
)
_RULES = re.compile(r"(?<=\| )---(?= \|)")


def to_markdown(
    notebook: NotebookNode, folder: Path, beside: Path, say: Callable[[str], None]
) -> str:
    """Return the notebook as pandoc's Markdown, and write its figures into a folder.

    The title is left to the page's own heading, and the generated code that only shows something
    to the notebook. The author's words stand in boxes, and so do the cells that the author changed
    or added; a prompt that is still open says so in its box. Texts that the author added right
    below an open prompt are its answer.

    Args:
        notebook: an executed one.
        folder: for the figures.
        beside: the notebook's own folder, where the author's pictures are looked for.
        say: prints a line of progress.
    """
    parts: list[str] = []
    below = answers_below(notebook.cells)
    answers = {id(answer) for texts in below.values() for answer in texts}
    for number, (cell, name) in enumerate(zip(notebook.cells, names_of(notebook), strict=True)):
        hand = hand_on(cell)
        if id(cell) in answers or (id_of(cell) == "title" and hand is None):
            continue
        if cell.cell_type == "markdown" and _PARTS.match(cell.source):
            parts.append(_NEW_PAGE)
        copied = functools.partial(
            with_pictures, cell_name=name, beside=beside, folder=folder, say=say
        )
        with_own_pictures = functools.partial(copied, cell=cell)
        if number in below:
            texts = [copied(text.source, cell=text) for text in below[number]]
            parts.append(_own(f"**Asked:** {question(cell)}", "\n\n".join(texts)))
        elif is_prompt(cell):
            parts.append(_box(cell, with_own_pictures))
        elif hand is None:
            parts += _shown(cell, folder, number)
        else:
            shown = _shown(cell, folder, number, with_own_pictures)
            label = f"**{hand.capitalize()} by the author**" + (
                f" ({name})" if hand == "changed" else ""
            )
            parts.append(_own(label, "\n\n".join(shown)))
    return "\n\n".join([*parts, *_what_is_not_as_generated(notebook)]) + "\n"


def _shown(
    cell: NotebookNode,
    folder: Path,
    number: int,
    with_own_pictures: Callable[[str], str] = lambda text: text,
) -> list[str]:
    """Return what a cell shows, its figures in a folder; the cell's number tells them apart."""
    if cell.cell_type == "raw":
        return [_fenced(cell.source, "output")]
    if cell.cell_type == "markdown":
        return [with_own_pictures(with_captions(cell.source))]
    parts = [] if _only_shows(cell) else [_fenced(cell.source, "python")]
    for k, output in enumerate(cell.outputs):
        if output.output_type == "stream":
            parts.append(_fenced(output.text.rstrip(), "output"))
        elif output.output_type == "error":
            parts.append(_fenced(f"{output.ename}: {output.evalue}", "output"))
        elif "text/markdown" in output.data:
            shown = with_own_pictures(with_captions(output.data["text/markdown"]))
            is_answer = output.metadata.get(ANSWER) and hand_on(cell) is None
            parts.append(_answer(shown) if is_answer else shown)
        elif "image/svg+xml" in output.data or "image/png" in output.data:
            parts.append(_figure(output.data, folder, f"figure-{number}-{k}"))
        elif "text/plain" in output.data:
            parts.append(_fenced(output.data["text/plain"], "output"))
    return parts


def _what_is_not_as_generated(notebook: NotebookNode) -> list[str]:
    """List the cells that the author changed, added and deleted: after all cells, none ends it."""
    answers = {id(text) for texts in answers_below(notebook.cells).values() for text in texts}
    named = [
        (cell, name)
        for cell, name in zip(notebook.cells, names_of(notebook), strict=True)
        if id(cell) not in answers
    ]
    of = {hand: [n for cell, n in named if hand_on(cell) == hand] for hand in ("changed", "added")}
    found = {
        "Changed": ", ".join(f"`{name}`" for name in of["changed"]),
        "Added": ", ".join(of["added"]),
        "Deleted": ", ".join(f"`{name}`" for name in deleted_ids(notebook)),
    }
    lines = [f"- {what} by the author: {names}." for what, names in found.items() if names]
    heading = "**Cells that are not as generated.**\n\n"
    return [_fenced(heading + "\n".join(lines), "author")] if lines else []


SHOWING = ("show", "show_source", "read_run")


def _only_shows(cell: NotebookNode) -> bool:
    """Tell whether a cell is as generated, and only imports, reads runs and shows them.

    Its caption or the source that it shows would be printed twice.
    """
    if id_of(cell) is None or not is_untouched(cell):
        return False
    if id_of(cell) == "front-setup":  # not all of it is Python
        return True
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


def _box(cell: NotebookNode, with_own_pictures: Callable[[str], str]) -> str:
    """Return a place for the author's words as a box: what was written, or what is asked for."""
    if is_open(cell):
        return _div("open", _fenced(f"**Not written yet.** {question(cell)}", "author"), OPEN)
    return _own(f"**Asked:** {question(cell)}", with_own_pictures(answer(cell)))


def _own(label: str, content: str) -> str:
    """Return a box with something of the author's; its label stays with the first lines."""
    small = _div("label", _fenced(label, "author"), LABEL)
    return _div("own", f"{small}\n\n{_fenced(content, 'author')}", OWN)


BOX = {"inset": "7pt", "radius": "3pt", "width": "100%"}
OWN = {**BOX, "stroke": "0.6pt + luma(120)"}
LABEL = {"sticky": "true", "text:size": "8.5pt"}
OPEN = {**BOX, "stroke": '(dash: "dashed", thickness: 0.6pt)'}


def _div(kind: str, content: str, style: Mapping[str, str]) -> str:
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
    return f"Table: {match['title']}\n\n{body}\n"


def _answer(table: str) -> str:
    """Set a table larger than the others: it is what the question asks for."""
    larger = f"#[#show table: set text(size: {ANSWER_SIZE_PT}pt)"
    return (
        f"```{{=typst}}\n{larger}\n```\n\n::::: {{.answer}}\n{table}\n:::::\n\n"
        "```{=typst}\n]\n```"
    )


def _figure(data: NotebookNode, folder: Path, name: str) -> str:
    if "image/svg+xml" in data:
        svg = data["image/svg+xml"]
        points = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', svg)
        width = float(points[1]) / 72 if points else TEXT_WIDTH_IN
        path = folder / f"{name}.svg"
        path.write_text(svg, encoding="utf-8")
    else:
        png = base64.b64decode(data["image/png"])
        width = png_width_in(png)
        path = folder / f"{name}.png"
        path.write_bytes(png)
    caption = data.get("text/plain", "").strip()
    return f"![{caption}]({path.name}){{width={min(width, TEXT_WIDTH_IN):.2f}in}}"


def run_pandoc(markdown: str, target: str, folder: Path, *arguments: str) -> str:
    """Convert Markdown by pandoc, in a folder that holds the figures."""
    import pypandoc

    rules = folder / "filter.lua"
    rules.write_text(FILTER, encoding="utf-8")
    converted: str = pypandoc.convert_text(
        markdown,
        target,
        format=FORMAT,
        extra_args=[
            # Columns by their content: a long line in the source says nothing about them.
            *("--columns=10000", "--wrap=none"),
            f"--lua-filter={rules}",
            *("--quiet", f"--log={folder / LOG}"),
            *arguments,
        ],
        cworkdir=str(folder),
    )
    return converted


def unreadable_formulas(notebook: NotebookNode, folder: Path) -> list[str]:
    """Name the formulas that pandoc could not read, and their cells: a line for each.

    Args:
        notebook: that was set.
        folder: that it was set in.
    """
    found = json.loads((folder / LOG).read_text(encoding="utf-8"))
    formulas = [each["contents"] for each in found if each["type"] == "CouldNotConvertTeXMath"]
    return [
        f"{name}: the formula {' '.join(formula.split())} cannot be read"
        for formula in dict.fromkeys(formulas)
        for name in _cells_with(formula, notebook) or ["hw2.ipynb"]
    ]


def _cells_with(formula: str, notebook: NotebookNode) -> list[str]:
    spelled = f"${''.join(formula.split())}$"
    named = zip(notebook.cells, names_of(notebook), strict=True)
    return [name for cell, name in named if spelled in "".join(_text_of(cell).split())]


def _text_of(cell: NotebookNode) -> str:
    shown = [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", ())]
    return "\n".join([cell.source, *shown])

"""From the executed notebook to one Markdown text and its figures, which pandoc sets."""

import ast
import base64
import functools
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
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
from hwcli.report.own_formulas import with_formulas_of_a_notebook
from hwcli.report.own_pictures import DATA, with_pictures

# Of pandoc's Markdown, what a measured text could trip over is left out.
FORMAT = (
    "markdown-smart-citations-subscript-superscript-example_lists-fancy_lists-definition_lists"
    # As a notebook shows it: a list needs no empty line before it, TeX outside of $ is text.
    "-raw_tex+lists_without_preceding_blankline"
)

# Each text of a notebook is read on its own. Nothing in it ends the box that it stands in, and
# nothing in it is code of HTML or Typst: a generated one may quote somebody else's run, and so may
# the author's.
TEXT_FORMAT = (
    f"{FORMAT}-fenced_divs-native_divs-bracketed_spans-native_spans-raw_attribute-header_attributes"
    "-inline_code_attributes-table_attributes"
    "-yaml_metadata_block-pandoc_title_block+tex_math_double_backslash"
)

# The class of a text: one of the author's, whose pictures were copied, or a generated one.
AUTHORS, GENERATED = "author", "generated"

# Where a link may lead: other schemes, such as javascript, run something.
SCHEMES = ("http", "https", "mailto")

# A notebook's columns are as wide as their content: a long line in the source says nothing.
COLUMNS = 10_000

# A longer table may not fit on one page.
MAX_UNBROKEN_ROWS = 30

# Of HTML, the line break is kept: within a table's cell it has no other spelling in Markdown.
FILTER = f"""
-- An attribute may be a script (onclick) in HTML, and code in Typst. A heading keeps the name that
-- pandoc made, a picture its size, and code its language: one with ` would end the block in Typst.
local function without_attributes(element)
  if not element.attr then return nil end
  local classes, kept = {{}}, {{}}
  if element.tag == "CodeBlock" and (element.classes[1] or ""):match("^[%w_.+#-]+$") then
    classes = {{ element.classes[1] }}
  elseif element.tag == "Image" then
    kept = {{ width = element.attributes.width, height = element.attributes.height }}
  end
  element.attr = pandoc.Attr(element.tag == "Header" and element.identifier or "", classes, kept)
  return element
end

local function read_text(block)
  local kind = block.classes[1]
  if kind ~= "{AUTHORS}" and kind ~= "{GENERATED}" then return nil end
  local read = pandoc.read(block.text, "{TEXT_FORMAT}", {{ columns = {COLUMNS} }})
  read = read:walk({{ Inline = without_attributes, Block = without_attributes }})
  if kind == "{GENERATED}" then
    read = read:walk({{ Image = function(image) return image.caption end }})
  end
  return read.blocks
end

local function without_tag(raw)
  if raw.format ~= "html" then return nil end
  return raw.text:match("^<br") and raw.tag == "RawInline" and pandoc.LineBreak() or {{}}
end

local schemes = {{ {", ".join(f"{scheme} = true" for scheme in SCHEMES)} }}

-- A notebook's anchors are not those of a document, and Typst stops at a link to nothing.
local function unlink(link)
  local scheme = link.target:match("^%s*([%a][%w+.-]*):")
  local is_odd = scheme and not schemes[scheme:lower()]
  if is_odd or link.target == "" or link.target:sub(1, 1) == "#" then return link.content end
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
  {{ CodeBlock = read_text }},
  {{ RawInline = without_tag, RawBlock = without_tag, Table = let_break, Link = unlink }},
}}
"""

# What pandoc could not do, as it wrote it down.
LOG = "pandoc.json"

# Pictures that are no drawings of ours; PDF and page hold them as they are.
PHOTOS = ("image/jpeg", "image/gif", "image/webp")

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
    or added; a prompt that is still open says so in its box. Cells that the author added right
    below an open prompt are its answer.

    Args:
        notebook: an executed one.
        folder: for the figures.
        beside: the notebook's own folder, where the author's pictures are looked for.
        say: prints a line of progress.
    """
    cells, names = notebook.cells, names_of(notebook)
    below = answers_below(cells)
    answering = {position for positions in below.values() for position in positions}

    def spelled(k: int, text: str) -> str:
        """Spell a text of the k-th cell, which is in the author's hands, as pandoc reads it."""
        text = with_formulas_of_a_notebook(text)
        return with_pictures(text, cells[k], names[k], beside, folder, say)

    def shown(k: int) -> str:
        return "\n\n".join(_shown(cells[k], folder, k, functools.partial(spelled, k)))

    parts: list[str] = []
    for k, (cell, name) in enumerate(zip(cells, names, strict=True)):
        hand = hand_on(cell)
        if k in answering or (id_of(cell) == "title" and hand is None):
            continue
        if cell.cell_type == "markdown" and _PARTS.match(cell.source):
            parts.append(_NEW_PAGE)
        if is_prompt(cell):
            below_it = "\n\n".join(map(shown, below.get(k, ())))
            written = below_it if is_open(cell) else spelled(k, answer(cell))
            parts.append(_prompt(question(cell), written))
        elif hand is None:
            parts += _shown(cell, folder, k, lambda text: _fenced(text, GENERATED))
        else:
            label = f"**{hand.capitalize()} by the author**" + (
                f" ({name})" if hand == "changed" else ""
            )
            parts.append(_own(label, shown(k)))
    alone = [(cell, names[k]) for k, cell in enumerate(cells) if k not in answering]
    parts += _what_is_not_as_generated(alone, deleted_ids(notebook))
    return "\n\n".join(parts) + "\n"


def _shown(
    cell: NotebookNode, folder: Path, number: int, spelled: Callable[[str], str]
) -> list[str]:
    """Return what a cell shows, a part each, its figures in a folder.

    Args:
        cell: an executed one.
        folder: for the figures.
        number: of the cell, which tells its figures from those of others.
        spelled: returns a text of the cell as the document has it.
    """
    if cell.cell_type == "raw":
        return [_fenced(cell.source, "output")]
    if cell.cell_type == "markdown":
        return [spelled(with_captions(cell.source))]
    parts = [] if _only_shows(cell) else [_fenced(cell.source, "python")]
    for k, output in enumerate(cell.outputs):
        if output.output_type == "stream":
            parts.append(_fenced(output.text.rstrip(), "output"))
        elif output.output_type == "error":
            parts.append(_fenced(f"{output.ename}: {output.evalue}", "output"))
        elif "text/markdown" in output.data:
            shown = spelled(with_captions(output.data["text/markdown"]))
            is_answer = output.metadata.get(ANSWER) and hand_on(cell) is None
            parts.append(_answer(shown) if is_answer else shown)
        elif "text/latex" in output.data:
            parts.append(spelled(output.data["text/latex"]))
        elif "image/svg+xml" in output.data or "image/png" in output.data:
            parts.append(_figure(output.data, folder, f"figure-{number}-{k}"))
        elif photo := next((kind for kind in PHOTOS if kind in output.data), None):
            content = "".join(output.data[photo].split())
            parts.append(spelled(f"![]({DATA}{photo};base64,{content})"))
        elif "text/plain" in output.data:
            parts.append(_fenced(output.data["text/plain"], "output"))
    return parts


def _what_is_not_as_generated(
    cells: Sequence[tuple[NotebookNode, str]], deleted: Sequence[str]
) -> list[str]:
    """List what the author changed, added and deleted: it stands after all cells, none ends it.

    Args:
        cells: those that answer no prompt, with their names.
        deleted: ids of generated cells.
    """
    of = {hand: [n for cell, n in cells if hand_on(cell) == hand] for hand in ("changed", "added")}
    found = {
        "Changed": ", ".join(f"`{name}`" for name in of["changed"]),
        "Added": ", ".join(of["added"]),
        "Deleted": ", ".join(f"`{name}`" for name in deleted),
    }
    lines = [f"- {what} by the author: {names}." for what, names in found.items() if names]
    heading = "**Cells that are not as generated.**\n\n"
    return [_fenced(heading + "\n".join(lines), AUTHORS)] if lines else []


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


def _prompt(asked: str, written: str) -> str:
    """Return a place for the author's words as a box: what was written, or what is asked for."""
    if not written:
        return _div("open", _fenced(f"**Not written yet.** {asked}", AUTHORS), OPEN)
    return _own(f"**Asked:** {asked}", written)


def _own(label: str, content: str) -> str:
    """Return a box with something of the author's; its label stays with the first lines."""
    small = _div("label", _fenced(label, AUTHORS), LABEL)
    body = _fenced(content, AUTHORS)
    if _is_right_to_left(content):
        body = _div("words", body, RIGHT_TO_LEFT)
    return _div("own", f"{small}\n\n{body}", OWN)


# Code, formulas and where a link leads have Latin letters in every language.
_OF_ANY_LANGUAGE = re.compile(r"(`+).*?\1|\$+[^$]*\$+|\]\([^)]*\)", re.DOTALL)


def _is_right_to_left(text: str) -> bool:
    """Tell whether the first letter of a text is of a script such as Arabic or Hebrew."""
    directions = map(unicodedata.bidirectional, _OF_ANY_LANGUAGE.sub("", text))
    return next((d for d in directions if d in ("L", "R", "AL")), "L") != "L"


BOX = {"typst:inset": "7pt", "typst:radius": "3pt", "typst:width": "100%"}
OWN = {**BOX, "typst:stroke": "0.6pt + luma(120)"}
LABEL = {"typst:sticky": "true", "typst:text:size": "8.5pt"}
OPEN = {**BOX, "typst:stroke": '(dash: "dashed", thickness: 0.6pt)'}
RIGHT_TO_LEFT = {"dir": "rtl", "typst:text:dir": "rtl"}


def _div(kind: str, content: str, style: Mapping[str, str]) -> str:
    attributes = " ".join(
        f"{key}='{value}'" if '"' in value else f'{key}="{value}"' for key, value in style.items()
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
    # Of the author's own plots it is Python's: <Figure size 640x480 with 1 Axes>.
    caption = "" if caption.startswith("<") else caption
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
            *(f"--columns={COLUMNS}", "--wrap=none"),
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
    spelled = "".join(formula.split())
    if not spelled.startswith(r"\begin"):  # an environment needs no dollars
        spelled = f"${spelled}$"
    named = zip(notebook.cells, names_of(notebook), strict=True)
    return [name for cell, name in named if spelled in "".join(_text_of(cell).split())]


def _text_of(cell: NotebookNode) -> str:
    shown = [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", ())]
    return "\n".join([cell.source, *shown])

"""From the executed notebook to one Markdown text and its figures, which pandoc sets."""

import base64
import re
from pathlib import Path

from nbformat import NotebookNode

from hwcli.report.display import png_width_px
from hwcli.report.notebook import is_open

# Of pandoc's Markdown, what a measured text could trip over is left out.
FORMAT = "markdown-smart-citations-subscript-superscript-example_lists-fancy_lists-definition_lists"

# A line break within a table's cell has no other spelling in Markdown.
LINE_BREAKS = """
function RawInline(inline)
  if inline.format == "html" and inline.text:match("^<br") then return pandoc.LineBreak() end
end
"""

# Figures are drawn for a screen; on paper their letters may be a little smaller than the text's.
SCALE = 0.8
TEXT_WIDTH_IN = 6.4
DOTS_PER_INCH = 300

# A longer table may not fit on one page.
MAX_UNBROKEN_ROWS = 30

_TABLE = re.compile(
    r"^\*\*(?P<title>[^\n]+?)\*\*\n\n(?P<body>(?:\|[^\n]*(?:\n|\Z))+)", re.MULTILINE
)
_RULES = re.compile(r"(?<=\| )---(?= \|)")


def to_markdown(notebook: NotebookNode, folder: Path) -> str:
    """Return the notebook as pandoc's Markdown, and write its figures into a folder.

    The title is left to the page it stands on, and so are places for the author's words that
    hold none.
    """
    parts: list[str] = []
    num_figures = 0
    for cell in notebook.cells[1:]:
        if is_open(cell):
            continue
        if cell.cell_type == "markdown":
            if cell.source.startswith("# Environment"):
                parts.append("```{=typst}\n#pagebreak(weak: true)\n```")
            parts.append(with_captions(cell.source))
            continue
        parts.append(_fenced(cell.source, "python"))
        for output in cell.outputs:
            if output.output_type == "stream":
                parts.append(_fenced(output.text.rstrip(), "output"))
            elif "text/markdown" in output.data:
                parts.append(with_captions(output.data["text/markdown"]))
            else:
                num_figures += 1
                parts.append(_figure(output.data, folder, num_figures))
    return "\n\n".join(parts) + "\n"


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


def _figure(data: NotebookNode, folder: Path, number: int) -> str:
    if "image/svg+xml" in data:
        svg = data["image/svg+xml"]
        points = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', svg)
        width = SCALE * float(points[1]) / 72 if points else TEXT_WIDTH_IN
        path = folder / f"figure-{number}.svg"
        path.write_text(svg, encoding="utf-8")
    else:
        png = base64.b64decode(data["image/png"])
        width = png_width_px(png) / DOTS_PER_INCH
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

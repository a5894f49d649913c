"""The PDF, set by Typst: formulas, page numbers and vector plots without a LaTeX installation."""

import json
from pathlib import Path

from hwcli.report.document import run_pandoc

# Typst's own fonts alone, so that every machine sets the same pages.
PREAMBLE = """
#set document(title: {title}, author: {author}, date: none)
#set page(paper: "a4", margin: (x: 2.2cm, top: 2.2cm, bottom: 2.4cm), numbering: "1 / 1")
#set text(font: "Libertinus Serif", size: 10.5pt, lang: "en")
#set par(justify: true, leading: 0.62em, spacing: 0.95em)
#show heading.where(level: 1): set text(size: 15pt)
#show heading.where(level: 1): set block(above: 2em, below: 0.9em)
#show link: underline
#show raw: set text(font: "DejaVu Sans Mono", size: 7.8pt)
#show raw.where(block: true): it => block(
  width: 100%, radius: 2pt, above: 0.9em, below: 0.9em, breakable: it.lines.len() > 24,
  sticky: it.lang == "python" and it.lines.len() < 12,
  ..if it.lang == "output" { (inset: (x: 6pt, y: 1pt)) } else { (inset: 6pt, fill: luma(244)) },
  [#set par(justify: false, leading: 0.5em); #it],
)
#set table(stroke: none, inset: (x: 4.5pt, y: 3.2pt))
#set table.hline(stroke: 0.5pt)
#show table: set text(size: 8.8pt)
#show table: set par(justify: false, leading: 0.5em)
#show figure: set block(above: 1.2em, below: 1.2em)
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.caption: set text(size: 9.5pt)
#show figure.caption: set block(sticky: true)
#show figure: set figure(gap: 0.6em)
#let horizontalrule = line(length: 100%, stroke: 0.5pt)
#show quote: set block(inset: (left: 0.8em), stroke: (left: 1.5pt + luma(180)))

#align(center)[
  #text(size: 19pt, weight: "bold", {title})
  {byline}
]
#v(1em)
#outline(title: none, depth: 1)
#v(0.6em)
"""


def to_pdf(markdown: str, folder: Path, *, title: str, author: str | None) -> bytes:
    """Set a document; the same text and figures give the same bytes.

    Args:
        markdown: as :func:`~hwcli.report.document.to_markdown` returns it.
        folder: that holds its figures.
        title: on top of the first page.
        author: below it.
    """
    import typst

    body = run_pandoc(markdown, "typst", folder)
    preamble = (
        PREAMBLE.replace("{title}", _string(title))
        .replace("{author}", _string(author or ""))
        .replace(
            "{byline}", f"#v(0.1em)\n  #text(size: 11.5pt, {_string(author)})" if author else ""
        )
    )
    source = folder / "report.typ"
    source.write_text(preamble + body, encoding="utf-8")
    made = typst.compile(
        str(source), root=str(folder), format="pdf", ignore_system_fonts=True, timestamp=0
    )
    assert isinstance(made, bytes)
    return made


def _string(text: str) -> str:
    """Spell a Typst string, which escapes as JSON does."""
    return json.dumps(text, ensure_ascii=False)

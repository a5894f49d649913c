"""The PDF, set by Typst: formulas, page numbers and vector plots without a LaTeX installation."""

import json
import unicodedata
from pathlib import Path

from hwcli.errors import OutputError, first_line
from hwcli.report.document import run_pandoc

# A page holds about 85 lines of code. What takes up to half of one is not broken.
MAX_UNBROKEN_LINES = 36

# Typst's own fonts, so every machine sets the same pages.
PREAMBLE = """
#set document(title: {title}, author: {author}, date: none)
#set page(paper: {paper}, margin: {margin}, numbering: "1 / 1")
#set text(font: "Libertinus Serif", size: 10.5pt, lang: "en")
#set par(justify: true, leading: 0.62em, spacing: 0.95em)
#show heading.where(level: 1): set text(size: 15pt)
#show heading.where(level: 1): set block(above: 1.6em, below: 0.9em)
#show link: underline
// Within words from right to left, code and formulas still run from left to right.
#show raw: set text(font: "DejaVu Sans Mono", size: 7.2pt, dir: ltr)
#show math.equation: set text(dir: ltr)
// Code stays with its output; a source that is shown ("py") stands alone.
#show raw.where(block: true): it => block(
  width: 100%, radius: 2pt, above: 0.9em, below: 0.9em,
  breakable: it.lines.len() > {most-unbroken-lines},
  sticky: it.lang == "python" and it.lines.len() < 12,
  ..if it.lang == "output" { (inset: (x: 6pt, top: 1pt, bottom: 4pt)) }
  else { (inset: 6pt, fill: luma(244)) },
  [#set par(justify: false, leading: 0.44em); #it],
)
#set table(stroke: none, inset: (x: 4.5pt, y: 3.2pt))
#set table.hline(stroke: 0.5pt)
#show table: set text(size: 8.8pt)
#show table: set par(justify: false, leading: 0.5em)
#show figure: set block(above: 1.1em, below: 1.1em)
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
#v(0.6em)
"""


A4 = "a4"
# The text is 6.5 inches wide on both papers: figures keep their size.
PAPERS = {
    A4: ("a4", "(x: 2.24cm, top: 2.1cm, bottom: 2.2cm)"),
    "letter": ("us-letter", "(x: 1in, top: 0.85in, bottom: 0.9in)"),
}


class UnprintableError(OutputError):
    """Something that the author wrote cannot be set; the text says what Typst says."""


# Letters of scripts that Typst's own fonts have: Hebrew, ordinals, and letters of mathematics.
_HAVE_FONTS = (*range(0x0590, 0x0600), 0xAA, 0xBA, *range(0x2135, 0x2139))
_FIRST_EMOJI = 0x1F000
_LETTERS_SHOWN = 5


def foreign_letters(text: str) -> str:
    """Return some letters of a text that Typst's own fonts lack; empty where there are none.

    Those of scripts without capitals, such as Chinese, Arabic or Devanagari, and emoji.
    """
    found = [
        sign
        for sign in dict.fromkeys(text)
        if (unicodedata.category(sign) == "Lo" and ord(sign) not in _HAVE_FONTS)
        or (ord(sign) >= _FIRST_EMOJI and not sign.isalpha())
    ]
    return " ".join(found[:_LETTERS_SHOWN])


def to_pdf(
    markdown: str, folder: Path, *, title: str, author: str | None, paper: str = A4
) -> bytes:
    """Set a document; the same text and figures give the same bytes.

    Letters that Typst's own fonts lack are set in a font of the machine, where it has one.

    Args:
        markdown: as :func:`~hwcli.report.document.to_markdown` returns it.
        folder: that holds its figures.
        title: on top of the first page.
        author: below it.
        paper: ``a4`` or ``letter``.

    Raises:
        UnprintableError: Typst cannot set it: a link or a picture that leads nowhere, mostly.
    """
    import typst

    body = run_pandoc(markdown, "typst", folder)
    preamble = (
        PREAMBLE.replace("{most-unbroken-lines}", str(MAX_UNBROKEN_LINES))
        .replace("{paper}", _string(PAPERS[paper][0]))
        .replace("{margin}", PAPERS[paper][1])
        .replace("{title}", _string(title))
        .replace("{author}", _string(author or ""))
        .replace(
            "{byline}", f"#v(0.1em)\n  #text(size: 11.5pt, {_string(author)})" if author else ""
        )
    )
    source = folder / "report.typ"
    source.write_text(preamble + body, encoding="utf-8")
    is_plain = not foreign_letters(f"{markdown}{title}{author}")
    try:
        made = typst.compile(
            str(source), root=str(folder), format="pdf", ignore_system_fonts=is_plain, timestamp=0
        )
    except typst.TypstError as error:
        raise UnprintableError(
            f"hw2.pdf could not be made ({first_line(error)}); check your links and pictures: the "
            "target of one may be missing"
        ) from None
    assert isinstance(made, bytes)
    return made


def _string(text: str) -> str:
    """Spell a Typst string, which escapes as JSON does."""
    return json.dumps(text, ensure_ascii=False)

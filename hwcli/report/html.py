"""The page: one file with its figures and formulas (MathML) inside, for a desk and a phone."""

from pathlib import Path

from hwcli.report.document import run_pandoc

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --page: #fff; --soft: #f4f4f4; --line: #bbb;
  --quiet: #444; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --page: #16181b; --soft: #22262b; --line: #555; --quiet: #b8b8b8;
    --link: #7db7f0; }
  figure img { background: #fff; border-radius: 4px; }
  code span.kw, code span.cf, code span.im { color: #8fc7ff; } code span.st { color: #b5d99c; }
  code span.co { color: #a0a7b0; } code span.dv, code span.fl, code span.cn { color: #f0c48a; }
  code span.op, code span.bu, code span.fu, code span.at, code span.va { color: inherit; }
}
html { -webkit-text-size-adjust: 100%; background: var(--page); color: var(--text); }
body { max-width: 46rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; overflow-wrap: break-word;
  background: var(--page); color: var(--text); counter-reset: table figure;
  font: 1.02rem/1.55 Charter, "Bitstream Charter", Cambria, Georgia, "DejaVu Serif", serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 2.6rem 0 0.8rem; }
h1.title { font-size: 1.9rem; text-align: center; margin-top: 0.6rem; }
p.author { text-align: center; }
#TOC ul { list-style: none; padding-left: 0; }
a { color: var(--link); }
pre { overflow-x: auto; font-size: 0.8rem; line-height: 1.4; padding: 0.6rem 0.7rem; }
div.sourceCode { background: var(--soft); border-radius: 4px; margin: 0.8rem 0;
  overflow-x: auto; }
div.sourceCode > pre.sourceCode { margin: 0; overflow-x: auto; background: none; }
pre.output { padding: 0 0.7rem; }
code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
p code, li code { font-size: 0.86em; overflow-wrap: anywhere; }
table { display: block; width: fit-content; max-width: 100%; margin: 1.2rem auto; overflow-x: auto;
  border-collapse: collapse; font-size: 0.86rem; line-height: 1.35; }
caption { caption-side: top; text-align: left; font-weight: 600; padding-bottom: 0.4rem; }
caption::before { counter-increment: table; content: "Table " counter(table) ": "; }
th, td { padding: 0.22rem 0.6rem; vertical-align: top; }
thead th { border-bottom: 1px solid var(--quiet); }
tbody tr { border-bottom: 1px solid var(--line); }
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre",
  "Noto Sans Math", math, serif; font-size: 1.06em; }
math[display="block"] { padding: 0.3rem 0; }
p:has(> math[display="block"]) { overflow-x: auto; overflow-y: hidden; }
figure { margin: 1.4rem 0; text-align: center; }
figure img, figure svg { max-width: 100%; height: auto; }
figcaption { font-size: 0.9rem; color: var(--quiet); margin-top: 0.4rem; }
figcaption::before { counter-increment: figure; content: "Figure " counter(figure) ": "; }
div.own, div.open { border: 1px solid var(--line); border-radius: 5px; padding: 0.1rem 0.9rem;
  margin: 1rem 0; }
div.open { border-style: dashed; color: var(--quiet); }
blockquote { margin: 1rem 0; padding-left: 0.9rem; border-left: 3px solid var(--line); }
"""


def to_html(markdown: str, folder: Path, *, title: str, author: str | None) -> str:
    """Make a page of a document that needs no other file and no network.

    Args:
        markdown: as :func:`~hwcli.report.document.to_markdown` returns it.
        folder: that holds its figures.
        title: of the page.
        author: below it.
    """
    style = folder / "style.css"
    style.write_text(STYLE, encoding="utf-8")
    named = [f"--metadata=author:{author}"] if author else []
    return run_pandoc(
        markdown,
        "html5",
        folder,
        "--standalone",
        "--embed-resources",
        "--mathml",
        "--toc",
        "--toc-depth=1",
        f"--css={style.name}",
        f"--metadata=title:{title}",
        "--metadata=lang:en",
        *named,
    )

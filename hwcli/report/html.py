"""The page: one file with its figures and formulas (MathML) inside, for a desk and a phone."""

from pathlib import Path

from hwcli.report.document import run_pandoc

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --page: #fff; --soft: #f4f4f4; --line: #bbb;
  --quiet: #444; --link: #0b5cad; --shade: rgb(0 0 0 / 22%);
  --word: #00457e; --string: #8c2b0b; --number: #7a4300; --comment: #5a636d; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --page: #16181b; --soft: #22262b; --line: #555; --quiet: #b8b8b8;
    --link: #7db7f0; --shade: rgb(255 255 255 / 28%);
    --word: #8fc7ff; --string: #b5d99c; --number: #f0c48a; --comment: #a0a7b0; }
  figure img { background: #fff; border-radius: 4px; }
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
div.sourceCode { --ground: var(--soft); background-color: var(--soft); border-radius: 4px;
  margin: 0.8rem 0; overflow-x: auto; }
div.sourceCode > pre.sourceCode { margin: 0; overflow: visible; background: none; }
/* What is wider than its box scrolls, and a shadow at the edge says so. The shadow stays at the
   edge; a patch in the colour of the ground moves with the content, and covers it at the end. */
div.sourceCode, table, p:has(> math[display="block"]) {
  background-image: linear-gradient(to right, var(--ground) 45%, transparent),
    linear-gradient(to left, var(--ground) 45%, transparent),
    linear-gradient(to right, var(--shade), transparent),
    linear-gradient(to left, var(--shade), transparent);
  background-position: left, right, left, right; background-repeat: no-repeat;
  background-size: 2.2rem 100%, 2.2rem 100%, 0.7rem 100%, 0.7rem 100%;
  background-attachment: local, local, scroll, scroll; }
pre.output { padding: 0 0.7rem; }
code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code span.kw, code span.cf, code span.im { color: var(--word); }
code span.st, code span.ss, code span.ch, code span.sc, code span.vs { color: var(--string); }
code span.dv, code span.fl, code span.bn, code span.cn { color: var(--number); }
code span.co, code span.an, code span.cv, code span.do, code span.in { color: var(--comment); }
code span.op, code span.bu, code span.fu, code span.at, code span.va, code span.pp, code span.ot,
code span.dt, code span.ex, code span.al, code span.er, code span.wa { color: inherit; }
p code, li code { font-size: 0.86em; overflow-wrap: anywhere; }
table { --ground: var(--page); display: block; width: fit-content; max-width: 100%;
  margin: 1.2rem auto; overflow-x: auto; border-collapse: collapse; font-size: 0.86rem;
  line-height: 1.35; }
caption { caption-side: top; text-align: left; font-weight: 600; padding-bottom: 0.4rem;
  position: sticky; left: 0; max-width: min(100%, 100vw - 2rem); }
caption::before { counter-increment: table; content: "Table " counter(table) ": "; }
th, td { padding: 0.22rem 0.6rem; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
div.answer table { font-size: 1rem; }
thead th { border-bottom: 1px solid var(--quiet); }
tbody tr { border-bottom: 1px solid var(--line); }
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre",
  "Noto Sans Math", math, serif; font-size: 1.06em; }
math[display="block"] { padding: 0.3rem 0; }
p:has(> math[display="block"]) { --ground: var(--page); overflow-x: auto; overflow-y: hidden; }
figure { margin: 1.4rem 0; text-align: center; }
figure img, figure svg { max-width: 100%; height: auto; }
figcaption { font-size: 0.9rem; color: var(--quiet); margin-top: 0.4rem; }
figcaption::before { counter-increment: figure; content: "Figure " counter(figure) ": "; }
div.own, div.open { border: 1px solid var(--line); border-radius: 5px; padding: 0.1rem 0.9rem;
  margin: 1rem 0; }
div.open { border-style: dashed; color: var(--quiet); }
div.label { font-size: 0.9rem; }
/* On a desk, lines of 100 columns and wide tables reach into the margins before they scroll. */
@media (min-width: 60rem) {
  div.sourceCode { margin-left: -3rem; margin-right: -3rem; }
  table { max-width: calc(100% + 6rem); }
}
/* Within words from right to left, code and formulas still run from left to right. */
[dir="rtl"] :is(pre, code, math, div.sourceCode) { direction: ltr; }
blockquote { margin: 1rem 0; padding-inline-start: 0.9rem;
  border-inline-start: 3px solid var(--line); }
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

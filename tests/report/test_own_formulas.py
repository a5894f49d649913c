"""Formulas of the author's, as a notebook reads them and as pandoc does."""

from pathlib import Path

import pytest

from hwcli.report import document
from hwcli.report.own_formulas import with_formulas_of_a_notebook

BARE = "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}"


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("Since $ x_1 $ and $y$, $ z$.", "Since $x_1$ and $y$, $z$."),
        ("$x $ here, $\nx\n$ there", "$x$ here, $x$ there"),
        (f"So\n{BARE}\nholds.", f"So\n$${BARE}$$\nholds."),
        (r"\begin{gather*}a\end{gather*}", r"$$\begin{gather*}a\end{gather*}$$"),
        # A formula that pandoc reads already stays, and so does what stands between two of them.
        ("$x$ and $y$ and $$ z $$ and $w$", None),
        (f"$${BARE}$$ and $\\begin{{pmatrix}}a\\end{{pmatrix}}$", None),
        (rf"\\[ {BARE} \\] and \\(\\begin{{cases}}a\\end{{cases}}\\)", None),
        (rf"\\[ {BARE}", rf"\\[ $${BARE}$$"),
        ("\\\\[ a\n\n$ x $ \\\\]", "\\\\[ a\n\n$x$ \\\\]"),
        # Sums of money are none.
        ("It costs $5, not $6.", None),
        ("Not 5$ and not 6$, then $x$", None),
        ("From $5 to $x$", None),
        (r"\$ x \$ and \\begin{align}", None),
        ("$ a\n\nb $", None),
        # Code is none.
        (f"`$ x $` and `` ` $ x $ `` and `{BARE}`", None),
        (f"```\n$ x $\n{BARE}\n```", None),
        ("~~~tex\n$ x $", None),
        ("````\n```\n$ x $\n````\n$ y $", "````\n```\n$ x $\n````\n$y$"),
    ],
)
def test_what_a_notebook_typesets_is_spelled_as_pandoc_reads_it(
    written: str, spelled: str | None
) -> None:
    assert with_formulas_of_a_notebook(written) == (written if spelled is None else spelled)


@pytest.mark.parametrize(
    "formula",
    ["$ x_1 $", "$x_1 $", BARE, r"\begin{equation}x\end{equation}", r"\\(x\\)", rf"\\[{BARE}\\]"],
)
def test_it_is_printed_as_a_formula(tmp_path: Path, formula: str) -> None:
    text = with_formulas_of_a_notebook(f"It is {formula} here.")
    made = document.run_pandoc(f"```author\n{text}\n```", "html5", tmp_path, "--mathml")
    assert made.count("<math") == 1
    assert "$" not in made

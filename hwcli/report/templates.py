"""Sections as templates: Markdown with LaTeX, whose values stand in double square brackets."""

import functools
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hwcli.report.cells import Cell, as_content, parse


@functools.cache
def _environment() -> Environment:
    # Braces belong to LaTeX, so the brackets are square.
    environment = Environment(
        loader=PackageLoader("hwcli.report", "sections"),
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        autoescape=False,
        finalize=as_content,
    )
    environment.filters |= {"tex": in_tex, "prose": with_formulas}
    return environment


def render(name: str, **values: Any) -> list[Cell]:
    """Render a section to cells.

    Args:
        name: of the template, without its ending.
        values: what it needs; one that is missing is an error.
    """
    return parse(_environment().get_template(f"{name}.md.j2").render(**values))


_TEX = (
    (r"Σ_\{(\w+)=(\w+)\.\.(\w+)\}", r"\\sum_{\1=\2}^{\3}"),
    (r"\^\(([^()]*)\)", r"^{\1}"),
    (r"\^(-?\d[\d.]*)", r"^{\1}"),
    (r"(\w)\[(\w+)\]_\{([^}]*)\}", r"\1_{\2,\3}"),
    (r"(\w)\[(\w+)\]_(\w+)", r"\1_{\2,\3}"),
    (r"_(\w{2,})", r"_{\1}"),
    (r"\babs\(([^()]*)\)", r"\\left|\1\\right|"),
    (r"\b(logistic)\b", r"\\sigma"),
    (r"\b(step|sign|relu|tanh|identity)\b", r"\\mathrm{\1}"),
    (r"\bexp\(", r"\\exp("),
    (r"\bsqrt\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"(?<=\d)·(?=\d)", r" \\cdot "),
    (r"·", r"\\,"),
    (r" x ", r" \\times "),
    # A comma in a number ends no list: as text it stands without a gap, in print and on the page.
    (r"\d{1,3}(?:,\d{3})+", r"\\text{\g<0>}"),
)


def in_tex(formula: str) -> str:
    """Spell a formula of plain text, such as ``h_t = -h_{t-1} + 2·x_t``, in LaTeX."""
    for pattern, replacement in _TEX:
        formula = re.sub(pattern, replacement, formula)
    return formula


_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
_TERM = (
    r"(?:abs\([hxyz]_\w+\)|Σ_\{[^}]*\}|[hxyz](?:\[\w+\])?_(?:\{[^}]*\}|\w+)"
    r"|(?:\(-?[\d/]+\)|\d+)\^\([^)]*\)|10\^-?\d+|-?\d+(?:/\d+)?·|O\([TD^\d]+\)"
    rf"|\(T - \d+\)|[TD](?:\^-?{_NUMBER})?(?![\w'-]))"
)
# A formula begins with a term; behind a sign there may be a number.
_FORMULA = re.compile(
    rf"(?<![\w-]){_TERM}(?:[ ·]*{_TERM}| (?:[=<>+-]|x) -?(?:{_TERM}|{_NUMBER}(?![\w·/%])))*"
)


def with_formulas(sentence: str) -> str:
    """Set the formulas inside a sentence of plain text, such as ``z_T`` or ``10^-434``, as TeX."""
    return _FORMULA.sub(lambda match: f"${in_tex(match[0])}$", sentence)

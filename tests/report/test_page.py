"""The page on a phone and at night, read from its HTML and CSS, without a browser."""

import re
from collections.abc import Iterator

import pytest
from nbformat import v4

from hwcli.report import document, html
from hwcli.report.cells import Cell
from hwcli.report.display import ANSWER
from hwcli.report.merge import to_node

LONG = "x = " + " + ".join(f"number_{k}" for k in range(40))
WIDE = "**A wide table**\n\n| name |" + " n |" * 30 + "\n| --- |" + " ---: |" * 30
WIDE += "\n| a |" + " 1,234 ms |" * 30 + "\n"
FORMULA = "$$" + " + ".join(f"x_{{{k}}}" for k in range(60)) + "$$"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    code = to_node(Cell("code", f"{LONG}\nprint(x)  # why", "q1-code"))
    code.outputs = [
        v4.new_output("display_data", {"text/markdown": WIDE, "text/plain": ""}),
        v4.new_output(
            "display_data",
            {"text/markdown": WIDE.replace("A wide", "The answer's"), "text/plain": ""},
            metadata={ANSWER: True},
        ),
        v4.new_output(
            "display_data",
            {"image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg" width="300pt"/>'}
            | {"text/plain": "A caption"},
        ),
    ]
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(FORMULA), code])
    return html.to_html(
        document.to_markdown(notebook, folder, folder, print), folder, title="T", author=None
    )


def rules(css: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Give each rule of a style sheet: the condition around it, one selector, its declarations."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    for match in re.finditer(
        r"(@media[^{]*)\{((?:[^{}]*\{[^{}]*\})*)[^{}]*\}|([^{}@]+)\{([^{}]*)\}", css
    ):
        condition = (match[1] or "").removeprefix("@media").strip()
        inner = match[2] if match[1] else f"{match[3]}{{{match[4]}}}"
        for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", inner):
            pairs = (part.split(":", 1) for part in body.split(";") if ":" in part)
            values = {key.strip(): value.strip() for key, value in pairs}
            for selector in re.split(r",(?![^(]*\))", selectors):
                yield condition, " ".join(selector.split()), values


def winning(page: str, matching: set[str], name: str, condition: str = "") -> str | None:
    """Return the value of a property by the cascade, for an element that these selectors match.

    Args:
        page: with its style sheets.
        matching: the selectors that match the element; they are listed, not computed.
        name: of the property.
        condition: of a media query that holds; those of a screen hold always.
    """
    best: tuple[tuple[int, int], str] | None = None
    for css in re.findall(r"<style[^>]*>(.*?)</style>", page, flags=re.DOTALL):
        for where, selector, values in rules(css):
            if where not in ("", "screen", condition) or selector not in matching:
                continue
            if name not in values:
                continue
            weight = (len(re.findall(r"[.:\[]\w", selector)), len(re.findall(r"\b\w+", selector)))
            if best is None or weight >= best[0]:
                best = weight, values[name]
    return None if best is None else best[1]


SCROLLING = {
    "code": ({"div", "div.sourceCode", ".sourceCode"}, '<div class="sourceCode"'),
    "table": ({"table"}, "<table>"),
    "formula": ({"p", 'p:has(> math[display="block"])'}, '<math display="block"'),
}


@pytest.mark.parametrize("kind", SCROLLING)
def test_what_is_wider_than_a_phone_scrolls(page: str, kind: str) -> None:
    selectors, sign = SCROLLING[kind]
    assert sign in page
    overflow = winning(page, selectors, "overflow-x") or winning(page, selectors, "overflow")
    assert overflow == "auto"
    # A shadow at the edge says so, where a phone shows no scroll bar.
    assert winning(page, selectors, "background-attachment") == "local, local, scroll, scroll"
    assert winning(page, selectors, "max-width") in (None, "100%")


def test_nothing_inside_a_block_of_code_cuts_it_off(page: str) -> None:
    inside = {"pre", "pre.sourceCode", "div.sourceCode > pre.sourceCode", ".sourceCode"}
    assert winning(page, inside, "overflow") == "visible"
    assert "pre-wrap" not in (winning(page, {"pre > code.sourceCode"}, "white-space") or "")


def test_code_and_formulas_within_words_from_right_to_left_are_not_turned(page: str) -> None:
    inside = {'[dir="rtl"] :is(pre, code, math, div.sourceCode)'}
    assert winning(page, inside, "direction") == "ltr"


def test_a_number_of_a_table_is_not_broken_into_lines(page: str) -> None:
    assert '<td style="text-align: right;">1,234 ms</td>' in page
    assert winning(page, {"td", 'td[style*="right"]'}, "white-space") == "nowrap"


def test_captions_are_numbered_and_stay_in_sight(page: str) -> None:
    assert page.count("<caption>") == page.count("<table>") == 2
    assert page.count("<figcaption") == page.count("<figure") == 1
    assert winning(page, {"body"}, "counter-reset") == "table figure"
    for element, name in (("caption", "Table"), ("figcaption", "Figure")):
        before = {f"{element}::before"}
        assert winning(page, before, "counter-increment") == name.lower()
        assert winning(page, before, "content") == f'"{name} " counter({name.lower()}) ": "'
    assert winning(page, {"caption"}, "position") == "sticky"
    assert "100vw" in (winning(page, {"caption"}, "max-width") or "")


def test_the_answer_is_larger_than_a_table_of_details(page: str) -> None:
    answer = page[page.index('<div class="answer">') :]
    assert "The answer" in answer
    assert "A wide table" not in answer
    sizes = [
        winning(page, selectors, "font-size") or ""
        for selectors in ({"table"}, {"table", "div.answer table"})
    ]
    details, larger = (float(size.removesuffix("rem")) for size in sizes)
    assert larger > 1.1 * details


DARK = "(prefers-color-scheme: dark)"


def colour(page: str, name: str, condition: str) -> tuple[float, ...]:
    value = winning(page, {":root"}, f"--{name}", condition) or ""
    digits = value.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    return tuple(int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4))


def luminance(rgb: tuple[float, ...]) -> float:
    """Return the relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("condition", ["", DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *((name, "page") for name in ("text", "quiet", "link")),
        *((name, "soft") for name in ("text", "word", "string", "number", "comment")),
    ],
)
def test_text_and_code_can_be_read_by_day_and_at_night(
    page: str, text: str, ground: str, condition: str
) -> None:
    """WCAG 2 asks for a contrast of 4.5."""
    lighter, darker = sorted(
        (luminance(colour(page, name, condition)) for name in (text, ground)), reverse=True
    )
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_every_kind_of_code_has_a_colour_of_both_schemes(page: str) -> None:
    """Pandoc's own colours are made for white paper."""
    pandocs = set(re.findall(r"code span\.(\w\w)(?= \{)", page))
    for kind in pandocs:
        value = winning(page, {f"code span.{kind}"}, "color")
        assert value is None or value == "inherit" or value.startswith("var(--"), kind
    assert {"kw", "st", "co", "dv"} <= pandocs


def test_the_page_has_the_width_of_the_device(page: str) -> None:
    viewport = re.search(r'<meta name="viewport" content="([^"]*)"', page)
    assert viewport is not None
    assert "width=device-width" in viewport[1]

"""The committed hand-in of the reference runs, page by page."""

import re
from pathlib import Path

import nbformat
import pytest

from hwcli.report.pdf import MAX_UNBROKEN_LINES

from .conftest import COMMITTED

pypdf = pytest.importorskip("pypdf")

HAND_IN = COMMITTED / "report"


@pytest.fixture(scope="module")
def pages() -> list[tuple[str, float]]:
    """The text of each page, and the share of it below its last line, caption or box."""
    found = []
    for page in pypdf.PdfReader(HAND_IN / "hw2.pdf").pages:
        heights: list[float] = []

        def see(text: str, matrix: list[float], inner: list[float], *_: object) -> None:
            if text.strip() and not re.fullmatch(r"\s*\d+ / \d+\s*", text):
                heights.append(matrix[5] + matrix[3] * inner[5])  # noqa: B023

        text = page.extract_text(visitor_text=see)
        top, bottom = float(page.mediabox.height) - 60, 62
        lowest = min(height for height in heights if height > bottom)
        found.append((text, (lowest - bottom) / (top - bottom)))
    return found


def begins_anew(text: str) -> bool:
    return re.match(r"\s*(Question [2-4]|Appendix)", text) is not None


def test_it_has_at_most_twenty_pages(pages: list[tuple[str, float]]) -> None:
    assert len(pages) <= 20


def test_no_page_but_a_questions_last_is_more_than_a_third_empty(
    pages: list[tuple[str, float]],
) -> None:
    following = [text for text, _ in pages[1:]]
    empty = {
        number: round(share, 2)
        for number, ((_, share), after) in enumerate(zip(pages, following, strict=False), 1)
        if share > 1 / 3 and not begins_anew(after)
    }
    assert empty == {}
    # It can tell: the last page of a question is not full.
    assert max(share for _, share in pages) > 0.4


def squeezed(text: str) -> str:
    return "".join(text.split())


def shown_sources(path: Path) -> list[str]:
    notebook = nbformat.read(path, as_version=4)
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    markdown = "\n".join(o.data.get("text/markdown", "") for o in outputs if "data" in o)
    return re.findall(r"^```py\n(.*?)\n```$", markdown, re.MULTILINE | re.DOTALL)


def test_a_function_that_fits_stands_on_one_page(pages: list[tuple[str, float]]) -> None:
    sources = shown_sources(HAND_IN / "hw2.ipynb")
    fitting = [s for s in sources if s.count("\n") < MAX_UNBROKEN_LINES]
    assert len(sources) > len(fitting) >= 10
    texts = [squeezed(text) for text, _ in pages]
    for source in fitting:
        # All but the comment that names the file, which several have.
        code = squeezed(source.partition("\n")[2])
        assert sum(code in text for text in texts) == 1, source.splitlines()[1]

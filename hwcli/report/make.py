"""Make the report: read the runs, execute the notebook, set the PDF and the page."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat

from hwcli.errors import ConfigError, OutputError
from hwcli.output.files import write_atomic
from hwcli.report import document, html, notebook, pdf
from hwcli.report.runs import find_runs

FORMATS = ("ipynb", "pdf", "html")
TITLE = "Deep Learning, Homework 2"


def chosen_formats(name: str) -> tuple[str, ...]:
    """Return the formats that a name stands for.

    Raises:
        ConfigError: there is no such format.
    """
    if name == "all":
        return FORMATS
    if name not in FORMATS:
        raise ConfigError(f"format = {name!r}: unknown; choices: {', '.join(FORMATS)}, all")
    return (name,)


def build(
    runs_folder: Path,
    out: Path,
    *,
    formats: Sequence[str],
    title: str,
    author: str | None,
    acknowledged: Sequence[str],
    say: Callable[[str], None],
) -> list[Path]:
    """Write ``report/hw2.ipynb``, ``hw2.pdf`` and ``hw2.html`` under a folder; return their paths.

    What the author wrote into an earlier notebook there is kept. The same runs give the same
    files.

    Raises:
        OutputError: there are no runs, or the folder cannot be written.
    """
    runs = notebook.sift(find_runs(runs_folder))
    folder = out / "report"
    _check_writable(folder)
    kept = notebook.own_words(folder / "hw2.ipynb")
    notebook.check_tools(["ipykernel", *(["pypandoc"] if set(formats) & {"pdf", "html"} else [])])
    notebook.check_tools(["typst"] if "pdf" in formats else [])
    for name, reason in runs.left_out.items():
        say(f"{name} is left out: {reason}")
    if not runs.whole:
        say(f"no finished run in {runs_folder}: the report says what to run")

    root = Path(os.path.relpath(runs_folder.resolve(), folder.resolve())).as_posix()
    made = notebook.assemble(
        notebook.all_cells(runs, root, acknowledged), title=title, author=author, kept=kept
    )
    say(f"executing the notebook: {len(made.cells)} cells, {len(runs.whole)} runs")
    notebook.execute(made, folder, say)
    nbformat.validate(made)

    contents: dict[str, str | bytes] = {}
    if "ipynb" in formats:
        contents["ipynb"] = nbformat.writes(made) + "\n"
    with tempfile.TemporaryDirectory() as temporary:
        figures = Path(temporary)
        text = document.to_markdown(made, figures)
        if "pdf" in formats:
            say("setting the PDF")
            contents["pdf"] = pdf.to_pdf(text, figures, title=title, author=author)
        if "html" in formats:
            say("setting the page")
            contents["html"] = html.to_html(text, figures, title=title, author=author)
    num_open = sum(notebook.is_open(cell) for cell in made.cells)
    if num_open:
        say(
            f"{num_open} places wait for your own words in hw2.ipynb (marked ✎; not printed while "
            "empty): write there, save, and make the report again"
        )
    paths = []
    for kind, content in contents.items():
        path = folder / f"hw2.{kind}"
        try:
            write_atomic(path, content)
        except OSError as error:
            raise OutputError(f"out: {path} cannot be written ({error.strerror})") from None
        paths.append(path.resolve())
    return paths


def _check_writable(folder: Path) -> None:
    probe = folder / f".room.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"out: {folder} cannot be written ({error.strerror})") from None

"""Make the report: read the runs, execute the notebook, set the PDF and the page."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from hwcli.errors import ConfigError, OutputError
from hwcli.output.files import write_atomic
from hwcli.output.units import counted
from hwcli.report import document, html, notebook, pdf
from hwcli.report.checks import doubts
from hwcli.report.merge import Merged, is_mergeable, unanswered
from hwcli.report.runs import Runs, find_runs

FORMATS = ("ipynb", "pdf", "html")
_REFERENCE = Path(__file__).parents[2] / "results" / "reference"


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


def own_runs(out: Path) -> Path:
    """Return the folder of the author's runs: the one that the report is written to."""
    with suppress(OSError):  # a folder that cannot be made is named when it is written
        out.mkdir(parents=True, exist_ok=True)
    return out


def reference_runs() -> Path:
    """Return the folder of the project's reference runs.

    Raises:
        OutputError: they are not here: they come with a checkout, not with the package.
    """
    if not _REFERENCE.is_dir():
        raise OutputError("--reference: the reference runs come with a checkout of the project")
    return _REFERENCE


def check_tools(formats: Sequence[str]) -> None:
    """Make sure that what these formats are made with is installed.

    Raises:
        HwError: a package is missing; says how to get it.
    """
    notebook.check_tools(["ipykernel", *(["pypandoc"] if set(formats) & {"pdf", "html"} else [])])
    notebook.check_tools(["typst"] if "pdf" in formats else [])


def build(
    runs_folder: Path,
    out: Path,
    *,
    formats: Sequence[str],
    title: str | None = None,
    author: str | None = None,
    acknowledged: Sequence[str] = (),
    reference: Path | None = None,
    paper: str | None = None,
    say: Callable[[str], None],
) -> list[Path]:
    """Write ``report/hw2.ipynb``, ``hw2.pdf`` and ``hw2.html`` under a folder; return their paths.

    Everything that the author typed into an earlier notebook there is kept, and so are name,
    title, acknowledgements and paper. The same runs and words give the same files.

    Args:
        runs_folder: the author's runs.
        out: the folder that ``report/`` is written in.
        formats: of :data:`FORMATS`.
        title: of the hand-in; None keeps the one it has.
        author: below the title; None keeps the one it has.
        acknowledged: sentences to add to the acknowledgements; an empty one removes those of
            before.
        reference: runs to show for questions that the author has no run for.
        paper: ``a4`` or ``letter``; None keeps the one it has.
        say: prints a line of progress.

    Raises:
        OutputError: there are no runs, the folder cannot be written, or the author's words in the
            notebook cannot be told from what was generated and no new notebook is asked for.
        UnprintableError: the PDF could not be made; the other files are written.
        ConfigError: the paper is unknown.
    """
    if paper is not None and paper not in pdf.PAPERS:
        raise ConfigError(f"paper = {paper!r}: unknown; choices: {', '.join(pdf.PAPERS)}")
    runs = find_runs(runs_folder, reference, project=_REFERENCE)
    folder = out / "report"
    _check_writable(folder)
    check_tools(formats)
    _tell_of_runs(runs, runs_folder, say)
    if "ipynb" not in formats and (acknowledged or not (author is title is paper is None)):
        say("what is given by options is kept in the notebook, which is not written now")
    folders = {"runs": _seen_from(folder, runs_folder)}
    if reference is not None:
        folders["reference"] = _seen_from(folder, reference)
    path = folder / "hw2.ipynb"
    while True:
        as_read, old = _bytes(path), _mergeable(path, formats, say)
        declared = notebook.Author.of(old).with_declared(author, acknowledged, title, paper)
        if not declared.name:
            say("without a name: --author 'Your Name' prints one, and it is kept")
        cells = notebook.all_cells(runs, folders, declared)
        merged = notebook.assemble(cells, old)
        made = notebook.to_notebook(merged, cells, declared)
        say(f"running the notebook: {len(made.cells)} cells, {len(notebook.used_runs(runs))} runs")
        notebook.execute(made, folder, say)
        nbformat.validate(made)
        printed = _print(made, declared, folder, formats=formats, say=say)
        if _bytes(path) == as_read:
            break
        say("hw2.ipynb was saved in the meantime; starting again with it")
    _tell_what_is_open(made, merged, formats, say)
    own = {"ipynb": nbformat.writes(made) + "\n"} if "ipynb" in formats else {}
    paths = [_write(folder, kind, content) for kind, content in {**own, **printed.files}.items()]
    if printed.unprintable is not None:
        raise printed.unprintable
    return paths


def _tell_of_runs(runs: Runs, folder: Path, say: Callable[[str], None]) -> None:
    """Name the runs that are not in the report, and what is doubtful about those that are."""
    for name, reason in runs.left_out.items():
        say(f"{name} is left out: {reason}")
    for name, reason in notebook.not_shown(runs).items():
        say(f"{name} is not shown: {reason}")
    if runs.whole:
        for line in notebook.what_is_shown(runs):
            say(line)
    else:
        say(f"no finished run in {folder.resolve()}: the hand-in says what to run")
    for run in notebook.used_runs(runs):
        for doubt in doubts(run):
            say(f"{run.id}: {doubt}")


def _mergeable(
    path: Path, formats: Sequence[str], say: Callable[[str], None]
) -> NotebookNode | None:
    """Return the earlier notebook; one that cannot be merged is kept under another name.

    Raises:
        OutputError: no notebook takes its place, so the author's words would not be printed.
    """
    old = notebook.read(path)
    if old is None or is_mergeable(old):
        return old
    lacks = "does not say which cells were generated"
    if "ipynb" not in formats:
        raise OutputError(
            f"{path} {lacks}, so its words would not be printed; --format all keeps it under "
            "another name and makes a new one, for you to copy them into"
        )
    say(f"hw2.ipynb {lacks}; it is kept as {_keep_beside(path).name}")
    return None


@dataclass(frozen=True)
class _Printed:
    """The PDF and the page, by format, and why there is no PDF if it could not be made."""

    files: dict[str, str | bytes]
    unprintable: pdf.UnprintableError | None


def _print(
    made: NotebookNode,
    author: notebook.Author,
    folder: Path,
    *,
    formats: Sequence[str],
    say: Callable[[str], None],
) -> _Printed:
    """Set an executed notebook as PDF and as page, as far as they are asked for."""
    files: dict[str, str | bytes] = {}
    unprintable: pdf.UnprintableError | None = None
    if not set(formats) & {"pdf", "html"}:
        return _Printed(files, unprintable)
    title, name = author.title, author.name or None
    with tempfile.TemporaryDirectory() as temporary:
        figures = Path(temporary)
        text = document.to_markdown(made, figures, folder, say)
        if "pdf" in formats:
            say("making the PDF")
            if letters := pdf.foreign_letters(f"{text}{title}{author.name}"):
                say(
                    f"hw2.pdf: {letters} need a font of this machine; look whether they are there, "
                    "or hand in hw2.html"
                )
            try:
                files["pdf"] = pdf.to_pdf(
                    text, figures, title=title, author=name, paper=author.paper
                )
            except pdf.UnprintableError as error:
                unprintable = error
        if "html" in formats:
            say("making the web page")
            files["html"] = html.to_html(text, figures, title=title, author=name)
        for line in document.unreadable_formulas(made, figures):
            say(line)
    return _Printed(files, unprintable)


def _write(folder: Path, kind: str, content: str | bytes) -> Path:
    path = folder / f"hw2.{kind}"
    write_atomic(path, content)
    return path.resolve()


def _bytes(path: Path) -> bytes | None:
    """Return what a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _seen_from(folder: Path, other: Path) -> str:
    return Path(os.path.relpath(other.resolve(), folder.resolve())).as_posix()


def _keep_beside(path: Path) -> Path:
    """Copy a notebook that cannot be merged to a name that is free, or has this very copy."""
    content = path.read_bytes()
    number = 1
    while not _may_hold(backup := path.with_name(f"hw2.old-{number}.ipynb"), content):
        number += 1
    write_atomic(backup, content)
    return backup


def _may_hold(path: Path, content: bytes) -> bool:
    """Tell whether a file can be written without losing what is there."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return True
    except OSError:  # it is there, and may hold words
        return False


def _tell_what_is_open(
    made: NotebookNode, merged: Merged, formats: Sequence[str], say: Callable[[str], None]
) -> None:
    """Name the generated cells that the author changed, and the prompts that are still empty."""
    if merged.changed:
        say(f"kept as you changed them, and marked in print: {', '.join(merged.changed)}")
    if still_open := unanswered(made.cells):
        num = len(still_open)
        where = "hw2.ipynb" if "ipynb" in formats else "the notebook (--format ipynb makes it)"
        say(
            f"{counted(num, 'prompt')} {'waits' if num == 1 else 'wait'} for your own words: "
            f"{', '.join(name.removeprefix('own-') for name in still_open)}. Write under "
            f"{'it' if num == 1 else 'them'} in {where}, save, and make the report again"
        )


def _check_writable(folder: Path) -> None:
    probe = folder / f".room.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"out: {folder} cannot be written ({error.strerror})") from None

"""Make the report: read the runs, execute the notebook, set the PDF and the page."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from hwcli.errors import ConfigError, OutputError
from hwcli.output.files import write_atomic
from hwcli.report import document, html, notebook, pdf
from hwcli.report.checks import doubts
from hwcli.report.merge import Merged, id_of, is_open
from hwcli.report.runs import find_runs

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


def build(
    runs_folder: Path,
    out: Path,
    *,
    formats: Sequence[str],
    title: str | None = None,
    author: str | None = None,
    acknowledged: Sequence[str] = (),
    reference: Path | None = None,
    paper: str = "a4",
    say: Callable[[str], None],
) -> list[Path]:
    """Write ``report/hw2.ipynb``, ``hw2.pdf`` and ``hw2.html`` under a folder; return their paths.

    Everything that the author typed into an earlier notebook there is kept, and so are name,
    title and acknowledgements. The same runs and words give the same files.

    Args:
        runs_folder: the author's runs.
        out: the folder that ``report/`` is written in.
        formats: of :data:`FORMATS`.
        title: of the hand-in; None keeps the one it has.
        author: below the title; None keeps the one it has.
        acknowledged: sentences to add to the acknowledgements.
        reference: runs to show for questions that the author has no run for.
        paper: ``a4`` or ``letter``.
        say: prints a line of progress.

    Raises:
        OutputError: there are no runs, or the folder cannot be written.
        UnprintableError: the PDF cannot be set; the other files are written.
        ConfigError: the paper is unknown.
    """
    if paper not in pdf.PAPERS:
        raise ConfigError(f"paper = {paper!r}: unknown; choices: {', '.join(pdf.PAPERS)}")
    runs = find_runs(runs_folder, reference, project=_REFERENCE)
    folder = out / "report"
    _check_writable(folder)
    as_read = _bytes(folder / "hw2.ipynb")
    old = notebook.read(folder / "hw2.ipynb")
    if old is not None and not notebook.is_mergeable(old):
        backup = _keep_beside(folder / "hw2.ipynb")
        say(f"hw2.ipynb does not say which cells were generated; it is kept as {backup.name}")
        old = None
    notebook.check_tools(["ipykernel", *(["pypandoc"] if set(formats) & {"pdf", "html"} else [])])
    notebook.check_tools(["typst"] if "pdf" in formats else [])
    for name, reason in runs.left_out.items():
        say(f"{name} is left out: {reason}")
    for name, reason in notebook.not_shown(runs).items():
        say(f"{name} is not shown: {reason}")
    if not runs.whole:
        say(f"no finished run in {runs_folder.resolve()}: the report says what to run")

    for run in notebook.used_runs(runs):
        for doubt in doubts(run):
            say(f"{run.id}: {doubt}")

    declared = notebook.Author.of(old).with_declared(author, acknowledged, title)
    if not declared.name:
        say("without a name: --author 'Your Name' prints one, and it is kept")
    folders = {"runs": _seen_from(folder, runs_folder)}
    if reference is not None:
        folders["reference"] = _seen_from(folder, reference)
    cells = notebook.all_cells(runs, folders, declared)
    merged = notebook.assemble(cells, declared, old)
    made = notebook.to_notebook(merged, cells, declared)
    say(f"running the notebook: {len(made.cells)} cells, {len(notebook.used_runs(runs))} runs")
    notebook.execute(made, folder, say)
    nbformat.validate(made)

    contents: dict[str, str | bytes] = {}
    unprintable: pdf.UnprintableError | None = None
    if "ipynb" in formats:
        contents["ipynb"] = nbformat.writes(made) + "\n"
    with tempfile.TemporaryDirectory() as temporary:
        figures = Path(temporary)
        text = document.to_markdown(made, figures, folder, say)
        named = declared.name or None
        if "pdf" in formats:
            say("setting the PDF")
            if letters := pdf.foreign_letters(f"{text}{declared.title}{declared.name}"):
                say(
                    f"hw2.pdf: {letters} need a font of this machine; look whether they are there, "
                    "or hand in hw2.html"
                )
            try:
                contents["pdf"] = pdf.to_pdf(
                    text, figures, title=declared.title, author=named, paper=paper
                )
            except pdf.UnprintableError as error:
                unprintable = error
        if "html" in formats:
            say("setting the page")
            contents["html"] = html.to_html(text, figures, title=declared.title, author=named)
        if contents.keys() & {"pdf", "html"}:
            for line in document.unreadable_formulas(made, figures):
                say(line)
    if _bytes(folder / "hw2.ipynb") != as_read:
        say("hw2.ipynb was saved in the meantime; starting again with it")
        return build(
            runs_folder,
            out,
            formats=formats,
            title=title,
            author=author,
            acknowledged=acknowledged,
            reference=reference,
            paper=paper,
            say=say,
        )
    _tell_what_is_open(made, merged, formats, say)
    paths = []
    for kind, content in contents.items():
        path = folder / f"hw2.{kind}"
        try:
            write_atomic(path, content)
        except OSError as error:
            raise OutputError(f"out: {path} cannot be written ({error.strerror})") from None
        paths.append(path.resolve())
    if unprintable is not None:
        raise unprintable
    return paths


def _bytes(path: Path) -> bytes | None:
    """Return what a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _seen_from(folder: Path, other: Path) -> str:
    return Path(os.path.relpath(other.resolve(), folder.resolve())).as_posix()


def _keep_beside(path: Path) -> Path:
    """Copy a notebook that cannot be merged to a name that is free."""
    number = 1
    while (backup := path.with_name(f"hw2.old-{number}.ipynb")).exists():
        number += 1
    write_atomic(backup, path.read_bytes())
    return backup


def _tell_what_is_open(
    made: NotebookNode, merged: Merged, formats: Sequence[str], say: Callable[[str], None]
) -> None:
    """Name the generated cells that the author changed, and the prompts that are still empty."""
    if merged.changed:
        say(f"kept as you changed them, and marked in print: {', '.join(merged.changed)}")
    still_open = [str(id_of(cell)) for cell in made.cells if is_open(cell)]
    if still_open:
        where = "hw2.ipynb" if "ipynb" in formats else "the notebook (--format ipynb makes it)"
        say(
            f"{len(still_open)} prompts wait for your own words: "
            f"{', '.join(name.removeprefix('own-') for name in still_open)}. Write under them in "
            f"{where}, save, and make the report again"
        )


def _check_writable(folder: Path) -> None:
    probe = folder / f".room.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"out: {folder} cannot be written ({error.strerror})") from None

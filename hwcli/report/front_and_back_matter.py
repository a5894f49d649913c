"""What stands before and after the four answers: whose runs they are, and how they were made."""

import ast
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from hwcli.output.tables import Column, Table
from hwcli.report.cells import Cell
from hwcli.report.checks import doubts
from hwcli.report.recurrences import folder_of
from hwcli.report.runs import Run
from hwcli.report.templates import render

# Packages that do the work, by what they are imported as; the hand-in names those that were used.
TOOLS = ("torch", "torchvision", "transformers", "sklearn", "scipy", "numpy", "matplotlib")
HWCLI = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def opening(used: Sequence[Run], folders: dict[str, str], title: str, author: str) -> list[Cell]:
    """Return the title, whose runs are shown, and the notebook's first code cell."""
    references = [run for run in used if run.is_reference]
    return render(
        "front",
        title=title,
        author=author or "Author: not given",
        references=[f"`{run.id}`" for run in references],
        measured=_measured(references),
        folders={"runs": folders["runs"], "reference": folders.get("reference", "")},
    )


def _measured(runs: Sequence[Run]) -> str:
    """Say where the runs were measured; of several machines the appendix says which ran what."""
    machines = sorted({run.machine for run in runs})
    if len(machines) < 2:
        return f"Measured on {'; '.join(machines)}."
    return "The appendix names the machine of each."


def closing(
    used: Sequence[Run], not_shown: Mapping[str, str], acknowledged: Sequence[str]
) -> list[Cell]:
    """Return collaborators, tools and the appendix.

    Args:
        used: the runs that are shown.
        not_shown: why finished runs of the author's are not, by name.
        acknowledged: collaborators and tools, a sentence each.
    """
    return render(
        "back",
        acknowledged=list(acknowledged),
        not_shown=not_shown,
        doubts={run.id: found for run in used if (found := doubts(run))},
        tools=tools(used),
        used=[(folder_of(run), run.is_reference) for run in used],
        commands=[(run.id + _mark(run), _command_line(run)) for run in used],
    )


def tools(used: Sequence[Run]) -> str:
    """Name what the runs and the report were made with, by what their code imports."""
    imported = imports_behind([*map(_module_of, used), "hwcli.report.display"])
    versions: dict[str, str] = {}
    for run in used:
        versions |= run.environment.versions
    named = []
    for module in TOOLS:
        if module not in imported:
            continue
        name = DISTRIBUTIONS.get(module, module)
        try:
            version = versions.get(name) or metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        named.append(f"{name} {version}")
    own = any(not run.is_reference for run in used)
    made = " the runs and" if own else ""
    reference = (
        " The hw2 project made the reference runs." if any(run.is_reference for run in used) else ""
    )
    return (
        f"hw2 made{made} this document, with {', '.join(named)}.{reference} Pandoc and Typst set "
        "the pages."
    )


def _module_of(run: Run) -> str:
    return f"hwcli.experiments.{run.command.replace('-', '_')}"


def imports_behind(modules: Sequence[str]) -> set[str]:
    """Return the packages that modules of hwcli import, and the modules of hwcli these need."""
    packages: set[str] = set()
    known: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in known:
            continue
        known.add(module)
        path = HWCLI.parent.joinpath(*module.split("."))
        source = next(
            (p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None
        )
        if source is None:  # a name inside a module, not a module
            continue
        for name in _imported_names(source.read_text(encoding="utf-8")):
            packages.add(name.partition(".")[0])
            if name.startswith("hwcli."):
                waiting.append(name)
    return packages


def _imported_names(source: str) -> set[str]:
    """Return what a piece of code imports, dotted: modules, and names from modules."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return names


def runs_table(runs: Sequence[Run]) -> Table:
    """Return commit and machine of each run."""
    return Table(
        title="The runs behind this hand-in",
        columns=[
            Column("run", "run"),
            Column("whose", "whose"),
            Column("commit", "commit"),
            Column("dtype", "numbers"),
            Column("torch", "torch"),
            Column("machine", "machine"),
        ],
        rows=[
            {
                "run": run.id,
                "whose": "reference" if run.is_reference else "own",
                "commit": _commit(run),
                "dtype": run.environment.dtype,
                "torch": run.environment.versions.get("torch"),
                "machine": run.machine,
            }
            for run in runs
        ],
        notes=["A commit with + had changes that were not committed."]
        if any(_commit(run).endswith("+") for run in runs)
        else [],
    )


def _mark(run: Run) -> str:
    return " (reference)" if run.is_reference else ""


REPRODUCED = "reproduced"
"""The folder that the printed commands write to: none of them replaces a run."""


def _command_line(run: Run) -> str:
    """Return the command of a run, without the folders and other runs that it was given."""
    given = run.environment.command_line
    kept: list[str] = []
    is_value = False
    for word in given:
        name, _, value = word.partition("=")
        if not is_value and name not in ("--out", "--compare-with", "--replace"):
            kept.append(word)
        is_value = not is_value and name in ("--out", "--compare-with") and not value
    return shlex.join([*kept, "--out", REPRODUCED]) if kept else "unknown"


def _commit(run: Run) -> str:
    commit = run.environment.commit
    if not commit:
        return "unknown"
    return f"{commit[:10]}{'+' if run.environment.dirty else ''}"

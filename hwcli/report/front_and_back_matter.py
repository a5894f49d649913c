"""What stands before and after the four answers: whose runs they are, and how they were made."""

import ast
import shlex
from collections.abc import Sequence
from importlib import metadata

from hwcli.output.tables import Column, Table
from hwcli.report.cells import Cell
from hwcli.report.recurrences import folder_of
from hwcli.report.runs import Run, Runs
from hwcli.report.templates import render

# Packages that do the work, by what they are imported as; the hand-in names those in use.
TOOLS = ("torch", "torchvision", "transformers", "sklearn", "scipy", "numpy", "matplotlib")
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def opening(
    runs: Runs, used: Sequence[Run], folders: dict[str, str], title: str, author: str
) -> list[Cell]:
    """Return the title, whose runs are shown, and the notebook's first code cell."""
    references = [run for run in used if run.is_reference]
    return render(
        "front",
        title=title,
        author=author or "Author: not given",
        references=[f"`{run.id}`" for run in references],
        machines=list(dict.fromkeys(run.machine for run in references)),
        left_out=runs.left_out,
        folders={"runs": folders["runs"], "reference": folders.get("reference", "")},
    )


def closing(used: Sequence[Run], acknowledged: Sequence[str]) -> list[Cell]:
    """Return collaborators, tools and the appendix."""
    return render(
        "back",
        acknowledged=list(acknowledged),
        tools=tools(used),
        used=[folder_of(run) for run in used],
        commands=[(run.id + _mark(run), _command_line(run)) for run in used],
    )


def tools(used: Sequence[Run]) -> str:
    """Name what the runs and the report were made with, by what they import."""
    versions: dict[str, str] = {}
    for run in used:
        versions |= run.environment.get("versions", {})
    named = []
    for module in TOOLS:
        name = DISTRIBUTIONS.get(module, module)
        try:
            version = versions.get(name) or metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        named.append(f"{name} {version}")
    reference = ", and some of its reference runs" if any(run.is_reference for run in used) else ""
    return (
        f"hw2 (code, runs and this document{reference}), with {', '.join(named)}; the pages were "
        "set by pandoc and Typst."
    )


def imported_modules(source: str) -> set[str]:
    """Return the top-level modules that a piece of code imports."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return set()
    found = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    found |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    return {name.partition(".")[0] for name in found}


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
                "dtype": run.environment.get("dtype"),
                "torch": run.environment.get("versions", {}).get("torch"),
                "machine": run.machine,
            }
            for run in runs
        ],
        notes=["A commit with + had changes that were not committed."],
    )


def _mark(run: Run) -> str:
    return " (reference)" if run.is_reference else ""


def _command_line(run: Run) -> str:
    return shlex.join(run.environment.get("command_line", [])) or "unknown"


def _commit(run: Run) -> str:
    commit = run.environment.get("commit")
    if not commit:
        return "unknown"
    return f"{commit[:10]}{'+' if run.environment.get('dirty') else ''}"

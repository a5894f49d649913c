"""What stands before and after the four answers: whose runs they are, and how they were made."""

import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata

from hwcli.output.tables import Column, Table
from hwcli.report.cells import Cell
from hwcli.report.checks import doubts
from hwcli.report.runs import Run
from hwcli.report.templates import render

# Packages that do the work, in the order in which the hand-in names them.
TOOLS = ("torch", "torchvision", "transformers", "scikit-learn", "scipy", "numpy", "matplotlib")
# Those that only the runs of some commands need.
NEEDED_BY = {
    "torchvision": {"vit-sweep"},
    "transformers": {"sentiment-train"},
    "scikit-learn": {"sentiment-train"},
    "scipy": {"attention-bench", "vit-sweep", "sentiment-train"},
}


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
        acknowledged=" ".join(map(_sentence, acknowledged)),
        not_shown=not_shown,
        doubts={run.id: found for run in used if (found := doubts(run))},
        tools=tools(used),
        used=[(run.folder, run.is_reference) for run in used],
        commands=[(run.id + _mark(run), _command_line(run)) for run in used],
    )


def tools(used: Sequence[Run]) -> str:
    """Name what the runs and the report were made with."""
    commands = {run.command for run in used}
    own = [run for run in used if not run.is_reference]
    named = []
    for name in TOOLS:
        if name in NEEDED_BY and commands.isdisjoint(NEEDED_BY[name]):
            continue
        if versions := _versions(name, own):
            named.append(f"{name} {' and '.join(versions)}")
    made = " the runs and" if own else ""
    reference = " The hw2 project made the reference runs." if len(own) < len(used) else ""
    return (
        f"hw2 made{made} this document, with {', '.join(named)}.{reference} Pandoc and Typst set "
        "the pages."
    )


def _versions(package: str, own: Sequence[Run]) -> list[str]:
    """Return the versions of a package in the author's runs, else the one that is installed."""
    found = {run.environment.versions.get(package) for run in own} - {None}
    if found:
        return sorted(map(str, found))
    try:
        return [metadata.version(package)]
    except metadata.PackageNotFoundError:
        return []


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


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

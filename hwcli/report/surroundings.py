"""What surrounds the four answers: which runs they rest on, and how to make each number again."""

import shlex
from collections.abc import Sequence

from hwcli.output.tables import Column, Table
from hwcli.report.cells import Cell, code, text, words
from hwcli.report.runs import Run, Runs


def opening(runs: Runs, root_from_notebook: str) -> list[Cell]:
    """Return what stands before the first question."""
    cells = [
        text(
            "Every table and figure below is read from the folder of a finished run, and every "
            "number in the text comes from its summary. The cells re-run from top to bottom "
            "without training anything that takes longer than seconds."
        ),
        code(
            f"""
            from pathlib import Path

            from hwcli.report.display import show, show_source
            from hwcli.report.runs import read_run

            RUNS = Path("{root_from_notebook}")
            """
        ),
    ]
    if runs.left_out:
        lines = "\n".join(f"- `{name}`: {reason}" for name, reason in runs.left_out.items())
        cells.append(text(f"**Left out**, as not whole:\n\n{lines}"))
    return cells


def acknowledgements(acknowledged: Sequence[str], used: Sequence[Run]) -> list[Cell]:
    """Return collaborators and tools: what the author says, and what the runs were made with."""
    packages = sorted({package for run in used for package in run.environment.get("versions", {})})
    tools = f"The experiments and this report were made by `hw2`, with {', '.join(packages)}."
    said = "\n\n".join(acknowledged)
    return [
        text(f"# Collaborators and tools\n\n{said}\n\n{tools if packages else ''}".rstrip()),
        words("acknowledgements", "with whom did you work, and what did you use?"),
    ]


def environment(used: Sequence[Run]) -> list[Cell]:
    """Return the page by which every number can be made again."""
    heading = text(
        "# Environment\n\nEach run below is made again by its command line at its commit, or "
        "from its stored config by `--config`."
    )
    if not used:
        return [text("# Environment\n\nNo run is there yet.")]
    names = "\n".join(f'    "{run.id}",' for run in used)
    return [
        heading,
        code(
            f"""
from hwcli.report.surroundings import commands_table, machine_tables

used = [read_run(RUNS / name) for name in (
{names}
)]
show(commands_table(used))
for table in machine_tables(used):
    show(table)
            """
        ),
        text("The configs as they were resolved:"),
        code(
            """
            import yaml

            for run in used:
                print(f"# {run.id}/config.yaml")
                print(yaml.safe_dump(dict(run.config), default_flow_style=True, sort_keys=False,
                                     width=84, allow_unicode=True))
            """
        ),
    ]


def commands_table(runs: Sequence[Run]) -> Table:
    """Return command line and commit of each run."""
    return Table(
        title="How each run was made",
        columns=[
            Column("run", "run"),
            Column("command", "command line"),
            Column("commit", "commit"),
            Column("dtype", "numbers"),
            Column("threads", "threads"),
        ],
        rows=[
            {
                "run": run.id,
                "command": shlex.join(run.environment.get("command_line", [])),
                "commit": _commit(run),
                "dtype": run.environment.get("dtype"),
                "threads": run.environment.get("threads"),
            }
            for run in runs
        ],
        notes=["A commit with + had changes that were not committed."],
    )


def _commit(run: Run) -> str:
    commit = run.environment.get("commit")
    if not commit:
        return "unknown"
    return f"{commit[:10]}{'+' if run.environment.get('dirty') else ''}"


def machine_tables(runs: Sequence[Run]) -> list[Table]:
    """Return a table for each machine and set of versions that runs were made with."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run in runs:
        env = run.environment
        memory = env.get("memory_bytes")
        facts = {
            "hw2": env.get("hw2"),
            "python": env.get("python"),
            **env.get("versions", {}),
            "platform": env.get("platform"),
            "processor": env.get("cpu"),
            "cores": env.get("cores"),
            # Rounded: what is usable of the same machine differs from start to start.
            "memory": memory and f"{memory / 2**30:.0f} GiB",
            "device": env.get("gpu") or env.get("device"),
        }
        key = tuple((name, str(value)) for name, value in facts.items() if value is not None)
        groups.setdefault(key, []).append(run.id)
    return [
        Table(
            title=f"Machine and versions of {', '.join(names)}",
            columns=[Column("what", "what"), Column("value", "value")],
            rows=[{"what": what, "value": value} for what, value in key],
        )
        for key, names in groups.items()
    ]

"""Which runs are finished and which trials are done, from the files alone."""

from collections import Counter
from pathlib import Path
from typing import get_args

from hwcli.errors import OutputError
from hwcli.output.files import read_json
from hwcli.output.tables import Column, Table
from hwcli.sweep.store import State, TrialStore

STATES: tuple[State, ...] = get_args(State)


def status_table(out: Path) -> Table:
    """Return one row for each run folder, and its trials by state where it is a sweep's.

    Raises:
        OutputError: there is no such folder.
    """
    if not out.is_dir():
        raise OutputError(f"out = {str(out)!r}: no such folder; runs are written to it")
    rows = []
    for config in sorted(out.glob("*/*/config.yaml")):
        folder = config.parent
        row: dict[str, object] = {
            "command": folder.parent.name,
            "name": folder.name,
            "status": _read_status(folder / "summary.json"),
        }
        trials = folder / "trials.json"
        if trials.exists():
            store = TrialStore(folder.parent / "trials")
            counts = Counter(store.folder(trial["id"]).state() for trial in read_json(trials))
            row |= {state: counts[state] for state in STATES}
        rows.append(row)
    return Table(
        title=f"Runs in {out}",
        columns=[
            Column("command", "command"),
            Column("name", "name"),
            Column("status", "run"),
            *(Column(state, f"trials {state}") for state in STATES),
        ],
        rows=rows,
        notes=[] if rows else ["None yet."],
    )


def _read_status(summary: Path) -> str:
    try:
        return str(read_json(summary)["status"])
    except FileNotFoundError:
        return "not finished"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged summary"

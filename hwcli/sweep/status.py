"""Which runs are finished and which trials are done, from the files alone; nothing is written."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from hwcli.errors import OutputError
from hwcli.locks import is_held
from hwcli.output.files import read_json, read_mapping
from hwcli.output.run_folder import STAGING
from hwcli.output.tables import Column, Table, csv_text
from hwcli.output.units import duration
from hwcli.sweep.forecast import makespan
from hwcli.sweep.ownership import read_owner
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial_status import (
    STATES,
    TrialStatus,
    accuracy_of,
    describe_settings,
    machine,
    read_listed_trial,
    read_rows,
    read_trial,
)


@dataclass(frozen=True)
class RunStatus:
    """The state of one run.

    Attributes:
        command: that wrote it.
        name: of the run.
        status: ``complete``, ``partial``, ``running``, ``not finished`` or ``damaged ...``.
        trials: how many are in which state; empty where the run is no sweep.
        failures: one line for each failed or damaged trial: its settings that differ, its id, why.
        seconds_left: of a sweep that runs.
        trained_on: how many trials were trained on which processor or GPU.
        lowest_test_accuracy: of its finished trials, or of the run itself where it is no sweep; a
            share of 1. None where nothing has one.
        highest_test_accuracy: likewise.
    """

    command: str
    name: str
    status: str
    trials: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[str] = ()
    seconds_left: float | None = None
    trained_on: Mapping[str, int] = field(default_factory=dict)
    lowest_test_accuracy: float | None = None
    highest_test_accuracy: float | None = None

    def to_row(self) -> dict[str, Any]:
        """Return one flat row, for CSV and the table."""
        return {
            "command": self.command,
            "name": self.name,
            "status": self.status,
            **{state: self.trials.get(state, 0) for state in STATES},
            "seconds_left": self.seconds_left,
            "lowest_test_accuracy": self.lowest_test_accuracy,
            "highest_test_accuracy": self.highest_test_accuracy,
            "trained_on": "; ".join(self.trained_on),
            "failures": "; ".join(self.failures),
        }


def read_runs(out: Path) -> list[RunStatus]:
    """Return the state of each run.

    Raises:
        OutputError: there is no such folder.
    """
    return [_read_run(folder) for folder in _run_folders(out)]


def read_trials(out: Path) -> list[TrialStatus]:
    """Return the state of each trial of each command, used by a run or not.

    Trials that only runs list, such as those of a copied run, come after those of the stores.

    Raises:
        OutputError: there is no such folder.
    """
    _check_is_there(out)
    found = {}
    for path in sorted(out.glob("*/trials")):
        for stored in TrialStore(path).folders():
            found[path.parent.name, stored.path.name] = read_trial(stored, path.parent.name)
    for folder in _run_folders(out):
        rows, command = read_rows(folder), folder.parent.name
        for row in rows if isinstance(rows, list) else ():
            if (command, row["id"]) not in found:
                store = TrialStore(folder.parent / "trials")
                found[command, row["id"]] = read_listed_trial(row, store, command)
    return list(found.values())


def _run_folders(out: Path) -> list[Path]:
    _check_is_there(out)
    configs = (*out.glob("*/*/config.yaml"), *out.glob(f"*/*/{STAGING}/config.yaml"))
    return sorted({p.parent.parent if p.parent.name == STAGING else p.parent for p in configs})


def _check_is_there(out: Path) -> None:
    if not out.is_dir():
        raise OutputError(f"out = {str(out)!r}: no such folder; runs are written to it")


def status_table(out: Path) -> Table:
    """Return one row for each run: done, failed and running trials, time left, machines."""
    runs = read_runs(out)
    notes = [f"{run.command} {run.name}: {line}" for run in runs for line in run.failures[:3]]
    return Table(
        title=f"Runs in {out}",
        columns=[
            Column("command", "command", priority=0),
            Column("name", "name", priority=0),
            Column("status", "run", priority=0),
            Column("counts", "trials", priority=1),
            Column("accuracies", "test accuracy, %", priority=1),
            Column("seconds_left", "time left", duration, priority=1),
            Column("trained_on", "trained on", priority=2),
        ],
        rows=[
            {
                **run.to_row(),
                "counts": _describe_counts(run.trials) if run.trials else None,
                "accuracies": _describe_accuracies(run),
                "trained_on": _describe_machines(run.trained_on) or None,
            }
            for run in runs
        ],
        notes=notes if runs else [f"None yet in {out.resolve()}."],
    )


def trials_table(out: Path) -> Table:
    """Return one row for each trial; ``--csv`` and ``--json`` hold identity and result, too."""
    trials = read_trials(out)
    # By settings, 8 before 10; those of a command stay together.
    settings = sorted(
        zip(describe_settings(trials), trials, strict=True),
        key=lambda pair: (pair[1].command, _padded(pair[0]), pair[1].id),
    )
    return Table(
        title=f"Trials in {out}",
        columns=[
            Column("command", "command", priority=0),
            Column("id", "trial", priority=0),
            Column("settings", "what differs", priority=1),
            Column("state", "state", priority=0),
            Column("share", "done", "{:.0%}", priority=1),
            Column("test_accuracy", "test accuracy", "{:.2%}", priority=1),
            Column("reason", "why it failed", priority=1),
            Column("trained_on", "trained on", priority=2),
            Column("commit", "commit", priority=3),
        ],
        rows=[
            {
                **{k: v or None for k, v in asdict(trial).items()},
                "state": f"queued, job {trial.job}" if trial.job else trial.state,
                "settings": text or None,
                "test_accuracy": trial.test_accuracy,
            }
            for text, trial in settings
        ],
        notes=[] if trials else ["None yet."],
    )


def to_json(records: Sequence[RunStatus] | Sequence[TrialStatus]) -> list[dict[str, Any]]:
    """Return runs or trials as JSON."""
    return [asdict(record) for record in records]


def to_csv(records: Sequence[RunStatus] | Sequence[TrialStatus]) -> str:
    """Return runs or trials as CSV; columns that only some of them have are empty elsewhere."""
    return csv_text([record.to_row() for record in records])


def _read_run(folder: Path) -> RunStatus:
    command = folder.parent.name
    status = _read_status(folder / "summary.json")
    rows = read_rows(folder)
    if isinstance(rows, str):
        return RunStatus(command, folder.name, rows)
    # Also a sweep that trains nothing at the moment: it starts, waits for a queue or draws.
    is_written = is_held(folder / ".lock")
    if rows is None:
        trained_on = machine(read_mapping(folder / "env.json"))
        accuracy = accuracy_of(read_mapping(folder / "summary.json"))
        return RunStatus(
            command=command,
            name=folder.name,
            status="running" if is_written else status,
            trained_on={trained_on: 1} if trained_on else {},
            lowest_test_accuracy=accuracy,
            highest_test_accuracy=accuracy,
        )
    store = TrialStore(folder.parent / "trials")
    trials = [read_listed_trial(row, store, command) for row in rows]
    counts = Counter(trial.state for trial in trials)
    running = [trial for trial in trials if trial.state == "running"]
    # While a finished run is extended, its summary is that of before.
    if (folder / STAGING).is_dir() and any(
        counts[state] for state in ("queued", "interrupted", "missing")
    ):
        status = "not finished"
    accuracies = [trial.test_accuracy for trial in trials if trial.test_accuracy is not None]
    return RunStatus(
        command=command,
        name=folder.name,
        status="running" if running or is_written else status,
        trials={state: counts[state] for state in STATES},
        failures=_describe_failures(trials),
        seconds_left=_seconds_left(trials, running, store),
        trained_on=dict(Counter(trial.trained_on for trial in trials if trial.trained_on)),
        lowest_test_accuracy=min(accuracies, default=None),
        highest_test_accuracy=max(accuracies, default=None),
    )


def _describe_failures(trials: Sequence[TrialStatus]) -> list[str]:
    lines = []
    for trial, settings in zip(trials, describe_settings(trials), strict=True):
        name = f"{settings} ({trial.id})" if settings else trial.id
        if trial.state == "failed":
            lines.append(f"{name}: {trial.reason}")
        if trial.state == "damaged":
            lines.append(f"{name}: damaged: {trial.reason}")
    return lines


def _seconds_left(
    trials: Sequence[TrialStatus],
    running: Sequence[TrialStatus],
    store: TrialStore,
) -> float | None:
    """Estimate the time that a sweep still takes, as if all its trials took equally long."""
    if not running:
        return None
    durations, paces = [], []
    for trial in trials:
        with suppress(KeyError, TypeError, ValueError):
            durations.append(float(trial.result["train_s"]))
    for trial in running:
        owner = read_owner(store.folder(trial.id).path)
        if owner is not None and owner.share - owner.share_at_start > 0.01:
            paces.append(owner.seconds / (owner.share - owner.share_at_start))
    if not (paces or durations):
        return None
    seconds = fmean(paces or durations)
    ended = ("done", "failed", "damaged")
    left = {t.id: 1 - (t.share or 0.0) for t in trials if t.state not in ended}
    shares = [left.pop(trial.id) for trial in running]
    return seconds * makespan(shares, left.values(), len(running))


def _read_status(summary: Path) -> str:
    try:
        return str(read_json(summary)["status"])
    except FileNotFoundError:
        return "not finished"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged summary.json"


def _describe_accuracies(run: RunStatus) -> str | None:
    """Say 93.19, or 92.58 to 93.22 where the trials of a sweep differ."""
    ends = (run.lowest_test_accuracy, run.highest_test_accuracy)
    texts = [f"{100 * end:.2f}" for end in ends if end is not None]
    return " to ".join(dict.fromkeys(texts)) or None


def _padded(text: str) -> str:
    return re.sub(r"\d+", lambda number: number[0].zfill(9), text)


def _describe_machines(machines: Mapping[str, int]) -> str:
    if len(machines) == 1:
        return next(iter(machines))
    return "; ".join(f"{number} on {machine}" for machine, number in machines.items())


def _describe_counts(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    rest = [f"{counts[s]} {s}" for s in STATES if s != "done" and counts.get(s)]
    return ", ".join([f"{counts.get('done', 0)}/{total} done", *rest])

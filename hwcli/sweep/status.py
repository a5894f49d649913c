"""Which runs are finished and which trials are done, from the files alone; nothing is written."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from hwcli.config import flatten
from hwcli.errors import OutputError
from hwcli.locks import is_held
from hwcli.output.files import read_json
from hwcli.output.run_folder import STAGING
from hwcli.output.tables import Column, Table, csv_text
from hwcli.output.units import duration
from hwcli.runtime import short_cpu_name
from hwcli.sweep.forecast import makespan
from hwcli.sweep.ownership import read_owner
from hwcli.sweep.store import State, TrialFolder, TrialStore

STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class TrialStatus:
    """The state of one trial.

    Attributes:
        command: whose store it is in.
        id: of the trial.
        state: one of :data:`STATES`.
        share: the part that is done, from 0 to 1; None where it is not known.
        reason: why it failed.
        trained_on: the processor or GPU.
        commit: of the code that trained it.
        identity: what decides its numbers, flat: ``config.layers``.
        result: what it found, flat.
    """

    command: str
    id: str
    state: State
    share: float | None = None
    reason: str = ""
    trained_on: str = ""
    commit: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """Return one flat row, for CSV."""
        record = asdict(self)
        return {**record.pop("identity"), **record.pop("result"), **record}


@dataclass(frozen=True)
class RunStatus:
    """The state of one run.

    Attributes:
        command: that wrote it.
        name: of the run.
        status: ``complete``, ``partial``, ``running``, ``not finished`` or ``damaged ...``.
        trials: how many are in which state; empty where the run is no sweep.
        failures: one reason a failed trial.
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
    _check_is_there(out)
    configs = (*out.glob("*/*/config.yaml"), *out.glob(f"*/*/{STAGING}/config.yaml"))
    folders = {p.parent.parent if p.parent.name == STAGING else p.parent for p in configs}
    return [_read_run(folder) for folder in sorted(folders)]


def read_trials(out: Path) -> list[TrialStatus]:
    """Return the state of each trial of each command, used by a run or not.

    Raises:
        OutputError: there is no such folder.
    """
    _check_is_there(out)
    return [
        read_trial(folder, path.parent.name)
        for path in sorted(out.glob("*/trials"))
        for folder in TrialStore(path).folders()
    ]


def _check_is_there(out: Path) -> None:
    if not out.is_dir():
        raise OutputError(f"out = {str(out)!r}: no such folder; runs are written to it")


def read_trial(folder: TrialFolder, command: str) -> TrialStatus:
    """Return the state of one trial."""
    state = folder.state()
    result, failure = folder.result() or {}, folder.failure() or {}
    owner = read_owner(folder.path) if state == "running" else None
    environment = result.get("trained_on") or _read_mapping(folder.environment)
    return TrialStatus(
        command=command,
        id=folder.path.name,
        state=state,
        share=1.0 if state == "done" else owner.share if owner else None,
        reason=str(failure.get("reason", "")) if state == "failed" else "",
        trained_on=_machine(environment),
        commit=str(environment.get("commit") or "")[:7],
        identity=_flat(folder.identity() or {}),
        result=_flat(result),
    )


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
    settings = zip(_describe_settings(trials), trials, strict=True)
    # By settings, 8 before 10; those of a command stay together.
    settings = sorted(settings, key=lambda pair: (pair[1].command, _padded(pair[0]), pair[1].id))
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
                "settings": text or None,
                "test_accuracy": _test_accuracy(trial.result),
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
    listed = _read_listed(folder)
    if listed is None:
        machine = _machine(_read_mapping(folder / "env.json"))
        accuracy = _test_accuracy(_read_mapping(folder / "summary.json"))
        return RunStatus(
            command=command,
            name=folder.name,
            status="running" if is_held(folder / ".lock") else status,
            trained_on={machine: 1} if machine else {},
            lowest_test_accuracy=accuracy,
            highest_test_accuracy=accuracy,
        )
    if isinstance(listed, str):
        return RunStatus(command, folder.name, listed)
    store = TrialStore(folder.parent / "trials")
    trials, durations, accuracies = [], [], []
    for row in listed:
        trial = read_trial(store.folder(row["id"]), command)
        ended = row.get("state") if trial.state != "interrupted" else "done"
        if trial.state in ("missing", "interrupted") and row.get("state") == ended in STATES:
            # The store is working space: the run folder alone says how it ended.
            where = {key: row.get(f"result.trained_on.{key}") for key in ("gpu", "processor")}
            trial = TrialStatus(
                command,
                row["id"],
                row["state"],
                reason=row.get("reason") or "",
                trained_on=_machine({k: name for k, name in where.items() if name != "null"}),
                result={"test_accuracy": row.get("result.test_accuracy")},
            )
        trials.append(trial)
        with suppress(KeyError, TypeError, ValueError):
            durations.append(float(trial.result["train_s"]))
        if (accuracy := _test_accuracy(trial.result)) is not None:
            accuracies.append(accuracy)
    counts = Counter(trial.state for trial in trials)
    running = [trial for trial in trials if trial.state == "running"]
    # While a finished run is extended, its summary is that of before.
    if (folder / STAGING).is_dir() and counts["missing"] + counts["interrupted"]:
        status = "not finished"
    return RunStatus(
        command=command,
        name=folder.name,
        status="running" if running else status,
        trials={state: counts[state] for state in STATES},
        failures=[f"{trial.id}: {trial.reason}" for trial in trials if trial.state == "failed"],
        seconds_left=_seconds_left(trials, running, store, durations),
        trained_on=dict(Counter(trial.trained_on for trial in trials if trial.trained_on)),
        lowest_test_accuracy=min(accuracies, default=None),
        highest_test_accuracy=max(accuracies, default=None),
    )


def _read_listed(folder: Path) -> list[dict[str, Any]] | str | None:
    """Return the trials that a run lists; a text where the list is damaged, None where none is."""
    for place in (folder / STAGING, folder):
        for name in ("trials.csv", "trials.json"):
            path = place / name
            if not path.exists():
                continue
            try:
                if name == "trials.csv":
                    text = path.read_text(encoding="utf-8")
                    rows: list[Any] = list(csv.DictReader(io.StringIO(text)))
                else:
                    rows = read_json(path)
            except (OSError, ValueError, csv.Error):
                return f"damaged {name}"
            whole = isinstance(rows, list) and all(
                isinstance(row, dict) and isinstance(row.get("id"), str) and "/" not in row["id"]
                for row in rows
            )
            return rows if whole and rows else f"damaged {name}"
    return None


def _seconds_left(
    trials: Sequence[TrialStatus],
    running: Sequence[TrialStatus],
    store: TrialStore,
    durations: Sequence[float],
) -> float | None:
    """Estimate the time that a sweep still takes, as if all its trials took equally long."""
    if not running:
        return None
    paces = []
    for trial in running:
        owner = read_owner(store.folder(trial.id).path)
        if owner is not None and owner.share - owner.share_at_start > 0.01:
            paces.append(owner.seconds / (owner.share - owner.share_at_start))
    if not (paces or durations):
        return None
    seconds = fmean(paces or durations)
    left = {t.id: 1 - (t.share or 0.0) for t in trials if t.state not in ("done", "failed")}
    shares = [left.pop(trial.id) for trial in running]
    return seconds * makespan(shares, left.values(), len(running))


def _read_status(summary: Path) -> str:
    try:
        return str(read_json(summary)["status"])
    except FileNotFoundError:
        return "not finished"
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged summary.json"


def _read_mapping(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = read_json(path)
        if isinstance(found, dict):
            return found
    return {}


def _test_accuracy(result: Mapping[str, Any]) -> float | None:
    with suppress(TypeError, ValueError):
        return float(result.get("test_accuracy"))  # type: ignore[arg-type]
    return None


def _describe_accuracies(run: RunStatus) -> str | None:
    """Say 93.19, or 92.58 to 93.22 where the trials of a sweep differ."""
    ends = (run.lowest_test_accuracy, run.highest_test_accuracy)
    texts = [f"{100 * end:.2f}" for end in ends if end is not None]
    return " to ".join(dict.fromkeys(texts)) or None


def _padded(text: str) -> str:
    return re.sub(r"\d+", lambda number: number[0].zfill(9), text)


def _describe_settings(trials: Sequence[TrialStatus]) -> list[str]:
    """Name the settings of each trial in which the trials of its command differ."""
    differing = {}
    for command in {trial.command for trial in trials}:
        identities = [trial.identity for trial in trials if trial.command == command]
        keys = dict.fromkeys(key for identity in identities for key in identity)
        differing[command] = [key for key in keys if len({i.get(key) for i in identities}) > 1]
    return [
        ", ".join(
            f"{key.removeprefix('config.')} {trial.identity[key]}"
            for key in differing[trial.command]
            if key in trial.identity
        )
        for trial in trials
    ]


def _machine(environment: Mapping[str, Any]) -> str:
    """Return the GPU, or the processor with its widest vectors, without trademark signs."""
    name = environment.get("gpu") or environment.get("processor") or environment.get("cpu") or ""
    return re.sub(r"\((?:R|TM)\)", "", short_cpu_name(str(name))).strip()


def _describe_machines(machines: Mapping[str, int]) -> str:
    if len(machines) == 1:
        return next(iter(machines))
    return "; ".join(f"{number} on {machine}" for machine, number in machines.items())


def _describe_counts(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    rest = [f"{counts[s]} {s}" for s in STATES if s != "done" and counts.get(s)]
    return ", ".join([f"{counts.get('done', 0)}/{total} done", *rest])


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scalars of nested mappings, by dotted keys; lists as JSON."""
    return {
        key: json.dumps(value) if isinstance(value, list) else value
        for key, value in flatten(record)
    }

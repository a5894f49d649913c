"""The state of one trial, as its own folder or its row of a run's ``trials.csv`` tells it."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from hwcli.config import flatten
from hwcli.output.files import read_json, read_mapping
from hwcli.output.run_folder import STAGING
from hwcli.processor import short_cpu_name
from hwcli.sweep.ownership import read_owner
from hwcli.sweep.store import TrialFolder, TrialStore
from hwcli.sweep.trial_rows import read_fields

ShownState = Literal["done", "failed", "running", "queued", "interrupted", "missing", "damaged"]
"""The store's states, and two more.

``queued``: submitted to SLURM, and not started yet. Files do not tell whether somebody has
cancelled the job since then. ``damaged``: a run found that its files contradict each other.
"""

STATES: tuple[ShownState, ...] = get_args(ShownState)


@dataclass(frozen=True)
class TrialStatus:
    """The state of one trial.

    Attributes:
        command: whose store it is in.
        id: of the trial.
        state: one of :data:`STATES`.
        share: the part that is done, from 0 to 1; None where it is not known.
        reason: why it failed, or what is damaged.
        job: SLURM's number of a queued trial.
        trained_on: the processor or GPU.
        commit: of the code that trained it.
        identity: what decides its numbers, flat: ``config.layers``.
        result: what it found, flat.
    """

    command: str
    id: str
    state: ShownState
    share: float | None = None
    reason: str = ""
    job: str = ""
    trained_on: str = ""
    commit: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def test_accuracy(self) -> float | None:
        """Its test accuracy, a share of 1; None where it has none."""
        return accuracy_of(self.result)

    def to_row(self) -> dict[str, Any]:
        """Return one flat row, for CSV."""
        record = asdict(self)
        return {**record.pop("identity"), **record.pop("result"), **record}


def read_trial(folder: TrialFolder, command: str) -> TrialStatus:
    """Return the state of one trial of the store."""
    state: ShownState = folder.state()
    job = folder.queued_job() if state in ("interrupted", "missing") else None
    result, failure = folder.result() or {}, folder.failure() or {}
    environment = result.get("trained_on") or read_mapping(folder.environment)
    identity = _flat(folder.identity() or {})
    return TrialStatus(
        command=command,
        id=folder.path.name,
        state="queued" if job else state,
        share=_share(folder, state, identity),
        reason=str(failure.get("reason", "")) if state == "failed" else "",
        job=job or "",
        trained_on=machine(environment),
        commit=str(environment.get("commit") or "")[:7],
        identity=identity,
        result=_flat(result),
    )


def read_listed_trial(row: Mapping[str, Any], store: TrialStore, command: str) -> TrialStatus:
    """Return the state of a trial that a run lists.

    A result in the row is the run's own: the store may have another one, of another machine. A row
    that is damaged stays so until the trial is trained again. Of any other trial the store knows
    more, unless it has nothing of it.
    """
    listed = _from_row(row, command)
    if listed.state == "done" and listed.result:
        return listed
    stored = read_trial(store.folder(listed.id), command)
    if listed.state == "damaged":
        is_listed_newer = stored.state != "running"
    elif stored.state in ("interrupted", "queued"):
        is_listed_newer = listed.state == "done"
    else:
        is_listed_newer = stored.state == "missing"
    if is_listed_newer:
        return listed
    return replace(stored, identity=stored.identity or listed.identity)


def read_rows(folder: Path) -> list[dict[str, Any]] | str | None:
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


def describe_settings(trials: Sequence[TrialStatus]) -> list[str]:
    """Name the settings of each trial in which the trials of its command differ."""
    differing = {}
    for command in {trial.command for trial in trials}:
        identities = [i for t in trials if t.command == command and (i := t.identity)]
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


def machine(environment: Mapping[str, Any]) -> str:
    """Return the GPU, or the processor with its widest vectors, without trademark signs."""
    name = environment.get("gpu") or environment.get("processor") or environment.get("cpu") or ""
    return re.sub(r"\((?:R|TM)\)", "", short_cpu_name(str(name))).strip()


def accuracy_of(result: Mapping[str, Any]) -> float | None:
    """Return the test accuracy of a result or a summary, if it has one."""
    with suppress(TypeError, ValueError):
        return float(result.get("test_accuracy"))  # type: ignore[arg-type]
    return None


def _share(folder: TrialFolder, state: str, identity: Mapping[str, Any]) -> float | None:
    if state == "done":
        return 1.0
    if state == "running":
        owner = read_owner(folder.path)
        return owner.share if owner else None
    num_epochs = identity.get("config.epochs")
    if state == "interrupted" and isinstance(num_epochs, int) and num_epochs > 0:
        # Not every experiment keeps its epochs there.
        finished = max((epoch["epoch"] + 1 for epoch in folder.epochs()), default=None)
        return None if finished is None else min(finished / num_epochs, 1.0)
    return None


def _from_row(row: Mapping[str, Any], command: str) -> TrialStatus:
    texts = {str(key): text for key, text in row.items() if isinstance(text, str)}
    identity, result = dict[str, Any](), dict[str, Any]()
    for part, name, value in read_fields(texts):
        place = result if part == "result" else identity
        prefix = "config." if part in ("config", "point") else ""
        place[prefix + name] = _plain(value)
    environment = {key: result.get(f"trained_on.{key}") for key in ("gpu", "processor")}
    state: ShownState = next((each for each in STATES if each == texts.get("state")), "missing")
    return TrialStatus(
        command=command,
        id=row["id"],
        state=state,
        share=1.0 if state == "done" else None,
        reason=texts.get("reason", ""),
        trained_on=machine(environment),
        commit=str(result.get("trained_on.commit") or "")[:7],
        identity=identity,
        result=result,
    )


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scalars of nested mappings, by dotted keys; lists as JSON."""
    return {key: _plain(value) for key, value in flatten(record)}


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value

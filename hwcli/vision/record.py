"""A sweep's trials in its run folder: everything that the report, a comparison or a table needs.

``trials.csv`` has a row for each trial, ``predictions.safetensors`` what each network says of the
test images, and the true labels. A copy of the folder is a copy of the run.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from hwcli.config import flatten
from hwcli.errors import HwError
from hwcli.output import terminal
from hwcli.output.files import read_json, read_jsonl
from hwcli.output.tables import csv_text
from hwcli.sweep.store import TrialFolder
from hwcli.sweep.trial_rows import PREFIXES, read_fields, spell_value
from hwcli.training.progress import Epoch
from hwcli.vision.cells import LabelArray, Predictions, TrialRecord, TrialResult
from hwcli.vision.grid import CellKey, Point
from hwcli.vision.places import TrainedOn

TRIALS, PREDICTIONS, METRICS = "trials.csv", "predictions.safetensors", "metrics.jsonl"


class RecordError(HwError):
    """A run folder's trials cannot be read; the text says which file, and why."""


@dataclass(frozen=True)
class SweepRecord:
    """The trials of a run.

    Attributes:
        trials: all of the grid, in the order of the table.
        predictions: by trial id, of those that are done.
        labels: (N,) true classes of the test images; None where no trial is done.
        epochs: by trial id, those that are finished.
    """

    trials: Sequence[TrialRecord]
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    labels: LabelArray | None = None
    epochs: Mapping[str, Sequence[Epoch]] = field(default_factory=dict)

    def histories(self) -> list[tuple[Point, Sequence[Epoch]]]:
        """Return the point and the epochs of each network that has some."""
        return [(t.point, self.epochs[t.id]) for t in self.trials if self.epochs.get(t.id)]

    def hits(self) -> dict[CellKey, dict[int, Any]]:
        """Return which test images each network got right: by cell and seed, booleans (N,)."""
        hits: dict[CellKey, dict[int, Any]] = {}
        for trial in self.trials:
            found = self.predictions.get(trial.id)
            if trial.result is not None and found is not None and self.labels is not None:
                hits.setdefault(trial.key, {})[trial.seed] = found.label == self.labels
        return hits

    def done(self) -> dict[str, TrialRecord]:
        """Return the trials that are done and have their predictions, by id."""
        return {
            trial.id: trial
            for trial in self.trials
            if trial.state == "done" and trial.id in self.predictions
        }


def record_files(record: SweepRecord) -> dict[str, str | bytes]:
    """Return the files that a record is, by name."""
    return {
        TRIALS: trials_csv(record.trials),
        PREDICTIONS: predictions_file(record),
        METRICS: epochs_jsonl(record),
    }


def trials_csv(trials: Sequence[TrialRecord]) -> str:
    """Return the content of ``trials.csv``: identity, state and result of each trial."""
    return csv_text([_to_row(trial) for trial in trials])


def predictions_file(record: SweepRecord) -> bytes:
    """Return ``predictions.safetensors``: ``<id>.label``, ``<id>.probability`` and ``labels``."""
    tensors: dict[str, Any] = {} if record.labels is None else {"labels": record.labels}
    for trial_id, predictions in record.predictions.items():
        tensors[f"{trial_id}.label"] = predictions.label
        tensors[f"{trial_id}.probability"] = predictions.probability
    return save(tensors)


def read_record(folder: Path) -> SweepRecord:
    """Read a run folder's trials, each held against its id and its predictions.

    A trial that does not fit them has the state ``damaged``, and no result.

    Raises:
        RecordError: there is no ``trials.csv``, or it cannot be read.
    """
    path = folder / TRIALS
    try:
        text = path.read_text(encoding="utf-8")
        trials = [_from_row(row) for row in csv.DictReader(io.StringIO(text), strict=True)]
        if not trials:
            raise ValueError("it has no rows")
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except (ValidationError, KeyError, TypeError):
        raise RecordError(f"{path}: cannot be read (a row is not whole)") from None
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordError(f"{path}: cannot be read ({reason})") from None
    predictions, labels = _read_predictions(folder / PREDICTIONS)
    trials = [checked(trial, predictions.get(trial.id), labels) for trial in trials]
    return SweepRecord(trials, predictions, labels, _read_all_epochs(folder / METRICS))


def read_known(folder: Path) -> SweepRecord:
    """Return the trials that a run folder has, none where it has no record that can be read."""
    try:
        return read_record(folder)
    except RecordError as error:
        if (folder / TRIALS).exists():
            terminal.log(f"{error}; its trials are not used")
        return SweepRecord([])


def checked(
    trial: TrialRecord, predictions: Predictions | None, labels: LabelArray | None
) -> TrialRecord:
    """Return a trial as it is, or as damaged where its files contradict each other.

    Args:
        trial: done or not.
        predictions: its own; None where they are not kept.
        labels: (N,) true classes of the test images; None where they are not kept.
    """
    if trial.result is None:
        return trial
    problem = None
    if not trial.id_fits():
        problem = "its id is not that of its settings"
    elif predictions is not None and labels is not None:
        problem = find_contradiction(trial.result, predictions, labels)
    if problem is None:
        return trial
    return replace(trial, state="damaged", reason=problem, result=None)


def find_contradiction(
    result: TrialResult, predictions: Predictions, labels: LabelArray
) -> str | None:
    """Say how a result contradicts its predictions, or return None if they agree."""
    if predictions.label.shape != labels.shape or predictions.label.max(initial=0) > labels.max():
        return "its predictions are not those of the test images"
    accuracy = float((predictions.label == labels).mean())
    if abs(accuracy - result.test_accuracy) > 0.5 / len(labels):
        return (
            f"its test accuracy is stored as {result.test_accuracy:.2%}, "
            f"its predictions have {accuracy:.2%}"
        )
    return None


def read_trial(
    blank: TrialRecord, folder: TrialFolder, labels: LabelArray
) -> tuple[TrialRecord, Predictions | None, Sequence[Epoch]]:
    """Read what a trial's own folder has of it.

    A trial that lost its predictions is missing, with the reason: its network only has to be
    tested again.

    Args:
        blank: the trial, as missing, to be filled in.
        folder: its own.
        labels: (N,) true classes of the test images.

    Returns:
        The trial as done, failed, damaged or missing; its predictions; its epochs.
    """
    result, failure = folder.result(), folder.failure()
    if result is None and failure is not None:
        return replace(blank, state="failed", reason=failure["reason"]), None, ()
    if result is None:
        return blank, None, ()
    predictions = read_predictions(folder.predictions)
    if predictions is None:
        reason = f"its {PREDICTIONS} is missing or damaged"
        return replace(blank, reason=reason), None, ()
    try:
        done = TrialResult.model_validate(result)
        if done.trained_on is None and folder.environment.exists():
            place = TrainedOn.from_environment(read_json(folder.environment))
            done = done.model_copy(update={"trained_on": place})
    except (OSError, ValueError):
        return replace(blank, state="damaged", reason="its result.json is damaged"), None, ()
    found = checked(replace(blank, state="done", result=done), predictions, labels)
    return found, predictions, read_epochs(folder.metrics)


def read_predictions(path: Path) -> Predictions | None:
    """Read one trial's own file of predictions; None where it is not there or damaged."""
    try:
        tensors = load_file(path)
        return Predictions(tensors["label"], tensors["probability"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def one_trials_predictions(predictions: Predictions) -> bytes:
    """Return the content of one trial's own file of predictions."""
    return save({"label": predictions.label, "probability": predictions.probability})


def epochs_jsonl(record: SweepRecord) -> str:
    """Return the content of ``metrics.jsonl``: a line for each epoch of each trial."""
    lines = [
        {"trial": trial.id, **trial.point, "seed": trial.seed, **asdict(epoch)}
        for trial in record.trials
        for epoch in record.epochs.get(trial.id, ())
    ]
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def read_epochs(path: Path) -> list[Epoch]:
    """Read one trial's own ``metrics.jsonl``; a damaged line is left out."""
    return [epoch for _, epoch in _read_lines(path)]


def _read_all_epochs(path: Path) -> dict[str, list[Epoch]]:
    epochs: dict[str, list[Epoch]] = {}
    for trial_id, epoch in _read_lines(path):
        epochs.setdefault(trial_id, []).append(epoch)
    return epochs


def _read_lines(path: Path) -> Iterator[tuple[str, Epoch]]:
    try:
        records = read_jsonl(path)
    except OSError:
        return
    for record in records:
        try:
            yield str(record.get("trial", "")), _EPOCH.validate_python(record)
        except ValueError:
            continue


_EPOCH = TypeAdapter(Epoch)


def _read_predictions(path: Path) -> tuple[dict[str, Predictions], LabelArray | None]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError):
        return {}, None
    found = {}
    for name in tensors:
        trial_id, _, what = name.partition(".")
        if what == "label" and f"{trial_id}.probability" in tensors:
            found[trial_id] = Predictions(tensors[name], tensors[f"{trial_id}.probability"])
    return found, tensors.get("labels")


# --------------------------------------------------------------------------------------
# Rows


def _to_row(trial: TrialRecord) -> dict[str, str]:
    config = dict(flatten(trial.identity["config"]))
    others = {key: value for key, value in trial.identity.items() if key != "config"}
    # The grid first. A field may be left out of the identity at one of its values.
    identity = {name: config[name] for name in (*trial.point, "seed") if name in config} | config
    result = {} if trial.result is None else trial.result.model_dump(mode="json")
    return {
        "id": trial.id,
        **{name: spell_value(value) for name, value in identity.items()},
        **{
            f"point.{name}": spell_value(trial.point[name])
            for name in trial.point
            if name not in config
        },
        **{f"identity.{name}": spell_value(value) for name, value in others.items()},
        "axes": " ".join(trial.point),
        "state": trial.state,
        "reason": trial.reason or "",
        **{f"result.{name}": spell_value(value) for name, value in flatten(result)},
    }


def _from_row(row: Mapping[str, Any]) -> TrialRecord:
    parts: dict[str, dict[str, Any]] = {part: {} for part in ("config", *PREFIXES)}
    for part, name, value in read_fields(row):
        parts[part][name] = value
    config = parts["config"]
    return TrialRecord(
        id=row["id"],
        point={name: (config | parts["point"])[name] for name in row["axes"].split()},
        seed=int(row["seed"]),
        identity={"config": _nest(config), **parts["identity"]},
        state=row["state"],
        reason=row["reason"] or None,
        result=TrialResult.model_validate(_nest(parts["result"]))
        if row["state"] == "done"
        else None,
    )


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return nested

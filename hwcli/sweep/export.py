"""Write the metrics of trials and runs for another tool, after the fact, from the files alone.

Nothing of a tracker is in the way of training. Each tool is an extra of this package.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hwcli.errors import ConfigError, OutputError
from hwcli.locks import make_folder
from hwcli.output.files import read_jsonl
from hwcli.sweep.status import read_runs, read_trials
from hwcli.sweep.store import TrialStore
from hwcli.training.progress import Epoch

# What the rows of metrics.jsonl count by.
STEPS = ("epoch", "step", "t")
OF_AN_EPOCH = {field.name for field in fields(Epoch)}


Points = list[tuple[int, dict[str, float]]]
"""Step and numbers of each row."""


@dataclass(frozen=True)
class Curve:
    """The metrics of one trial or run.

    Attributes:
        project: the command.
        name: the trial's id, or the run's name; ``<run>/<id>`` where a run has other numbers for a
            trial than those that came before.
        config: what decides its numbers, flat.
        result: what it found, flat.
        points: its numbers by step.
    """

    project: str
    name: str
    config: Mapping[str, Any]
    result: Mapping[str, Any]
    points: Points


def export(kind: str, out: Path, into: Path) -> Path:
    """Write every curve below ``out`` as the tool keeps them; earlier exports are replaced.

    Args:
        kind: ``tensorboard`` or ``trackio``.
        out: where runs are.
        into: the tool's folder.

    Returns:
        The folder, absolute.

    Raises:
        ConfigError: the tool is unknown, or its extra is not installed.
        OutputError: there are no runs, or the folder cannot be written.
    """
    if kind not in WRITERS:
        raise ConfigError(f"to = {kind!r}: unknown; choices: {', '.join(WRITERS)}")
    curves = list(read_curves(out))
    if not curves:
        raise OutputError(f"out = {str(out)!r}: no trial or run there has metrics")
    make_folder(into)
    try:
        WRITERS[kind](curves, into.resolve())
    except ImportError:
        raise ConfigError(
            f"to = {kind!r}: not installed; in the checkout: pip install -e '.[{kind}]'"
        ) from None
    except OSError as error:
        raise OutputError(f"{into}: cannot be written ({error.strerror or error})") from None
    return into.resolve()


def read_curves(out: Path) -> Iterator[Curve]:
    """Yield the curves of all trials, and of the runs that are no sweeps.

    Trials that only a run's folder still has, in its ``metrics.jsonl``, are among them, and so are
    those of a copied run whose numbers are of another machine.

    Raises:
        OutputError: there is no such folder.
    """
    there: dict[tuple[str, str], list[Points]] = {}
    for trial in read_trials(out):
        folder = TrialStore(out / trial.command / "trials").folder(trial.id)
        points = _points(folder.epochs())
        if points:
            there[trial.command, trial.id] = [points]
            yield Curve(trial.command, trial.id, trial.identity, trial.result, points)
    for run in read_runs(out):
        path = out / run.command / run.name / "metrics.jsonl"
        if not path.is_file():
            continue
        by_name: dict[str, list[dict[str, Any]]] = {}
        for record in read_jsonl(path):
            by_name.setdefault(str(record.pop("trial", run.name)), []).append(record)
        for name, records in by_name.items():
            config: dict[str, Any] = {}
            if name != run.name:  # a trial: its point of the grid stands in every record
                config = {k: v for k, v in records[0].items() if k not in OF_AN_EPOCH}
            points = _points([{k: v for k, v in r.items() if k not in config} for r in records])
            known = there.setdefault((run.command, name), [])
            # A trial that was trained further since then begins with what the run has of it.
            if not points or any(points == others[: len(points)] for others in known):
                continue
            unique = f"{run.name}/{name}" if known else name
            known.append(points)
            yield Curve(run.command, unique, config, {}, points)


def _points(records: list[dict[str, Any]]) -> Points:
    points = []
    for index, record in enumerate(records):
        step = next((record[key] for key in STEPS if isinstance(record.get(key), int)), index)
        numbers = {
            key: float(value)
            for key, value in record.items()
            if key not in STEPS and isinstance(value, int | float) and not isinstance(value, bool)
        }
        if numbers:
            points.append((step, numbers))
    return points


def _write_tensorboard(curves: list[Curve], into: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for curve in curves:
        folder = into / curve.project / curve.name
        for earlier in folder.glob("events.*"):
            earlier.unlink()
        with SummaryWriter(str(folder)) as writer:
            for step, numbers in curve.points:
                for key, value in numbers.items():
                    writer.add_scalar(key, value, step)
            for title, record in (("config", curve.config), ("result", curve.result)):
                if record:
                    lines = ["| | |", "|-|-|", *(f"| {k} | {v} |" for k, v in record.items())]
                    writer.add_text(title, "\n".join(lines))


def _write_trackio(curves: list[Curve], into: Path) -> None:
    os.environ["TRACKIO_DIR"] = str(into)  # read when the package is imported
    from trackio.sqlite_storage import SQLiteStorage

    for curve in curves:
        if curve.name in SQLiteStorage.get_runs(curve.project):
            SQLiteStorage.delete_run(curve.project, curve.name)
        SQLiteStorage.bulk_log(
            project=curve.project,
            run=curve.name,
            metrics_list=[numbers for _, numbers in curve.points],
            steps=[step for step, _ in curve.points],
            config={**curve.config, **curve.result},
        )


WRITERS: Mapping[str, Callable[[list[Curve], Path], None]] = {
    "tensorboard": _write_tensorboard,
    "trackio": _write_trackio,
}

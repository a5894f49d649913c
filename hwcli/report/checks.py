"""Whether the files of a run agree with each other: what can be seen without the data."""

import math
from collections.abc import Callable, Mapping

from hwcli.report.runs import Run
from hwcli.vision.cells import Cell, gather_cells
from hwcli.vision.record import TRIALS, RecordError, read_record
from hwcli.vision.summary import VitSweepSummary

MEANS: Mapping[str, Callable[[Cell], float | None]] = {
    "test": lambda cell: cell.test_accuracy_mean,
    "validation": lambda cell: cell.valid_accuracy_mean,
}
NOTHING = Cell(point={}, num_seeds=0, status="missing", num_params=0)
MOST_SHOWN = 3


def doubts(run: Run) -> list[str]:
    """Say what in a run's folder does not agree, and whose predictions it has."""
    found = _contradictions(run)
    if len(found) > MOST_SHOWN:
        found = [*found[:MOST_SHOWN], f"{len(found) - MOST_SHOWN} more do not agree"]
    if run.twin is not None:
        found.append(
            f"it has the predictions of the reference run {run.twin}: a copy, or trained on the "
            "same kind of processor"
        )
    return found


def _contradictions(run: Run) -> list[str]:
    """Hold the predictions of a sweep against its trials, and its trials against its summary."""
    if not (run.path / TRIALS).exists():
        return []
    try:
        trials = read_record(run.path).trials
    except RecordError:
        return [f"{TRIALS} cannot be read"]
    summary = run.read(VitSweepSummary)
    damaged = [trial for trial in trials if trial.state == "damaged"]
    if damaged:
        return [
            f"{summary.describe(trial.point)}, seed {trial.seed}: {trial.reason}"
            for trial in damaged
        ]
    trained = {cell.key: cell for cell in gather_cells(trials)}
    return [
        f"{summary.describe(cell.point)}, {part} images: summary.json says {percent(said)}, "
        f"{TRIALS} {percent(computed)}"
        for cell in summary.cells
        for part, mean in MEANS.items()
        if not _agree(said := mean(cell), computed := mean(trained.get(cell.key, NOTHING)))
    ]


def _agree(said: float | None, computed: float | None) -> bool:
    if said is None or computed is None:
        return said is computed
    return math.isclose(said, computed, abs_tol=1e-9)


def percent(fraction: float | None) -> str:
    """Spell an accuracy in percent."""
    return "nothing" if fraction is None else f"{100 * fraction:.2f} %"

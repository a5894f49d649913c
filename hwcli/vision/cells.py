"""Trials and cells: what a trained network leaves, and the mean of the seeds at one point.

A trial is one network: a point of the grid and a seed. A cell is a point of the grid: the mean of
its seeds. Both read and write their own JSON.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from hwcli.config import Section
from hwcli.output.files import short_digest
from hwcli.training.metrics import mean_and_std, standard_error
from hwcli.vision.grid import CellKey, Value
from hwcli.vision.places import TrainedOn
from hwcli.vision.vit import ViTConfig, num_params

LabelArray = npt.NDArray[np.uint8]

TrialState = Literal["done", "failed", "missing", "damaged"]


class TrialResult(Section):
    """What one trained network came to: ``result.json``. Accuracies are fractions, losses nats."""

    model_config = ConfigDict(extra="ignore")  # results from before this type hold the point, too

    num_params: int = Field(ge=1)
    train_s: float = Field(ge=0)
    valid_accuracy: float = Field(ge=0, le=1)
    valid_loss: float
    num_valid: int = Field(ge=1)
    test_accuracy: float = Field(ge=0, le=1)
    test_loss: float
    num_test: int = Field(ge=1)
    trained_on: TrainedOn | None = None

    def is_same_training_as(self, other: "TrialResult | None") -> bool:
        """Tell whether two results are of one training: no two take the same time."""
        return other is not None and (self.train_s, self.test_loss) == (
            other.train_s,
            other.test_loss,
        )


@dataclass(frozen=True)
class Predictions:
    """What a network says of the test images, in their order: (N,) each.

    Attributes:
        label: the class it takes each image for, uint8.
        probability: that it gives to that class, float16.
    """

    label: LabelArray
    probability: npt.NDArray[np.float16]


@dataclass(frozen=True)
class TrialRecord:
    """A trial of a sweep, done or not.

    Attributes:
        id: of its identity; see :meth:`id_fits`.
        point: the value of each axis.
        seed: of weights, dropout and batches.
        identity: all that decides its numbers, nested as ``identity.json`` has it.
        state: ``damaged`` where its files contradict each other.
        reason: why it is not done.
        result: of a trial that is done.
    """

    id: str
    point: dict[str, Value]
    seed: int
    identity: Mapping[str, Any]
    state: TrialState
    reason: str | None = None
    result: TrialResult | None = None

    @property
    def key(self) -> CellKey:
        """Return the values of its point."""
        return tuple(self.point.values())

    def id_fits(self) -> bool:
        """Tell whether its id is the one of its identity."""
        return self.id == short_digest(self.identity)


class Cell(Section):
    """One point of the grid: the mean of its seeds that are done.

    Attributes:
        point: the value of each axis, by its dotted field.
        num_seeds: seeds that are done.
        status: ``failed`` or ``missing`` where at least one seed is.
        valid_accuracy_mean: over seeds; the best cell is selected by it.
        test_accuracy_mean: over seeds.
        test_accuracy_std: over seeds (n - 1); None for one.
        test_accuracy_se: standard error of the mean: over seeds, and for one seed over the test
            images (binomial).
        num_params: of the network.
        train_s: mean over the seeds trained on the machine that trained most of the sweep, in
            seconds; None where none was.
        p_value: of the difference from the best cell, this comparison alone.
        p_value_adjusted: the same, corrected for the number of cells.
        versus_best: what the corrected test says; ``similar`` is not significantly different.
    """

    point: dict[str, Value]
    num_seeds: int
    status: Literal["done", "failed", "missing"]
    valid_accuracy_mean: float | None = None
    test_accuracy_mean: float | None = None
    test_accuracy_std: float | None = None
    test_accuracy_se: float | None = None
    num_params: int
    train_s: float | None = None
    p_value: float | None = None
    p_value_adjusted: float | None = None
    versus_best: Literal["best", "better", "worse", "similar"] | None = None

    @property
    def key(self) -> CellKey:
        """Return the values of its point."""
        return tuple(self.point.values())

    @property
    def is_best(self) -> bool:
        """Tell whether it was selected as the best."""
        return self.versus_best == "best"


def places_of(trials: Sequence[TrialRecord]) -> list[TrainedOn]:
    """Return where each trial was trained that is done and says so."""
    return [t.result.trained_on for t in trials if t.result and t.result.trained_on]


def mostly_timed_on(trials: Sequence[TrialRecord]) -> str | None:
    """Return what the most trials were timed on: only these times are shown together."""
    places = Counter(place.timed_on for place in places_of(trials))
    return places.most_common(1)[0][0] if places else None


def gather_cells(trials: Sequence[TrialRecord], timed_on: str | None = None) -> list[Cell]:
    """Gather trials into cells: means over the seeds that are done, and what is missing.

    Args:
        trials: those of one cell next to each other.
        timed_on: what the times that are shown were taken on; None: what the most were.
    """
    timed_on = timed_on or mostly_timed_on(trials)
    cells = []
    for _, group in itertools.groupby(trials, key=lambda trial: trial.key):
        members = list(group)
        results = [member.result for member in members if member.result is not None]
        times = [
            result.train_s
            for result in results
            if timed_on is None or (result.trained_on and result.trained_on.timed_on == timed_on)
        ]
        cell = Cell(
            point=members[0].point,
            num_seeds=len(results),
            status=_status(members),
            num_params=results[0].num_params if results else _count_params(members[0]),
            train_s=statistics.fmean(times) if times else None,
        )
        if results:
            accuracy, std = mean_and_std([result.test_accuracy for result in results])
            error = (
                standard_error(accuracy, results[0].num_test)
                if std is None
                else std / math.sqrt(len(results))
            )
            cell = cell.model_copy(
                update={
                    "valid_accuracy_mean": statistics.fmean(r.valid_accuracy for r in results),
                    "test_accuracy_mean": accuracy,
                    "test_accuracy_std": std,
                    "test_accuracy_se": error,
                }
            )
        cells.append(cell)
    return cells


def _status(trials: Sequence[TrialRecord]) -> Literal["done", "failed", "missing"]:
    states = {trial.state for trial in trials}
    if "failed" in states:
        return "failed"
    return "done" if states == {"done"} else "missing"


def _count_params(trial: TrialRecord) -> int:
    config = trial.identity["config"]
    model = ViTConfig.model_validate(config["model"])
    return num_params(config["layers"], config["heads"], model)


def best_cell(cells: Sequence[Cell]) -> Cell | None:
    """Return the cell with the highest validation accuracy, or None if nothing is trained.

    Of several the one with the fewest parameters, and of these the first.
    """
    return min(best_cells(cells), key=lambda cell: cell.num_params, default=None)


def best_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return all cells that share the highest validation accuracy."""
    trained = [cell for cell in cells if cell.valid_accuracy_mean is not None]
    highest = max((cell.valid_accuracy_mean or 0.0 for cell in trained), default=0.0)
    # Means that differ by their rounding are the same.
    return [c for c in trained if highest - (c.valid_accuracy_mean or 0.0) < 1e-9]

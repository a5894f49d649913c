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
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from hwcli.config import Section
from hwcli.output.files import short_digest
from hwcli.training.metrics import mean_and_std, standard_error
from hwcli.vision.grid import CellKey, Value
from hwcli.vision.vit import ViTConfig, num_params

LabelArray = npt.NDArray[np.uint8]
Hits = npt.NDArray[np.bool_]

TrialState = Literal["done", "failed", "missing", "damaged"]


class TrainedOn(Section):
    """The machine and the code that trained a network: on another, numbers differ like a seed's.

    Attributes:
        processor: its name and the vector instructions that kernels use.
        gpu: its name, where it was trained on one.
        partly_on: other machines that trained some of its epochs; it was resumed here.
        emulated_bfloat16: whether it computed in bfloat16 on a GPU that has none in hardware.
        threads: that it was trained with.
        commit: of the code; None where it was installed without a repository.
        dirty: whether the code had changes that no commit has.
        code: digest of the files that a trial's numbers come from; None in results of earlier code.
        versions: of Python and of the packages that compute.
    """

    model_config = ConfigDict(extra="ignore")

    processor: str
    gpu: str | None = None
    partly_on: str | None = Field(None, exclude_if=lambda others: others is None)
    emulated_bfloat16: bool = Field(False, exclude_if=lambda emulated: not emulated)
    threads: int | None = None
    commit: str | None = None
    dirty: bool | None = None
    code: str | None = Field(None, exclude_if=lambda digest: digest is None)
    versions: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, Any]) -> Self:
        """Take what matters from an ``env.json``."""
        versions = environment.get("versions", {})
        named = {"hw2": environment.get("hw2"), "python": environment.get("python")}
        named |= {name: versions.get(name) for name in ("torch", "numpy")}
        return cls(
            processor=environment.get("cpu", "unknown processor"),
            gpu=environment.get("gpu"),
            partly_on=environment.get("partly_on"),
            emulated_bfloat16=environment.get("bfloat16") == "emulated",
            threads=environment.get("threads"),
            commit=environment.get("commit"),
            dirty=environment.get("dirty"),
            code=environment.get("code"),
            versions={name: version for name, version in named.items() if version is not None},
        )

    @property
    def machine(self) -> str:
        """Return what the training time belongs to: the GPU, else the processor."""
        return self._own if self.partly_on is None else f"{self._own}, partly on {self.partly_on}"

    @property
    def _own(self) -> str:
        return self.processor if self.gpu is None else self.gpu

    @property
    def software(self) -> str:
        """Name the code and the library that computed."""
        commit = "unknown commit" if self.commit is None else f"commit {self.commit[:7]}"
        changes = " with changes" if self.dirty else ""
        return f"{commit}{changes}, torch {self.versions.get('torch', 'unknown')}"

    def differs_in_software(self, here: "TrainedOn") -> bool:
        """Tell whether other code or another torch trained a network, as far as it is known."""
        ours, theirs = here.versions.get("torch"), self.versions.get("torch")
        return (self.code or here.code) != here.code or (theirs or ours) != ours

    def resumed_on(self, here: "TrainedOn") -> str | None:
        """Name the machines that trained a network before it was resumed here, but for this one."""
        before = {self._own}
        if self.partly_on is not None:
            before |= set(self.partly_on.split(" and "))
        others = before - {here.machine}
        return " and ".join(sorted(others)) or None


def note_on_software(trials: Sequence["TrialRecord"], environment: Mapping[str, Any]) -> str | None:
    """Say that networks which are used again were trained by other code or another torch.

    Args:
        trials: of a sweep.
        environment: an ``env.json`` of what would train now.
    """
    here = TrainedOn.from_environment(environment)
    places = [t.result.trained_on for t in trials if t.result and t.result.trained_on]
    others = [place for place in places if place.differs_in_software(here)]
    if not others:
        return None
    names = {place.software for place in others}
    now = "edited since" if names == {here.software} else f"now {here.software}"
    return (
        f"trained by other software: {len(others)} of them ({', '.join(sorted(names))}; {now}); "
        "--out FOLDER trains all of them again"
    )


def note_on_emulation(gpus: Sequence[str]) -> str:
    """Say that GPUs without bfloat16 in hardware computed in it."""
    return (
        f"bfloat16 is emulated, which is slow, on {', '.join(gpus)}: no such hardware; "
        "--set precision=float32 avoids that."
    )


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


class TrainingPlace(Section):
    """A machine and a commit that trained some of a sweep's networks."""

    machine: str
    commit: str | None
    dirty: bool | None
    num_trials: int
    emulated_bfloat16: bool = Field(False, exclude_if=lambda emulated: not emulated)


def training_places(trials: Sequence[TrialRecord]) -> list[TrainingPlace]:
    """Count the trials of each machine and commit, the largest number first."""
    places = Counter(
        (place.machine, place.commit, place.dirty, place.emulated_bfloat16)
        for trial in trials
        if trial.result is not None and (place := trial.result.trained_on) is not None
    )
    return [
        TrainingPlace(
            machine=machine,
            commit=commit,
            dirty=dirty,
            num_trials=number,
            emulated_bfloat16=emulated,
        )
        for (machine, commit, dirty, emulated), number in places.most_common()
    ]


def main_machine(trials: Sequence[TrialRecord]) -> str | None:
    """Return the machine that trained most of the trials: only its times are shown together."""
    machines = Counter(
        trial.result.trained_on.machine
        for trial in trials
        if trial.result is not None and trial.result.trained_on is not None
    )
    return machines.most_common(1)[0][0] if machines else None


def gather_cells(trials: Sequence[TrialRecord], machine: str | None = None) -> list[Cell]:
    """Gather trials into cells: means over the seeds that are done, and what is missing.

    Args:
        trials: those of one cell next to each other.
        machine: whose times are shown; None: that of most of the trials.
    """
    machine = machine or main_machine(trials)
    cells = []
    for _, group in itertools.groupby(trials, key=lambda trial: trial.key):
        members = list(group)
        results = [member.result for member in members if member.result is not None]
        times = [
            result.train_s
            for result in results
            if machine is None or (result.trained_on and result.trained_on.machine == machine)
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

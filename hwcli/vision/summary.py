"""What a sweep found, as one typed record: ``summary.json``."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from hwcli.config import Section
from hwcli.output.run_folder import Summary
from hwcli.output.units import counted
from hwcli.vision.cells import Cell, gather_cells, places_of
from hwcli.vision.compare_runs import Comparison, OtherRun, compare_runs
from hwcli.vision.grid import Axis, Point, Value, describe
from hwcli.vision.grid_statistics import Effect, compare_with_best, conclude, fit_effects
from hwcli.vision.places import TrainingPlace, training_places
from hwcli.vision.recipe import RECIPE_VERSION, USUAL_DATA, DataConfig, SweepRecipe
from hwcli.vision.record import SweepRecord


class Failure(Section):
    """A trial that failed."""

    trial: str
    point: dict[str, Value]
    seed: int
    reason: str


class VitSweepSummary(Summary):
    """What ``hw2 vit-sweep`` found.

    Attributes:
        axes: of the grid, layers and heads first.
        seeds: of each cell.
        epochs: of each network; None where they are an axis.
        data: the images that were used.
        cells: every point of the grid.
        effects: what each axis does to test accuracy.
        conclusion: the same in words; None where nothing is trained.
        comparison: with another run, where one was asked for.
        trained_on: the machines and commits that trained the networks, the largest number first.
        num_trials: of the grid.
        num_run: that ended while this command ran.
        num_reused: the others.
        failures: trials that failed.
        precision: of the networks' products.
        kernels: that computed them: ``compiled`` or ``torch``.
        note_on_precision: which layers are computed in another precision; None where none is.
        recipe_version: see :data:`hwcli.vision.recipe.RECIPE_VERSION`.
    """

    axes: list[Axis]
    seeds: list[int]
    epochs: int | None
    data: DataConfig
    cells: list[Cell]
    effects: list[Effect]
    conclusion: str | None
    comparison: Comparison | None
    trained_on: list[TrainingPlace]
    num_trials: int
    num_run: int
    num_reused: int
    failures: list[Failure]
    precision: str
    kernels: Literal["compiled", "torch"]
    note_on_precision: str | None = Field(None, exclude_if=lambda note: note is None)
    recipe_version: int

    @property
    def best(self) -> Cell | None:
        """Return the cell that validation selected; None where nothing is trained."""
        return next((cell for cell in self.cells if cell.is_best), None)

    @property
    def is_one_cell(self) -> bool:
        """Tell whether the grid has one point."""
        return len(self.cells) == 1

    @property
    def recipe_text(self) -> str:
        """Say how long and on what the networks were trained: for titles."""
        parts = [] if self.epochs is None else [counted(self.epochs, "epoch")]
        if not self.varies_images and self.data.num_train != USUAL_DATA.num_train:
            parts.append(f"trained on {self.data.num_train:,} images")
        is_usual = self.data.split_seed == USUAL_DATA.split_seed
        if "data.split_seed" not in self.fields and not is_usual:
            parts.append(f"split {self.data.split_seed}")
        return ", ".join(parts)

    @property
    def fields(self) -> set[str]:
        """Return the fields that are axes of the grid."""
        return {axis.field for axis in self.axes}

    @property
    def varies_images(self) -> bool:
        """Tell whether the numbers of training or validation images are those of a cell."""
        return not self.fields.isdisjoint({"data.train_limit", "data.valid_size"})

    def describe(self, point: Point) -> str:
        """Spell a point of the grid: ``4 layers, 2 heads``."""
        return describe(self.axes, point)


def summarize(
    name: str,
    sweep: SweepRecipe,
    record: SweepRecord,
    other: OtherRun | None,
    *,
    num_run: int,
    precision: str,
    kernels: Literal["compiled", "torch"],
    note_on_precision: str | None = None,
) -> VitSweepSummary:
    """Gather cells from trials, test them, and compare them with another run's.

    Args:
        name: of the run.
        sweep: its grid and recipe.
        record: its trials.
        other: the run to compare with.
        num_run: how many trials were trained now, not before.
        precision: resolved.
        kernels: resolved.
        note_on_precision: of the trials.
    """
    axes, trials = sweep.axes, record.trials
    cells = compare_with_best(gather_cells(trials), trials, record.hits())
    effects = fit_effects(cells, axes)
    epochs = None if "epochs" in sweep.grid else sweep.epochs
    states = Counter(trial.state for trial in trials)
    return VitSweepSummary(
        command="vit-sweep",
        name=name,
        status="complete" if states["done"] == len(trials) else "partial",
        axes=axes,
        seeds=list(sweep.seeds),
        epochs=epochs,
        data=sweep.data,
        cells=cells,
        effects=effects,
        conclusion=conclude(cells, axes, effects) if states["done"] else None,
        comparison=other and compare_runs(name, record, other.name, other.record),
        trained_on=training_places(places_of(trials)),
        num_trials=len(trials),
        num_run=num_run,
        num_reused=len(trials) - num_run - states["missing"],
        failures=[
            Failure(trial=t.id, point=t.point, seed=t.seed, reason=t.reason or "")
            for t in trials
            if t.state in ("failed", "damaged")
        ],
        precision=precision,
        kernels=kernels,
        note_on_precision=note_on_precision,
        recipe_version=RECIPE_VERSION,
    )


def read_earlier(values: Mapping[str, Any] | None) -> VitSweepSummary | None:
    """Return what a finished run found, from its ``summary.json``; None where it has none."""
    try:
        return VitSweepSummary.model_validate(values)
    except ValidationError:
        return None

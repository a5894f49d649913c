"""Two runs over the same grid: which settings differ, and what that does to accuracy and time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hwcli.config import Section, find_differences
from hwcli.errors import ConfigError
from hwcli.output import terminal
from hwcli.output.units import counted
from hwcli.paths import named_path
from hwcli.training.significance import (
    LEVEL,
    Estimate,
    holm,
    mcnemar,
    mean_difference,
    pooled_spread,
    student_p,
)
from hwcli.vision.cells import Cell, TrialRecord, gather_cells, mostly_timed_on
from hwcli.vision.grid import Axis, CellKey, Value, points, show
from hwcli.vision.grid_statistics import percentage_points
from hwcli.vision.recipe import every_setting
from hwcli.vision.record import RecordError, SweepRecord, read_record

MOST_LINES = 3  # about damaged trials of the other run

Untested = Literal["seeds", "predictions", "images"]
"""Why a cell was not tested: no seed in both runs, no predictions, or other test images."""


class ComparedCell(Section):
    """A cell that two runs have: this run's figures next to the other's.

    Attributes:
        point: the value of each axis.
        num_seeds: seeds that both have predictions of; 0 where there are none, and no test.
        test_accuracy: of this run, over those seeds (over all of its seeds where there is none).
        other_test_accuracy: of the other run, likewise.
        difference: this run's minus the other's.
        p_value: of this cell alone.
        p_value_adjusted: Holm-corrected over the cells of both runs.
        train_s: of this run, over those seeds; None unless both runs were trained on the same
            machine.
        other_train_s: of the other run, likewise.
        untested: why there is no test; None where there is one, and in runs of earlier code.
    """

    point: dict[str, Value]
    num_seeds: int
    test_accuracy: float
    other_test_accuracy: float
    difference: float
    p_value: float | None = None
    p_value_adjusted: float | None = None
    train_s: float | None = None
    other_train_s: float | None = None
    untested: Untested | None = Field(None, exclude_if=lambda reason: reason is None)

    @property
    def key(self) -> CellKey:
        """Return the values of its point."""
        return tuple(self.point.values())

    @property
    def is_significant(self) -> bool | None:
        """Tell whether the difference is significant; None where it was not tested."""
        return None if self.p_value_adjusted is None else self.p_value_adjusted < LEVEL


class Comparison(Section):
    """A run compared with another.

    Attributes:
        name: of this run.
        other: name of the other.
        settings: in which they differ: dotted keys, with the other's value and this run's.
        cells: of both, at least one.
        mean: accuracy of this run minus the other's over all pairs of networks.
        conclusion: one sentence on accuracy.
    """

    name: str
    other: str
    settings: dict[str, tuple[Any, Any]]
    cells: list[ComparedCell]
    mean: Estimate | None
    conclusion: str


@dataclass(frozen=True)
class OtherRun:
    """A finished run to compare with.

    Attributes:
        name: of the run, with a folder above it where that tells it from this run.
        record: its trials.
    """

    name: str
    record: SweepRecord


def read_other_run(
    given: str, own: Path, axes: Sequence[Axis], recipe: Mapping[str, Any]
) -> OtherRun:
    """Read a run to compare with.

    Args:
        given: the name of a run next to this one, or the path of any run's folder.
        own: this run's folder.
        axes: of this run's grid.
        recipe: of this run.

    Raises:
        ConfigError: there is no such finished run, it is damaged, or it has no cell of this grid.
    """
    key, runs = f"compare_with = {given!r}", own.parent
    path = named_path(given) if "/" in given else runs / given
    if path.resolve() == own.resolve():
        raise ConfigError(f"{key}: this run's own name; give it another by --name")
    if not (path / "summary.json").is_file():
        finished = sorted(p.parent.name for p in runs.glob("*/summary.json") if p.parent != own)
        choices = ", ".join(finished) or f"none in {runs}"
        raise ConfigError(f"{key}: no finished run; choices: {choices}, or the folder of a run")
    try:
        record = read_record(path)
    except RecordError as error:
        raise ConfigError(f"{key}: damaged run: {error}") from None
    _tell_what_it_lacks(key, record)
    fields = [axis.field for axis in axes]
    theirs = _cells_by(fields, record.trials, recipe)
    if not any(tuple(point.values()) in theirs for point in points(axes)):
        raise ConfigError(f"{key}: it has no cell of this grid")
    return OtherRun(_name_beside(path.resolve(), own.resolve()), record)


def _tell_what_it_lacks(key: str, record: SweepRecord) -> None:
    """Tell which trials of a run are not used, and how many cannot be tested."""
    damaged = [trial for trial in record.trials if trial.state == "damaged"]
    for trial in damaged[:MOST_LINES]:
        where = {**trial.point, "seed": trial.seed}
        who = ", ".join(f"{field} {show(value)}" for field, value in where.items())
        terminal.log(f"{key}: {who}: not used: {trial.reason}")
    if len(damaged) > MOST_LINES:
        more = counted(len(damaged) - MOST_LINES, "more damaged trial")
        terminal.log(f"{key}: not used either: {more}")
    done = [trial for trial in record.trials if trial.state == "done"]
    if lacking := len(done) - len(record.done()):
        terminal.log(
            f"{key}: {lacking} of its {counted(len(done), 'finished trial')} cannot be tested: "
            "their predictions are missing"
        )


def _name_beside(other: Path, own: Path) -> str:
    """Return a run's name; with the last folder in which two runs of one name differ."""
    if other.name != own.name:
        return other.name
    pairs = zip(reversed(other.parts), reversed(own.parts), strict=False)
    distance, folder = next((i, part) for i, (part, mine) in enumerate(pairs) if part != mine)
    if folder == other.anchor:
        return str(other)
    return f"{folder}{'/' if distance == 1 else '/.../'}{other.name}"


@dataclass(frozen=True)
class _Pair:
    """The hits of one cell in both runs, over the seeds that both have: (S, N)."""

    seeds: Sequence[int]
    first: Any
    second: Any

    @property
    def gaps(self) -> list[float]:
        return [float(x) for x in self.first.mean(axis=1) - self.second.mean(axis=1)]


def compare_runs(
    name: str,
    record: SweepRecord,
    other: str,
    other_record: SweepRecord,
) -> Comparison | None:
    """Compare a run with another where both are done; None if no cell is done in both.

    Several seeds: the difference of each seed, its variance pooled over all cells, Student's test.
    One seed: McNemar's exact test. Both are Holm-corrected over the cells.

    Args:
        name: of this run.
        record: of this run.
        other: name of the other.
        other_record: of the other.
    """
    ours = {c.key: c for c in gather_cells(record.trials) if c.test_accuracy_mean is not None}
    axes = list(record.trials[0].point)
    recipe = every_setting(record.trials[0].identity["config"])
    theirs = _cells_by(axes, other_record.trials, recipe)
    shared = [key for key in ours if key in theirs]
    if not shared:
        return None
    pairs, untested = _pairs(record, other_record, {key: theirs[key].key for key in shared})
    p_values = _p_values(pairs)
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    timed_on = mostly_timed_on(record.trials)
    times_compare = timed_on is not None and timed_on == mostly_timed_on(other_record.trials)
    cells = []
    for key in shared:
        mine, yours, pair = ours[key], theirs[key], pairs.get(key)
        accuracy = float(pair.first.mean()) if pair else mine.test_accuracy_mean or 0.0
        other_accuracy = float(pair.second.mean()) if pair else yours.test_accuracy_mean or 0.0
        cells.append(
            ComparedCell(
                point=mine.point,
                num_seeds=len(pair.first) if pair else 0,
                test_accuracy=accuracy,
                other_test_accuracy=other_accuracy,
                difference=accuracy - other_accuracy,
                p_value=p_values.get(key),
                p_value_adjusted=adjusted.get(key),
                train_s=_train_s(record, mine, pair) if times_compare else None,
                other_train_s=_train_s(other_record, yours, pair) if times_compare else None,
                untested=untested.get(key),
            )
        )
    mean = None
    if pairs:
        gaps = [pair.first.astype(np.int8) - pair.second for pair in pairs.values()]
        mean = mean_difference(np.concatenate(gaps))
    return Comparison(
        name=name,
        other=other,
        settings=_settings(
            next(trial for trial in record.trials if trial.key == shared[0]),
            next(trial for trial in other_record.trials if trial.key == theirs[shared[0]].key),
            axes,
        ),
        cells=cells,
        mean=mean,
        conclusion=_conclude(name, other, cells, mean),
    )


def _cells_by(
    axes: Sequence[str], trials: Sequence[TrialRecord], recipe: Mapping[str, Any]
) -> dict[CellKey, Cell]:
    """Return the cells of another run by the values of these axes, where they name one cell.

    A field that is no axis of that run has the value of its recipe. Of an axis that only that run
    has, the value of this run's recipe counts; one value alone is a setting, which may differ.
    """
    configs = {trial.key: every_setting(trial.identity["config"]) for trial in trials}
    found: dict[CellKey, list[Cell]] = {}
    for cell in gather_cells(trials):
        if cell.test_accuracy_mean is not None:
            values = {field: _look_up(configs[cell.key], field) for field in axes} | cell.point
            key = tuple(values[field] for field in axes)
            found.setdefault(key, []).append(cell)

    # Over all trials: which cells happen to be done must not decide what is compared with what.
    values_of = {field: {trial.point.get(field) for trial in trials} for field in trials[0].point}
    more = [field for field in values_of if field not in axes and len(values_of[field]) > 1]

    def is_ours(cell: Cell) -> bool:
        return all(cell.point.get(field) == _look_up(recipe, field) for field in more)

    alike = {key: list(filter(is_ours, cells)) for key, cells in found.items()}
    return {key: cells[0] for key, cells in alike.items() if len(cells) == 1}


def _look_up(config: Any, field: str) -> Value:
    for name in field.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    value: Value = config
    return value


def _pairs(
    record: SweepRecord, other: SweepRecord, cells: Mapping[CellKey, CellKey]
) -> tuple[dict[CellKey, _Pair], dict[CellKey, Untested]]:
    """Return the pairs of networks of each cell, and of cells that have none the reason.

    Args:
        record: of this run.
        other: of the other.
        cells: of both, by this run's key the other's.
    """
    hits, other_hits = record.hits(), other.hits()
    labels, other_labels = record.labels, other.labels
    is_same_images = (
        labels is not None and other_labels is not None and np.array_equal(labels, other_labels)
    )
    done, other_done = _done_seeds(record), _done_seeds(other)
    pairs, untested = dict[CellKey, _Pair](), dict[CellKey, Untested]()
    for key, theirs in cells.items():
        first, second = hits.get(key, {}), other_hits.get(theirs, {})
        seeds = sorted(first.keys() & second.keys())
        if done[key].isdisjoint(other_done[theirs]):
            untested[key] = "seeds"
        elif not seeds:
            untested[key] = "predictions"
        elif not is_same_images:
            untested[key] = "images"
        else:
            both = (np.array([found[seed] for seed in seeds]) for found in (first, second))
            pairs[key] = _Pair(seeds, *both)
    return pairs, untested


def _done_seeds(record: SweepRecord) -> dict[CellKey, set[int]]:
    """Return the seeds of each cell that are done."""
    seeds: dict[CellKey, set[int]] = {}
    for trial in record.trials:
        if trial.result is not None:
            seeds.setdefault(trial.key, set()).add(trial.seed)
    return seeds


def _train_s(record: SweepRecord, cell: Cell, pair: _Pair | None) -> float | None:
    """Return a cell's mean training time, over the seeds that both runs have."""
    if pair is None:
        return cell.train_s
    of_pair = [t for t in record.trials if t.key == cell.key and t.seed in pair.seeds]
    (alone,) = gather_cells(of_pair, mostly_timed_on(record.trials))
    return alone.train_s


def _p_values(pairs: Mapping[CellKey, _Pair]) -> dict[CellKey, float]:
    spread = pooled_spread([pair.gaps for pair in pairs.values()])
    if spread is None:
        return {key: mcnemar(pair.first[0], pair.second[0]) for key, pair in pairs.items()}
    return {
        key: student_p(
            math.fsum(pair.gaps) / len(pair.gaps),
            math.sqrt(spread.variance / len(pair.gaps)),
            spread.degrees,
        )
        for key, pair in pairs.items()
    }


def _settings(
    mine: TrialRecord, theirs: TrialRecord, axes: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two trials of one cell differ, the grid's own aside."""
    grid = {f"config.{field}" for field in (*axes, "seed")}
    first, second = (
        {**trial.identity, "config": every_setting(trial.identity["config"])}
        for trial in (theirs, mine)
    )
    differences = find_differences(first, second)
    return {
        key.removeprefix("config."): both for key, both in differences.items() if key not in grid
    }


def _conclude(
    name: str,
    other: str,
    cells: Sequence[ComparedCell],
    mean: Estimate | None,
) -> str:
    value = math.fsum(cell.difference for cell in cells) / len(cells)
    interval, tested = "", [cell for cell in cells if cell.p_value is not None]
    num_cells = len(cells)
    if mean is not None:
        value, num_cells = mean.value, len(tested)
        if mean.low is not None and mean.high is not None:
            low, high = percentage_points(mean.low), percentage_points(mean.high)
            interval = f" (95 % interval {low} to {high})"
    num_significant = sum(bool(cell.is_significant) for cell in cells)
    if num_cells > 1:
        where, they = f"on average over {num_cells} cells", "them"
        if mean is not None and len({cell.num_seeds for cell in tested}) > 1:
            pairs = sum(cell.num_seeds for cell in tested)
            where = f"on average over {pairs} pairs of networks in {num_cells} cells"
            they = "the cells"
        what = f"{num_significant} of {they} significant at the 5 % level"
    else:
        where = "in one cell"
        what = f"{'' if num_significant else 'not '}significant at the 5 % level"
    gap = percentage_points(value)
    text = f"{name} minus {other}: {gap} points of test accuracy {where}{interval}"
    return f"{text}, {what}." if tested else f"{text}."

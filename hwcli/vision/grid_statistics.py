"""What a grid of trained networks supports: each cell compared with the best, and each axis.

docs/statistics.md says which test is used where, and what it does not say.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

from hwcli.config import Section
from hwcli.training.significance import (
    LEVEL,
    Estimate,
    Hits,
    Spread,
    additive_fit,
    holm,
    least_difference,
    mcnemar,
    pooled_spread,
    tukey_p,
)
from hwcli.vision.cells import Cell, TrialRecord, best_cell
from hwcli.vision.grid import COUNTED, Axis, CellKey, Value, show

HitsBySeed = Mapping[int, Hits]


class Effect(Section):
    """What an axis does to test accuracy, the other axes kept.

    Attributes:
        axis: the dotted field.
        first: the lowest value of the axis among the cells that are done.
        last: the highest.
        slope: accuracy per unit of the axis (of an axis with two values that are no numbers:
            the second minus the first), as a fraction, with the interval that holds for all axes
            jointly; None where the cells cannot tell.
    """

    axis: str
    first: Value
    last: Value
    slope: Estimate | None


def compare_with_best(
    cells: Sequence[Cell],
    trials: Sequence[TrialRecord],
    hits: Mapping[CellKey, HitsBySeed],
) -> list[Cell]:
    """Return the cells with the test of each against the best, which validation selects.

    With several seeds: Tukey's range over all cells, with the variance over seeds pooled over
    them. With one seed: McNemar's exact test on the same images, Holm-corrected.

    Args:
        cells: of the grid.
        trials: of the cells.
        hits: which test images each cell's networks got right, by seed.
    """
    best = best_cell(cells)
    if best is None:
        return list(cells)
    accuracies = _accuracies(trials)
    spread = pooled_spread(list(accuracies.values()))
    others = [cell for cell in cells if cell.key in accuracies and cell is not best]
    if spread is not None:
        sizes = [(len(accuracies[cell.key]), len(accuracies[best.key])) for cell in others]
        gaps = [_mean(accuracies[cell.key]) - _mean(accuracies[best.key]) for cell in others]
        adjusted = tukey_p(gaps, spread, sizes, len(accuracies))
        alone = tukey_p(gaps, spread, sizes, 2)
    else:
        others = [
            cell for cell in others if hits.get(cell.key, {}).keys() & hits.get(best.key, {}).keys()
        ]
        pairs = [_first_common(hits[cell.key], hits[best.key]) for cell in others]
        gaps = [float(first.mean()) - float(second.mean()) for first, second in pairs]
        alone = [mcnemar(first, second) for first, second in pairs]
        adjusted = holm(alone)
    tested = {
        cell.key: {
            "p_value": p_value,
            "p_value_adjusted": corrected,
            "versus_best": _verdict(gap, corrected),
        }
        for cell, gap, p_value, corrected in zip(others, gaps, alone, adjusted, strict=True)
    }
    tested[best.key] = {"versus_best": "best"}
    return [cell.model_copy(update=tested.get(cell.key, {})) for cell in cells]


def spread_over_seeds(cells: Sequence[Cell]) -> Spread | None:
    """Return the variance of test accuracy over seeds, pooled over the cells; None for one seed."""
    varying = [cell for cell in cells if cell.test_accuracy_std is not None]
    degrees = sum(cell.num_seeds - 1 for cell in varying)
    squares = math.fsum((c.num_seeds - 1) * (c.test_accuracy_std or 0.0) ** 2 for c in varying)
    return Spread.of(squares, degrees)


def least_significant(cells: Sequence[Cell]) -> float | None:
    """Return by how much two cells must differ for Tukey's range to see it.

    Of cells that have as many seeds as any. None for one seed, and where one cell is done.
    """
    spread, sizes = spread_over_seeds(cells), [cell.num_seeds for cell in cells if cell.num_seeds]
    if spread is None or len(sizes) < 2:
        return None
    return least_difference(spread, max(sizes), len(sizes))


def differing_pairs(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Return all pairs of cells that differ significantly by Tukey's range, the better one first.

    Nothing with one seed.
    """
    spread = spread_over_seeds(cells)
    if spread is None:
        return []
    done = [cell for cell in cells if cell.test_accuracy_mean is not None]
    done.sort(key=lambda cell: cell.test_accuracy_mean or 0.0, reverse=True)
    pairs = list(itertools.combinations(done, 2))
    gaps = [(one.test_accuracy_mean or 0) - (two.test_accuracy_mean or 0) for one, two in pairs]
    p_values = tukey_p(gaps, spread, [(a.num_seeds, b.num_seeds) for a, b in pairs], len(done))
    return [pair for pair, p_value in zip(pairs, p_values, strict=True) if p_value < LEVEL]


def _accuracies(trials: Sequence[TrialRecord]) -> dict[CellKey, list[float]]:
    found: dict[CellKey, list[float]] = {}
    for trial in trials:
        if trial.result is not None:
            found.setdefault(trial.key, []).append(trial.result.test_accuracy)
    return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _first_common(first: HitsBySeed, second: HitsBySeed) -> tuple[Hits, Hits]:
    seed = min(first.keys() & second.keys())
    return first[seed], second[seed]


def _verdict(gap: float, p_value: float) -> str:
    if p_value >= LEVEL:
        return "similar"
    return "better" if gap > 0 else "worse"


def fit_effects(cells: Sequence[Cell], axes: Sequence[Axis]) -> list[Effect]:
    """Return what each axis adds to a cell's mean test accuracy, the other axes kept.

    Axes of more than two values that are no numbers (kinds) are accounted for and have no slope.
    Cells count by their number of seeds.
    """
    done = [cell for cell in cells if cell.test_accuracy_mean is not None]
    columns: dict[str, list[float]] = {}
    claims = {}
    for axis in axes:
        levels = [v for v in axis.values if any(cell.point[axis.field] == v for cell in done)]
        here = [cell.point[axis.field] for cell in done]
        if axis.is_numeric:
            claims[axis.field] = axis.field
            columns[axis.field] = [float(value or 0) for value in here]
        else:
            if len(levels) == 2:
                claims[axis.field] = f"{axis.field}={levels[1]!r}"
            for level in levels[1:]:
                columns[f"{axis.field}={level!r}"] = [float(value == level) for value in here]
    slopes: dict[str, Estimate | None] = {}
    if done:
        slopes = additive_fit(
            [cell.test_accuracy_mean or 0.0 for cell in done],
            columns,
            weights=[cell.num_seeds for cell in done],
            num_claims=sum(len(set(columns[column])) > 1 for column in claims.values()) or 1,
        )
    effects = []
    for axis in axes:
        reached = [v for v in axis.values if any(cell.point[axis.field] == v for cell in done)]
        if axis.is_numeric:
            reached.sort(key=lambda value: float(value or 0))
        effects.append(
            Effect(
                axis=axis.field,
                first=reached[0] if reached else axis.values[0],
                last=reached[-1] if reached else axis.values[-1],
                slope=slopes.get(claims.get(axis.field, "")),
            )
        )
    return effects


def conclude(cells: Sequence[Cell], axes: Sequence[Axis], effects: Sequence[Effect]) -> str:
    """Say in one or two sentences what the grid supports about each axis: maybe nothing."""
    done = [cell for cell in cells if cell.test_accuracy_mean is not None]
    shown = [
        (axis, effect)
        for axis, effect in zip(axes, effects, strict=True)
        if axis.varies or axis.field in COUNTED
    ]
    if len(done) == 1:
        names = " or ".join(axis.name for axis, _ in shown)
        return f"One cell says nothing about the effect of {names}."
    found, open_ = [], []
    for axis, effect in shown:
        step, unit, span = _step(axis, effect)
        if step is not None and step.low is not None and step.high is not None:
            low, high = percentage_points(step.low), percentage_points(step.high)
            gain, interval = percentage_points(step.value), f"95 % interval {low} to {high}"
            if step.is_significant:
                found.append(f"{unit} adds {gain} points{span} ({interval})")
            else:
                open_.append(
                    f"no significant effect of {axis.name} ({gain} points for {unit}, {interval})"
                )
        else:
            open_.append(f"no statement about {axis.name} ({_why_not(axis, effect, done)})")
    text = (
        f"Effects on test accuracy (additive fit over {len(done)} cells): "
        f"{'; '.join([*found, *open_])}."
    )
    num_intervals = sum(e.slope is not None and e.slope.low is not None for _, e in shown)
    if num_intervals > 1:
        text += f" The {num_intervals} intervals hold jointly."
    return text


def _step(axis: Axis, effect: Effect) -> tuple[Estimate | None, str, str]:
    """Return what is said of an axis: the gain of a step, the step, and where it was measured.

    The step of what counts things is one of them, of another axis its whole range.
    """
    slope = effect.slope
    if axis.field in COUNTED:
        span = f" between {effect.first} and {axis.text(effect.last)}"
        return slope, f"each extra {COUNTED[axis.field]}", span
    if slope is not None and axis.is_numeric:
        reach = float(effect.last or 0) - float(effect.first or 0)
        ends = (None if end is None else end * reach for end in (slope.low, slope.high))
        slope = Estimate(slope.value * reach, *ends)
    return slope, f"{axis.name} {show(effect.last)} instead of {show(effect.first)}", ""


def _why_not(axis: Axis, effect: Effect, done: Sequence[Cell]) -> str:
    if len({cell.point[axis.field] for cell in done}) == 1:
        return f"all cells have {axis.text(done[0].point[axis.field])}"
    if effect.slope is not None:
        step, unit, _ = _step(axis, effect)
        return f"{percentage_points(step.value if step else 0.0)} points for {unit}, too few cells"
    if not axis.is_numeric and len(axis.values) > 2:
        return "its values are kinds: compare the cells"
    return "too few cells"


def percentage_points(fraction: float) -> str:
    """Return a difference of accuracies in percentage points, signed."""
    text = f"{100 * fraction:+.2f}"
    if text not in ("+0.00", "-0.00") or abs(fraction) < 1e-12:
        return text.replace("-0.00", "+0.00")
    # A bound just off zero must not read as if it were zero.
    digits = 1 - math.floor(math.log10(abs(100 * fraction)))
    return f"{100 * fraction:+.{min(digits, 6)}f}"

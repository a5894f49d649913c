"""Pictures of a grid of trained ViTs, and of two runs over the same grid."""

import itertools
import math
import statistics
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from hwcli.output import plots
from hwcli.training.progress import Epoch
from hwcli.vision.cells import Cell
from hwcli.vision.compare_runs import ComparedCell, Comparison
from hwcli.vision.grid import Axis, Layout, Point, Value, describe, show
from hwcli.vision.grid_statistics import least_significant
from hwcli.vision.summary import VitSweepSummary
from hwcli.vision.tables import MARKS, VERDICTS

T = TypeVar("T")

MARKERS = "os^Dv<>P*X"
LINES = ("-", "--", "-.", ":")
GRID_NAMES = ("heatmap", "curves", "costs", "compare")
MOST_BLOCKS = 6  # per picture: of more combinations the first ones and the selected one are drawn
MOST_LINES = 8  # per panel, likewise
TITLE_CHARACTERS_PER_IN = 13
STANDARD_ERRORS_OF_COLOUR = 7  # a colour scale reaches at least this far from its middle


def draw_grid(
    summary: VitSweepSummary, histories: Sequence[tuple[Point, Sequence[Epoch]]]
) -> dict[str, Figure]:
    """Return the pictures of a grid by name, those that make sense for it."""
    comparison, axes = summary.comparison, summary.axes
    selected = {} if summary.best is None else summary.best.point
    figures = {
        "heatmap": draw_heatmap(summary),
        "curves": draw_curves(histories, axes, selected=selected) if histories else None,
        "costs": draw_costs(summary),
        "compare": None
        if comparison is None
        else draw_comparison(comparison, axes, selected=selected),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw_heatmap(summary: VitSweepSummary) -> Figure | None:
    """Draw the grid of test accuracies as its table has it; None for a grid of one cell."""
    if summary.is_one_cell or summary.best is None:
        return None
    layout = Layout.of(summary.axes)
    blocks, part = _blocks(layout, summary.best.point)
    rows, columns = len(layout.down.values), len(layout.across.values)
    figure, panels = plots.figure(
        columns=len(blocks),
        width=max(4.2, len(blocks) * (0.6 + 1.1 * columns)),
        height=1.6 + 0.45 * rows,
    )
    by_key = {cell.key: cell for cell in summary.cells}
    limits = _colour_limits(summary.cells)
    for block, panel in zip(blocks, panels, strict=True):
        grid = layout.grid(summary.axes, block, by_key)
        _draw_block(
            panel,
            layout,
            [[None if cell is None else cell.test_accuracy_mean for cell in row] for row in grid],
            [[_cell_text(cell) for cell in row] for row in grid],
            title=describe(layout.groups, block) if block else "Test accuracy, %",
            limits=limits,
        )
        for row, cells in enumerate(grid):
            for column, cell in enumerate(cells):
                if cell is not None and cell.is_best:
                    place = (column - 0.48, row - 0.46)
                    panel.add_patch(Rectangle(place, 0.96, 0.92, fill=False, lw=1.8))
    legend = ["* selected by validation accuracy"]
    for verdict, words in VERDICTS.items():
        if any(cell.versus_best == verdict for cell in summary.cells):
            from_what = " from it" if verdict == "similar" else ""
            legend.append(f"{MARKS[verdict].strip()} {words}{from_what}")
    figure.supxlabel("\n".join(legend), fontsize=8, ha="left", x=0.02)
    if layout.groups:
        figure.suptitle(f"Test accuracy, %{part}", fontsize=10, x=0.01, ha="left")
    return figure


def _blocks(layout: Layout, selected: Point) -> tuple[list[dict[str, Value]], str]:
    """Return the blocks that are drawn, and for a title how many of all they are."""
    blocks = layout.blocks()
    own = {axis.field: selected.get(axis.field) for axis in layout.groups}
    shown = _first(blocks, MOST_BLOCKS, own)
    return shown, _part(len(shown), len(blocks), "combinations")


def _first(items: Sequence[T], most: int, selected: T) -> list[T]:
    """Return the first items, and the selected one in any case, if it is one of them."""
    shown = list(items[:most])
    if selected in items[most:]:
        shown[-1] = selected
    return shown


def _part(number: int, of: int, what: str) -> str:
    return f" ({number} of {of} {what})" if number < of else ""


def _draw_block(
    panel: Axes,
    layout: Layout,
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    title: str,
    **style: Any,
) -> None:
    """Draw a heatmap of one block of a grid."""
    down, across = layout.down, layout.across
    rows, columns = map(show, down.values), map(show, across.values)
    plots.heatmap(panel, values, texts, rows=list(rows), columns=list(columns), **style)
    panel.set(xlabel=across.name, ylabel=down.name)
    panel.set_title(title)


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.test_accuracy_mean is None:
        return cell.status
    return f"{100 * cell.test_accuracy_mean:.2f}{MARKS[cell.versus_best]}"


def _colour_limits(cells: Sequence[Cell]) -> tuple[float, float]:
    """Return a scale on which noise looks like noise: several standard errors to either side."""
    done = [cell for cell in cells if cell.test_accuracy_mean is not None]
    values = [cell.test_accuracy_mean or 0.0 for cell in done]
    middle = (min(values) + max(values)) / 2
    errors = [cell.test_accuracy_se or 0.0 for cell in done]
    noise = STANDARD_ERRORS_OF_COLOUR * sorted(errors)[len(errors) // 2]
    reach = max(noise, (max(values) - min(values)) / 2, 1e-6)
    return middle - reach, middle + reach


def draw_curves(
    histories: Sequence[tuple[Point, Sequence[Epoch]]],
    axes: Sequence[Axis],
    *,
    selected: Point | None = None,
    width: float | None = None,
    height: float = 3.4,
) -> Figure:
    """Draw validation accuracy over epochs: a panel for each axis that varies.

    A line is the mean of all networks with one value of the axis, its band their standard
    deviation (n - 1). The first epochs, where all curves rise steeply, are off the scale.

    Args:
        histories: of each network its point and its epochs.
        axes: of the grid.
        selected: point whose values are drawn in any case, of axes with too many for a panel.
        width: of the figure in inches; by default as its panels need.
        height: of the figure in inches.
    """
    shown = [axis for axis in axes if axis.varies] or [axes[0]]
    width = 1.0 + 3.6 * len(shown) if width is None else width
    figure, panels = plots.figure(columns=len(shown), width=width, height=height)
    lowest = math.inf
    labelled = []
    for panel, axis in zip(panels, shown, strict=True):
        ends = []
        # The first value, which is drawn anyway, stands for none selected: None may be a value.
        own = (selected or {}).get(axis.field, axis.values[0])
        values = _first(axis.values, MOST_LINES, own)
        for index, value in enumerate(values):
            curves = [
                [100 * epoch.valid_accuracy for epoch in epochs]
                for point, epochs in histories
                if point[axis.field] == value and epochs
            ]
            if not curves:
                continue
            length = min(map(len, curves))
            stacked = np.array([curve[:length] for curve in curves])
            mean = stacked.mean(axis=0)
            epochs = np.arange(1, length + 1)
            colour = plots.COLOURS[index % len(plots.COLOURS)]
            panel.plot(
                epochs,
                mean,
                color=colour,
                ls=LINES[index % len(LINES)],
                marker=MARKERS[index % len(MARKERS)],
                ms=3.5,
                markevery=max(1, length // 8),
            )
            if len(curves) > 1:
                band = stacked.std(axis=0, ddof=1)
                panel.fill_between(epochs, mean - band, mean + band, color=colour, alpha=0.12, lw=0)
            lowest = min(lowest, mean[min(length - 1, max(1, length // 5))] - 0.5)
            ends.append((float(mean[-1]), axis.text(value), colour))
        panel.set_title(f"by {axis.name}{_part(len(values), len(axis.values), 'values')}")
        panel.set_xlabel("epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.margins(x=0.02)
        panel.sharey(panels[0])
        labelled.append((panel, ends))
    if math.isfinite(lowest):
        panels[0].set_ylim(bottom=lowest)
    for panel, ends in labelled:
        _label_ends(panel, ends)
    panels[0].set_ylabel("validation accuracy, %")
    return figure


def _label_ends(panel: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each line's name to the right of its end, as far apart as text needs."""
    low, high = panel.get_ylim()
    step = 0.058 * (high - low)
    ordered = sorted(ends)
    places = [y for y, _, _ in ordered]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + step)
    # As a group they stay at the height of the lines.
    excess = sum(place - y for place, (y, _, _) in zip(places, ordered, strict=True))
    excess = excess / len(places) if places else 0.0
    right = panel.get_xlim()[1]
    for place, (_, text, colour) in zip(places, ordered, strict=True):
        panel.annotate(
            text,
            (right, place - excess),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
        )


def draw_costs(
    summary: VitSweepSummary, *, width: float | None = None, height: float = 3.7
) -> Figure | None:
    """Draw test accuracy against what a cell costs: training time, and parameters.

    None for a grid of one cell.

    Args:
        summary: of the run.
        width: of the figure in inches; by default as its panels need.
        height: likewise.
    """
    cells = [cell for cell in summary.cells if cell.test_accuracy_mean is not None]
    best = summary.best
    if summary.is_one_cell or best is None:
        return None
    costs = [("num_params", "parameters")]
    if best.train_s is not None:
        costs.insert(0, ("train_s", "training, s"))
    layout = Layout.of(summary.axes)
    colour = _cycle(layout.down, plots.COLOURS)
    marker = _cycle(layout.across, MARKERS)
    width = 1.6 + 3.3 * len(costs) if width is None else width
    figure, panels = plots.figure(columns=len(costs), width=width, height=height)
    for panel, (key, name) in zip(panels, costs, strict=True):
        for cell in cells:
            if getattr(cell, key) is not None:
                panel.plot(
                    getattr(cell, key),
                    100 * (cell.test_accuracy_mean or 0.0),
                    color=colour[cell.point[layout.down.field]],
                    marker=marker[cell.point[layout.across.field]],
                    ms=6,
                )
        panel.plot(
            getattr(best, key),
            100 * (best.test_accuracy_mean or 0.0),
            "o",
            ms=13,
            mfc="none",
            mec="#666666",
            mew=1.2,
        )
        panel.set_xlabel(name)
        panel.xaxis.set_major_locator(MaxNLocator(5))
    panels[-1].xaxis.set_major_formatter(lambda x, _: f"{x / 1000:,g} k")
    panels[0].set_ylabel("test accuracy, %")
    least = least_significant(summary.cells)
    if least is None:
        half = 100 * statistics.median(cell.test_accuracy_se or 0.0 for cell in cells)
        bar = f"± one standard error, {half:.2f} points"
    else:
        half = 50 * least
        bar = f"the least significant difference, {100 * least:.2f} points"
    _draw_error_bar(panels[-1], half)
    figure.suptitle(f"Accuracy against cost (bar: {bar})", fontsize=10, x=0.01, ha="left")
    handles = [
        Line2D([], [], color=colour[v], lw=4, label=layout.down.text(v)) for v in layout.down.values
    ]
    handles += [
        Line2D([], [], color="black", marker=marker[v], ls="", ms=6, label=layout.across.text(v))
        for v in layout.across.values
    ]
    ring = Line2D([], [], marker="o", ls="", ms=11, mfc="none", mec="#666666", label="selected")
    figure.legend(handles=[*handles, ring], loc="outside right center", frameon=False, fontsize=8)
    return figure


def _cycle(axis: Axis, kinds: Sequence[str]) -> dict[object, str]:
    return dict(zip(axis.values, itertools.cycle(kinds), strict=False))


def _draw_error_bar(panel: Axes, error: float) -> None:
    """Draw one bar, this far up and down, in the panel's lower right corner."""
    low, high = panel.get_ylim()
    left, right = panel.get_xlim()
    x, y = right - 0.06 * (right - left), low + error + 0.05 * (high - low)
    panel.errorbar(x, y, yerr=error, color="#666666", capsize=3, elinewidth=1.0)


def draw_comparison(
    comparison: Comparison, axes: Sequence[Axis], *, selected: Point | None = None
) -> Figure | None:
    """Draw the differences of accuracy of two runs over the same cells; None for one cell.

    Args:
        comparison: of the runs.
        axes: of this run's grid.
        selected: point of the cell whose block is drawn in any case.
    """
    rows = comparison.cells
    if len(rows) < 2:
        return None
    shared = [_only(axis, comparison) for axis in axes]
    layout = Layout.of(shared)
    blocks, part = _blocks(layout, selected or {})
    width = 1.0 + 3.6 * len(blocks)
    figure, panels = plots.figure(
        columns=len(blocks),
        width=width,
        height=max(3.4, 1.8 + 0.42 * len(rows) / 3),
    )
    by_key = {row.key: row for row in rows}
    reach = max(1.0, *(100 * abs(row.difference) for row in rows))
    for block, panel in zip(blocks, panels, strict=True):
        grid = layout.grid(shared, block, by_key)
        _draw_block(
            panel,
            layout,
            [[None if row is None else 100 * row.difference for row in line] for line in grid],
            [[_difference_text(row) for row in line] for line in grid],
            title=describe(layout.groups, block) if block else "",
            limits=(-reach, reach),
            colours="RdBu",
        )
    title = f"{comparison.name} minus {comparison.other}: points of test accuracy{part}"
    if any(row.is_significant is False for row in rows):
        title += " (≈ not significant)"
    if any(row.is_significant is None for row in rows):
        title += " (? not tested)"
    title = textwrap.fill(title, int(TITLE_CHARACTERS_PER_IN * width))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _difference_text(row: ComparedCell | None) -> str:
    if row is None:
        return ""
    sign = {True: "", False: " ≈", None: " ?"}[row.is_significant]
    return f"{100 * row.difference:+.2f}{sign}"


def _only(axis: Axis, comparison: Comparison) -> Axis:
    """Return an axis with the values that both runs have."""
    there = {cell.point[axis.field] for cell in comparison.cells}
    return Axis(field=axis.field, values=tuple(v for v in axis.values if v in there))

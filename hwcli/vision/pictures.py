"""Pictures of a grid of trained ViTs, and of what one of them gets right, gets wrong and looks at.

Shapes: N images of 28 x 28, K classes, P x P patches.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hwcli.output import plots
from hwcli.training.metrics import standard_error
from hwcli.training.progress import Epoch
from hwcli.vision.cells import Cell
from hwcli.vision.compare_runs import Comparison
from hwcli.vision.fashion_mnist import CLASS_NAMES
from hwcli.vision.grid import Axis, Layout, Point, describe, show
from hwcli.vision.summary import VitSweepSummary
from hwcli.vision.tables import MARKS

MARKERS = "os^Dv<>P*X"
LINES = ("-", "--", "-.", ":")
GRID_NAMES = ("heatmap", "curves", "costs", "compare")
MISTAKES = (4, 6)  # rows and columns of the gallery
OUTLINE = 40  # of 255: as bright a pixel belongs to the thing
MOST_BLOCKS = 6  # of a picture: of a grid with more combinations the first ones are drawn
MOST_LINES = 8  # of a panel
STANDARD_ERRORS_OF_COLOUR = 7  # a colour scale reaches at least this far from its middle


def draw_grid(
    summary: VitSweepSummary, histories: Sequence[tuple[Point, Sequence[Epoch]]]
) -> dict[str, Figure]:
    """Return the pictures of a grid by name, those that make sense for it."""
    comparison = summary.comparison
    figures = {
        "heatmap": draw_heatmap(summary),
        "curves": draw_curves(histories, summary.axes) if histories else None,
        "costs": draw_costs(summary),
        "compare": None if comparison is None else draw_comparison(comparison, summary.axes),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw_heatmap(summary: VitSweepSummary) -> Figure | None:
    """Draw the grid of test accuracies as its table has it; None for a grid of one cell."""
    if summary.is_one_cell or summary.best is None:
        return None
    layout = Layout.of(summary.axes)
    blocks = layout.blocks()[:MOST_BLOCKS]
    rows, columns = len(layout.down.values), len(layout.across.values)
    figure, panels = plots.figure(
        columns=len(blocks),
        width=max(4.2, len(blocks) * (0.6 + 1.1 * columns)),
        height=1.6 + 0.45 * rows,
    )
    by_key = {cell.key: cell for cell in summary.cells}
    limits = _colour_limits(summary.cells)
    for block, panel in zip(blocks, panels, strict=True):
        grid = [
            [by_key[layout.key(summary.axes, block, v, w)] for w in layout.across.values]
            for v in layout.down.values
        ]
        plots.heatmap(
            panel,
            [[cell.test_accuracy_mean for cell in row] for row in grid],
            [[_cell_text(cell) for cell in row] for row in grid],
            rows=[show(value) for value in layout.down.values],
            columns=[show(value) for value in layout.across.values],
            limits=limits,
        )
        for (row, column), cell in _numbered(grid):
            if cell.is_best:
                outline = Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, fill=False, lw=1.8)
                panel.add_patch(outline)
        panel.set(xlabel=layout.across.name, ylabel=layout.down.name)
        panel.set_title(describe(layout.groups, block) if block else "Test accuracy, %")
    legend = ["* selected by validation accuracy"]
    for verdict, text in (
        ("similar", "not significantly different from it"),
        ("better", "significantly better"),
        ("worse", "significantly worse"),
    ):
        if any(cell.versus_best == verdict for cell in summary.cells):
            legend.append(f"{MARKS[verdict].strip()} {text}")
    figure.supxlabel("\n".join(legend), fontsize=8, ha="left", x=0.02)
    if layout.groups:
        figure.suptitle("Test accuracy, %", fontsize=10, x=0.01, ha="left")
    return figure


def _numbered(grid: Sequence[Sequence[Cell]]) -> Iterator[tuple[tuple[int, int], Cell]]:
    for row, cells in enumerate(grid):
        for column, cell in enumerate(cells):
            yield (row, column), cell


def _cell_text(cell: Cell) -> str:
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
    width: float | None = None,
    height: float = 3.4,
) -> Figure:
    """Draw validation accuracy over epochs: a panel for each axis that varies.

    A line is the mean of all networks with one value of the axis, its band their standard
    deviation. The first epochs, where all curves rise steeply, are off the scale.

    Args:
        histories: of each network its point and its epochs.
        axes: of the grid.
        width: of the figure in inches; by default as its panels need.
        height: likewise.
    """
    shown = [axis for axis in axes if axis.varies] or [axes[0]]
    width = 1.0 + 3.6 * len(shown) if width is None else width
    figure, panels = plots.figure(columns=len(shown), width=width, height=height)
    lowest = math.inf
    labelled = []
    for panel, axis in zip(panels, shown, strict=True):
        ends = []
        for index, value in enumerate(axis.values[:MOST_LINES]):
            curves = [
                [100 * epoch.valid_accuracy for epoch in epochs]
                for point, epochs in histories
                if point[axis.field] == value and epochs
            ]
            if not curves:
                continue
            length = min(map(len, curves))
            stacked = np.array([curve[:length] for curve in curves])
            mean, band = stacked.mean(axis=0), stacked.std(axis=0)
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
                panel.fill_between(epochs, mean - band, mean + band, color=colour, alpha=0.12, lw=0)
            lowest = min(lowest, mean[min(length - 1, max(1, length // 5))] - 0.5)
            ends.append((float(mean[-1]), axis.text(value), colour))
        panel.set_title(f"by {axis.name}")
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


def draw_costs(summary: VitSweepSummary) -> Figure | None:
    """Draw test accuracy against what a cell costs: training time, and parameters.

    None for a grid of one cell.
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
    figure, panels = plots.figure(columns=len(costs), width=1.6 + 3.3 * len(costs), height=3.7)
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
    errors = sorted(cell.test_accuracy_se or 0.0 for cell in cells)
    bar = f"bar: ± one standard error, {100 * errors[len(errors) // 2]:.2f} points"
    _draw_error_bar(panels[-1], 100 * errors[len(errors) // 2])
    figure.suptitle(f"Accuracy against cost ({bar})", fontsize=10, x=0.01, ha="left")
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
    """Draw one error bar, the middle one of all cells, in the panel's lower right corner."""
    low, high = panel.get_ylim()
    left, right = panel.get_xlim()
    x, y = right - 0.06 * (right - left), low + error + 0.05 * (high - low)
    panel.errorbar(x, y, yerr=error, color="#666666", capsize=3, elinewidth=1.0)


def draw_confusion(labels: Tensor, predicted: Tensor, title: str) -> Figure:
    """Draw how many images of each class are taken for which, and the accuracy of each class.

    Args:
        labels: (N,) of classes, of which each occurs.
        predicted: (N,).
        title: above the matrix.
    """
    K = len(CLASS_NAMES)
    counts = torch.bincount(K * labels.long() + predicted.long(), minlength=K * K).view(K, K)
    figure, (matrix, bars) = plots.figure(columns=2, width=8.6, height=4.6, width_ratios=(2.2, 1))
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    plots.heatmap(
        matrix,
        # The square root keeps the mistakes visible next to the hits.
        shares.sqrt().tolist(),
        [[f"{n:,}" if n else "" for n in row] for row in counts.tolist()],
        rows=CLASS_NAMES,
        columns=CLASS_NAMES,
    )
    for text in matrix.texts:
        text.set_fontsize(7.5)
    matrix.set(xlabel="predicted", ylabel="true class", title=title)
    matrix.set_xticks(range(K), list(CLASS_NAMES), rotation=45, ha="right", rotation_mode="anchor")

    accuracies = shares.diagonal().tolist()
    errors = [
        standard_error(p, max(n, 1))
        for p, n in zip(accuracies, counts.sum(dim=1).tolist(), strict=True)
    ]
    bars.barh(
        range(K),
        [100 * p for p in accuracies],
        xerr=[100 * e for e in errors],
        color=plots.COLOURS[0],
        error_kw={"elinewidth": 0.8},
    )
    for row, p in enumerate(accuracies):
        bars.text(2, row, f"{100 * p:.1f}", va="center", color="white", fontsize=8)
    bars.set_ylim(matrix.get_ylim())
    bars.set_yticks([])
    bars.set(xlim=(0, 100), xlabel="%", title="Accuracy of each class")
    return figure


def draw_mistakes(
    images: Tensor, labels: Tensor, predicted: Tensor, probability: Tensor, title: str
) -> Figure | None:
    """Draw the mistakes that the network was surest of; None where it made none.

    Args:
        images: (N, 28, 28), uint8.
        labels: (N,).
        predicted: (N,).
        probability: (N,), given to the prediction.
        title: above the gallery.
    """
    wrong = (labels != predicted).nonzero()[:, 0]
    surest = wrong[probability[wrong].float().argsort(descending=True, stable=True)]
    rows, columns = MISTAKES
    chosen = surest[: rows * columns].tolist()
    if not chosen:
        return None
    rows = -(-len(chosen) // columns)
    figure, panels = plots.figure(rows=rows, columns=columns, width=8.2, height=0.4 + 1.65 * rows)
    for panel in panels:
        panel.set_axis_off()
    for panel, index in zip(panels, chosen, strict=False):
        panel.imshow(images[index].numpy(), cmap="gray_r", vmin=0, vmax=255)
        panel.set_title(
            f"says {CLASS_NAMES[int(predicted[index])]}, {_percent(float(probability[index]))}\n"
            f"is {CLASS_NAMES[int(labels[index])]}",
            fontsize=7.5,
            loc="center",
        )
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _percent(probability: float) -> str:
    # Never 100: the network left something for the others, whatever the rounding.
    return f"{min(100 * probability, 99.9):.1f} %"


def draw_rollout(
    images: Tensor, shares: Tensor, labels: Tensor, predicted: Tensor, title: str
) -> Figure:
    """Draw images, and below each how much of every patch reaches the classifier.

    Args:
        images: (B, 28, 28), uint8.
        shares: (B, P, P), each of sum one.
        labels: (B,).
        predicted: (B,).
        title: above the pictures.
    """
    B, P, _ = shares.shape
    figure, panels = plots.figure(rows=2, columns=B, width=1.02 * B + 0.9, height=2.75)
    # In units of an even share, one scale for all images.
    heat = (shares * P * P).numpy()
    size = images.shape[-1]
    place = (-0.5, size - 0.5, size - 0.5, -0.5)
    top = [_picture(panel, images[i]) for i, panel in enumerate(panels[:B])]
    for i, panel in enumerate(top):
        name = CLASS_NAMES[int(labels[i])]
        wrong = predicted[i] != labels[i]
        panel.set_title(
            name + (f"\n(says {CLASS_NAMES[int(predicted[i])]})" if wrong else "\n"),
            fontsize=7.5,
            loc="center",
        )
    shown = None
    for image, one, panel in zip(images, heat, panels[B:], strict=True):
        shown = panel.imshow(one, extent=place, cmap="inferno", vmin=heat.min(), vmax=heat.max())
        # The outline alone: an image under the colours would change them.
        panel.contour(image.numpy(), levels=[OUTLINE], colors="white", linewidths=0.7)
        panel.set_axis_off()
    assert shown is not None
    bar = figure.colorbar(shown, ax=panels[B:], shrink=0.9, pad=0.01, aspect=12)
    bar.set_label(f"1 = an even share (1/{P * P})", fontsize=7.5)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _picture(panel: Axes, image: Tensor) -> Axes:
    panel.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=255)
    panel.set_axis_off()
    return panel


def draw_positions(similarity: Tensor, title: str) -> Figure:
    """Draw for every place how similar its position embedding is to all others.

    Args:
        similarity: (P, P, P, P), cosines.
        title: above the pictures.
    """
    P = len(similarity)
    values = similarity.numpy()
    itself = np.eye(P * P, dtype=bool).reshape(values.shape)
    # A place's similarity to itself is 1 and would take the scale from the others.
    reach = float(np.abs(values[~itself]).max()) if P > 1 else 1.0
    # One mosaic, a blank line between the pictures.
    mosaic = np.full((P, P + 1, P, P + 1), np.nan)
    mosaic[:, :P, :, :P] = values.transpose(0, 2, 1, 3)
    side = P * (P + 1)
    figure, (axes,) = plots.figure(width=6.0, height=5.2)
    shown = axes.imshow(
        mosaic.reshape(side, side)[:-1, :-1], cmap="RdBu_r", vmin=-reach, vmax=reach
    )
    middles = [i * (P + 1) + (P - 1) / 2 for i in range(P)]
    names = [str(i + 1) for i in range(P)]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="column of the patch", ylabel="row of the patch", title=title)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("cosine similarity (its own, 1, is off the scale)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def draw_comparison(comparison: Comparison, axes: Sequence[Axis]) -> Figure | None:
    """Draw two runs over the same cells: differences of accuracy and, on one machine, the times.

    None for one cell.
    """
    rows = comparison.cells
    if len(rows) < 2:
        return None
    shared = [_only(axis, comparison) for axis in axes]
    layout = Layout.of(shared)
    blocks = layout.blocks()[:MOST_BLOCKS]
    has_times = comparison.train_s_ratio is not None
    num_panels = len(blocks) + has_times
    figure, panels = plots.figure(
        columns=num_panels,
        width=1.0 + 3.6 * num_panels,
        height=max(3.4, 1.8 + 0.42 * len(rows) / 3),
    )
    by_key = {row.key: row for row in rows}
    reach = max(1.0, *(100 * abs(row.difference) for row in rows))
    for block, panel in zip(blocks, panels, strict=False):
        grid = [
            [by_key.get(layout.key(shared, block, v, w)) for w in layout.across.values]
            for v in layout.down.values
        ]
        plots.heatmap(
            panel,
            [[None if row is None else 100 * row.difference for row in line] for line in grid],
            [
                [
                    ""
                    if row is None
                    else f"{100 * row.difference:+.2f}{' ≈' if row.is_significant is False else ''}"
                    for row in line
                ]
                for line in grid
            ],
            rows=[show(value) for value in layout.down.values],
            columns=[show(value) for value in layout.across.values],
            limits=(-reach, reach),
            colours="RdBu",
        )
        panel.set(xlabel=layout.across.name, ylabel=layout.down.name)
        panel.set_title(describe(layout.groups, block) if block else "difference, points")
    if has_times:
        _draw_times(panels[-1], comparison)
        figure.legend(loc="outside lower right", ncols=2, fontsize=8)
    title = f"{comparison.name} minus {comparison.other}: test accuracy"
    if any(row.is_significant is False for row in rows):
        title += " (≈ not significant)"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _only(axis: Axis, comparison: Comparison) -> Axis:
    """Return an axis with the values that both runs have."""
    there = {cell.point[axis.field] for cell in comparison.cells}
    return Axis(field=axis.field, values=tuple(v for v in axis.values if v in there))


def _draw_times(panel: Axes, comparison: Comparison) -> None:
    timed = [
        (row, row.train_s, row.other_train_s)
        for row in comparison.cells
        if row.train_s is not None and row.other_train_s is not None
    ]
    for row, train_s, other_s in timed:
        panel.plot(
            [other_s, train_s],
            [100 * row.other_test_accuracy, 100 * row.test_accuracy],
            color="#cccccc",
            lw=0.8,
        )
    for index, (name, points) in enumerate(
        (
            (comparison.other, [(other_s, row.other_test_accuracy) for row, _, other_s in timed]),
            (comparison.name, [(train_s, row.test_accuracy) for row, train_s, _ in timed]),
        )
    ):
        panel.plot(
            [time for time, _ in points],
            [100 * accuracy for _, accuracy in points],
            MARKERS[index],
            color=plots.COLOURS[index],
            label=name,
            ms=5,
        )
    panel.set(xlabel="training, s", ylabel="test accuracy, %", title="against training time")

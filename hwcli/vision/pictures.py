"""Pictures of a grid of trained ViTs, and of what one of them gets right, gets wrong and looks at.

Shapes: N images of 28 x 28, K classes, P x P patches.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hwcli.output import plots
from hwcli.training.metrics import standard_error
from hwcli.vision.fashion_mnist import CLASS_NAMES

MARKERS = "os^Dv<>P*X"
MISTAKES = (4, 6)  # rows and columns of the gallery
OUTLINE = 40  # of 255: as bright a pixel belongs to the thing


def draw_heatmap(cells: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Figure:
    """Draw the grid of test accuracies: layers down, heads across.

    Args:
        cells: of the grid, one for each place.
        best: the one of them to be marked, unless it is alone.
    """
    layers, heads = (
        list(dict.fromkeys(cell[key] for cell in cells)) for key in ("layers", "heads")
    )
    figure, (axes,) = plots.figure(width=1.8 + 1.1 * len(heads), height=1.4 + 0.5 * len(layers))
    by_place = {(cell["layers"], cell["heads"]): cell for cell in cells}
    grid = [[by_place[n, h] for h in heads] for n in layers]
    values = [[cell["test_accuracy_mean"] for cell in row] for row in grid]
    alone = len(cells) == 1
    tested = any(cell["indistinguishable_from_best"] is not None for cell in cells)

    def text(cell: Mapping[str, Any]) -> str:
        if cell["test_accuracy_mean"] is None:
            return str(cell["status"])
        mark = " ≈" if cell["indistinguishable_from_best"] else ""
        mark = " *" if cell is best and not alone else mark
        return f"{100 * cell['test_accuracy_mean']:.2f}{mark}"

    texts = [[text(cell) for cell in row] for row in grid]
    plots.heatmap(axes, values, texts, rows=layers, columns=heads)
    axes.set(xlabel="heads", ylabel="layers", title="Test accuracy, %")
    if not alone:
        legend = "* best by validation" + ("   ≈ not told apart from it" if tested else "")
        figure.supxlabel(legend, fontsize=8)
    return figure


def draw_curves(
    histories: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]],
    *,
    width: float | None = None,
    height: float = 3.2,
) -> Figure:
    """Draw validation accuracy over epochs, one panel for each number of heads.

    Args:
        histories: of each trial its layers and heads, and its epochs.
        width: of the figure, in inches; by default as its panels need.
        height: likewise.
    """
    layers, heads = (
        list(dict.fromkeys(place[key] for place, _ in histories)) for key in ("layers", "heads")
    )
    few = max(len(epochs) for _, epochs in histories) <= 20
    width = 2.2 + 2.0 * len(heads) if width is None else width
    figure, panels = plots.figure(columns=len(heads), width=width, height=height)
    for panel, h in zip(panels, heads, strict=True):
        for colour, n in zip(itertools.cycle(plots.COLOURS), layers):
            label: str | None = f"{n} layers"
            for place, epochs in histories:
                if (place["layers"], place["heads"]) != (n, h):
                    continue
                panel.plot(
                    [epoch["epoch"] + 1 for epoch in epochs],
                    [100 * epoch["valid_accuracy"] for epoch in epochs],
                    color=colour,
                    label=label,
                    marker="." if few else None,
                )
                label = None
        panel.set(title=f"{h} heads", xlabel="epoch")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.sharey(panels[0])
    panels[0].set_ylabel("validation accuracy, %")
    panels[-1].legend()
    return figure


def draw_costs(cells: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Figure:
    """Draw test accuracy against what a cell costs: seconds of training, and parameters.

    Args:
        cells: those that have an accuracy; bars are its standard error on the test images.
        best: ringed.
    """
    figure, panels = plots.figure(columns=2, width=8.2, height=3.6)
    layers, heads = (sorted({cell[key] for cell in cells}) for key in ("layers", "heads"))
    colour = {n: plots.COLOURS[i % len(plots.COLOURS)] for i, n in enumerate(layers)}
    marker = {h: MARKERS[i % len(MARKERS)] for i, h in enumerate(heads)}
    for panel, key in zip(panels, ("train_s", "num_params"), strict=True):
        for cell in cells:
            panel.errorbar(
                cell[key],
                100 * cell["test_accuracy_mean"],
                yerr=100 * cell["test_accuracy_se"],
                color=colour[cell["layers"]],
                marker=marker[cell["heads"]],
                markersize=5,
                elinewidth=0.7,
            )
        panel.plot(
            best[key],
            100 * best["test_accuracy_mean"],
            "o",
            ms=13,
            mfc="none",
            mec="#666666",
            mew=1.2,
        )
    panels[0].set(xlabel="training, s", ylabel="test accuracy, %")
    panels[1].set(xlabel="parameters")
    panels[1].xaxis.set_major_locator(MaxNLocator(6))
    panels[1].xaxis.set_major_formatter(lambda x, _: f"{x / 1000:,.0f} k")
    handles = [Line2D([], [], color=colour[n], lw=4, label=f"{n} layers") for n in layers]
    handles += [
        Line2D([], [], color="black", marker=marker[h], ls="", ms=5, label=f"{h} heads")
        for h in heads
    ]
    ring = Line2D([], [], marker="o", ls="", ms=11, mfc="none", mec="#666666", label="best")
    figure.legend(handles=[*handles, ring], loc="outside right center", frameon=False, fontsize=8)
    return figure


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
        # The square root lets the mistakes be seen beside the hits.
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
    bar.set_label("even share = 1", fontsize=7.5)
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


def draw_comparison(rows: Sequence[Mapping[str, Any]], name: str, other: str) -> Figure:
    """Draw two runs over the same cells: differences of accuracy, and accuracy over time.

    Args:
        rows: of :func:`~hwcli.vision.compare_runs.compare_runs`.
        name: of this run.
        other: of the run it is compared with.
    """
    figure, (grid, costs) = plots.figure(columns=2, width=8.4, height=3.8)
    layers, heads = (sorted({row[key] for row in rows}) for key in ("layers", "heads"))
    by_place = {(row["layers"], row["heads"]): row for row in rows}
    values = np.full((len(layers), len(heads)), np.nan)
    for (n, h), row in by_place.items():
        values[layers.index(n), heads.index(h)] = 100 * row["difference"]
    reach = float(np.nanmax(np.abs(values))) or 1.0
    grid.imshow(values, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        mark = " ≈" if by_place[layers[i], heads[j]]["told_apart"] is False else ""
        colour = "white" if abs(value) > 0.6 * reach else "black"
        grid.text(j, i, f"{value:+.2f}{mark}", ha="center", va="center", color=colour)
    grid.set_xticks(range(len(heads)), [str(h) for h in heads])
    grid.set_yticks(range(len(layers)), [str(n) for n in layers])
    grid.grid(visible=False)
    grid.spines[:].set_visible(False)
    grid.tick_params(length=0)
    grid.set(xlabel="heads", ylabel="layers", title=f"{name} − {other}, points (≈ not told apart)")
    for row in rows:
        costs.plot(
            [row["other_train_s"], row["train_s"]],
            [100 * row["other_test_accuracy"], 100 * row["test_accuracy"]],
            color="#bbbbbb",
            lw=0.8,
        )
    for colour, label, prefix in (
        (plots.COLOURS[0], other, "other_"),
        (plots.COLOURS[1], name, ""),
    ):
        costs.plot(
            [row[f"{prefix}train_s"] for row in rows],
            [100 * row[f"{prefix}test_accuracy"] for row in rows],
            "o",
            color=colour,
            label=label,
            ms=5,
        )
    costs.set(xlabel="training, s", ylabel="test accuracy, %", title="The same cells over time")
    costs.legend()
    return figure

"""Pictures of one trained network: what it gets right and wrong, and what it looks at.

Shapes: N images of 28 x 28, K classes, P x P patches.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from hwcli.output import plots
from hwcli.training.metrics import standard_error
from hwcli.vision.fashion_mnist import CLASS_NAMES

MISTAKES = (4, 6)  # rows and columns of the gallery
OUTLINE = 40  # of 255: brighter pixels belong to the object
MOST_BESIDE = 5  # pictures of one row of a rollout


def draw_confusion(
    labels: Tensor, predicted: Tensor, title: str, *, width: float = 8.6, height: float = 4.6
) -> Figure:
    """Draw how many images of each class are taken for which, and the accuracy of each class.

    Args:
        labels: (N,), in which every class occurs.
        predicted: (N,).
        title: above the matrix.
        width: of the figure in inches.
        height: likewise.
    """
    K = len(CLASS_NAMES)
    counts = torch.bincount(K * labels.long() + predicted.long(), minlength=K * K).view(K, K)
    figure, (matrix, bars) = plots.figure(
        columns=2, width=width, height=height, width_ratios=(2.2, 1)
    )
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
    # Never 100: the other classes have a probability too, even if it rounds to 0.
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
    columns = min(B, MOST_BESIDE)
    bands = -(-B // columns)
    # As wide as a page's text, so that its type stays as large as it is drawn.
    figure, panels = plots.figure(
        rows=2 * bands, columns=columns, width=1.1 * columns + 0.9, height=0.3 + 2.4 * bands
    )
    for panel in panels:
        panel.set_axis_off()
    above, below = [], []
    for band in range(bands):
        start = 2 * band * columns
        above += panels[start : start + columns]
        below += panels[start + columns : start + 2 * columns]
    # In units of an even share, one scale for all images.
    heat = (shares * P * P).numpy()
    size = images.shape[-1]
    place = (-0.5, size - 0.5, size - 0.5, -0.5)
    top = [_picture(panel, image) for panel, image in zip(above, images, strict=False)]
    for i, panel in enumerate(top):
        name = CLASS_NAMES[int(labels[i])]
        wrong = predicted[i] != labels[i]
        panel.set_title(
            name + (f"\n(says {CLASS_NAMES[int(predicted[i])]})" if wrong else "\n"),
            fontsize=7.5,
            loc="center",
        )
    shown = None
    for image, one, panel in zip(images, heat, below, strict=False):
        shown = panel.imshow(one, extent=place, cmap="inferno", vmin=heat.min(), vmax=heat.max())
        # The outline alone: an image under the colours would change them.
        panel.contour(image.numpy(), levels=[OUTLINE], colors="white", linewidths=0.7)
    assert shown is not None
    bar = figure.colorbar(shown, ax=panels, shrink=0.5, pad=0.01, aspect=20)
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

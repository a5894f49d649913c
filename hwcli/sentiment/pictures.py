"""The figures of a sentiment run, drawn from its summary by the run and by the report."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from hwcli.output import plots
from hwcli.sentiment.summary import SentimentSummary
from hwcli.training.metrics import standard_error


def figures(summary: SentimentSummary) -> dict[str, Callable[[SentimentSummary], Figure]]:
    """Return what a summary has the numbers for: file stem to drawing function."""
    drawn: dict[str, Callable[[SentimentSummary], Figure]] = {}
    if summary.calibration:
        drawn["calibration"] = draw_calibration
    if summary.lengths:
        drawn["length"] = draw_lengths
    if len(summary.epochs) > 1:
        drawn["curves"] = draw_curves
    return drawn


def draw_calibration(summary: SentimentSummary) -> Figure:
    """Draw the share of positive reviews over their predicted probability, in tenths."""
    figure, (axes,) = plots.figure(width=4.2, height=4.0)
    tenths = summary.calibration
    axes.plot([0, 1], [0, 1], color=plots.COLOURS[7], linewidth=1, label="perfect")
    axes.errorbar(
        [tenth.mean_probability for tenth in tenths],
        [tenth.share_positive for tenth in tenths],
        yerr=[tenth.share_se for tenth in tenths],
        color=plots.COLOURS[0],
        marker="o",
        label="classifier",
    )
    axes.set(
        xlabel="predicted probability of positive",
        ylabel="share of positive reviews",
        title=f"Calibration (expected error {summary.calibration_error or 0.0:.3f})",
    )
    axes.legend()
    return figure


def draw_lengths(summary: SentimentSummary) -> Figure:
    """Draw accuracy by review length, in fifths of the test reviews."""
    figure, (axes,) = plots.figure(width=5.6, height=3.6)
    fifths = summary.lengths
    words = [fifth.mean_words for fifth in fifths]
    for colour, name in zip(plots.COLOURS, fifths[0].accuracy, strict=False):
        accuracy = [fifth.accuracy[name] for fifth in fifths]
        errors = [
            100 * standard_error(a, fifth.num_reviews)
            for a, fifth in zip(accuracy, fifths, strict=True)
        ]
        percent = [100 * a for a in accuracy]
        axes.errorbar(words, percent, yerr=errors, color=colour, marker="o", label=name)
    axes.set(xlabel="words in the review", ylabel="test accuracy, %", title="Accuracy by length")
    if words[0] > 0:
        axes.set_xscale("log")
    # One tick per fifth: a logarithmic axis' own ticks overlap where the range is short.
    axes.set_xticks(words)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.legend()
    return figure


def draw_curves(summary: SentimentSummary) -> Figure:
    """Draw loss and accuracy over epochs."""
    figure, (losses, accuracies) = plots.figure(columns=2, width=6.4, height=3.0)
    epochs = summary.epochs
    numbers = [epoch.epoch for epoch in epochs]
    for name, colour, curve in (
        ("training", plots.COLOURS[0], [(e.train_loss, e.train_accuracy) for e in epochs]),
        ("validation", plots.COLOURS[1], [(e.valid_loss, e.valid_accuracy) for e in epochs]),
    ):
        style: dict[str, Any] = {"color": colour, "marker": ".", "label": name}
        losses.plot(numbers, [loss for loss, _ in curve], **style)
        accuracies.plot(numbers, [100 * accuracy for _, accuracy in curve], **style)
    for axes in (losses, accuracies):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.set(xlabel="epoch", title="Loss, nats")
    accuracies.set(xlabel="epoch", title="Accuracy, %")
    accuracies.legend()
    return figure

"""The pictures of one run of the attention bench: time and memory over the length."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from hwcli.attention.bench.cases import METHODS, Direction, MethodName, has_fused_kernel
from hwcli.attention.bench.results import AttentionSummary
from hwcli.attention.bench.scaling import PowerLaw
from hwcli.output import plots

WIDTH_IN = 6.4
HEIGHT_IN = 3.1
GREY = "#666666"

# Markers tell the curves apart in grey print too.
MARKERS = dict(zip(METHODS, "osD^v", strict=True))
COLOURS = dict(zip(METHODS, plots.COLOURS, strict=False))
SHORT_NOTES: dict[MethodName, str] = {
    "softmax-sdpa": "torch's fused kernel",
    "softmax-naive": "T × T weights stored",
    "linear-quadratic": "no exp, T × T weights",
    "linear": "no exp, sums S and z",
    "linear-chunked": "no exp, causal chunks",
}
WITHOUT_FUSED_KERNEL = "torch's own function"

# A label of two lines takes this share of an axis, so two labels keep this distance.
LABEL_SHARE = 0.155
# A crossing further left than this share of the shortest length would squeeze the points.
NEAR = 1 / 4


def draw_times(summary: AttentionSummary) -> Figure:
    """Draw time over T: measured, predicted and fitted."""
    figure, panels = _panels(summary)
    for panel, direction in zip(panels, summary.directions, strict=True):
        ends: dict[MethodName, float] = {}
        for method in summary.methods:
            points = summary.times_ms(direction, method)
            predicted = summary.times_ms(direction, method, "predicted")
            law = summary.time_law(direction, method)
            _draw_curve(panel, method, points, predicted, law)
            known = points | predicted
            if known:
                ends[method] = known[max(known)]
        has_predicted = any(row.status == "predicted" for row in summary.rows)
        note = "filled: measured; hollow: predicted" if has_predicted else ""
        _finish(panel, f"Time of one call, {direction}", "milliseconds", note)
        _draw_crossing(panel, summary, direction)
        laws = {method: summary.time_law(direction, method) for method in ends}
        _label_curves(panel, summary, ends, laws)
    return figure


def draw_memory(summary: AttentionSummary) -> Figure:
    """Draw memory over T: measured, and as computed from the code."""
    figure, panels = _panels(summary)
    for panel, direction in zip(panels, summary.directions, strict=True):
        ends: dict[MethodName, float] = {}
        for method in summary.methods:
            peaks = {T: b / 2**20 for T, b in summary.peaks_bytes(direction, method).items()}
            _draw_curve(panel, method, peaks, {}, None)
            computed = {
                row.T: row.analytic_bytes / 2**20
                for row in summary.rows
                if (row.direction, row.method) == (direction, method)
            }
            panel.plot(*_xy(computed), color=COLOURS[method], linestyle=":", linewidth=1.2)
            ends[method] = peaks.get(max(computed)) or computed[max(computed)]
        note = "marked: measured; dotted: computed from the code"
        _finish(panel, f"Peak memory beyond the inputs, {direction}", "MiB", note)
        laws = {method: summary.memory_law(direction, method) for method in ends}
        _label_curves(panel, summary, ends, laws)
    return figure


def _panels(summary: AttentionSummary) -> tuple[Figure, list[Axes]]:
    rows = len(summary.directions)
    return plots.figure(rows=rows, width=WIDTH_IN, height=HEIGHT_IN * rows)


def _xy(points: dict[int, float]) -> tuple[list[int], list[float]]:
    return list(points), list(points.values())


def _draw_curve(
    panel: Axes,
    method: MethodName,
    points: dict[int, float],
    predicted: dict[int, float],
    law: PowerLaw | None,
) -> None:
    style: dict[str, Any] = {"color": COLOURS[method], "marker": MARKERS[method]}
    panel.plot(*_xy(points), **style, linewidth=0.7, markersize=5)
    panel.plot(*_xy(predicted), **style, linestyle="none", fillstyle="none", markersize=6)
    if law is not None:
        ends = [min(law.xs), max([*law.xs, *predicted])]
        panel.plot(ends, [law(x) for x in ends], color=COLOURS[method], linewidth=1.6)


def _draw_crossing(panel: Axes, summary: AttentionSummary, direction: Direction) -> None:
    """Mark the length from which linear attention is faster, in the direction it is known for."""
    T = summary.crossover_T
    if T is None or direction != summary.directions[0]:
        return
    text = f"{summary.linear} is faster than softmax from T ≈ {T:,.0f} (interpolated)"
    if min(summary.lengths) * NEAR <= T:
        panel.axvline(T, color=GREY, linestyle="--", linewidth=1)
    else:
        text += " (left of this plot)"
    panel.text(0.985, 0.03, text, transform=panel.transAxes, ha="right", color=GREY, fontsize=8)


def _finish(panel: Axes, title: str, unit: str, note: str) -> None:
    panel.set(xlabel=f"tokens T   ({note})" if note else "tokens T", ylabel=unit)
    panel.set_title(title, loc="left", fontsize=10)
    if not any(np.size(line.get_xdata()) for line in panel.lines):
        panel.set(xticks=[], yticks=[])  # all points failed, and nothing has no logarithm
        return
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_locator(LogLocator(base=4, numticks=12))
    panel.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    panel.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}")
    panel.yaxis.set_minor_formatter(lambda y, _: "")
    panel.margins(y=0.08)


def _label_curves(
    panel: Axes,
    summary: AttentionSummary,
    ends: dict[MethodName, float],
    laws: dict[MethodName, PowerLaw | None],
) -> None:
    """Write each curve's name at its right end, moved apart where two would overlap."""
    if not ends:
        return
    notes = dict(SHORT_NOTES)
    if not has_fused_kernel(summary.machine.device, summary.shape.dtype):
        notes["softmax-sdpa"] = WITHOUT_FUSED_KERNEL
    low, high = (math.log10(y) for y in panel.get_ylim())
    order = sorted(ends, key=lambda method: ends[method])
    wanted = [(math.log10(ends[method]) - low) / (high - low) for method in order]
    for method, y in zip(order, spread(wanted, LABEL_SHARE), strict=True):
        law = laws[method]
        exponent = "" if law is None else f": $T^{{{law.exponent:.2f}}}$"
        panel.text(
            1.02,
            y,
            f"{method}{exponent}\n{notes[method]}",
            transform=panel.transAxes,
            color=COLOURS[method],
            fontsize=8.5,
            va="center",
            linespacing=1.25,
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move ascending places apart until neighbours keep a gap, all within 0 to 1 if they fit."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else max(place, gap / 2))
    top = 1 - gap / 2
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - gap
    return places

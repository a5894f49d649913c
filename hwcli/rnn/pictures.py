"""Pictures of a network at work: what its output compares, and the output, over time."""

import math
from collections.abc import Sequence
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hwcli.output import plots
from hwcli.rnn.exact import Number, shown, to_float
from hwcli.rnn.trace import Step, Trace

# Beyond these a curve is a smear.
MAX_UNITS_DRAWN = 8
STEPS_ENLARGED = 60
# Over many steps the points of so few values are bars, and say nothing.
FEW_VALUES = 8
# Colours belong to sums and units: what is shown of the output is grey.
NEUTRAL = "#333333"
WIDTH_IN, HEIGHT_IN = 6.4, 4.0


def draw_trace(trace: Trace, property_id: str | None = None) -> Figure:
    """Draw the answer over time: the first steps, and all that are kept.

    Above what the output compares (two running sums where the property is about two, else the
    hidden units), below the output, and over all steps the difference of the two sums. Of a
    sequence longer than the trace keeps, the middle is missing.
    """
    if (sums := _two_sums(trace, property_id)) is not None:
        return _draw_sums(trace, *sums)
    beginning = list(trace.head[:STEPS_ENLARGED])
    kept = list(trace.head)
    if trace.length > len(trace.head):
        kept += [step for step in trace.tail if step.t > len(trace.head)]
    many_states = _num_values([h for step in kept for h in step.hidden]) > FEW_VALUES
    many_outputs = _num_values([step.output for step in kept]) > FEW_VALUES
    stretches = [beginning]
    if len(kept) > STEPS_ENLARGED and (many_states or many_outputs):
        stretches.append(kept)
    figure, axes = plots.figure(
        rows=2, columns=len(stretches), width=WIDTH_IN, height=HEIGHT_IN - 0.2
    )
    upper, lower = axes[: len(stretches)], axes[len(stretches) :]
    for steps, hidden, output in zip(stretches, upper, lower, strict=True):
        look = {"marker": "."} if steps is beginning else {"marker": ".", "ms": 1.5, "lw": 0}
        num_units = min(len(steps[0].hidden), MAX_UNITS_DRAWN)
        times = [step.t for step in steps]
        for unit in range(num_units):
            values = [_drawable(step.hidden[unit]) for step in steps]
            colour = plots.COLOURS[unit % len(plots.COLOURS)]
            hidden.plot(times, values, color=colour, label=f"unit {unit + 1}", **look)
        _begin_at_one(hidden, steps)
        if max(abs(to_float(h)) for step in steps for h in step.hidden) > 1e6:
            hidden.set_yscale("symlog")
        if steps is beginning or many_outputs:
            output.plot(times, [_drawable(step.output) for step in steps], color=NEUTRAL, **look)
            _begin_at_one(output, steps)
            _tick_classes(output, steps)
            output.set(xlabel="step t")
        else:
            output.set_axis_off()
            hidden.set(xlabel="step t")
    upper[0].set(ylabel="$h_t$", title=f"The first {len(beginning):,} steps")
    lower[0].set(ylabel="output $y_t$")
    if len(stretches) > 1:
        upper[1].set(title=f"All {trace.length:,} steps")
    if len(beginning[0].hidden) > 1:
        upper[0].legend(ncols=4, fontsize=7.5)
    return figure


def _two_sums(
    trace: Trace, property_id: str | None
) -> tuple[tuple[str, str], list[float], list[float]] | None:
    """Return two running sums whose comparison is the property, with what they are sums of."""
    letters = [tuple(map(to_float, step.letter)) for step in trace.head]
    if property_id == "alternating-sum":
        names = ("inputs at even positions", "inputs at odd positions")
        split = [
            (x if t % 2 == 0 else 0.0, x if t % 2 else 0.0) for t, (x,) in enumerate(letters, 1)
        ]
    elif property_id == "difference-of-sums":
        names = ("first inputs", "second inputs")
        split = [(a, b) for a, b in letters]
    else:
        return None
    return names, list(accumulate(a for a, _ in split)), list(accumulate(b for _, b in split))


def _draw_sums(
    trace: Trace, names: tuple[str, str], first: list[float], second: list[float]
) -> Figure:
    """Draw two running sums, the output that compares them, and over all steps what it reads."""
    steps = list(trace.head)
    stretches = [steps[:STEPS_ENLARGED]]
    if len(steps) > STEPS_ENLARGED:
        stretches.append(steps)
    figure, axes = plots.figure(rows=2, columns=len(stretches), width=WIDTH_IN, height=HEIGHT_IN)
    for column, shown_steps in enumerate(stretches):
        n, upper = len(shown_steps), axes[column]
        for k, sums in enumerate((first, second)):
            upper.plot(
                [step.t for step in shown_steps], sums[:n], color=plots.COLOURS[k],
                label=f"sum of {names[k]} up to t", drawstyle="steps-post",
            )  # fmt: skip
        _begin_at_one(upper, shown_steps)
        which = f"The first {n:,} steps" if n < trace.length else f"All {n:,} steps"
        upper.set(title=which)
    axes[0].set(ylabel="running sums")
    # Room for the legend below the curves.
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low - 0.35 * (high - low), high)
    axes[0].legend(fontsize=7.5, loc="lower right")
    _draw_outputs(axes[len(stretches)], stretches[0], by_parity="even" in names[0])
    if len(stretches) > 1:
        _draw_difference(axes[-1], steps, [a - b for a, b in zip(first, second, strict=True)])
        kinds = [name.removeprefix("inputs at ").removesuffix(" positions") for name in names]
        axes[-1].set(ylabel=f"{kinds[0]} minus {kinds[1]}")
    return figure


def _draw_outputs(axes: Axes, steps: Sequence[Step], *, by_parity: bool) -> None:
    """Draw the output after each step; after even ones filled, after odd ones hollow."""
    groups: list[tuple[str, int | None, str]] = [("output", None, NEUTRAL)]
    if by_parity:
        groups = [("even t", 0, NEUTRAL), ("odd t", 1, "white")]
    for label, parity, inside in groups:
        some = [step for step in steps if parity is None or step.t % 2 == parity]
        axes.scatter(
            [step.t for step in some], [_drawable(step.output) for step in some], s=14,
            facecolors=inside, edgecolors=NEUTRAL, linewidths=0.9, label=label, clip_on=False,
            zorder=3,
        )  # fmt: skip
    ties = [step for step in steps if step.preactivation == 0]
    if ties:
        axes.scatter(
            [step.t for step in ties], [_drawable(step.output) for step in ties], s=60,
            marker="x", color=NEUTRAL, linewidths=0.8, label="tie", clip_on=False,
        )  # fmt: skip
    _begin_at_one(axes, steps)
    _tick_classes(axes, steps)
    axes.set(xlabel="step t", ylabel="output $y_t$")
    # Between two classes there are no points.
    axes.legend(fontsize=7.5, loc="center", bbox_to_anchor=(0.5, 0.72), ncols=3)


def _draw_difference(axes: Axes, steps: Sequence[Step], differences: Sequence[float]) -> None:
    """Draw what the output reads over all steps, with its last value and the output there."""
    last = steps[-1]
    axes.plot([step.t for step in steps], differences, color=NEUTRAL, linewidth=0.9)
    axes.axhline(0, color="black", linewidth=0.9)
    axes.scatter([last.t], [differences[-1]], s=22, color=NEUTRAL, clip_on=False, zorder=3)
    axes.set_title(
        f"{differences[-1]:+,.6g} at t = {last.t:,}: output {shown(last.output)}",
        loc="right", fontsize=8,
    )  # fmt: skip
    _begin_at_one(axes, steps)
    axes.set(xlabel="step t")


def _begin_at_one(axes: Axes, steps: Sequence[Step]) -> None:
    """Let the axis of steps begin at the first one, with a tick there."""
    first, last = steps[0].t, steps[-1].t
    if first == last:
        axes.set_xticks([first])
        return
    ticks = [t for t in MaxNLocator(5, integer=True).tick_values(first, last) if first < t <= last]
    axes.set_xticks([first, *(t for t in ticks if t - first > 0.1 * (last - first))])
    axes.set_xlim(first, last)


def _tick_classes(axes: Axes, steps: Sequence[Step]) -> None:
    """Tick the classes of an output where it stays between them."""
    outputs = [to_float(step.output) for step in steps]
    low, high = min(outputs), max(outputs)
    if low >= 0 and high <= 1:
        axes.set(yticks=[0, 0.5, 1], ylim=(-0.08, 1.08))
    elif low >= -1 and high <= 1:
        axes.set(yticks=[-1, 0, 1], ylim=(-1.16, 1.16))


def _num_values(numbers: Sequence[Number]) -> int:
    return len(set(numbers))


def _drawable(number: Number) -> float:
    """Leave out what no axis can hold."""
    value = to_float(number)
    return value if abs(value) < 1e100 else math.nan

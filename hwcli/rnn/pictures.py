"""Pictures of a network at work: what its output compares, and the output, over time."""

import math
from itertools import accumulate

from matplotlib.figure import Figure

from hwcli.output import plots
from hwcli.rnn.exact import Number, to_float
from hwcli.rnn.trace import Trace

# Beyond these a curve is a smear.
MAX_UNITS_DRAWN = 8
STEPS_ENLARGED = 60


def draw_trace(trace: Trace, property_id: str | None = None) -> Figure:
    """Draw the answer over time: the first steps, and all that are kept.

    Above what the output compares (two running sums where the property is about two, else the
    hidden units), below the output, ties marked. Of a sequence longer than the trace keeps, the
    middle is missing.
    """
    if (sums := _two_sums(trace, property_id)) is not None:
        return _draw_sums(trace, *sums)
    beginning = list(trace.head[:STEPS_ENLARGED])
    kept = list(trace.head)
    if trace.length > len(trace.head):
        kept += [step for step in trace.tail if step.t > len(trace.head)]
    stretches = [beginning] if len(kept) <= STEPS_ENLARGED else [beginning, kept]
    figure, axes = plots.figure(rows=2, columns=len(stretches), width=6.4, height=4.6)
    upper, lower = axes[: len(stretches)], axes[len(stretches) :]
    for steps, hidden, output in zip(stretches, upper, lower, strict=True):
        look = {"marker": "."} if steps is beginning else {"marker": ".", "ms": 1.5, "lw": 0}
        num_units = min(len(steps[0].hidden), MAX_UNITS_DRAWN)
        times = [step.t for step in steps]
        for unit in range(num_units):
            values = [_drawable(step.hidden[unit]) for step in steps]
            colour = plots.COLOURS[unit % len(plots.COLOURS)]
            hidden.plot(times, values, color=colour, label=f"unit {unit + 1}", **look)
        output.plot(
            times, [_drawable(step.output) for step in steps], color=plots.COLOURS[-2], **look
        )
        output.set(xlabel="t")
        if max(abs(to_float(h)) for step in steps for h in step.hidden) > 1e6:
            hidden.set_yscale("symlog")
    upper[0].set(ylabel="$h_t$", title=f"The first {len(beginning):,} steps")
    lower[0].set(ylabel="$y_t$")
    if len(stretches) > 1:
        upper[1].set(title=f"All {trace.length:,} steps")
    if len(beginning[0].hidden) > 1:
        upper[0].legend(ncols=4, fontsize=7.5)
    return figure


def _two_sums(
    trace: Trace, property_id: str | None
) -> tuple[tuple[str, str], list[float], list[float]] | None:
    """Return two running sums whose comparison is the property, with their names."""
    letters = [tuple(map(to_float, step.letter)) for step in trace.head]
    if property_id == "alternating-sum":
        names = ("sum at even positions", "sum at odd positions")
        split = [
            (x if t % 2 == 0 else 0.0, x if t % 2 else 0.0) for t, (x,) in enumerate(letters, 1)
        ]
    elif property_id == "difference-of-sums":
        names = ("sum of the first inputs", "sum of the second inputs")
        split = [(a, b) for a, b in letters]
    else:
        return None
    return names, list(accumulate(a for a, _ in split)), list(accumulate(b for _, b in split))


def _draw_sums(
    trace: Trace, names: tuple[str, str], first: list[float], second: list[float]
) -> Figure:
    """Draw two running sums and the output that compares them."""
    steps = list(trace.head)
    lengths = [min(STEPS_ENLARGED, len(steps))]
    if len(steps) > STEPS_ENLARGED:
        lengths.append(len(steps))
    figure, axes = plots.figure(rows=2, columns=len(lengths), width=6.4, height=4.8)
    parities = names[0].endswith("even positions")
    for column, n in enumerate(lengths):
        upper, lower = axes[column], axes[len(lengths) + column]
        times = [step.t for step in steps[:n]]
        for k, sums in enumerate((first, second)):
            upper.plot(
                times, sums[:n], color=plots.COLOURS[k], label=names[k], drawstyle="steps-post"
            )
        size = 14 if n <= STEPS_ENLARGED else 3
        groups = [("even t", 0), ("odd t", 1)] if parities else [("output", None)]
        for k, (label, parity) in enumerate(groups):
            shown = [s for s in steps[:n] if parity is None or s.t % 2 == parity]
            lower.scatter(
                [s.t for s in shown], [_drawable(s.output) for s in shown], s=size,
                color=plots.COLOURS[k], label=label,
            )  # fmt: skip
        ties = [s for s in steps[:n] if s.preactivation == 0]
        if ties:
            lower.scatter(
                [s.t for s in ties], [_drawable(s.output) for s in ties], s=4 * size,
                facecolors="none", edgecolors="black", linewidths=0.8, label="tie",
            )  # fmt: skip
        lower.set(xlabel="step t")
        which = f"The first {n:,} steps" if n < trace.length else f"All {n:,} steps"
        upper.set(title=which)
    axes[0].set(ylabel="running sums")
    axes[len(lengths)].set(ylabel="output $y_t$")
    axes[0].legend(fontsize=7.5)
    axes[len(lengths)].legend(fontsize=7.5, loc="center right")
    return figure


def _drawable(number: Number) -> float:
    """Leave out what no axis can hold."""
    value = to_float(number)
    return value if abs(value) < 1e100 else math.nan

"""Pictures of a network at work, and of its minimal state machine."""

import math
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from hwcli.output import plots
from hwcli.rnn.exact import Number, shown, to_float
from hwcli.rnn.network import Letter
from hwcli.rnn.state_machine import MooreMachine
from hwcli.rnn.trace import Trace

# Beyond these a diagram is a tangle, and a curve a smear.
MAX_STATES_DRAWN = 20
MAX_UNITS_DRAWN = 8
MAX_LETTERS_SPELLED = 5
STEPS_ENLARGED = 60

STATE_RADIUS = 0.19
LABEL_BOX: Any = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


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


def draw_machine(machine: MooreMachine, title: str) -> Figure | None:
    """Draw states on a circle with an arrow for each letter; None where they are too many."""
    machine = machine.without_idle_start()
    S = machine.num_states
    if S > MAX_STATES_DRAWN:
        return None
    side = 4.4 if S <= 4 else 6.4 if S <= 12 else 9.0
    figure, (axes,) = plots.figure(width=side + 0.6, height=side)
    radius = 0.0 if S == 1 else max(0.75, STATE_RADIUS * S / 2.2)
    # The start stands on the left, and the others follow clockwise.
    angles = [math.pi - 2 * math.pi * state / S for state in range(S)]
    places = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    for state, row in enumerate(machine.transitions):
        ordered = sorted(zip(row, machine.letters, strict=True), key=lambda pair: pair[0])
        for target, group in groupby(ordered, key=lambda pair: pair[0]):
            label = _spell([letter for _, letter in group], len(machine.letters))
            if target == state:
                _draw_loop(axes, places[state], angles[state], label)
            else:
                _draw_arrow(axes, places[state], places[target], label)
    for state, (x, y) in enumerate(places):
        output = machine.outputs[state]
        text = "start" if output is None else f"{state}: {shown(output)}"
        edge = {"facecolor": "#eef4fa", "edgecolor": "black", "linewidth": 1.2, "zorder": 3}
        axes.add_patch(Circle((x, y), STATE_RADIUS, **edge))
        axes.text(x, y, text, ha="center", va="center", zorder=4)
    x, y = places[0]
    entry = FancyArrowPatch(
        (x - 2.4 * STATE_RADIUS, y),
        (x - STATE_RADIUS, y),
        arrowstyle="-|>",
        mutation_scale=12,
        color="black",
    )
    axes.add_patch(entry)
    reach = radius + 3.4 * STATE_RADIUS
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
    axes.set_axis_off()
    return figure


def _spell(letters: Sequence[Letter], num_all: int) -> str:
    if len(letters) == num_all > 1:
        return "any"
    texts = [" ".join(map(shown, letter)) for letter in letters]
    if len(texts) <= MAX_LETTERS_SPELLED:
        return ", ".join(texts)
    return f"{texts[0]}, {texts[1]}, … ({len(texts)} letters)"


def _draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], label: str
) -> None:
    """Draw a bow, so that two arrows between the same states do not fall on each other."""
    (x0, y0), (x1, y1) = start, end
    length = math.hypot(x1 - x0, y1 - y0)
    bend = -0.22  # to the left: outward, on a way from a state to the next
    arrow = FancyArrowPatch(
        _towards(start, end, STATE_RADIUS),
        _towards(end, start, STATE_RADIUS),
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>",
        mutation_scale=12,
        color="#444444",
    )
    axes.add_patch(arrow)
    # On the arrow itself, near its start: so it cannot be taken for another arrow's.
    control = (x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)
    s = min(0.5, max(0.25, 2.2 * STATE_RADIUS / length))
    x, y = (
        (1 - s) ** 2 * a + 2 * s * (1 - s) * c + s**2 * b
        for a, c, b in ((x0, control[0], x1), (y0, control[1], y1))
    )
    axes.text(x, y, label, ha="center", va="center", fontsize=8, bbox=LABEL_BOX, zorder=5)


def _towards(
    start: tuple[float, float], end: tuple[float, float], distance: float
) -> tuple[float, float]:
    (x0, y0), (x1, y1) = start, end
    share = distance / math.hypot(x1 - x0, y1 - y0)
    return x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def _draw_loop(axes: Axes, place: tuple[float, float], angle: float, label: str) -> None:
    """Draw a loop at the side of a state that looks away from the others."""
    # A start's entry comes from the left: its loop stands on top.
    angle = math.pi / 2 if abs(angle - math.pi) < 1e-9 else angle
    x, y = place

    def at(turn: float, distance: float) -> tuple[float, float]:
        return x + distance * math.cos(angle + turn), y + distance * math.sin(angle + turn)

    loop = FancyArrowPatch(
        at(0.5, STATE_RADIUS),
        at(-0.5, STATE_RADIUS),
        connectionstyle="arc3,rad=-1.6",
        arrowstyle="-|>",
        mutation_scale=12,
        color="#444444",
    )
    axes.add_patch(loop)
    x, y = at(0.0, 2.6 * STATE_RADIUS)
    axes.text(x, y, label, ha="center", va="center", fontsize=8)

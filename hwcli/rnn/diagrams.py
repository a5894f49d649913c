"""Diagrams: a network with its weights, and the minimal state machine of what it computes."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from hwcli.output import plots
from hwcli.rnn.cells import AnyNetwork
from hwcli.rnn.exact import Exact, shown
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.state_machine import MooreMachine

# Beyond these a diagram is a tangle.
MAX_STATES_DRAWN = 20
MAX_UNITS_DRAWN = 4
MAX_LETTERS_SPELLED = 5

RADIUS = 0.19
# How far an arrow bends to the left: outward, on a way from a state to the next.
OUTWARD = -0.22
LABEL_BOX: Any = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
ARROW: Any = {
    "arrowstyle": "-|>", "mutation_scale": 12, "color": "#444444", "shrinkA": 0, "shrinkB": 0,
}  # fmt: skip
SHAPE: Any = {"facecolor": "#eef4fa", "edgecolor": "black", "linewidth": 1.2, "zorder": 3}

Place = tuple[float, float]


def draw_network(network: AnyNetwork) -> Figure | None:
    """Draw inputs, hidden units and the output, with an arrow for each weight that is not 0.

    Loops, arrows between hidden units and arrows from the output lead to the next step. None for
    gated cells, stacked layers, and where the units are too many.
    """
    if not isinstance(network, Network):
        return None
    H, D = network.num_hidden, network.num_inputs
    if max(H, D) > MAX_UNITS_DRAWN:
        return None
    # Weights have names where there is one of each, and stand in the middle of their arrows.
    scalar = H == D == 1
    columns = (0.0, 1.2, 2.4) if scalar else (0.0, 1.5, 3.0)
    inputs = [(columns[0], y) for y in _heights(D)]
    hidden = [(columns[1], y) for y in _heights(H)]
    output = (columns[2], 0.0)
    top = (max(H, D) - 1) / 2 * SPACING
    left, right = -1.5 * RADIUS, columns[2] + (3.2 if network.output_bias else 1.8) * RADIUS
    # Room above for a loop and its weight, below for the name of the activation.
    low, high = -top - 2.3 * RADIUS, top + (2.6 if scalar else 2.9) * RADIUS
    inches = min(MAX_INCHES_A_UNIT, MAX_HEIGHT_IN / (high - low))
    figure, (axes,) = plots.figure(width=inches * (right - left), height=inches * (high - low))

    def weigh(start: Place, end: Place, weight: Exact, name: str, bend: float = 0.0) -> None:
        if weight:
            gap = BOX / 2 if start in inputs else RADIUS
            label = f"{name} = {shown(weight)}" if scalar else shown(weight)
            _draw_arrow(axes, start, end, label, bend, gap=gap, middle=scalar)

    for i, unit in enumerate(hidden):
        for d, place in enumerate(inputs):
            weigh(place, unit, network.w_in[i][d], "w_in")
        weigh(unit, output, network.w_out[i], "w_out")
        weigh(output, unit, network.w_feedback[i], "w_feedback", bend=0.45)
        for j, source in enumerate(hidden):
            if j != i:
                weigh(source, unit, network.w_rec[i][j], "w_rec", bend=0.5)
            elif weight := network.w_rec[i][i]:
                label = f"w_rec = {shown(weight)}" if scalar else shown(weight)
                angle = LOOP_ANGLE if H > 1 else math.pi / 2
                _draw_loop(axes, unit, angle, label, 2.15 * RADIUS)
    for d, (x, y) in enumerate(inputs):
        axes.add_patch(Rectangle((x - BOX / 2, y - BOX / 2), BOX, BOX, **SHAPE))
        axes.text(x, y, _symbol("x", d, D), ha="center", va="center", zorder=4)
    for i, unit in enumerate(hidden):
        _draw_unit(axes, unit, _symbol("h", i, H), network.bias[i])
    _draw_unit(axes, output, "$y_t$", network.output_bias)
    for (x, y), name, bias in (
        (hidden[-1], network.activation, network.bias[-1]),
        (output, network.output_activation, network.output_bias),
    ):
        # A bias stands at the circle's lower side: the name goes below it.
        below = y - (1.6 if bias else 1.15) * RADIUS
        axes.text(x, below, NAMES.get(name, name), ha="center", va="top", fontsize=8)
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    axes.set_axis_off()
    return figure


# Between the centres of two units of a column; where loops stand that have units above them.
SPACING, LOOP_ANGLE = 1.15, 2.3
# Inches of print for a unit of the drawing, and of the whole.
MAX_INCHES_A_UNIT, MAX_HEIGHT_IN = 1.75, 5.8
# The side of an input's box.
BOX = 1.7 * RADIUS
NAMES = {"identity": "linear", "step-ge": "step (z >= 0)", "step": "step (z > 0)"}


def _heights(number: int) -> list[float]:
    return [SPACING * ((number - 1) / 2 - i) for i in range(number)]


def _symbol(letter: str, index: int, number: int) -> str:
    return f"${letter}_t$" if number == 1 else f"${letter}[{index + 1}]_t$"


def _draw_unit(axes: Axes, place: Place, text: str, bias: Exact) -> None:
    _draw_circle(axes, place, text)
    if bias:
        # On the side that the arrows to the output do not take.
        x, side = place[0] + 0.9 * RADIUS, 1 if place[1] > 0 else -1
        y = place[1] + 1.1 * side * RADIUS
        axes.text(x, y, f"bias {shown(bias)}", ha="left", va="center", fontsize=8)


def draw_machine(machine: MooreMachine, title: str) -> Figure | None:
    """Draw states on a circle with an arrow for each letter; None where they are too many."""
    machine = machine.without_idle_start()
    S = machine.num_states
    if S > MAX_STATES_DRAWN:
        return None
    side = 4.4 if S <= 4 else 6.4 if S <= 12 else 9.0
    figure, (axes,) = plots.figure(width=side + 0.6, height=side)
    radius = 0.0 if S == 1 else max(0.75, RADIUS * S / 2.2)
    # The start stands on the left, and the others follow clockwise.
    angles = [math.pi - 2 * math.pi * state / S for state in range(S)]
    places = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    for state, row in enumerate(machine.transitions):
        ordered = sorted(zip(row, machine.letters, strict=True), key=lambda pair: pair[0])
        for target, group in groupby(ordered, key=lambda pair: pair[0]):
            label = _spell([letter for _, letter in group], len(machine.letters))
            if target == state:
                # A start's entry comes from the left: its loop stands on top.
                _draw_loop(axes, places[state], angles[state] if state else math.pi / 2, label)
            else:
                _draw_arrow(axes, places[state], places[target], label)
    for state, place in enumerate(places):
        output = machine.outputs[state]
        _draw_circle(axes, place, "start" if output is None else f"{state}: {shown(output)}")
    x, y = places[0]
    entry = FancyArrowPatch(
        (x - 2.4 * RADIUS, y),
        (x - RADIUS, y),
        arrowstyle="-|>",
        mutation_scale=12,
        color="black",
    )
    axes.add_patch(entry)
    reach = radius + 3.4 * RADIUS
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


def _draw_circle(axes: Axes, place: Place, text: str) -> None:
    axes.add_patch(Circle(place, RADIUS, **SHAPE))
    axes.text(*place, text, ha="center", va="center", zorder=4)


def _draw_arrow(
    axes: Axes,
    start: Place,
    end: Place,
    label: str,
    bend: float = OUTWARD,
    *,
    gap: float = RADIUS,
    middle: bool = False,
) -> None:
    """Draw a bow, so that two arrows between the same circles do not fall on each other.

    Args:
        axes: to draw on.
        start: centre of what it comes from.
        end: centre of the circle it leads to.
        label: on the arrow.
        bend: to the left, as a share of the length.
        gap: from the first centre to where the arrow begins.
        middle: put the label there, and not near the start.
    """
    length = math.dist(start, end)
    (x0, y0), (x1, y1) = first, last = _towards(start, end, gap), _towards(end, start, RADIUS)
    arrow = FancyArrowPatch(
        first,
        last,
        connectionstyle=f"arc3,rad={bend}",
        **ARROW,
    )
    axes.add_patch(arrow)
    # On the arrow itself, near its start: so it cannot be taken for another arrow's.
    control = (x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)
    s = 0.5 if middle else min(0.5, max(0.2, RADIUS / length))
    x, y = (
        (1 - s) ** 2 * a + 2 * s * (1 - s) * c + s**2 * b
        for a, c, b in ((x0, control[0], x1), (y0, control[1], y1))
    )
    axes.text(x, y, label, ha="center", va="center", fontsize=8, bbox=LABEL_BOX, zorder=5)


def _towards(start: Place, end: Place, distance: float) -> Place:
    (x0, y0), (x1, y1) = start, end
    share = distance / math.hypot(x1 - x0, y1 - y0)
    return x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def _draw_loop(
    axes: Axes, place: Place, angle: float, label: str, label_at: float = 2.6 * RADIUS
) -> None:
    """Draw a loop at the side of a circle that an angle names, its label so far from the centre."""
    x, y = place

    def at(turn: float, distance: float) -> Place:
        return x + distance * math.cos(angle + turn), y + distance * math.sin(angle + turn)

    loop = FancyArrowPatch(
        at(0.5, RADIUS),
        at(-0.5, RADIUS),
        connectionstyle="arc3,rad=-1.6",
        **ARROW,
    )
    axes.add_patch(loop)
    x, y = at(0.0, label_at)
    axes.text(x, y, label, ha="center", va="center", fontsize=8)

"""One look for every figure, drawn without a display and without pyplot's global state."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
}


def figure(
    *,
    rows: int = 1,
    columns: int = 1,
    width: float = 6.4,
    height: float = 4.0,
    width_ratios: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Make a figure and its axes, row by row; sizes in inches, columns alike unless told."""
    with rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        axes = made.subplots(rows, columns, squeeze=False, width_ratios=width_ratios)
    return made, list(axes.flat)


def to_png(made: Figure) -> bytes:
    """Render a figure as PNG of at most 255 colours, a third of the size; bytes repeat."""
    rendered, buffer = io.BytesIO(), io.BytesIO()
    with rc_context(STYLE):
        made.savefig(rendered, format="png", dpi=150)
    with Image.open(rendered) as image:
        few = image.convert("RGB").quantize(255, dither=Image.Dither.NONE)
        few.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def heatmap(
    axes: Axes,
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    *,
    rows: Sequence[object],
    columns: Sequence[object],
    limits: tuple[float, float] | None = None,
    colours: str = "cividis",
) -> None:
    """Draw a matrix of numbers as coloured cells with a text in each; None stays blank.

    Colours go from the smallest to the largest number, or over the limits.
    """
    matrix = np.array([[math.nan if v is None else v for v in line] for line in values], float)
    low, high = limits or (None, None)
    image = axes.imshow(matrix, cmap=colours, aspect="auto", vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(matrix):
        red, green, blue, _ = image.to_rgba(np.array([value]))[0]
        is_dark = not math.isnan(value) and 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        colour = "white" if is_dark else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), [str(c) for c in columns])
    axes.set_yticks(range(len(rows)), [str(r) for r in rows])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)

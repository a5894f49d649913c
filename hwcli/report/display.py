"""How a notebook shows the project's own tables, figures and sources, in Jupyter and in print.

Figures are vector graphics; a caption travels with each as its text form.
"""

import inspect
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from hwcli.output.plots import STYLE
from hwcli.output.tables import Table

MOST_VECTOR_POINTS = 300


def show(shown: Table | Figure | Path, caption: str = "") -> None:
    """Display a table, a figure, or a PNG that a run has drawn."""
    if isinstance(shown, Table):
        _publish({"text/markdown": shown.to_markdown(), "text/plain": shown.title})
    elif isinstance(shown, Figure):
        _publish({"image/svg+xml": to_svg(shown), "text/plain": caption})
    else:
        _publish({"image/png": shown.read_bytes(), "text/plain": caption})


def show_source(*functions: Callable[..., Any]) -> None:
    """Display the source of functions or classes, as code."""
    source = "\n\n".join(inspect.getsource(function).rstrip() for function in functions)
    _publish({"text/markdown": f"```python\n{source}\n```", "text/plain": source})


def to_svg(figure: Figure) -> str:
    """Render a figure as SVG; the same figure gives the same text.

    Clouds of points, which would be most of the file, become pixels inside.
    """
    for axes in figure.axes:
        for line in axes.lines:
            line.set_rasterized(np.size(line.get_xdata()) > MOST_VECTOR_POINTS)
    buffer = io.StringIO()
    # Without the salt the ids inside are random; without the None there is a date.
    with rc_context({**STYLE, "svg.hashsalt": "hw2", "svg.fonttype": "path"}):
        # The resolution is that of such points, and of a heatmap's cells.
        figure.savefig(buffer, format="svg", dpi=300, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png_width_px(data: bytes) -> int:
    """Return the width of a PNG, which stands in its first chunk."""
    return int(struct.unpack(">I", data[16:20])[0])


def _publish(data: dict[str, Any]) -> None:
    # Imported here: only a notebook's kernel has it for sure.
    from IPython.display import display

    display(data, raw=True)

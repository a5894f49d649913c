"""How a notebook shows the project's tables, figures and sources, in Jupyter and in print.

Figures are vector graphics; a caption travels with each as its text form.
"""

import inspect
import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from hwcli.output.plots import STYLE
from hwcli.output.tables import Column, Table
from hwcli.report.templates import in_tex, with_formulas
from hwcli.rnn.summary import MachineSummary, TraceSummary
from hwcli.rnn.tables import first_steps, step_columns

MOST_VECTOR_POINTS = 300

# Figures keep the size they are drawn in, so their type stays as large as it was set.
TEXT_WIDTH_IN = 6.5
DOTS_PER_INCH = 150


ANSWER = "hw2-answer"
"""Of an output's metadata: it is what the question asks for, and is set larger."""


def show(
    shown: Table | Figure | Path | None, caption: str = "", *, is_answer: bool = False
) -> None:
    """Display a table, a figure, or a PNG that a run has drawn; nothing where there is none.

    Args:
        shown: what to display.
        caption: below a figure; a table has its title.
        is_answer: it is the table that the question asks for.
    """
    if shown is None:
        return
    if isinstance(shown, Table):
        metadata = {ANSWER: True} if is_answer else {}
        _publish({"text/markdown": shown.to_markdown(), "text/plain": shown.title}, metadata)
    elif isinstance(shown, Figure):
        _publish({"image/svg+xml": to_svg(shown), "text/plain": caption})
    else:
        _publish({"image/png": shown.read_bytes(), "text/plain": caption})


def show_source(*functions: Callable[..., Any]) -> None:
    """Display the source of functions or classes as code, a block each, under its file's name."""
    sources = [_source(function) for function in functions]
    _publish(
        {
            "text/markdown": "\n\n".join(f"```py\n{source}\n```" for source in sources),
            "text/plain": "\n\n".join(sources),
        }
    )


def _source(function: Callable[..., Any]) -> str:
    source = inspect.cleandoc("\n" + inspect.getsource(function)).rstrip()
    return f"# {function.__module__.replace('.', '/')}.py\n{source}"


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


def png_width_in(data: bytes) -> float:
    """Return the width of a PNG, which its first chunk holds, in the inches it is drawn in."""
    return float(struct.unpack(">I", data[16:20])[0]) / DOTS_PER_INCH


def _publish(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    # Imported here: only a notebook's kernel has it for sure.
    from IPython.display import display

    display(data, raw=True, metadata=metadata or {})


# --------------------------------------------------------------------------------------
# Question 1, from the trace's summary


def trace_table(trace: TraceSummary) -> Table:
    """Return the first steps: each state by the one before it, by the inputs, and as a number."""
    rows = [
        {
            "t": step.t,
            "input": ", ".join(map(str, step.letter)),
            "recurrence": _formulas(step.recurrence),
            "unrolled": _formulas(step.unrolled),
            "hidden": ", ".join(map(str, step.hidden)),
            "output": str(step.output),
        }
        for step in trace.steps
    ]
    left_out = {"preactivation"}
    if not any(row["unrolled"] for row in rows):
        left_out.add("unrolled")
    columns = step_columns(trace.network.spec.networks()[0])
    return Table(
        title=first_steps(len(rows), trace.length),
        columns=[_in_formulas(column) for column in columns if column.key not in left_out],
        rows=rows,
    )


def _in_formulas(column: Column) -> Column:
    heading = "$t$" if column.key == "t" else with_formulas(column.heading)
    return replace(column, heading=heading)


def _formulas(lines: Sequence[str]) -> str:
    return "\n".join(f"${in_tex(line)}$" for line in lines)


def machine_table(machine: MachineSummary) -> Table:
    """Return the next state for each state and input."""
    return Table(
        title="The state machine: next state for each input",
        columns=[
            Column("state", "state"),
            Column("output", "output"),
            *(Column(f"{i}", f"x = {letter}") for i, letter in enumerate(machine.letters)),
        ],
        rows=[
            {
                "state": f"{s} (start)" if s == 0 else str(s),
                "output": None if output is None else str(output),
                **{f"{i}": to for i, to in enumerate(machine.next[s])},
            }
            for s, output in enumerate(machine.outputs)
        ],
    )

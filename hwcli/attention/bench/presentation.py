"""What a comparison of attention shows: tables, plots and the derivation beside its figures."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwcli.attention.bench.cases import Case, Direction, MethodName
from hwcli.attention.bench.measure import Machine, memory_gauge
from hwcli.attention.bench.normalizers import CANCELLED
from hwcli.attention.bench.reference import GATE_LENGTHS
from hwcli.attention.bench.scaling import PowerLaw, fit_power_law, local_slopes
from hwcli.attention.feature_maps import FeatureMapName
from hwcli.output import plots
from hwcli.output.tables import Column, Table

Row = dict[str, Any]

# Below this the memory of a process is mostly what libraries and the allocator keep for themselves.
LEAST_FITTED_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Laws:
    """The power laws of one method and direction; None where fewer than three points lie."""

    time: PowerLaw | None
    memory: PowerLaw | None

    def summary(self) -> dict[str, Any]:
        """Return the exponents as they are stored."""
        return {
            "time": self.time and self.time.exponent,
            "time_ci": self.time and list(self.time.interval),
            "memory": self.memory and self.memory.exponent,
        }


@dataclass(frozen=True)
class Comparison:
    """All that was measured.

    A row is one method at one length in one direction; its status is ``measured``, ``predicted``
    (never started) or ``failed`` (not right, hence without a time). ``example`` is any case of it.
    """

    example: Case
    methods: Sequence[MethodName]
    directions: Sequence[Direction]
    lengths: Sequence[int]
    rows: Sequence[Row]
    fit_octaves: float
    crossover_length: float | None
    machine: Machine

    @property
    def linear(self) -> MethodName | None:
        """Return the O(T) method that the others are compared with."""
        order: tuple[MethodName, ...] = ("linear-chunked", "linear")
        return next((m for m in order if m in self.methods), None)

    def curves(self) -> list[tuple[Direction, MethodName]]:
        """Return direction and method of every curve."""
        return list(itertools.product(self.directions, self.methods))

    def points(
        self, direction: str, method: str, key: str, status: str = "measured"
    ) -> dict[int, float]:
        """Return T -> value of one curve's points that have that status."""
        return {
            row["T"]: row[key]
            for row in self.rows
            if (row["direction"], row["method"], row["status"]) == (direction, method, status)
            and row[key] is not None
        }

    def laws(self, direction: str, method: str) -> Laws:
        """Fit one curve over the top octaves of what was measured."""
        memory = self.points(direction, method, "peak_bytes")
        large = {T: peak for T, peak in memory.items() if peak > LEAST_FITTED_BYTES}
        return Laws(
            fit_power_law(self.points(direction, method, "median_ms"), octaves=self.fit_octaves),
            fit_power_law(large, octaves=self.fit_octaves),
        )


def name_of(direction: str, method: str) -> str:
    """Name a curve as the summary does."""
    return method if direction == "forward" else f"{method}+backward"


def bytes_text(number: float) -> str:
    """Write a size with its unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def time_text(milliseconds: float) -> str:
    """Write a time with its unit."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:,.2f} s"
    return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"


def number_text(number: float) -> str:
    """Write a number to three digits, without an exponent where it is large."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


# --------------------------------------------------------------------------------------
# Tables


def points_table(c: Comparison) -> Table:
    """Return everything that is known of each point."""
    case, machine = c.example, c.machine
    columns = [
        Column("T", "T", "{:,}"),
        Column("method", "method"),
        Column("direction", "direction"),
        Column("causal", "causal"),
        Column("median_ms", "median", time_text),
        Column("p20_ms", "p20, ms", number_text),
        Column("p80_ms", "p80, ms", number_text),
        Column("peak_bytes", "peak memory", bytes_text),
        Column("analytic_bytes", "on paper", bytes_text),
        Column("gflops", "GFLOP/s", "{:.3g}"),
        Column("peak_share", "of matmul peak", "{:.0%}"),
        Column("bandwidth_share", "of bandwidth", "{:.0%}"),
        Column("status", "status"),
        Column("note", "why"),
    ]
    heads = f"{case.H} head" + ("s" if case.H > 1 else "")
    return Table(
        title=f"Time and memory of {'causal ' if case.causal else ''}attention: "
        f"batch {case.B}, {heads} of {case.D}, {case.dtype}, feature map {case.feature_map}",
        columns=columns,
        rows=c.rows,
        notes=[
            f"{machine.processor}, {machine.threads} threads; linear attention by "
            f"{machine.kernels} kernels; at best "
            f"{machine.matmul_peak / 1e9:,.0f} GFLOP/s of matrix products and "
            f"{machine.bandwidth / 1e9:,.1f} GB/s of memory, measured in the same run. Times are "
            "medians of interleaved rounds of torch.utils.benchmark.",
            "Peak memory: of a process of its own, beyond the inputs "
            f"({memory_gauge(case.device)}). A share of the bandwidth above 100 % "
            "means that the data comes from the caches.",
            "Predicted: never started; the time follows from the operations at the pace of the "
            "longest measured call.",
        ],
    )


def shown(table: Table, c: Comparison) -> Table:
    """Leave out the columns that say the same in every row."""
    dull = {"causal", *(["direction"] if len(c.directions) == 1 else [])}
    dull |= {"note"} if all(row["note"] is None for row in c.rows) else set()
    return replace(table, columns=[col for col in table.columns if col.key not in dull])


def exponents_table(c: Comparison) -> Table:
    """Return the exponents with their intervals, and the slopes between neighbouring points."""

    def with_interval(law: PowerLaw) -> str:
        return f"{law.exponent:.2f} ({law.interval[0]:.2f} to {law.interval[1]:.2f})"

    rows = []
    for direction, method in c.curves():
        laws = c.laws(direction, method)
        slopes = local_slopes(c.points(direction, method, "median_ms"))
        rows.append(
            {
                "curve": name_of(direction, method),
                "time": laws.time,
                "memory": laws.memory,
                "slopes": " ".join(f"{slope:.2f}" for slope in slopes.values()) or None,
            }
        )
    return Table(
        title="Exponents: time and memory grow as T to the power of",
        columns=[
            Column("curve", "curve"),
            Column("time", "time (95 %)", with_interval),
            Column("memory", "memory (95 %)", with_interval),
            Column("slopes", "time, between neighbouring lengths"),
        ],
        rows=rows,
        notes=[
            f"Fitted over the top {c.fit_octaves:g} octaves of what was measured; memory only "
            f"above {bytes_text(LEAST_FITTED_BYTES)}. A dash: fewer than three points."
        ],
    )


def ratios_table(c: Comparison) -> Table:
    """Return how many times the time and memory of linear attention every other method takes."""
    by_place = {(row["direction"], row["T"], row["method"]): row for row in c.rows}
    others = [method for method in c.methods if method != c.linear]

    def ratio(row: Row, base: Row | None, key: str) -> str | None:
        if base is None or not base[key] or not row[key]:
            return None
        mark = " (predicted)" if "predicted" in (row["status"], base["status"]) else ""
        return f"{number_text(row[key] / base[key])}{mark}"

    rows = []
    for direction, T in itertools.product(c.directions, c.lengths):
        line: Row = {"T": T, "direction": direction}
        for method in others:
            row, base = by_place[direction, T, method], by_place.get((direction, T, c.linear))
            line[f"{method} time"] = ratio(row, base, "median_ms")
            line[f"{method} memory"] = ratio(row, base, "peak_bytes")
        rows.append(line)
    found = "No crossing of softmax and linear attention was found at these lengths."
    if c.crossover_length is not None:
        found = (
            f"From T = {c.crossover_length:,.0f} on, {c.linear} is faster than softmax "
            f"({c.directions[0]}; on paper, by operations alone, from T = D = {c.example.D})."
        )
    return Table(
        title=f"How many times the time and memory of {c.linear or 'linear'}",
        columns=[
            Column("T", "T", "{:,}"),
            Column("direction", "direction"),
            *(Column(f"{m} {what}", f"{m}: {what}") for m in others for what in ("time", "memory")),
        ],
        rows=rows,
        notes=[found],
    )


REMEDIES: dict[FeatureMapName, str] = {
    "identity": "the homework's own: weights are signed, and their sums may vanish",
    "elu1": "positive, so that nothing cancels; but weights differ little from each other",
    "relu": "never negative, so that nothing cancels; at small widths a row may lose all weights",
    "softmax": "positive, so that nothing cancels; a token's features sum to one",
}


def denominators_table(rows: Sequence[Row], dtype: str) -> Table:
    """Return what becomes of the sums of weights, map by map."""
    return Table(
        title="What dropping the exponential costs: the sums of weights, for normal random q, k, v",
        columns=[
            Column("feature_map", "feature map"),
            Column("T", "T", "{:,}"),
            Column("negative_share", "negative sums", "{:.1%}"),
            Column("near_zero_share", f"over {CANCELLED:.0%} cancelled", "{:.1%}"),
            Column("no_weight_share", "no weight left", "{:.1%}"),
            Column("median_condition", "median condition", "{:.3g}"),
            Column("largest_condition", "largest", "{:.3g}"),
            Column("median_error", "median error", "{:.1e}"),
            Column("largest_error", "largest", "{:.1e}"),
            Column("largest_output", "largest output", "{:.3g}"),
        ],
        rows=rows,
        notes=[
            "Condition: the weights' sizes over the size of their sum, the factor by which "
            f"rounding grows. Error: of the O(T) form in {dtype} against float64, in "
            "standard deviations of the values. An average of normal values stays below 5 or 6.",
            *(f"{name}: {text}." for name, text in REMEDIES.items()),
        ],
    )


def gate_table(gate: Sequence[Row], dtype: str) -> Table:
    """Return how far every method is from the reference."""
    return Table(
        title="The gate: outputs and gradients against T x T weights in float64",
        columns=[
            Column("method", "method"),
            Column("causal", "causal"),
            Column("max_error", f"error in {dtype}", "{:.1e}"),
            Column("max_error_float64", "error in float64", "{:.1e}"),
            Column("passed", "passed"),
        ],
        rows=gate,
        notes=[
            f"The largest error at T = {', '.join(map(str, GATE_LENGTHS))}, in units of the "
            "formula with every number replaced by its size, times the row's condition."
        ],
    )


def derive(c: Comparison) -> str:
    """Derive O(T), count the operations, and set them beside what was measured."""
    D, T = c.example.D, max(c.lengths)
    steps = [(key, c.laws(*key).time) for key in c.curves()]
    doubling = [
        f"{2**law.exponent:.2f} by {name_of(*key)}" for key, law in steps if law is not None
    ]
    measured = (
        f"Measured, doubling T multiplies the time by {', '.join(doubling)}."
        if doubling
        else "Three lengths or more would show that in the times."
    )
    return f"""**Why it is O(T)**

    softmax:  y_i = sum_j exp(q_i.k_j / sqrt(D)) v_j / sum_j exp(q_i.k_j / sqrt(D))
    linear:   y_i = sum_j (q_i.k_j) v_j / sum_j q_i.k_j
                  = q_i (sum_j k_j v_j^T) / (q_i . sum_j k_j)

The exponential ties i to j: each of the T^2 pairs needs its own. Without it q_i can be taken out
of the sums over j. What remains of them, a D x D matrix S and a vector z, is the same for every
i: it is summed once and read T times. Operations of one head at T = {T:,}, D = {D}:

    (q k^T) v:                         2 T^2 D + 2 T^2 D = {4 * T * T * D:.3g}
    S = k^T v, z = k^T 1, q S, q z:    4 T D^2 + 3 T D   = {4 * T * D * D + 3 * T * D:.3g}

In place of T^2 = {T * T:.3g} weights there are D^2 + D = {D * D + D:,} numbers to hold. Doubling T
makes four times the work of the first and twice the work of the second.
{measured}
"""


# --------------------------------------------------------------------------------------
# Plots


def draw_times(c: Comparison) -> Figure:
    """Draw time over T: measured, predicted and fitted."""
    figure, panels = _panels(c)
    for panel, direction in zip(panels, c.directions, strict=True):
        for colour, method in zip(plots.COLOURS, c.methods, strict=False):
            law = c.laws(direction, method).time
            _draw_curve(panel, c, direction, method, "median_ms", law, colour)
        if c.crossover_length is not None and direction == c.directions[0]:
            label = f"{c.linear} is faster than softmax from T = {c.crossover_length:,.0f} on"
            is_near = c.crossover_length >= min(c.lengths) / 4  # or it would squeeze the points
            ends = [c.crossover_length] * 2 if is_near else []
            panel.plot(
                ends,
                [0, 1][: len(ends)],
                ":",
                color="#777777",
                linewidth=1,
                label=label,
                transform=panel.get_xaxis_transform(),
            )
        _finish(panel, f"Time of attention, {direction}", "milliseconds")
    return figure


def draw_memory(c: Comparison) -> Figure:
    """Draw memory over T: measured, fitted, and as it is on paper."""
    figure, panels = _panels(c)
    for panel, direction in zip(panels, c.directions, strict=True):
        for colour, method in zip(plots.COLOURS, c.methods, strict=False):
            law = c.laws(direction, method).memory
            _draw_curve(panel, c, direction, method, "peak_bytes", law, colour, 2**-20)
            on_paper = {
                row["T"]: row["analytic_bytes"] / 2**20
                for row in c.rows
                if (row["direction"], row["method"]) == (direction, method)
            }
            panel.plot(
                list(on_paper), list(on_paper.values()), color=colour, linestyle=":", linewidth=1
            )
        panel.plot([], [], color="#777777", linestyle=":", linewidth=1, label="on paper")
        _finish(panel, f"Memory beyond the inputs, {direction}", "MiB")
    return figure


def _panels(c: Comparison) -> tuple[Figure, list[Axes]]:
    count = len(c.directions)
    return plots.figure(columns=count, width=0.8 + 5.6 * count, height=4.4)


def _draw_curve(
    panel: Axes,
    c: Comparison,
    direction: str,
    method: str,
    key: str,
    law: PowerLaw | None,
    colour: str,
    scale: float = 1.0,
) -> None:
    points = {T: scale * y for T, y in c.points(direction, method, key).items()}
    label = method if law is None else f"{method}: $T^{{{law.exponent:.2f}}}$"
    panel.plot(list(points), list(points.values()), "o", color=colour, label=label, ms=4.5)
    panel.plot(list(points), list(points.values()), color=colour, linewidth=0.5)
    predicted = c.points(direction, method, key, status="predicted")
    values = [scale * y for y in predicted.values()]
    panel.plot(list(predicted), values, "o", color=colour, fillstyle="none", ms=5.5)
    if predicted and not any(line.get_label() == "predicted" for line in panel.lines):
        panel.plot([], [], "o", color="#777777", fillstyle="none", ms=5.5, label="predicted")
    if law is not None:
        ends = [min(law.xs), max([*law.xs, *predicted])]
        panel.plot(ends, [scale * law(x) for x in ends], color=colour)


def _finish(panel: Axes, title: str, unit: str) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    panel.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}")
    panel.yaxis.set_minor_formatter(lambda y, _: "")
    panel.tick_params(axis="x", rotation=45)
    panel.set(title=title, xlabel="tokens T", ylabel=unit)
    panel.margins(y=0.12)
    panel.legend(loc="upper left", frameon=False, fontsize=8)

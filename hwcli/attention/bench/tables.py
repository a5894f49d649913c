"""The tables of one run of the attention bench, all made from its summary."""

import itertools
from collections.abc import Sequence
from typing import Any

from hwcli.attention.bench.cases import Direction, method_note
from hwcli.attention.bench.explanation import code_of, crossing_sentences
from hwcli.attention.bench.normalizers import CANCELLED, NUM_QUERIES
from hwcli.attention.bench.reference import GATE_BYTES, GATE_LENGTHS
from hwcli.attention.bench.results import (
    LEAST_FITTED_BYTES,
    AttentionSummary,
    Point,
    curve_name,
)
from hwcli.attention.bench.scaling import PowerLaw, local_slopes
from hwcli.attention.bench.units import bytes_text, listed, number_text, time_text
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName
from hwcli.output.tables import Column, Table
from hwcli.output.units import counted

PREDICTED = (
    "Predicted: the method's time at the longest length that was run, times the ratio of the "
    "operations (4 for twice the length where they grow as T^2)."
)


def points_table(summary: AttentionSummary) -> Table:
    """Return everything that is known of each point: what ``table.csv`` holds."""
    shape, machine = summary.shape, summary.machine
    kind = "causal attention" if shape.causal else "attention"
    heads = counted(shape.heads, "head")
    return Table(
        title=f"Time and memory of {kind}: batch {shape.batch}, {heads} of width {shape.dim}, "
        f"{shape.dtype}, feature map {shape.feature_map}",
        columns=[
            Column("T", "T", "{:,}"),
            Column("method", "method"),
            Column("direction", "direction"),
            Column("causal", "causal"),
            Column("median_ms", "median", time_text),
            Column("p20_ms", "p20, ms", number_text),
            Column("p80_ms", "p80, ms", number_text),
            Column("peak_bytes", "peak memory", bytes_text),
            Column("analytic_bytes", "computed", bytes_text),
            Column("gflops", "GFLOP/s", "{:.3g}"),
            Column("peak_share", "of matmul peak", "{:.0%}"),
            Column("bandwidth_share", "of bandwidth", "{:.0%}"),
            Column("status", "status"),
            Column("note", "why"),
        ],
        rows=[point.model_dump() for point in summary.rows],
        notes=[
            *method_notes(summary),
            f"{machine.cpu}, {machine.threads} threads. Computed by: "
            f"{'; '.join(f'{m}: {code_of(summary, m)}' for m in summary.methods)}.",
            f"Measured limits of the machine: {machine.matmul_peak_gflops:,.0f} GFLOP/s "
            f"of matrix products and {machine.bandwidth_gb_s:,.1f} GB/s of memory. Times are "
            "medians of interleaved rounds of torch.utils.benchmark.",
            f"Peak memory: of a child process, beyond the inputs ({machine.memory_gauge}). "
            "Computed: what the code should need. More than 100 % of the bandwidth means that "
            "the caches deliver the data.",
            PREDICTED,
        ],
    )


def method_notes(summary: AttentionSummary) -> list[str]:
    """Say in one line per method what it is."""
    device, dtype = summary.machine.device, summary.shape.dtype
    return [
        f"{method}: {method_note(method, device=device, dtype=dtype)}."
        for method in summary.methods
    ]


def times_table(summary: AttentionSummary) -> Table:
    """Return the time of each method at each length, narrow enough for a page."""

    def time(point: Point) -> str:
        if point.median_ms is None:
            return point.status
        return time_text(point.median_ms) + ("" if point.status == "measured" else " *")

    rows: list[dict[str, Any]] = []
    for direction, T in itertools.product(summary.directions, summary.lengths):
        cells: dict[str, Any] = {m: summary.row(direction, T, m) for m in summary.methods}
        rows.append({"T": T, "direction": direction, **cells})
    several = [Column("direction", "direction")] if len(summary.directions) > 1 else []
    only = "" if several else f", {summary.directions[0]}"
    notes = [f"* not run. {PREDICTED}"]
    is_predicted = any(row.status == "predicted" for row in summary.rows)
    return Table(
        title=f"Median time of one call{only}",
        columns=[
            Column("T", "T", "{:,}"),
            *several,
            *(Column(method, method, time) for method in summary.methods),
        ],
        rows=rows,
        notes=notes if is_predicted else [],
    )


def exponents_table(summary: AttentionSummary) -> Table | None:
    """Return the fitted exponents and the slopes between neighbouring lengths; None if no fit."""

    def with_interval(law: PowerLaw) -> str:
        return f"{law.exponent:.2f} ({law.interval[0]:.2f} to {law.interval[1]:.2f})"

    rows = []
    for direction, method in summary.curves():
        slopes = local_slopes(summary.times_ms(direction, method))
        rows.append(
            {
                "curve": curve_name(direction, method),
                "time": summary.time_law(direction, method),
                "memory": summary.memory_law(direction, method),
                "slopes": " ".join(f"{slope:.2f}" for slope in slopes.values()) or None,
            }
        )
    if all(row["time"] is None and row["memory"] is None for row in rows):
        return None
    return Table(
        title="Fitted exponents: time and memory grow as T to the power of",
        columns=[
            Column("curve", "curve"),
            Column("time", "time (95 % CI)", with_interval),
            Column("memory", "memory (95 % CI)", with_interval),
            Column("slopes", "exponent of time from each length to the next"),
        ],
        rows=rows,
        notes=[
            f"Fitted to the measured points of the last {summary.fit_octaves:g} doublings of T; "
            f"memory only above {bytes_text(LEAST_FITTED_BYTES)}. A dash means fewer than three "
            "points. Slopes far from the fit show where a method leaves a cache."
        ],
    )


def ratios_table(summary: AttentionSummary) -> Table | None:
    """Return every other method's time and memory relative to linear attention."""
    linear = summary.linear
    others = [method for method in summary.methods if method != linear]
    if linear is None or not others:
        return None

    def ratio(row: Point | None, base: Point | None, key: str) -> str | None:
        if row is None or base is None or not getattr(base, key) or not getattr(row, key):
            return None
        is_predicted = "predicted" in (row.status, base.status)
        return number_text(getattr(row, key) / getattr(base, key)) + (" *" if is_predicted else "")

    def line(direction: Direction, T: int) -> dict[str, Any]:
        base = summary.row(direction, T, linear)
        cells: dict[str, Any] = {"T": T, "direction": direction}
        for method in others:
            row = summary.row(direction, T, method)
            cells[f"{method} time"] = ratio(row, base, "median_ms")
            cells[f"{method} memory"] = ratio(row, base, "peak_bytes")
        return cells

    several = [Column("direction", "direction")] if len(summary.directions) > 1 else []
    return Table(
        title=f"Time and memory relative to {linear}",
        columns=[
            Column("T", "T", "{:,}"),
            *several,
            *(Column(f"{m} {what}", f"{m}: {what}") for m in others for what in ("time", "memory")),
        ],
        rows=[line(*key) for key in itertools.product(summary.directions, summary.lengths)],
        notes=crossing_sentences(summary),
    )


def crossing_table(summary: AttentionSummary) -> Table | None:
    """Return what the search for the crossing measured; None in a run that has not kept it."""
    if not summary.crossing_points:
        return None
    methods = list(summary.crossing_points[0].median_ms)
    return Table(
        title=f"Search for the crossing: median time of one call, {summary.directions[0]}",
        columns=[
            Column("T", "T", "{:,}"),
            *(Column(method, method, time_text) for method in methods),
        ],
        rows=[{"T": point.T} | dict(point.median_ms) for point in summary.crossing_points],
    )


REMEDIES: dict[FeatureMapName, str] = {
    "identity": "the homework's map; weights are signed, and their sum may vanish",
    "elu1": "all weights are positive, so nothing cancels; the weights differ little",
    "relu": "no weight is negative, so nothing cancels; in narrow heads a row may have no weight",
    "softmax": "all weights are positive, so nothing cancels; a token's features sum to 1",
}


def normalizers_table(summary: AttentionSummary, *, longest_only: bool) -> Table:
    """Return what becomes of the sums of weights, by feature map and length."""
    studies = summary.normalizers
    if longest_only:
        longest = (summary.longest_study(name) for name in FEATURE_MAPS)
        studies = tuple(study for study in longest if study is not None)
    return Table(
        title="Sums of weights without the exponential, by feature map: standard normal q, k, v",
        columns=[
            Column("feature_map", "feature map"),
            Column("T", "T", "{:,}"),
            Column("negative_share", "negative sums", "{:.1%}"),
            Column("near_zero_share", f"over {CANCELLED:.0%} cancelled", "{:.1%}"),
            Column("no_weight_share", "all-zero rows", "{:.1%}"),
            Column("median_condition", "median condition", "{:.3g}"),
            Column("largest_condition", "largest condition", "{:.1g}"),
            Column("median_error", "median error", "{:.1e}"),
            Column("largest_error", "largest error", "{:.0e}"),
            Column("largest_output", "largest output", "{:.1g}"),
        ],
        rows=[study.model_dump() for study in studies],
        notes=[
            "Condition: the sum of the weights' absolute values, divided by the absolute value of "
            "their sum; rounding errors grow by this factor. Shares and conditions are of the "
            f"first {NUM_QUERIES} queries at most, errors and outputs of all T. Error: of the O(T) "
            f"form in {summary.shape.dtype} compared with float64. Outputs and errors are in "
            "standard deviations of the values. A true average of these values would stay below "
            "about 6. The largest values of the identity map change several times over from sample "
            "to sample: one digit is shown.",
            *(f"{name} map: {text}." for name, text in REMEDIES.items()),
        ],
    )


def gate_table(summary: AttentionSummary) -> Table:
    """Return the error of every method."""
    return Table(
        title="Check against T x T weights in float64: outputs and gradients",
        columns=[
            Column("method", "method"),
            Column("causal", "causal", _yes_no),
            Column("max_error", f"error in {summary.shape.dtype}", "{:.1e}"),
            Column("max_error_float64", "error in float64", "{:.1e}"),
            Column("passed", "passed", _yes_no),
        ],
        rows=[entry.model_dump() for entry in summary.gate],
        notes=[
            f"Largest error at T = {', '.join(map(str, GATE_LENGTHS))}, relative to a bound on the "
            "rounding error (the same formula with absolute values, times the row's condition).",
            *(
                f"{entry.method}{', causal,' if entry.causal else ''} was not checked in {dtype} "
                f"at T = {listed(list(map(str, lengths)))}, where it needs more than "
                f"{bytes_text(GATE_BYTES)}."
                for entry in summary.gate
                for dtype, lengths in {
                    summary.shape.dtype: entry.skipped,
                    "float64": entry.skipped_float64,
                }.items()
                if lengths
            ),
        ],
    )


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def all_tables(summary: AttentionSummary) -> Sequence[Table]:
    """Return the tables of ``table.md``, the most important first."""
    tables = [
        times_table(summary),
        exponents_table(summary),
        ratios_table(summary),
        crossing_table(summary),
        normalizers_table(summary, longest_only=False),
        gate_table(summary),
        points_table(summary),
    ]
    return [table for table in tables if table is not None]

"""Question 2: does attention without the exponentials take O(T), and what does it lose?

Every method is first checked against a float64 reference; only methods that agree are timed.
Then come time and memory over the lengths, the fitted exponents, and the price: weights are
signed, and their sums may nearly cancel. From top to bottom: the config, the run, the plan.
"""

import itertools
import re
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator

from hwcli import resources, runtime
from hwcli.attention.bench import (
    cost,
    explanation,
    measure,
    normalizers,
    pictures,
    points,
    reference,
    tables,
)
from hwcli.attention.bench.cases import (
    DIRECTIONS,
    METHODS,
    Case,
    Direction,
    MethodName,
    methods_for,
)
from hwcli.attention.bench.measure import MachineLimits
from hwcli.attention.bench.points import BenchSettings, Pace
from hwcli.attention.bench.results import (
    AttentionSummary,
    BenchMachine,
    GateEntry,
    NormalizerStudy,
    Point,
    Shape,
)
from hwcli.attention.bench.units import bytes_text, time_text
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName
from hwcli.config import RunConfig
from hwcli.errors import ConfigError
from hwcli.experiment import PROGRAM_BYTES, Plan
from hwcli.fingerprint import fingerprint
from hwcli.native import compiler
from hwcli.native import linear_attention as native_linear
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table
from hwcli.ranges import IntRange, auto_or_number, parse_range

COMMAND = "attention-bench"
WHEN_STOPPED = "stopped; nothing is kept, the same command measures from the beginning"

RunSummary = AttentionSummary

MAX_THREADS = 4096
# Beyond this length, bytes and operations no longer fit into 64 bits.
LONGEST_T = 10**8

# The sums of weights are studied up to this length: forming them takes O(T^2).
LONGEST_STUDIED_T = 16384

# What a run does besides its points (gate, machine's limits, crossing, sums of weights, pictures).
FIXED_S, DISK_BYTES = 60.0, 500_000


# --------------------------------------------------------------------------------------
# Config


def _from_one(numbers: object) -> object:
    parsed = parse_range(numbers)
    if min(parsed) < 1:
        raise ValueError(f"{min(parsed)} is below 1")
    if max(parsed) > LONGEST_T:
        raise ValueError(f"{max(parsed)} is above {LONGEST_T}")
    return tuple(sorted(parsed))


def _methods(value: object) -> object:
    names = [n.strip() for n in value.split(",")] if isinstance(value, str) else value
    if names == ["auto"]:
        return "auto"
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(f"expected auto, or names of {', '.join(METHODS)}")
    if "auto" in names:
        raise ValueError("auto stands for all methods: give it alone")
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is unknown; choices: auto, {', '.join(METHODS)}")
    return tuple(m for m in METHODS if m in names)


def _auto_or_bytes(value: object) -> object:
    if isinstance(value, str) and value != "auto":
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])i?)?B?", value.strip(), re.IGNORECASE)
        if match is None:
            raise ValueError("expected auto, or bytes such as 8GiB or 512MiB")
        power = " KMGT".index((match[2] or " ").upper())
        value = int(float(match[1]) * 1024**power)
    return auto_or_number(value)


class Config(RunConfig):
    """What is compared, at which lengths, and how far a measurement may go."""

    T: Annotated[IntRange, BeforeValidator(_from_one)] = Field(
        description="Sequence lengths in tokens, a range such as 256..65536*2 or a list."
    )
    dim: int = Field(ge=1, le=4096, description="Width of one attention head.")
    heads: int = Field(ge=1, le=4096, description="Attention heads per sequence.")
    batch: int = Field(ge=1, le=4096, description="Batch size: sequences computed at once.")
    causal: bool = Field(description="Causal attention: each token sees only earlier ones.")
    direction: Literal["forward", "forward+backward", "both"] = Field(
        description="What is timed: forward, forward+backward or both."
    )
    methods: Annotated[Literal["auto"] | tuple[MethodName, ...], BeforeValidator(_methods)] = Field(
        description=f"Implementations to measure, any of {', '.join(METHODS)}; auto: all."
    )
    feature_map: FeatureMapName = Field(
        description=f"Feature map of linear attention: {', '.join(FEATURE_MAPS)}; "
        "identity is the homework's."
    )
    dtype: Literal["float64", "float32", "bfloat16"] = Field(
        description="Number format of the inputs: float64, float32 or bfloat16."
    )
    kernels: Literal["auto", "compiled", "torch"] = Field(
        description="Linear attention by compiled C++ kernels (CPU only) or by torch; "
        "auto: compiled where possible."
    )
    threads: Annotated[int | Literal["auto"], BeforeValidator(auto_or_number)] = Field(
        description="Number of CPU threads; auto: one per core."
    )
    memory_limit: Annotated[int | Literal["auto"], BeforeValidator(_auto_or_bytes)] = Field(
        description="Predict cases that need more memory, such as 8GiB, instead of running "
        "them; auto: 70 % of what is free."
    )
    time_limit_s: float = Field(
        gt=0, description="Predict cases that need more seconds per call instead of running them."
    )
    fit_octaves: float = Field(
        ge=1, le=64, description="The exponents are fitted over the last N doublings of the length."
    )
    seed: int = Field(ge=0, description="Seed of the random inputs.")

    @model_validator(mode="after")
    def _methods_exist(self) -> "Config":
        if self.threads != "auto" and self.threads > MAX_THREADS:
            raise ValueError(f"threads = {self.threads}: at most {MAX_THREADS:,}")
        if not self.causal and "linear-chunked" in self.methods:
            raise ValueError("methods = 'linear-chunked': only with causal = true")
        return self

    @property
    def chosen_methods(self) -> tuple[MethodName, ...]:
        """Return the methods asked for, or all there are."""
        return methods_for(self.causal) if self.methods == "auto" else self.methods

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Return the directions asked for."""
        return DIRECTIONS if self.direction == "both" else (self.direction,)

    @property
    def shape(self) -> Shape:
        """Return the problem that every method solves."""
        return Shape(
            batch=self.batch,
            heads=self.heads,
            dim=self.dim,
            causal=self.causal,
            feature_map=self.feature_map,
            dtype=self.dtype,
        )


def bench_settings(config: Config) -> BenchSettings:
    """Return the settings of a run: what is auto becomes what this machine has.

    Raises:
        ConfigError: the device is not there, or does not know the dtype; compiled kernels were
            asked for and are not available.
    """
    device = runtime.resolve_device(config.device).type
    known = ["float64", "float32", "bfloat16"]
    if device == "mps":
        known.remove("float64")
    if device == "cuda" and not torch.cuda.is_bf16_supported():
        known.remove("bfloat16")
    if config.dtype not in known:
        raise ConfigError(f"dtype = {config.dtype!r}: not on {device}; choices: {', '.join(known)}")
    limit = config.memory_limit
    if limit == "auto":  # leave some to the system
        limit = int(0.7 * measure.available_memory_bytes(device))
    kernels, note = compiler.choose(
        config.kernels,
        device,
        lambda: native_linear.reason_against(config.dim, getattr(torch, config.dtype)),
    )
    if note:
        terminal.log(note)
    return BenchSettings(
        shape=config.shape,
        lengths=config.T,
        methods=config.chosen_methods,
        directions=config.directions,
        device=device,
        threads=resources.num_cores() if config.threads == "auto" else config.threads,
        kernels=kernels,
        memory_limit_bytes=limit,
        time_limit_s=config.time_limit_s,
        seed=config.seed,
    )


# --------------------------------------------------------------------------------------
# The run


def run(config: Config, folder: RunFolder) -> AttentionSummary:
    """Check, measure, fit and show."""
    settings = bench_settings(config)
    torch.set_num_threads(settings.threads)
    measure.keep_freed_memory()
    environment = fingerprint(
        device=settings.device, dtype=config.dtype, num_threads=settings.threads
    )
    environment["kernels"] = settings.kernels
    folder.claim(config, environment)

    gate = reference.run_gate(settings.case(METHODS[0], 1, "forward"))
    for entry in gate:
        terminal.log(_gate_line(entry))
    passed = reference.passed_methods(gate)
    limits = measure.machine_limits(
        dtype=config.dtype, device=settings.device, threads=settings.threads
    )
    terminal.log(
        f"limits of this machine: {limits.matmul_peak / 1e9:,.0f} GFLOP/s, "
        f"{limits.bandwidth / 1e9:,.1f} GB/s"
    )
    crossover_T, crossing_points = points.find_crossover(settings, passed)
    studies = study_normalizers(settings)

    def log_point(point: Point) -> None:
        folder.append_metrics(**point.model_dump())
        terminal.log(_point_line(point))

    rows = tuple(points.measure_points(settings, passed, limits, log_point))
    summary = AttentionSummary(
        command=COMMAND,
        name=config.name,
        status="partial" if any(row.status == "failed" for row in rows) else "complete",
        shape=config.shape,
        rows=rows,
        fit_octaves=config.fit_octaves,
        crossover_T=crossover_T,
        crossing_points=crossing_points,
        exponents={},
        gate=tuple(gate),
        normalizers=tuple(studies),
        machine=describe_machine(settings, limits, environment),
    ).fitted()
    write(summary, folder)
    show(summary)
    return summary


def study_normalizers(settings: BenchSettings) -> list[NormalizerStudy]:
    """Return what becomes of the sums of weights, for each feature map and length."""
    lengths = [T for T in settings.lengths if T <= LONGEST_STUDIED_T] or [LONGEST_STUDIED_T]
    return [
        normalizers.study(
            Case(
                "linear",
                T,
                feature_map=name,
                D=settings.shape.dim,
                dtype=settings.shape.dtype,
                compiled=settings.kernels == "compiled",
                seed=settings.seed,
            )
        )
        for name, T in itertools.product(FEATURE_MAPS, lengths)
    ]


def describe_machine(
    settings: BenchSettings, limits: MachineLimits, environment: dict[str, Any]
) -> BenchMachine:
    """Return where the run was measured, with what, and what the machine can do at best."""
    return BenchMachine(
        **{key: environment[key] for key in ("cpu", "cores", "threads", "device")},
        kernels=settings.kernels,
        torch=environment["versions"]["torch"],
        matmul_peak_gflops=limits.matmul_peak / 1e9,
        bandwidth_gb_s=limits.bandwidth / 1e9,
        memory_limit_bytes=settings.memory_limit_bytes,
        memory_gauge=measure.memory_gauge(settings.device),
    )


def write(summary: AttentionSummary, folder: RunFolder) -> None:
    """Write the tables and the pictures."""
    normalizer_table = tables.normalizers_table(summary, longest_only=False)
    folder.write("table.csv", tables.points_table(summary).to_csv())
    folder.write("normalizers.csv", normalizer_table.to_csv())
    parts = [explanation.derivation(summary), " ".join(explanation.findings(summary)) + "\n"]
    parts += [table.to_markdown() for table in tables.all_tables(summary)]
    folder.write("table.md", "\n".join(parts))
    folder.save_figure("time", pictures.draw_times(summary))
    folder.save_figure("memory", pictures.draw_memory(summary))


def show(summary: AttentionSummary) -> None:
    """Print the answer first, then what was measured, then the price."""
    terminal.show(explanation.derivation(summary))
    for table in (
        tables.times_table(summary),
        tables.exponents_table(summary),
        tables.ratios_table(summary),
        tables.crossing_table(summary),
        tables.normalizers_table(summary, longest_only=True),
    ):
        if table is not None:
            terminal.show(table)
    for line in tables.method_notes(summary):
        terminal.show(line)
    terminal.show("\n" + "\n".join(explanation.findings(summary)))


def _gate_line(entry: GateEntry) -> str:
    causal = ", causal" if entry.causal else ""
    verdict = "agrees with" if entry.passed else "DIFFERS from"
    error = "not finite" if entry.max_error is None else f"{entry.max_error:.1e}"
    return f"check: {entry.method}{causal} {verdict} the float64 reference (error {error})"


def _point_line(point: Point) -> str:
    where = f"{point.direction} T {point.T:,} {point.method}"
    if point.status != "measured" or point.median_ms is None:
        return f"{where}: {point.status} ({point.note})"
    peak = "" if point.peak_bytes is None else f", {bytes_text(point.peak_bytes)}"
    return f"{where}: {time_text(point.median_ms)}{peak}"


# --------------------------------------------------------------------------------------
# The plan


def plan(config: Config, folder: RunFolder) -> Plan:
    """Return every point with its operations, memory and time, and what the whole run takes."""
    settings = bench_settings(config)
    torch.set_num_threads(settings.threads)
    pace = Pace(settings)
    # The speed of the memory is measured whatever the points are.
    rows, needed_bytes = [], measure.STREAM_ARRAYS * measure.STREAM_BYTES
    for case in settings.cases():
        reason = points.reason_to_skip(settings, case, pace)
        if reason is None:
            needed_bytes = max(needed_bytes, cost.needed_bytes(case))
        rows.append(
            {
                "T": case.T,
                "method": case.method,
                "direction": case.direction,
                "flops": cost.flops(case),
                "analytic_bytes": cost.peak_bytes(case),
                "median_ms": 1e3 * pace.estimate_s(case),
                "status": f"predicted: {reason}" if reason else "measured",
            }
        )
    several = [Column("direction", "direction")] if len(settings.directions) > 1 else []
    table = Table(
        title=f"{COMMAND} {config.name}: {len(rows)} points",
        columns=[
            Column("T", "T", "{:,}"),
            Column("method", "method"),
            *several,
            Column("flops", "operations", "{:.2e}"),
            Column("analytic_bytes", "memory", bytes_text),
            Column("median_ms", "estimated time", time_text),
            Column("status", "will be"),
        ],
        rows=rows,
        notes=[f"The times follow from a short trial at T = {points.PROBE_T:,} or less."],
    )
    return Plan(
        table,
        seconds=FIXED_S + points.estimate_run_s(settings, pace),
        memory_bytes=PROGRAM_BYTES + needed_bytes,
        disk_bytes=DISK_BYTES,
    )

"""Question 2: does attention without the exponentials take O(T), and what does it lose?

Every method is first held against a float64 reference; only what passes is timed. Then follow
time and memory over the lengths, their exponents, and the price: weights that are signed, and
sums of weights that nearly cancel. From top to bottom: the config, the gate, the measurements,
what they come to, what is shown.
"""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator

from hwcli import runtime
from hwcli.attention.bench import cost, measure, normalizers, presentation, reference
from hwcli.attention.bench.cases import (
    DIRECTIONS,
    METHODS,
    SOFTMAX,
    Case,
    Direction,
    MethodName,
    make_call,
    methods_for,
)
from hwcli.attention.bench.measure import Machine
from hwcli.attention.bench.presentation import Comparison, Row, bytes_text, time_text
from hwcli.attention.bench.scaling import crossing, fit_power_law
from hwcli.attention.feature_maps import FEATURE_MAPS, FeatureMapName
from hwcli.config import IntRange, RunConfig, parse_range
from hwcli.errors import ConfigError
from hwcli.native import linear_attention as native_linear
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table

COMMAND = "attention-bench"

# The gate is for right and wrong, which shows on shorter sequences where one is costly: running
# sums of D x D matrices.
GATE_BYTES = 2**28

# A method that has not been timed yet is tried at this length before it runs at a longer one.
PROBE_T = 1024

# The crossing is looked for from here on, and found when linear attention has won so often.
FIRST_CROSSING_T = 8
WINS = 3

# The sums of weights are studied up to this length: forming them takes O(T^2).
LONGEST_STUDIED_T = 16384


# --------------------------------------------------------------------------------------
# Config


def _from_one(numbers: object) -> object:
    parsed = parse_range(numbers)
    if min(parsed) < 1:
        raise ValueError(f"{min(parsed)} is below 1")
    return tuple(sorted(parsed))


def _methods(value: object) -> object:
    names = [n.strip() for n in value.split(",")] if isinstance(value, str) else value
    if names == ["auto"]:
        return "auto"
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(f"expected auto, or names of {', '.join(METHODS)}")
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is unknown; choices: auto, {', '.join(METHODS)}")
    return tuple(m for m in METHODS if m in names)


def _auto_or_number(value: object) -> object:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number != "auto" and not (type(number) is int and number >= 1):
        raise ValueError("expected auto, or a number from 1")
    return number


def _auto_or_bytes(value: object) -> object:
    if isinstance(value, str) and value != "auto":
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])i?)?B?", value.strip(), re.IGNORECASE)
        if match is None:
            raise ValueError("expected auto, or bytes such as 8GiB or 512MiB")
        power = " KMGT".index((match[2] or " ").upper())
        value = int(float(match[1]) * 1024**power)
    return _auto_or_number(value)


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
        description=f"Implementations to measure, names of {', '.join(METHODS)}; auto: all."
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
    threads: Annotated[int | Literal["auto"], BeforeValidator(_auto_or_number)] = Field(
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
        ge=1, description="The exponents are fitted over the last N doublings of the length."
    )
    seed: int = Field(ge=0, description="Seed of the random inputs.")

    @model_validator(mode="after")
    def _methods_exist(self) -> "Config":
        if not self.causal and "linear-chunked" in self.methods:
            raise ValueError("methods = 'linear-chunked': there only with causal = true")
        return self

    @property
    def chosen_methods(self) -> tuple[MethodName, ...]:
        """Return the methods asked for, or all there are."""
        return methods_for(self.causal) if self.methods == "auto" else self.methods

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Return the directions asked for."""
        return DIRECTIONS if self.direction == "both" else (self.direction,)


def resolve(config: Config) -> Machine:
    """Resolve device, kernels, threads and memory limit.

    Raises:
        ConfigError: the device is not there, or does not know the dtype; kernels were asked for
            and cannot be had.
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
    if limit == "auto":  # and leave some to the system
        limit = int(0.7 * measure.available_memory_bytes(device))
    threads = runtime.num_cores() if config.threads == "auto" else config.threads
    return Machine(device, threads, limit, resolve_kernels(config, device))


def resolve_kernels(config: Config, device: str) -> Literal["compiled", "torch"]:
    """Return what computes linear attention: compiled kernels where there are any, or torch's.

    Raises:
        ConfigError: compiled ones were asked for, and cannot be had.
    """
    if config.kernels == "torch" or (config.kernels == "auto" and device != "cpu"):
        return "torch"
    reason: str | None = "they are for a CPU"
    if device == "cpu":
        reason = native_linear.reason_against(config.dim, getattr(torch, config.dtype))
    if reason is None:
        return "compiled"
    if config.kernels == "compiled":
        raise ConfigError(f"kernels = 'compiled': {reason}; choices here: auto, torch")
    terminal.log(f"kernels: torch's own, which take up to twice as long ({reason})")
    return "torch"


def case_of(
    config: Config, machine: Machine, method: MethodName, T: int, direction: Direction
) -> Case:
    """Return one point of the comparison."""
    return Case(
        method=method,
        T=T,
        direction=direction,
        causal=config.causal,
        feature_map=config.feature_map,
        B=config.batch,
        H=config.heads,
        D=config.dim,
        dtype=config.dtype,
        device=machine.device,
        compiled=machine.kernels == "compiled",
        seed=config.seed,
    )


# --------------------------------------------------------------------------------------
# The gate


def run_gate(config: Config, machine: Machine) -> list[Row]:
    """Hold every method against the float64 reference, causal and not, in the run's dtype.

    And in float64, where the device has it: there the O(T) form and the O(T^2) form of the same
    weights differ by nothing but the last digits.
    """
    dtypes = [config.dtype]
    if config.dtype != "float64" and machine.device != "mps":
        dtypes.append("float64")
    entries: list[Row] = []
    for causal in (False, True):
        found: dict[tuple[MethodName, str], list[reference.Check]] = defaultdict(list)
        for dtype, T in itertools.product(dtypes, reference.GATE_LENGTHS):
            case = replace(
                case_of(config, machine, METHODS[0], T, "forward+backward"),
                causal=causal,
                dtype=dtype,
                B=1,
                H=1 if T > 1000 else 2,
            )
            methods = [replace(case, method=method) for method in methods_for(causal)]
            fitting = [m.method for m in methods if cost.peak_bytes(m) <= GATE_BYTES]
            for method, check in reference.check(case, fitting).items():
                found[method, dtype].append(check)
        for method in methods_for(causal):
            checks = [check for dtype in dtypes for check in found[method, dtype]]
            entries.append(
                {
                    "method": method,
                    "causal": causal,
                    "max_error": _largest(found[method, config.dtype]),
                    "max_error_float64": _largest(found[method, dtypes[-1]]),
                    "passed": bool(checks) and all(check.passed for check in checks),
                }
            )
    return entries


def _largest(checks: Sequence[reference.Check]) -> float | None:
    error = max((check.error for check in checks), default=math.inf)
    return error if math.isfinite(error) else None


# --------------------------------------------------------------------------------------
# The measurements


def measure_points(
    config: Config, machine: Machine, passed: set[MethodName], folder: RunFolder
) -> list[Row]:
    """Return a row for each direction, length and method: measured, predicted or failed."""
    rows = []
    pace: Pace = {}
    for direction, T in itertools.product(config.directions, config.T):
        cases = [case_of(config, machine, m, T, direction) for m in config.chosen_methods]
        peaks: dict[Case, int | None] = {}
        notes: dict[Case, str] = {}
        for case in cases:
            if case.method not in passed:
                notes[case] = "differs from the reference"
            elif hindrance := find_hindrance(config, machine, case, pace):
                notes[case] = hindrance
            else:
                # Memory first: a call that breaks the bank takes only its own process along.
                try:
                    peaks[case] = measure.peak_memory_bytes(case, threads=machine.threads)
                except measure.OutOfMemoryError as error:
                    notes[case] = f"out of memory: {error}"
        times = measure.time_in_turns(
            {case: make_call(case) for case in peaks},
            threads=machine.threads,
            device=machine.device,
            estimates_s={case: estimate_s(case, machine, pace) for case in peaks},
        )
        for case in cases:
            if case in times:
                pace[case.method, direction] = times[case].median_s / cost.flops(case)
                row = measured_row(case, machine, times[case], peaks[case])
            else:
                row = unmeasured_row(case, machine, pace, passed, notes[case])
            folder.append_metrics(**row)
            terminal.log(f"{direction} T {T:,} {case.method}: {_brief(row)}")
            rows.append(row)
    return rows


Pace = dict[tuple[MethodName, Direction], float]
"""Seconds an operation, by the longest call that was timed."""


def estimate_s(case: Case, machine: Machine, pace: Pace) -> float:
    """Return the seconds a call will take, from the longest one so far or from a short trial."""
    key = case.method, case.direction
    if key not in pace:
        probe = replace(case, T=min(case.T, PROBE_T))
        times = measure.time_in_turns(
            {"probe": make_call(probe)}, threads=machine.threads, device=machine.device, rounds=1
        )
        pace[key] = times["probe"].median_s / cost.flops(probe)
    return pace[key] * cost.flops(case)


def find_hindrance(config: Config, machine: Machine, case: Case, pace: Pace) -> str | None:
    """Say why a point is not to be started: it would not fit in memory, or in time."""
    if not _fits(case, machine):
        needed = cost.input_bytes(case) + cost.peak_bytes(case)
        return f"needs {bytes_text(needed)}, limit {bytes_text(machine.memory_limit_bytes)}"
    seconds = estimate_s(case, machine, pace)
    if seconds > config.time_limit_s:
        return f"about {seconds:,.0f} s a call, limit {config.time_limit_s:g} s"
    return None


def _fits(case: Case, machine: Machine) -> bool:
    return cost.input_bytes(case) + cost.peak_bytes(case) <= machine.memory_limit_bytes


def measured_row(case: Case, machine: Machine, times: measure.Times, peak: int | None) -> Row:
    """Return the row of a point that was run."""
    speed = cost.flops(case) / times.median_s
    return {
        **_row_start(case),
        "median_ms": 1e3 * times.median_s,
        "p20_ms": 1e3 * times.p20_s,
        "p80_ms": 1e3 * times.p80_s,
        "peak_bytes": peak,
        "analytic_bytes": cost.peak_bytes(case),
        "gflops": speed / 1e9,
        "peak_share": speed / machine.matmul_peak,
        "bandwidth_share": cost.traffic_bytes(case) / times.median_s / machine.bandwidth,
        "status": "measured",
        "note": None,
    }


def unmeasured_row(
    case: Case, machine: Machine, pace: Pace, passed: set[MethodName], note: str
) -> Row:
    """Return the row of a point that was not run: its time follows from the operations."""
    is_right = case.method in passed
    return {
        **_row_start(case),
        "median_ms": 1e3 * estimate_s(case, machine, pace) if is_right else None,
        "analytic_bytes": cost.peak_bytes(case),
        "status": "predicted" if is_right else "failed",
        "note": note,
    }


def _row_start(case: Case) -> Row:
    keys = ("p20_ms", "p80_ms", "peak_bytes", "gflops", "peak_share", "bandwidth_share")
    return {
        "method": case.method,
        "T": case.T,
        "direction": case.direction,
        "causal": case.causal,
        **dict.fromkeys(keys),
    }


def find_crossover(config: Config, machine: Machine, passed: set[MethodName]) -> float | None:
    """Return the length from which on linear attention is the faster one, by the first direction.

    Looked for at lengths of its own, since it lies below those that are worth a table.
    """
    softmax = next((m for m in config.chosen_methods if m in SOFTMAX and m in passed), None)
    linear: MethodName = "linear-chunked" if config.causal else "linear"
    if softmax is None or linear not in passed.intersection(config.chosen_methods):
        return None
    lengths: list[int] = []
    times: dict[MethodName, list[float]] = {softmax: [], linear: []}
    T, wins = FIRST_CROSSING_T, 0
    longest = max(config.T)
    while wins < WINS and longest >= T:
        cases = {m: case_of(config, machine, m, T, config.directions[0]) for m in times}
        if not _fits(cases[softmax], machine):
            break
        calls = {m: make_call(case) for m, case in cases.items()}
        for method, taken in measure.time_in_turns(
            calls, threads=machine.threads, device=machine.device, rounds=3
        ).items():
            times[method].append(taken.median_s)
        lengths.append(T)
        wins = wins + 1 if times[linear][-1] < times[softmax][-1] else 0
        if times[softmax][-1] > config.time_limit_s / 4:
            break
        T *= 2
    return crossing(lengths, times[softmax], times[linear])


# --------------------------------------------------------------------------------------
# What the dropped exponential costs


def study_denominators(config: Config, machine: Machine) -> list[Row]:
    """Return what becomes of the sums of weights, for each feature map and length."""
    lengths = [T for T in config.T if T <= LONGEST_STUDIED_T] or [LONGEST_STUDIED_T]
    return [
        normalizers.study(
            Case(
                "linear",
                T,
                feature_map=name,
                D=config.dim,
                dtype=config.dtype,
                compiled=machine.kernels == "compiled",
                seed=config.seed,
            )
        )
        for name, T in itertools.product(FEATURE_MAPS, lengths)
    ]


def sum_up_denominators(rows: Sequence[Row]) -> dict[str, Any]:
    """Return for each feature map the figures at the longest length, and the condition's growth."""
    summary: dict[str, Any] = {}
    for name in FEATURE_MAPS:
        of_map = [row for row in rows if row["feature_map"] == name]
        growth = fit_power_law(
            {row["T"]: row["median_condition"] or 0.0 for row in of_map}, octaves=math.inf
        )
        last = {key: value for key, value in of_map[-1].items() if key != "feature_map"}
        summary[name] = {**last, "condition_exponent": growth and growth.exponent}
    return summary


# --------------------------------------------------------------------------------------
# The run


def run(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Check, measure, fit and show."""
    machine = resolve(config)
    torch.set_num_threads(machine.threads)
    measure.keep_freed_memory()
    environment = runtime.fingerprint(
        device=machine.device, dtype=config.dtype, num_threads=machine.threads
    )
    environment["kernels"] = machine.kernels
    folder.claim(config, environment)

    gate = run_gate(config, machine)
    for entry in gate:
        terminal.log(_gate_line(entry))
    passed = {m for m in METHODS if all(e["passed"] for e in gate if e["method"] == m)}

    machine = replace(
        machine,
        processor=environment["cpu"],
        matmul_peak=measure.matmul_peak(
            dtype=config.dtype, device=machine.device, threads=machine.threads
        ),
        bandwidth=measure.bandwidth(device=machine.device, threads=machine.threads),
    )
    terminal.log(
        f"the machine at best: {machine.matmul_peak / 1e9:,.0f} GFLOP/s, "
        f"{machine.bandwidth / 1e9:,.1f} GB/s"
    )
    crossover_length = find_crossover(config, machine, passed)
    sums = study_denominators(config, machine)
    comparison = Comparison(
        example=case_of(config, machine, METHODS[0], max(config.T), config.directions[0]),
        methods=config.chosen_methods,
        directions=config.directions,
        lengths=config.T,
        rows=measure_points(config, machine, passed, folder),
        fit_octaves=config.fit_octaves,
        crossover_length=crossover_length,
        machine=machine,
    )

    points = presentation.points_table(comparison)
    price = presentation.denominators_table(sums, config.dtype)
    tables = [
        presentation.shown(points, comparison),
        presentation.exponents_table(comparison),
        presentation.ratios_table(comparison),
        price,
        presentation.gate_table(gate, config.dtype),
    ]
    derivation = presentation.derive(comparison)
    folder.write("table.csv", points.to_csv())
    folder.write("denominators.csv", price.to_csv())
    folder.write("table.md", "\n".join(t.to_markdown() for t in tables) + "\n" + derivation)
    folder.save_figure("time", presentation.draw_times(comparison))
    folder.save_figure("memory", presentation.draw_memory(comparison))
    for table in tables:
        terminal.show(table)
    terminal.show(derivation)
    return {
        "status": "complete" if all(entry["passed"] for entry in gate) else "partial",
        "rows": [{key: row[key] for key in SUMMARY_KEYS} for row in comparison.rows],
        "exponents": {
            presentation.name_of(*curve): comparison.laws(*curve).summary()
            for curve in comparison.curves()
        },
        "crossover_T": crossover_length,
        "gate": gate,
        "denominators": sum_up_denominators(sums),
        "machine": {
            **{key: environment[key] for key in ("cpu", "cores", "threads", "device", "dtype")},
            "kernels": machine.kernels,
            "torch": environment["versions"]["torch"],
            "matmul_peak_gflops": machine.matmul_peak / 1e9,
            "bandwidth_gb_s": machine.bandwidth / 1e9,
            "memory_limit_bytes": machine.memory_limit_bytes,
            "memory_gauge": measure.memory_gauge(machine.device),
        },
    }


SUMMARY_KEYS = (
    "method",
    "T",
    "direction",
    "causal",
    "median_ms",
    "p20_ms",
    "p80_ms",
    "peak_bytes",
    "analytic_bytes",
    "gflops",
    "status",
)


def _gate_line(entry: Row) -> str:
    causal = ", causal" if entry["causal"] else ""
    verdict = "agrees with" if entry["passed"] else "DIFFERS from"
    error = "not finite" if entry["max_error"] is None else f"{entry['max_error']:.1e}"
    return f"gate: {entry['method']}{causal} {verdict} the float64 reference (error {error})"


def _brief(row: Row) -> str:
    if row["status"] == "measured":
        peak = "" if row["peak_bytes"] is None else f", {bytes_text(row['peak_bytes'])}"
        return f"{time_text(row['median_ms'])}{peak}"
    return f"{row['status']} ({row['note']})"


def plan(config: Config, folder: RunFolder) -> None:
    """Show every point with its operations and memory, and which would be predicted."""
    machine = resolve(config)
    torch.set_num_threads(machine.threads)
    pace: Pace = {}
    rows = []
    for direction, T, method in itertools.product(
        config.directions, config.T, config.chosen_methods
    ):
        case = case_of(config, machine, method, T, direction)
        hindrance = find_hindrance(config, machine, case, pace)
        rows.append(
            {
                **_row_start(case),
                "flops": cost.flops(case),
                "analytic_bytes": cost.peak_bytes(case),
                "median_ms": 1e3 * estimate_s(case, machine, pace),
                "status": "predicted" if hindrance else "to be measured",
                "note": hindrance,
            }
        )
    terminal.show(
        Table(
            title=f"{COMMAND} {config.name}: {len(rows)} points",
            columns=[
                Column("T", "T", "{:,}"),
                Column("method", "method"),
                Column("direction", "direction"),
                Column("flops", "operations", "{:.2e}"),
                Column("analytic_bytes", "memory", bytes_text),
                Column("median_ms", "estimated time", time_text),
                Column("status", "status"),
                Column("note", "why"),
            ],
            rows=rows,
            notes=[f"Times from a short trial at T = {PROBE_T:,} or less. Nothing was written."],
        )
    )

"""Measure every point of a run: one method at one length in one direction.

A point that would need too much memory or time is predicted from its operations, never started.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from hwcli.attention.bench import cost, measure
from hwcli.attention.bench.cases import (
    SOFTMAX,
    Case,
    Direction,
    MethodName,
    make_call,
    random_inputs,
)
from hwcli.attention.bench.measure import MachineLimits, Times
from hwcli.attention.bench.results import CrossingPoint, Point, Shape, linear_of
from hwcli.attention.bench.scaling import crossing
from hwcli.attention.bench.units import bytes_text
from hwcli.errors import first_line

# A method that has not been timed yet is first tried at this length, and is tried so often.
PROBE_T = 1024
PROBE_ROUNDS = 3

# The crossing is searched from here on, and is found once linear attention has won so often.
FIRST_CROSSING_T = 8
WINS = 3

# A child process that measures memory takes so long, besides its call.
CHILD_PROCESS_S = 1.0


@dataclass(frozen=True)
class BenchSettings:
    """The resolved options of one run: what is measured, with what, and how far it may go."""

    shape: Shape
    lengths: tuple[int, ...]
    methods: tuple[MethodName, ...]
    directions: tuple[Direction, ...]
    device: str
    threads: int
    kernels: Literal["compiled", "torch"]
    memory_limit_bytes: int
    time_limit_s: float
    seed: int

    def case(self, method: MethodName, T: int, direction: Direction) -> Case:
        """Return one point's case."""
        shape = self.shape
        return Case(
            method=method,
            T=T,
            direction=direction,
            causal=shape.causal,
            feature_map=shape.feature_map,
            B=shape.batch,
            H=shape.heads,
            D=shape.dim,
            dtype=shape.dtype,
            device=self.device,
            compiled=self.kernels == "compiled",
            seed=self.seed,
        )

    def cases(self) -> list[Case]:
        """Return every point's case: by direction, then length, then method."""
        grid = itertools.product(self.directions, self.lengths, self.methods)
        return [self.case(method, T, direction) for direction, T, method in grid]

    def fits(self, case: Case) -> bool:
        """Tell whether a case stays within the memory limit."""
        return cost.needed_bytes(case) <= self.memory_limit_bytes


class Pace:
    """Seconds per operation of each method, by the longest call timed so far."""

    def __init__(self, settings: BenchSettings):
        self._settings = settings
        # The length that was timed, and its seconds per operation.
        self._timed: dict[tuple[MethodName, Direction], tuple[int, float]] = {}
        self._probed: set[tuple[MethodName, Direction]] = set()

    def record(self, case: Case, seconds: float) -> None:
        """Keep what a call took, unless a longer one has been timed."""
        key = case.method, case.direction
        if self._timed.get(key, (0, 0.0))[0] <= case.T:
            self._timed[key] = case.T, seconds / cost.flops(case)

    def estimate_s(self, case: Case) -> float:
        """Return the seconds that a call will take; times one if none as long has been timed.

        A call at a few tokens is mostly the call itself, and says nothing of longer ones.
        """
        key = case.method, case.direction
        timed_T, _ = self._timed.get(key, (0, 0.0))
        if timed_T < min(case.T, PROBE_T) and key not in self._probed:
            self._probed.add(key)
            probe = replace(case, T=min(case.T, PROBE_T))
            if not self._settings.fits(probe):
                probe = replace(probe, B=1, H=1)  # operations are counted by the head
            while probe.T > 1 and not self._settings.fits(probe):
                probe = replace(probe, T=probe.T // 2)
            times = measure.time_in_turns(
                {"probe": make_call(probe)},
                threads=self._settings.threads,
                device=self._settings.device,
                rounds=PROBE_ROUNDS,
            )
            self.record(probe, times["probe"].median_s)
        return self._timed[key][1] * cost.flops(case)


def reason_to_skip(settings: BenchSettings, case: Case, pace: Pace) -> str | None:
    """Say why a point is not started: too much memory, or too much time."""
    if not settings.fits(case):
        needed = cost.needed_bytes(case)
        return f"needs {bytes_text(needed)}, limit {bytes_text(settings.memory_limit_bytes)}"
    seconds = pace.estimate_s(case)
    if seconds > settings.time_limit_s:
        return f"about {seconds:,.0f} s per call, limit {settings.time_limit_s:g} s"
    return None


def measure_points(
    settings: BenchSettings,
    passed: set[MethodName],
    limits: MachineLimits,
    on_point: Callable[[Point], None],
) -> list[Point]:
    """Return every point: measured, predicted or failed.

    Args:
        settings: what is measured.
        passed: the methods that agree with the reference; the others have no time.
        limits: of the machine, for the shares of them that a point reaches.
        on_point: called with each point once it is known.
    """
    points: list[Point] = []
    pace = Pace(settings)
    for direction, T in itertools.product(settings.directions, settings.lengths):
        cases = [settings.case(method, T, direction) for method in settings.methods]
        failures = {c: "differs from the reference" for c in cases if c.method not in passed}
        peaks, skipped = _measure_memory(
            settings, [case for case in cases if case not in failures], pace, failures
        )
        times = _time(settings, list(peaks), pace, skipped)
        for case, taken in times.items():
            pace.record(case, taken.median_s)
        for case in cases:
            if case in times:
                point = _measured(case, times[case], peaks[case], limits)
            elif case in failures:
                point = _point(case, status="failed", note=failures[case])
            else:
                milliseconds = 1e3 * pace.estimate_s(case)
                note = skipped[case]
                point = _point(case, median_ms=milliseconds, status="predicted", note=note)
            on_point(point)
            points.append(point)
    return points


def _time(
    settings: BenchSettings, cases: list[Case], pace: Pace, skipped: dict[Case, str]
) -> dict[Case, Times]:
    """Time cases that differ in their method alone, on the same inputs.

    Where memory is not measured first, a call may run out of it here: it is then predicted.
    """
    if not cases:
        return {}

    def skip(case: Case, reason: str) -> None:
        skipped[case] = f"out of memory: {reason}"

    estimates = {case: pace.estimate_s(case) for case in cases}
    try:
        inputs = random_inputs(cases[0])
    except (RuntimeError, MemoryError) as error:
        if not measure.is_out_of_memory(error):
            raise
        for case in cases:
            skip(case, first_line(error))
        return {}
    return measure.time_in_turns(
        {case: make_call(case, inputs) for case in cases},
        threads=settings.threads,
        device=settings.device,
        estimates_s=estimates,
        on_out_of_memory=skip,
    )


def _measure_memory(
    settings: BenchSettings, cases: list[Case], pace: Pace, failures: dict[Case, str]
) -> tuple[dict[Case, int | None], dict[Case, str]]:
    """Return the peak memory of the cases that can be timed, and why others are predicted.

    Memory comes first: a call that needs too much ends only the child process that measures it.
    One whose process ended in another way joins the failures.
    """
    peaks: dict[Case, int | None] = {}
    skipped: dict[Case, str] = {}
    for case in cases:
        if reason := reason_to_skip(settings, case, pace):
            skipped[case] = reason
            continue
        try:
            peaks[case] = measure.peak_memory_bytes(case, threads=settings.threads)
        except measure.OutOfMemoryError as error:
            skipped[case] = f"out of memory: {error}"
        except measure.MeasurementError as error:
            failures[case] = f"its memory could not be measured: {error}"
    return peaks, skipped


def _point(case: Case, **found: Any) -> Point:
    return Point(
        method=case.method,
        T=case.T,
        direction=case.direction,
        causal=case.causal,
        analytic_bytes=cost.peak_bytes(case),
        **found,
    )


def _measured(case: Case, times: Times, peak: int | None, limits: MachineLimits) -> Point:
    speed = cost.flops(case) / times.median_s
    return _point(
        case,
        median_ms=1e3 * times.median_s,
        p20_ms=1e3 * times.p20_s,
        p80_ms=1e3 * times.p80_s,
        peak_bytes=peak,
        gflops=speed / 1e9,
        peak_share=speed / limits.matmul_peak,
        bandwidth_share=cost.traffic_bytes(case) / times.median_s / limits.bandwidth,
        status="measured",
    )


def find_crossover(
    settings: BenchSettings, passed: set[MethodName]
) -> tuple[float | None, tuple[CrossingPoint, ...]]:
    """Return the length from which linear attention is faster than softmax, and what was measured.

    The length is None if it was not found. It is searched in the first direction at lengths of its
    own, because it lies below those of the table, and interpolated between two of them.
    """
    methods = [method for method in settings.methods if method in passed]
    softmax = next((method for method in methods if method in SOFTMAX), None)
    linear = linear_of(settings.methods)
    if softmax is None or linear is None or linear not in passed:
        return None, ()
    lengths: list[int] = []
    times: dict[MethodName, list[float]] = {softmax: [], linear: []}
    T, wins = FIRST_CROSSING_T, 0
    longest = max(settings.lengths)
    while wins < WINS and longest >= T:
        cases = {m: settings.case(m, T, settings.directions[0]) for m in times}
        if not all(map(settings.fits, cases.values())):
            break
        inputs = random_inputs(cases[softmax])
        calls = {method: make_call(case, inputs) for method, case in cases.items()}
        timed = measure.time_in_turns(
            calls,
            threads=settings.threads,
            device=settings.device,
            rounds=3,
            on_out_of_memory=lambda *_: None,
        )
        if len(timed) < len(calls):  # one of them ran out of memory
            break
        for method, taken in timed.items():
            times[method].append(taken.median_s)
        lengths.append(T)
        wins = wins + 1 if times[linear][-1] < times[softmax][-1] else 0
        if times[softmax][-1] > settings.time_limit_s / 4:
            break
        T *= 2
    found = tuple(
        CrossingPoint(T=T, median_ms={m: 1e3 * taken[i] for m, taken in times.items()})
        for i, T in enumerate(lengths)
    )
    return crossing(lengths, times[softmax], times[linear]), found


def estimate_run_s(settings: BenchSettings, pace: Pace) -> float:
    """Estimate the seconds of all measured points: their rounds, and a call that measures memory.

    A timed call runs once to warm up, and until a round has taken its least time.
    """
    seconds = 0.0
    for case in settings.cases():
        if reason_to_skip(settings, case, pace) is None:
            call = pace.estimate_s(case)
            is_long = call >= measure.LONG_CALL_S
            rounds = measure.ROUNDS_OF_LONG_CALLS if is_long else measure.ROUNDS
            seconds += CHILD_PROCESS_S + call + rounds * max(2 * call, 2 * measure.SECONDS_A_ROUND)
    return seconds

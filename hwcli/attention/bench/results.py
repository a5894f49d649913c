"""What one run of the attention bench found: typed rows, and the power laws fitted to them.

``AttentionSummary`` is ``summary.json``. Its tables and pictures, in the terminal and in the
report, are made from it and from nothing else.
"""

import itertools
from typing import Literal

from hwcli.attention.bench.cases import METHODS, Direction, MethodName
from hwcli.attention.bench.scaling import PowerLaw, fit_power_law
from hwcli.attention.feature_maps import FeatureMapName
from hwcli.config import Section
from hwcli.output.run_folder import Summary

# Below this size, a process's memory is mostly what libraries and the allocator keep.
LEAST_FITTED_BYTES = 16 * 2**20

PointStatus = Literal["measured", "predicted", "failed"]


class Point(Section):
    """One method at one length in one direction.

    Attributes:
        status: ``predicted`` points were never timed; ``failed`` ones have no time: their method
            differs from the reference, or the process of their call ended with an error.
        peak_share: of the processor's measured peak of matrix products.
        bandwidth_share: of the measured memory bandwidth; above 1 the caches deliver the data.
        note: why a point was not measured.
    """

    method: MethodName
    T: int
    direction: Direction
    causal: bool
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    peak_bytes: int | None = None
    analytic_bytes: int
    gflops: float | None = None
    peak_share: float | None = None
    bandwidth_share: float | None = None
    status: PointStatus
    note: str | None = None


class GateEntry(Section):
    """How far one method is from the float64 reference; an error of None was not finite.

    Attributes:
        skipped: the lengths that were left out, as the method would need too much memory there.
        skipped_float64: likewise, of the check in float64.
    """

    method: MethodName
    causal: bool
    max_error: float | None
    max_error_float64: float | None
    passed: bool
    skipped: tuple[int, ...] = ()
    skipped_float64: tuple[int, ...] = ()


class NormalizerStudy(Section):
    """What becomes of a query's sum of weights, for one feature map and length.

    Attributes:
        negative_share: of the queries whose sum is negative.
        near_zero_share: of the queries whose weights have almost all cancelled.
        no_weight_share: of the queries whose weights are all zero.
        median_condition: of the sum of the weights' sizes over the size of their sum, for the
            queries that have any.
        largest_condition: of the same.
        median_error: of the O(T) form against float64, in standard deviations of the values.
        largest_error: of the same.
        largest_output: in standard deviations of the values.
    """

    feature_map: FeatureMapName
    T: int
    negative_share: float
    near_zero_share: float
    no_weight_share: float
    median_condition: float | None
    largest_condition: float | None
    median_error: float | None
    largest_error: float | None
    largest_output: float | None


class CrossingPoint(Section):
    """The median times of one call at one length of the search for the crossing."""

    T: int
    median_ms: dict[MethodName, float]


class Exponents(Section):
    """Exponents p of time and memory, which grow as T^p.

    None where fewer than three measured points can be fitted.
    """

    time: float | None
    time_ci: tuple[float, float] | None
    memory: float | None


class Shape(Section):
    """The problem that every method solves: batch, heads, width of a head, kind of attention."""

    batch: int
    heads: int
    dim: int
    causal: bool
    feature_map: FeatureMapName
    dtype: str


class BenchMachine(Section):
    """Where it was measured, with what, and what the machine could do at best."""

    cpu: str
    cores: int
    threads: int
    device: str
    kernels: Literal["compiled", "torch"]
    torch: str
    matmul_peak_gflops: float
    bandwidth_gb_s: float
    memory_limit_bytes: int
    memory_gauge: str


class AttentionSummary(Summary):
    """All that one run of ``attention-bench`` found.

    Attributes:
        rows: every direction, length and method, in this order.
        fit_octaves: the exponents are fitted over so many doublings of T below the longest.
        crossover_T: linear attention is faster than softmax from this length on, in the first
            direction; None where no crossing was found. Interpolated between measured lengths.
        crossing_points: what was measured in the search for it; empty in runs of older versions.
        exponents: by curve: the method, with ``+backward`` where gradients are timed too.
    """

    shape: Shape
    rows: tuple[Point, ...]
    fit_octaves: float
    crossover_T: float | None  # noqa: N815
    crossing_points: tuple[CrossingPoint, ...] = ()
    exponents: dict[str, Exponents]
    gate: tuple[GateEntry, ...]
    normalizers: tuple[NormalizerStudy, ...]
    machine: BenchMachine

    @property
    def methods(self) -> tuple[MethodName, ...]:
        """Return the methods that were compared, in their usual order."""
        present = {row.method for row in self.rows}
        return tuple(method for method in METHODS if method in present)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Return the directions that were timed."""
        return tuple(dict.fromkeys(row.direction for row in self.rows))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the lengths, ascending."""
        return tuple(sorted({row.T for row in self.rows}))

    @property
    def linear(self) -> MethodName | None:
        """Return the O(T) method that the others are compared with."""
        return linear_of(self.methods)

    @property
    def passed(self) -> bool:
        """Tell whether every method agrees with the reference."""
        return all(entry.passed for entry in self.gate)

    @property
    def crossing_between(self) -> tuple[CrossingPoint, CrossingPoint] | None:
        """Return the measured lengths that the crossing was interpolated between, if known."""
        T = self.crossover_T
        if T is None:
            return None
        pairs = itertools.pairwise(self.crossing_points)
        return next(((a, b) for a, b in pairs if a.T <= T <= b.T), None)

    def curves(self) -> list[tuple[Direction, MethodName]]:
        """Return direction and method of every curve."""
        return list(itertools.product(self.directions, self.methods))

    def row(self, direction: Direction, T: int, method: MethodName) -> Point | None:
        """Return one point, or None where it is not part of the run."""
        key = direction, T, method
        return next((r for r in self.rows if (r.direction, r.T, r.method) == key), None)

    def times_ms(
        self, direction: Direction, method: MethodName, status: PointStatus = "measured"
    ) -> dict[int, float]:
        """Return T -> median time of one curve's points of that status."""
        rows = self._of_curve(direction, method, status)
        return {row.T: row.median_ms for row in rows if row.median_ms is not None}

    def peaks_bytes(self, direction: Direction, method: MethodName) -> dict[int, float]:
        """Return T -> peak memory of one curve's measured points."""
        rows = self._of_curve(direction, method, "measured")
        return {row.T: row.peak_bytes for row in rows if row.peak_bytes is not None}

    def _of_curve(
        self, direction: Direction, method: MethodName, status: PointStatus
    ) -> list[Point]:
        key = direction, method, status
        return [row for row in self.rows if (row.direction, row.method, row.status) == key]

    def time_law(self, direction: Direction, method: MethodName) -> PowerLaw | None:
        """Fit the time of one curve over the top octaves of what was measured."""
        return fit_power_law(self.times_ms(direction, method), octaves=self.fit_octaves)

    def memory_law(self, direction: Direction, method: MethodName) -> PowerLaw | None:
        """Fit the memory of one curve in bytes, where it is more than a process's own."""
        peaks = self.peaks_bytes(direction, method)
        large = {T: peak for T, peak in peaks.items() if peak > LEAST_FITTED_BYTES}
        return fit_power_law(large, octaves=self.fit_octaves)

    def longest_study(self, feature_map: FeatureMapName) -> NormalizerStudy | None:
        """Return what became of the sums of weights at the longest studied length."""
        of_map = [study for study in self.normalizers if study.feature_map == feature_map]
        return max(of_map, key=lambda study: study.T, default=None)

    def fitted(self) -> "AttentionSummary":
        """Return the same summary with the exponents of its rows."""
        exponents = {}
        for direction, method in self.curves():
            time, memory = self.time_law(direction, method), self.memory_law(direction, method)
            exponents[curve_name(direction, method)] = Exponents(
                time=time and time.exponent,
                time_ci=time and time.interval,
                memory=memory and memory.exponent,
            )
        return self.model_copy(update={"exponents": exponents})


def linear_of(methods: tuple[MethodName, ...]) -> MethodName | None:
    """Return the O(T) method among several: by chunks where it is causal."""
    order: tuple[MethodName, ...] = ("linear-chunked", "linear")
    return next((method for method in order if method in methods), None)


def curve_name(direction: Direction, method: MethodName) -> str:
    """Name a curve as the summary does."""
    return method if direction == "forward" else f"{method}+backward"

"""Measure how long a call takes, what memory it needs, and what the machine can do at best.

Times come from torch.utils.benchmark. The calls take turns, so a slower machine slows all of them
alike. Memory is the high-water mark of a child process.
"""

import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from hwcli import resources, runtime
from hwcli.attention.bench.cases import Case, make_call
from hwcli.attention.streaming import FEWEST_TOKENS
from hwcli.errors import first_line

ROUNDS = 5
# Calls this long vary little; three rounds are enough for them.
LONG_CALL_S = 1.0
ROUNDS_OF_LONG_CALLS = 3
SECONDS_A_ROUND = 0.05

# The machine's limits are measured on arrays far larger than its caches.
PEAK_SIDE, PEAK_SIDE_ON_GPU = 2048, 8192
STREAM_ARRAYS, STREAM_BYTES = 3, 2**28

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Times:
    """Seconds of one call: median, 20th and 80th percentile."""

    median_s: float
    p20_s: float
    p80_s: float


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks of up to 32 MiB, the largest size that it accepts.

    Otherwise it may return them to the operating system and get them back page by page, which can
    take longer than a call of linear attention. Larger blocks are allocated afresh by every method
    alike. Other allocators ignore this.
    """
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**30)


def time_in_turns(
    calls: Mapping[K, Callable[[], object]],
    *,
    threads: int,
    device: str = "cpu",
    rounds: int | None = None,
    estimates_s: Mapping[K, float] | None = None,
    on_out_of_memory: Callable[[K, str], None] | None = None,
) -> dict[K, Times]:
    """Time every call in several rounds, one after the other in each.

    A measurement is warmed up by calls that do not count. Calls with a long estimate take part
    in fewer rounds.

    Args:
        calls: what is timed.
        threads: that torch may use.
        device: that the calls run on.
        rounds: of each call; None chooses.
        estimates_s: of each call's time.
        on_out_of_memory: gets a call that runs out of memory, and torch's words; the call is then
            left out. With None the error is raised.
    """
    # This import is slow, and the processes that measure memory do not need it.
    # It looks for a GPU's compiler, which the timer has no use for, and warns where no GPU is.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    timers = {
        key: Timer("call()", timer=_clock(device), globals={"call": call}, num_threads=threads)
        for key, call in calls.items()
    }
    times: dict[K, list[float]] = {key: [] for key in calls}
    rounds = rounds or ROUNDS
    for round_ in range(rounds):
        for key, timer in list(timers.items()):
            is_long = estimates_s is not None and estimates_s[key] >= LONG_CALL_S
            if round_ >= (ROUNDS_OF_LONG_CALLS if is_long else rounds):
                continue
            try:
                times[key] += timer.blocked_autorange(min_run_time=SECONDS_A_ROUND).times
            except (RuntimeError, MemoryError) as error:
                if on_out_of_memory is None or not is_out_of_memory(error):
                    raise
                on_out_of_memory(key, first_line(error))
                del timers[key], times[key]
    return {key: summarize(taken) for key, taken in times.items()}


def _clock(device: str) -> Callable[[], float]:
    """Return a clock that waits for what the device still has to do."""

    def clock() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        elif device == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    return clock


def summarize(seconds: list[float]) -> Times:
    """Reduce measured times to their median and the percentiles around it."""
    low, high = np.quantile(seconds, [0.2, 0.8])
    return Times(statistics.median(seconds), float(low), float(high))


# --------------------------------------------------------------------------------------
# The machine


@dataclass(frozen=True)
class MachineLimits:
    """The most that the machine does: operations a second of matrix products, bytes a second."""

    matmul_peak: float
    bandwidth: float


def machine_limits(*, dtype: str, device: str, threads: int) -> MachineLimits:
    """Measure the limits of this machine."""
    return MachineLimits(
        matmul_peak(dtype=dtype, device=device, threads=threads),
        bandwidth(device=device, threads=threads),
    )


def matmul_peak(*, dtype: str, device: str, threads: int) -> float:
    """Measure the operations a second of large square products, by the fastest library here."""
    side = PEAK_SIDE if device == "cpu" else PEAK_SIDE_ON_GPU
    a, b = (torch.randn(side, side).to(device, getattr(torch, dtype)) for _ in range(2))
    calls = {"product": lambda: a @ b}
    if device == "cpu":
        # A 1 x 1 convolution is a matrix product too, but by another library. (On CUDA it would
        # round float32 to TF32, which no method here does.)
        image, kernels = a.t().reshape(1, side, 1, side), b.t()[:, :, None, None].contiguous()
        calls["convolution"] = lambda: F.conv2d(image, kernels)
    times = time_in_turns(calls, threads=threads, device=device, rounds=3)
    fastest = min(taken.p20_s for taken in times.values())
    return float(2 * side**3 / fastest)


def bandwidth(*, device: str, threads: int) -> float:
    """Measure the bytes a second of McCalpin's STREAM copy and triad, as it counts them."""
    a, b, c = (torch.ones(STREAM_BYTES // 4, device=device) for _ in range(STREAM_ARRAYS))
    calls = {2: lambda: c.copy_(a), 3: lambda: torch.add(a, b, alpha=0.5, out=c)}
    times = time_in_turns(calls, threads=threads, device=device)
    return float(max(arrays * STREAM_BYTES / t.p20_s for arrays, t in times.items()))


# --------------------------------------------------------------------------------------
# Memory


class MeasurementError(Exception):
    """The process that measures a call's memory failed; one line."""


class OutOfMemoryError(MeasurementError):
    """The process that measured a call's memory ran out of memory."""


# How torch says that there is no memory: its CPU, CUDA, and Apple's GPU in two ways.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "invalid buffer size",
)


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Tell whether an allocation failed, which torch has several errors for."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in OUT_OF_MEMORY)


def peak_memory_bytes(case: Case, *, threads: int) -> int | None:
    """Measure the most memory that a call holds beyond its inputs; None where it cannot be read.

    On a GPU torch counts it. On a CPU a child process draws the inputs, resets its high-water
    mark, makes one call and reads the mark.

    Raises:
        OutOfMemoryError: the process was killed, or an allocation failed.
        MeasurementError: it ended in another way.
    """
    if case.device == "cuda":
        return _peak_on_gpu(case)
    if case.device != "cpu":
        return None
    context = _process_context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(case, threads, sender), daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise _ending(process.exitcode) from None
    process.join()
    if isinstance(answer, MeasurementError):
        raise answer
    return int(answer)


def _process_context() -> SpawnContext | ForkServerContext:
    """Return how a process is started that has imported torch but not used it.

    A server that did so is forked: as fresh as a new process, but without the seconds of the
    import, and forked before there are threads that a fork would lose. Apple's libraries are not
    to be used in a process that was forked after they were loaded: there it is a new one.
    """
    if sys.platform == "darwin":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _ending(code: int | None) -> MeasurementError:
    """Say how a process ended that has not answered: a system out of memory kills it."""
    if code == -signal.SIGKILL:
        return OutOfMemoryError("the process was killed")
    if code is None or code >= 0:
        return MeasurementError(f"the process ended with exit code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return MeasurementError(f"the process was ended by {name}")


def memory_gauge(device: str) -> str:
    """Name the source of the peak memory."""
    if device != "cpu":
        return "torch's own count" if device == "cuda" else "not measured"
    if Path("/proc/self/clear_refs").exists():
        return "VmHWM, reset after the inputs exist"
    return "ru_maxrss, above its value when the inputs exist"


def _measure(case: Case, threads: int, sender: Connection) -> None:
    """Run one call in this process and send its peak in bytes, or what went wrong."""
    with suppress(OSError):  # if the machine runs out of memory, this is the process to lose
        Path("/proc/self/oom_score_adj").write_text("1000")
    torch.set_num_threads(threads)
    try:
        # Threads and libraries take what they need once, by the code that a long call runs.
        make_call(replace(case, T=min(case.T, FEWEST_TOKENS)))()
        call = make_call(case)
        before = _reset_high_water_mark()
        result = call()
        sender.send(max(_high_water_mark() - before, 0))
        del result
    except (RuntimeError, MemoryError) as error:
        kind = OutOfMemoryError if is_out_of_memory(error) else MeasurementError
        sender.send(kind(first_line(error)))


def _reset_high_water_mark() -> int:
    """Reset the mark where the operating system can, and return it."""
    runtime.return_freed_memory()  # or it would be used again
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _high_water_mark()


def _high_water_mark() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _peak_on_gpu(case: Case) -> int:
    try:
        make_call(replace(case, T=min(case.T, FEWEST_TOKENS)))()
        call = make_call(case)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(first_line(error)) from None


def available_memory_bytes(device: str) -> int:
    """Return the memory that is free now."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    free = resources.free_memory_bytes()
    if free is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return free

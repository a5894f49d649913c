"""The cores and the memory that this process may use, and how many workers that is enough for."""

import functools
import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwcli import system

CGROUPS = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Count the CPU cores this process may use (a SLURM job often gets fewer than the node has).

    A container's quota of processor time counts as well, rounded up to whole cores. The efficiency
    cores of Apple's processors do not count: a sweep would wait for trials on these slower ones.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = _performance_cores() or os.cpu_count() or 1
    for folder in _cgroup_folders("cpu"):
        quota, period = _cpu_quota(folder)
        if quota and period:
            cores = min(cores, -(-quota // period))
    return cores


@functools.cache
def _performance_cores() -> int | None:
    """Return how many fast cores an Apple processor has; None on any other."""
    if sys.platform != "darwin":
        return None
    answer = system.output_of("sysctl", "-n", "hw.perflevel0.logicalcpu")
    return int(answer) or None if answer.isdecimal() else None


CPU_TOPOLOGY = Path("/sys/devices/system/cpu")


def slowdown_of_sharing(num_processes: int) -> float:
    """Return how many times as long each of some busy processes takes as one alone, at least 1.

    Two hardware threads of a core share its arithmetic units, which matrix products keep busy; so
    they count as one core. Only Linux tells which threads these are.
    """
    cores = set()
    for cpu in os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ():
        with suppress(OSError):
            path = CPU_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list"
            cores.add(path.read_text())
    return max(1.0, num_processes / min(len(cores) or math.inf, num_cores()))


# WORKER_BYTES: the most that a training process holds for itself. DRIVER_BYTES: all that the
# process which starts and watches it holds, shared libraries included (tests/benchmarks/LOG.md).
WORKER_BYTES, DRIVER_BYTES = 700 * 10**6, 950 * 10**6


@dataclass(frozen=True)
class WorkerLimit:
    """How many worker processes a machine takes, and which of its limits decided that."""

    number: int
    decided_by: Literal["cores", "memory"]


def worker_limit(worker_bytes: int, reserved_bytes: int = 0) -> WorkerLimit:
    """Return the smaller of the cores and the workers that free memory holds, at least one.

    Args:
        worker_bytes: memory of one worker.
        reserved_bytes: memory that is kept for others, such as the process that starts workers.
    """
    cores, free = num_cores(), free_memory_bytes()
    if free is None or (fitting := (free - reserved_bytes) // worker_bytes) >= cores:
        return WorkerLimit(cores, "cores")
    return WorkerLimit(max(fitting, 1), "memory")


def free_memory_bytes() -> int | None:
    """Return how much memory this process may still take without swapping; None where unknown.

    The smaller of what the machine has free and what the limits of this process's control groups
    (containers, SLURM jobs, systemd) leave. Memory that only caches files counts as free.
    """
    free = [_machine_free_bytes(), *map(_cgroup_free_bytes, _cgroup_folders("memory"))]
    return min((amount for amount in free if amount is not None), default=None)


def _machine_free_bytes() -> int | None:
    if sys.platform == "darwin":
        return _vm_stat_free_bytes()
    lines = system.text_of("/proc/meminfo").splitlines()
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((1024 * int(kilobytes) for kilobytes in found), None)


def _vm_stat_free_bytes() -> int | None:
    lines = system.output_of("vm_stat").splitlines()
    pages = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    kinds = ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable")
    counts = [int(pages[kind].strip(" .")) for kind in kinds if kind in pages]
    return sum(counts) * os.sysconf("SC_PAGE_SIZE") if counts else None


def _cgroup_folders(controller: str) -> list[Path]:
    """Return the folders of this process's control group and all above it, of both versions."""
    folders: list[Path] = []
    for line in system.text_of("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root = CGROUPS
        elif controller in controllers.split(","):
            root = CGROUPS / controller
        else:
            continue
        inner = root / path.lstrip("/")
        # In a container the path may be the host's, which is not there: its root is.
        folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    return folders


def _cgroup_free_bytes(folder: Path) -> int | None:
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit = int((folder / limit_name).read_text())
            used = int((folder / used_name).read_text())
            statistics = (folder / "memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # not there, or "max"
            continue
        numbers = dict(line.split() for line in statistics)
        # The sums over the groups inside, where they are told apart from the group's own.
        cached = sum(
            int(numbers.get(f"total_{name}", numbers.get(name, 0)))
            for name in ("active_file", "inactive_file")
        )
        return max(limit - max(used - cached, 0), 0)
    return None


def _cpu_quota(folder: Path) -> tuple[int, int]:
    """Return microseconds of processor time, and of the period they are for; zeros: no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return max(int(quota), 0), int(period)
    except (OSError, ValueError):  # not there, or "max"
        return 0, 0


def memory_bytes() -> int | None:
    """Return how much memory the machine has; None where unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None

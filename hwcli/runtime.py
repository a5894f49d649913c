"""Where a run happens: device, precision, threads, and the fingerprint stored with its numbers.

Nothing here imports torch before a function needs it: help and ``hw2 status`` work without it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from hwcli import __version__
from hwcli.errors import ConfigError

if TYPE_CHECKING:
    import torch

FINGERPRINTED_PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "datasets",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pydantic",
)


class Stopped(KeyboardInterrupt):
    """The system asked the program to stop; handled as Ctrl-C is, with an exit code of its own."""

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {number}")
        self.exit_code = 128 + number


def stop_on_signals() -> None:
    """Let SIGTERM (``kill``, ``timeout``, systemd) and SIGHUP (a closed terminal) raise Stopped.

    A signal that is ignored stays ignored, as ``nohup`` wants it. Workers inherit none of this.
    """

    def stop(number: int, _: FrameType | None) -> None:
        for each in handled:  # the clean-up must not be interrupted in turn
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    handled = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in handled:
        signal.signal(number, stop)


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
    answer = _output_of("sysctl", "-n", "hw.perflevel0.logicalcpu")
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


# Most memory of its own that a training process holds, and all that the process that starts and
# watches it does, the libraries that they share among it (tests/benchmarks/LOG.md).
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
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((1024 * int(kilobytes) for kilobytes in found), None)


def _vm_stat_free_bytes() -> int | None:
    lines = _output_of("vm_stat").splitlines()
    pages = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    kinds = ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable")
    counts = [int(pages[kind].strip(" .")) for kind in kinds if kind in pages]
    return sum(counts) * os.sysconf("SC_PAGE_SIZE") if counts else None


def _cgroup_folders(controller: str) -> list[Path]:
    """Return the folders of this process's control group and all above it, of both versions."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
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


def return_freed_memory() -> None:
    """Give freed memory back to the system, where the allocator keeps it (glibc); else nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@functools.cache  # every file that is written asks for it
def machine_id() -> str:
    """Return a name for this machine since it was started, which says nothing about it.

    Containers count as machines of their own: they do not see each other's processes.
    """
    if sys.platform == "darwin":
        boot = _output_of("sysctl", "-n", "kern.bootsessionuuid")
    else:
        boot = _text_of("/proc/sys/kernel/random/boot_id")
    return _digest(_machine_name(), boot, _process_space())


@functools.cache
def host_id() -> str:
    """Return what :func:`machine_id` does, but a name that stays when the machine restarts."""
    return _digest(_machine_name(), _text_of("/etc/machine-id"), _process_space())


@functools.cache
def _machine_name() -> str:
    if sys.platform == "darwin":  # its host name changes with the network
        answer = _output_of("ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
        if found := re.search(r'"IOPlatformUUID" = "([^"]+)"', answer):
            return found[1]
    return platform.node()


def _process_space() -> str:
    with suppress(OSError):
        return Path("/proc/self/ns/pid").readlink().name
    return ""


def _text_of(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text()
    return ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(filter(None, parts)).encode()).hexdigest()[:16]


ALIVE = "alive"
"""What is known of a process where no more can be seen."""


def process_start(process: int) -> str | None:
    """Return what tells a process from an earlier one of the same number; None if it is gone."""
    try:
        # After the program's name, which may hold spaces: first the state, 20th the start time.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, PermissionError):
        pass  # gone, hidden (another user's, under hidepid), or no /proc at all
    except (OSError, IndexError):
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ALIVE
    return None if Path("/proc/self").exists() else ALIVE


def resolve_device(name: str) -> torch.device:
    """Turn ``auto|cpu|cuda|mps`` into a device that is present.

    Raises:
        ConfigError: the named device is not on this machine.
    """
    import torch

    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    if name == "auto":
        return torch.device(present[0])
    if name not in present:
        choices = ", ".join(["auto", *present])
        raise ConfigError(f"device = {name!r}: not on this machine; choices here: {choices}")
    return torch.device(name)


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 matrix products run in hardware: elsewhere they are far slower."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())
    return False


def cpu_flags() -> frozenset[str]:
    """Return the instruction-set flags the kernel lists, or an empty set where it lists none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    # "Features" on ARM
    listed = (line for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, "").split()[2:])


def worker_variables(num_threads: int) -> dict[str, str]:
    """Return the environment that a training process has to be started with.

    Threads: numerical libraries read their number once, when they are loaded.

    Memory: glibc gives every large block back to the kernel when it is freed, and takes it anew,
    page by page, for the next activation of the same size. Told to keep what it has, and to ask
    for huge pages, a training step on a CPU is 15 % faster (tests/benchmarks/LOG.md). Other
    allocators do not read these names.
    """
    threads = (
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
        "VECLIB_MAXIMUM_THREADS",  # Apple's Accelerate
    )
    return dict.fromkeys(threads, str(num_threads)) | {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**40),
        "MALLOC_TOP_PAD_": str(64 * 2**20),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }


def fingerprint(
    *, device: str = "cpu", dtype: str = "float32", num_threads: int | None = None
) -> dict[str, Any]:
    """Describe what numbers depend on besides the config: code, command, versions, machine.

    Holds no host name and no absolute path, so that it can be committed.
    """
    from importlib import metadata  # 10 ms, which the help does without

    versions = {}
    for package in FINGERPRINTED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    description = {
        **_commit(),
        "command_line": ["hw2", *map(_without_folders, sys.argv[1:])],
        "hw2": __version__,
        "python": platform.python_version(),
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": num_cores(),
        "memory_bytes": _memory_bytes(),
        "device": device,
        "threads": num_threads or num_cores(),
        "dtype": dtype,
    }
    if device == "mps":
        description["gpu"] = f"{description['cpu']} GPU"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():  # a cluster's, and this machine only submits to it
            return description
        description["gpu"] = torch.cuda.get_device_name()
        description["cuda"] = torch.version.cuda
        if dtype == "bfloat16" and not has_fast_bf16(torch.device(device)):
            description["bfloat16"] = "emulated"
    return description


def _without_folders(argument: str) -> str:
    """Keep the last part of an absolute path: folders of a machine are nobody else's business."""
    flag, equals, value = argument.rpartition("=")
    return flag + equals + (Path(value).name if Path(value).is_absolute() else value)


CODE = (".", "../configs", "../pyproject.toml")
"""What a run's numbers come from, as seen from this folder."""


def _commit() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        here = Path(__file__).parent
        try:
            # GIT_OPTIONAL_LOCKS: asking must not get in the way of the user's own git.
            done = subprocess.run(
                ["git", "-C", str(here), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed wheel may lie inside somebody else's repository: only our own counts.
    if not git("ls-files", "runtime.py"):
        return {"commit": None, "dirty": None}
    # Results and data that lie untracked in the clone do not change what was run.
    dirty = git("status", "--porcelain", "--", *CODE)
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if dirty is None else bool(dirty)}


# Flags of Linux, the widest vectors first, and what people call them.
WIDEST = (
    ("amx_bf16", "AMX"),
    ("avx512_bf16", "AVX512-BF16"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                flags = sorted({flag for flag, _ in WIDEST} & cpu_flags())
                return f"{name} ({', '.join(flags)})"
    except OSError:
        pass
    if sys.platform == "darwin" and (
        name := _output_of("sysctl", "-n", "machdep.cpu.brand_string")
    ):
        return name  # "Apple M2"; platform.processor() is "arm" for all of them
    return platform.processor() or platform.machine()


def _output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def short_cpu_name(name: str) -> str:
    """Return a processor as :func:`fingerprint` names it, with its widest vectors alone.

    ``AMD EPYC (avx2, avx512_bf16, avx512f)`` becomes ``AMD EPYC with AVX512-BF16``.
    """
    model, _, flags = name.removesuffix(")").partition(" (")
    present = set(flags.split(", "))
    return next((f"{model} with {word}" for flag, word in WIDEST if flag in present), model)


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None

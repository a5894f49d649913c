"""Where a run happens: device, precision, threads, and the fingerprint stored beside its numbers.

Nothing here imports torch before a function needs it: the command line's help and ``hw2 status``
answer without it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    "sympy",
    "safetensors",
    "pydantic",
)


def num_cores() -> int:
    """Count the CPU cores this process may use (a SLURM job often gets fewer than the node has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    return frozenset(next((x for x in lines if x.startswith("flags")), "").split()[2:])


def worker_variables(num_threads: int) -> dict[str, str]:
    """Return the environment that a training process has to be started with.

    Threads: numerical libraries read their number once, when they are loaded.

    Memory: glibc gives every large block back to the kernel when it is freed, and takes it anew,
    page by page, for the next activation of the same size. Told to keep what it has, and to ask
    for huge pages, a training step on a CPU is 15 % faster (tests/benchmarks/LOG.md). Other
    allocators do not read these names.
    """
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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
    versions = {}
    for package in FINGERPRINTED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    description = {
        **_commit(),
        "command_line": ["hw2", *map(_without_folders, sys.argv[1:])],
        "hw2": metadata.version("hw2"),
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
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():  # a cluster's, and this machine only submits to it
            return description
        description["gpu"] = torch.cuda.get_device_name()
        description["cuda"] = torch.version.cuda
    return description


def _without_folders(argument: str) -> str:
    """Keep the last part of an absolute path: folders of a machine are nobody else's business."""
    flag, equals, value = argument.rpartition("=")
    return flag + equals + (Path(value).name if Path(value).is_absolute() else value)


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
    dirty = git("status", "--porcelain", "--", "..", ":!../results")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if dirty is None else bool(dirty)}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                flags = sorted({"avx2", "avx512f", "avx512_bf16", "amx_bf16"} & cpu_flags())
                return f"{name} ({', '.join(flags)})"
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None

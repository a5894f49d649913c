"""What a run computes with: its device, and what its processes are started with.

Nothing here imports torch before a function needs it: help and ``hw2 status`` work without it.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING

from hwcli import processor
from hwcli.errors import ConfigError

if TYPE_CHECKING:
    import torch


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
        return bool({"avx512_bf16", "amx_bf16"} & processor.cpu_flags())
    return False


def worker_variables(num_threads: int) -> dict[str, str]:
    """Return the environment that a training process has to be started with.

    Threads: numerical libraries read their number once, when they are loaded.

    Memory: glibc gives every large block back to the operating system when it is freed, and takes
    it anew, page by page, for the next activation of the same size. Told to keep what it has, and
    to ask for huge pages, a training step on a CPU is 15 % faster (tests/benchmarks/LOG.md). Other
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


def return_freed_memory() -> None:
    """Give freed memory back to the system, where the allocator keeps it (glibc); else nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

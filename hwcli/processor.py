"""The processor: its name, and the instructions that it has."""

import platform
import sys

from hwcli import system

# Flags of Linux, the widest vectors first, and what people call them.
WIDEST = (
    ("amx_bf16", "AMX"),
    ("avx512_bf16", "AVX512-BF16"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
)


def cpu_flags() -> frozenset[str]:
    """Return the instruction-set flags the kernel lists, or an empty set where it lists none."""
    lines = system.text_of("/proc/cpuinfo").splitlines()
    # "Features" on ARM
    listed = (line for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, "").split()[2:])


def cpu_name() -> str:
    """Return the processor's name; on Linux with its widest vectors: ``AMD EPYC (avx2)``."""
    for line in system.text_of("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            flags = sorted({flag for flag, _ in WIDEST} & cpu_flags())
            return f"{name} ({', '.join(flags)})"
    if sys.platform == "darwin" and (
        name := system.output_of("sysctl", "-n", "machdep.cpu.brand_string")
    ):
        return name  # "Apple M2"; platform.processor() is "arm" for all of them
    return platform.processor() or platform.machine()


def short_cpu_name(name: str) -> str:
    """Return a processor as :func:`cpu_name` names it, with its widest vectors alone.

    ``AMD EPYC (avx2, avx512_bf16, avx512f)`` becomes ``AMD EPYC with AVX512-BF16``.
    """
    model, _, flags = name.removesuffix(")").partition(" (")
    present = set(flags.split(", "))
    return next((f"{model} with {word}" for flag, word in WIDEST if flag in present), model)

"""Holding a benchmark to a processor's instructions, so that a server shows what a laptop would.

hw2's kernels are compiled for them, and torch, oneDNN and MKL are told to use no others.
"""

import os
import sys
from dataclasses import dataclass, field, replace

from hwcli import processor


@dataclass(frozen=True)
class Isa:
    """What holds a process, and those that it starts, to a processor's instructions."""

    variables: dict[str, str] = field(default_factory=dict)
    # Beginnings of the processor's flags that are not to be seen.
    without: tuple[str, ...] = ()
    compiler: bool = True


ISAS = {
    "native": Isa(),
    "avx512": Isa(
        {
            "HW2_MARCH": "skylake-avx512",
            "ATEN_CPU_CAPABILITY": "avx512",
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
            "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        },
        without=("avx512_bf16", "avx512_fp16", "amx"),
    ),
    "avx2": Isa(
        {
            "HW2_MARCH": "haswell",
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        },
        without=("avx512", "avx_vnni", "amx"),
    ),
    "none": Isa(compiler=False),
}
ISAS["none-avx2"] = replace(ISAS["avx2"], compiler=False)


def hold_to(name: str) -> None:
    """Hide what the instructions do not have from hw2, before it first looks at the processor."""
    flags = frozenset(f for f in processor.cpu_flags() if not f.startswith(ISAS[name].without))
    processor.cpu_flags = lambda: flags


def restart_with(name: str) -> None:
    """Run this program again from its beginning where torch, once imported, has other settings."""
    variables = ISAS[name].variables
    if any(os.environ.get(variable) != value for variable, value in variables.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **variables})

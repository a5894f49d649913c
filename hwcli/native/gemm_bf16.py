"""What the kernels that multiply bfloat16 matrices in tiles (gemm_bf16.h) have in common."""

import ctypes
import functools

import torch

from hwcli import runtime
from hwcli.errors import KernelError
from hwcli.native import compiler

MULTIPLY_BF16 = frozenset({"__AVX512BF16__", "__AMX_BF16__"})


@functools.cache
def usable() -> bool:
    """Tell whether the processor and its compiler multiply bfloat16 in hardware."""
    if not runtime.has_fast_bf16(torch.device("cpu")):
        return False
    try:
        # Without either, products are emulated: right, and slower than float32.
        if MULTIPLY_BF16.isdisjoint(compiler.find_compiler().macros):
            return False
        library("newton_schulz.cpp", HW2_ELEMENT="uint16_t")
    except KernelError:
        return False
    return True


@functools.cache
def library(source: str, **constants: int | str) -> ctypes.CDLL:
    """Compile a source that includes gemm_bf16.h for the best that system and processor offer.

    Raises:
        KernelError: as ``compiler.library``.
    """
    texts = {name: str(number) for name, number in constants.items()}
    made = compiler.library(source, **texts)
    # A system may keep the tile registers from its processes.
    return made if made.tiles_are_given() else compiler.library(source, **texts, NO_TILES="1")

"""What the kernels that multiply bfloat16 matrices in tiles (gemm_bf16.h) have in common."""

import ctypes
import functools

import torch

from hwcli import runtime
from hwcli.errors import KernelError
from hwcli.native import compiler


@functools.cache
def usable() -> bool:
    """Tell whether the processor and its compiler multiply bfloat16 in hardware."""
    if not runtime.has_fast_bf16(torch.device("cpu")):
        return False
    try:
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

"""Muon's orthogonalisation by newton_schulz.cpp: the iteration's products without a call each.

Shapes: L matrices of R rows and C columns.
"""

import ctypes

import torch
from torch import Tensor

from hwcli.native import compiler, gemm_bf16

# What the source calls a type, and what rows and columns must be multiples of in it.
ELEMENTS = {torch.float32: ("float", 16), torch.bfloat16: ("uint16_t", 32)}
# Beyond this a matrix and what is computed of it are far larger than a second-level cache.
MOST_COLUMNS = 1024


def fits(matrices: Tensor) -> bool:
    """Tell whether the kernel is in use and is for such matrices, (L, R, C)."""
    if not compiler.in_use() or matrices.device.type != "cpu" or matrices.dtype not in ELEMENTS:
        return False
    if matrices.dtype == torch.bfloat16 and not gemm_bf16.usable():
        return False
    _, unit = ELEMENTS[matrices.dtype]
    _, R, C = matrices.shape
    return R <= C <= MOST_COLUMNS and R % unit == C % unit == 0


def iterate(matrices: Tensor, num_steps: int, coefficients: tuple[float, float, float]) -> Tensor:
    """Return X after steps of X <- a X + (b A + c A^2) X, A = X X^T: (L, R, C) -> (L, R, C).

    Threads share out the matrices: their number changes nothing.
    """
    L, R, C = matrices.shape
    X = matrices.clone(memory_format=torch.contiguous_format)
    element, _ = ELEMENTS[matrices.dtype]
    gemm_bf16.library("newton_schulz.cpp", HW2_ELEMENT=element).newton_schulz(
        ctypes.c_void_p(X.data_ptr()),
        *map(ctypes.c_long, (L, R, C, num_steps)),
        *map(ctypes.c_float, coefficients),
        ctypes.c_long(compiler.num_threads()),
        compiler.parallel(),
    )
    return X

"""Muon's orthogonalisation by newton_schulz.cpp: the iteration's products without a call each.

Shapes: L matrices of R rows and C columns.
"""

import ctypes

import torch
from torch import Tensor

from hwcli.native import compiler

ELEMENTS = {torch.float32: "float", torch.bfloat16: "uint16_t"}
# Beyond this a matrix and what is computed of it are far larger than a second-level cache.
MOST_COLUMNS = 1024


def fits(matrices: Tensor) -> bool:
    """Tell whether the kernel is in use and is for such matrices, (L, R, C)."""
    _, R, C = matrices.shape
    return (
        compiler.in_use()
        and matrices.device.type == "cpu"
        and matrices.dtype in ELEMENTS
        and R <= C <= MOST_COLUMNS
        and R % 16 == C % 16 == 0
    )


def iterate(matrices: Tensor, num_steps: int, coefficients: tuple[float, float, float]) -> Tensor:
    """Return X after steps of X <- a X + (b A + c A^2) X, A = X X^T: (L, R, C) -> (L, R, C).

    Threads share out the matrices: their number changes nothing.
    """
    L, R, C = matrices.shape
    X = matrices.clone(memory_format=torch.contiguous_format)
    kernel = compiler.library(
        "newton_schulz.cpp",
        HW2_ROWS=str(R),
        HW2_COLUMNS=str(C),
        HW2_ELEMENT=ELEMENTS[matrices.dtype],
    )
    kernel.newton_schulz(
        ctypes.c_void_p(X.data_ptr()),
        *map(ctypes.c_long, (L, num_steps)),
        *map(ctypes.c_float, coefficients),
        ctypes.c_long(torch.get_num_threads()),
        compiler.parallel(),
    )
    return X

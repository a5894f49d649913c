"""Muon's orthogonalisation by newton_schulz.cpp: the iteration's products without a call each.

Shapes: L matrices of R rows and C columns.
"""

import ctypes

import torch
from torch import Tensor

from hwcli.native import compiler, gemm_bf16


def fits(matrices: Tensor) -> bool:
    """Tell whether the kernel is in use and is for such matrices, (L, R, C)."""
    _, R, C = matrices.shape
    return (
        compiler.in_use()
        and gemm_bf16.usable()
        and matrices.device.type == "cpu"
        and matrices.dtype == torch.bfloat16
        and R <= C
        and R % 32 == C % 32 == 0
    )


def iterate(matrices: Tensor, num_steps: int, coefficients: tuple[float, float, float]) -> Tensor:
    """Return X after steps of X <- a X + (b A + c A^2) X, A = X X^T: (L, R, C) -> (L, R, C)."""
    L, R, C = matrices.shape
    X = matrices.clone(memory_format=torch.contiguous_format)
    gemm_bf16.library("newton_schulz.cpp", R=R, C=C).orthogonalize(
        ctypes.c_void_p(X.data_ptr()),
        *map(ctypes.c_long, (L, num_steps)),
        *map(ctypes.c_float, coefficients),
    )
    return X

"""Every error that simd.h and layer_parts.h state is held here."""

import ctypes
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hwcli.native import compiler

pytestmark = pytest.mark.skipif(
    compiler.reason_against() is not None, reason=str(compiler.reason_against())
)

FUNCTIONS = ("exponential", "power_of_two", "rough_power_of_two", "rough_reciprocal", "gelu",
             "rough_gelu", "elu_plus_one", "rough_elu_plus_one", "sum", "largest")  # fmt: skip
NUM_POINTS = 2**20


def library() -> ctypes.CDLL:
    return compiler.library(str(Path(__file__).with_name("elementary.cpp")))


def pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def apply(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and, of GELU, slopes in float64."""
    y, slopes = torch.empty_like(x), torch.empty_like(x)
    which, n = ctypes.c_int(FUNCTIONS.index(name)), ctypes.c_long(len(x))
    library().apply(which, pointer(x), pointer(y), pointer(slopes), n)
    return y.double(), slopes.double()


def points(least: float, most: float) -> Tensor:
    return torch.linspace(least, most, NUM_POINTS)


def relative(got: Tensor, expected: Tensor) -> float:
    return float(((got - expected) / expected).abs().max())


def test_powers_are_as_near_as_is_said() -> None:
    x = points(-80, 88)
    assert relative(apply("exponential", x)[0], x.double().exp()) < 2e-7
    x = points(-100, 127)
    assert relative(apply("power_of_two", x)[0], x.double().exp2()) < 3e-7
    assert relative(apply("rough_power_of_two", x)[0], x.double().exp2()) < 8e-5
    x = points(1, 1000)
    assert relative(apply("rough_reciprocal", x)[0], 1 / x.double()) < 6e-5


@pytest.mark.parametrize("name", ["exponential", "power_of_two", "rough_power_of_two"])
def test_powers_far_below_stay_small_and_normal_and_nan_stays_one(name: str) -> None:
    x = torch.full((16,), -1000.0)
    x[3], x[5] = -math.inf, math.nan
    y, _ = apply(name, x)
    assert y[5].isnan()
    rest = torch.cat([y[:5], y[6:]])
    assert (rest > 1e-37).all()
    assert (rest < 1e-29).all()


@pytest.mark.parametrize(
    ("name", "error", "error_of_slope"), [("gelu", 3e-7, 3e-7), ("rough_gelu", 5e-5, 1e-4)]
)
def test_gelu_and_its_slope_are_as_near_as_is_said(
    name: str, error: float, error_of_slope: float
) -> None:
    x = points(-20, 20)
    u = x.double()
    area = 0.5 * torch.erfc(-u / math.sqrt(2))
    density = (-u * u / 2).exp() / math.sqrt(2 * math.pi)
    values, slopes = apply(name, x)
    size = 1 + u.abs()
    assert ((values - u * area).abs() < error * size).all()
    assert ((slopes - (area + u * density)).abs() < error_of_slope * size).all()
    assert apply(name, torch.full((16,), math.nan))[0].isnan().all()


@pytest.mark.parametrize(("name", "error"), [("elu_plus_one", 2e-7), ("rough_elu_plus_one", 1e-4)])
def test_elu_plus_one_is_as_near_as_is_said(name: str, error: float) -> None:
    x = points(-8, 8)
    expected = torch.where(x > 0, x.double() + 1, x.double().exp())
    assert relative(apply(name, x)[0], expected) < error


def test_every_lane_becomes_the_sum_or_the_largest() -> None:
    lanes = library().num_lanes()
    x = torch.randperm(16).float()
    rows = x.view(-1, lanes)
    sums, _ = apply("sum", x)
    assert torch.equal(sums.view(-1, lanes), rows.double().sum(1, keepdim=True).expand(-1, lanes))
    tops, _ = apply("largest", x)
    assert torch.equal(tops.view(-1, lanes), rows.double().amax(1, keepdim=True).expand(-1, lanes))


def test_rows_become_columns() -> None:
    x = torch.randn(32, 32)
    y = torch.empty_like(x)
    library().turn(pointer(x), pointer(y), 32)
    assert torch.equal(y, x.T)


def test_rounding_to_bfloat16_is_torchs() -> None:
    x = torch.randn(4096) * torch.logspace(-30, 30, 4096)
    x[:4] = torch.tensor([math.nan, math.inf, -math.inf, 1 + 2**-8])  # the last one is a tie
    y = torch.empty(4096, dtype=torch.bfloat16)
    library().to_bfloat16(pointer(x), pointer(y), ctypes.c_long(4096))
    torch.testing.assert_close(y, x.bfloat16(), rtol=0, atol=0, equal_nan=True)

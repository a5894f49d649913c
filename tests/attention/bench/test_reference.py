from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hwcli.attention.bench import reference
from hwcli.attention.bench.cases import METHODS, Case, MethodName, methods_for
from hwcli.attention.bench.reference import check, tolerance
from hwcli.native import linear_attention as native
from tests.attention.reference import MAPS


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("T", "D"), [(1, 1), (67, 5), (7, 1)])
def test_every_method_passes(dtype: str, name: Any, causal: bool, T: int, D: int) -> None:
    case = Case(METHODS[0], T, causal=causal, feature_map=name, B=2, H=3, D=D, dtype=dtype)
    checks = check(case, methods_for(causal))
    assert set(checks) == set(methods_for(causal))
    assert {method for method, found in checks.items() if not found.passed} == set()


@pytest.mark.skipif(
    native.reason_against(5, torch.float32) is not None,
    reason=str(native.reason_against(5, torch.float32)),
)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_compiled_kernels_pass(dtype: str, name: Any, causal: bool) -> None:
    for T in (1, 7, 67, 2051):
        case = Case(
            METHODS[0], T, causal=causal, feature_map=name, H=2, D=5, dtype=dtype, compiled=True
        )
        method: MethodName = "linear-chunked" if causal else "linear"
        assert check(case, [method])[method].passed


@pytest.mark.parametrize("method", METHODS[:4])
@pytest.mark.parametrize("name", MAPS)
def test_a_wrong_method_does_not_pass(
    method: MethodName, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sum that leaves one of 67 tokens out, which signed weights hide best."""
    right = reference.attend

    def forgetful(case: Case, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k = k.clone()
        k[..., -1, :] = 0
        return right(case, q, k, v)

    monkeypatch.setattr(reference, "attend", forgetful)
    case = Case(method, 67, feature_map=name, D=5)
    found = check(case, [method])[method]
    assert not found.passed
    assert found.error > 30 * tolerance(case)


def test_what_is_left_out_is_recorded_for_each_number_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reference, "GATE_LENGTHS", (1, 7))
    # At T = 7 the running sums of two heads hold 2 · (4 · 7 · 5 + 4 · 7 · 25) numbers: 6,720 bytes
    # in float32 and 13,440 in float64. No other method needs as much.
    monkeypatch.setattr(reference, "GATE_BYTES", 10_000)
    gate = reference.run_gate(Case("linear", 7, feature_map="elu1", D=5))
    assert all(entry.passed for entry in gate)
    left_out = {
        (entry.method, entry.causal): (entry.skipped, entry.skipped_float64)
        for entry in gate
        if entry.skipped or entry.skipped_float64
    }
    assert left_out == {("linear", True): ((), (7,))}


def test_what_is_not_a_number_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "attend", lambda case, q, k, v: q + k + v / 0)
    assert not check(Case("linear", 7, D=2), ["linear"])["linear"].passed


def test_the_tolerance_is_that_of_the_dtype() -> None:
    case = Case("linear", 100, dtype="float64")
    assert tolerance(case) == pytest.approx(116 * 2.2e-16, rel=0.01)
    # bfloat16 rounds what it keeps, but its sums are float32's
    assert tolerance(replace(case, dtype="bfloat16")) == pytest.approx(16 * 2**-7, rel=0.01)

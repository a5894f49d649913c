import time

import pytest
import torch

from hwcli.attention.bench import cost, measure
from hwcli.attention.bench.cases import Case
from hwcli.native import linear_attention as native


def test_percentiles_worked_by_hand() -> None:
    times = measure.summarize([5.0, 1.0, 2.0, 4.0, 3.0, 6.0])
    assert (times.median_s, times.p20_s, times.p80_s) == (3.5, 2.0, 5.0)


def test_calls_are_timed_in_turns() -> None:
    order = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    times = measure.time_in_turns(
        {"short": lambda: call("short", 0.01), "long": lambda: call("long", 0.06)},
        threads=1,
        estimates_s={"short": 0.01, "long": 2.0},
    )
    assert times["short"].median_s == pytest.approx(0.01, rel=0.5)
    assert times["long"].p20_s >= 0.06
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ["short", "long"] * measure.ROUNDS_OF_LONG_CALLS + ["short"]


@pytest.mark.skipif("VmHWM" not in measure.memory_gauge("cpu"), reason="needs Linux's /proc")
@pytest.mark.slow
def test_peak_memory_is_what_the_cost_model_says() -> None:
    has_kernels = native.reason_against(64, torch.float32) is None
    for case in (
        Case("softmax-naive", 2048),
        Case("softmax-naive", 4096, "forward+backward", D=8),
        Case("linear-quadratic", 2048, feature_map="elu1"),
        Case("linear", 32768, feature_map="elu1"),
        Case("linear", 65536, "forward+backward", feature_map="softmax"),
        Case("linear", 65536, "forward+backward", compiled=has_kernels),
        Case("linear-chunked", 65536, "forward+backward", causal=True, compiled=has_kernels),
        # What heads share is held once.
        Case("softmax-naive", 1024, causal=True, B=2, H=4),
        Case("linear", 8192, "forward+backward", feature_map="softmax", H=8),
        Case("linear-chunked", 4096, "forward+backward", causal=True, B=2, H=8),
    ):
        got = measure.peak_memory_bytes(case, threads=1)
        assert got == pytest.approx(cost.peak_bytes(case), rel=0.15, abs=6 * 2**20)


def test_what_does_not_fit_fails_in_its_own_process() -> None:
    with pytest.raises(measure.OutOfMemoryError):
        measure.peak_memory_bytes(Case("softmax-naive", 2**23, D=1), threads=1)  # 512 TiB


def test_the_machine_has_limits() -> None:
    assert measure.available_memory_bytes("cpu") > 2**28

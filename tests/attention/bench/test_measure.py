import os
import signal
import sys
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
    assert times["short"].median_s >= 0.01
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


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
        RuntimeError("Invalid buffer size: 64.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_call_that_runs_out_of_memory_is_left_out(error: RuntimeError | MemoryError) -> None:
    calls = 0

    def greedy() -> None:
        nonlocal calls
        calls += 1
        raise error

    told: dict[str, str] = {}
    times = measure.time_in_turns(
        {"greedy": greedy, "modest": lambda: None},
        threads=1,
        rounds=2,
        on_out_of_memory=told.__setitem__,
    )
    assert list(times) == ["modest"]
    assert told == {"greedy": str(error) or "MemoryError"}
    assert calls == 1
    with pytest.raises(type(error)):
        measure.time_in_turns({"greedy": greedy}, threads=1)


def test_another_error_of_a_call_is_raised() -> None:
    def wrong() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measure.time_in_turns({"wrong": wrong}, threads=1, on_out_of_memory=lambda *_: None)


def crash(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_crash_is_named_and_is_not_said_to_be_want_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "_measure", crash)
    with pytest.raises(measure.MeasurementError, match="ended by SIGSEGV") as caught:
        measure.peak_memory_bytes(Case("linear", 8), threads=1)
    assert not isinstance(caught.value, measure.OutOfMemoryError)


@pytest.mark.parametrize(
    ("code", "is_out_of_memory", "words"),
    [
        (-signal.SIGKILL, True, "the process was killed"),
        (-signal.SIGABRT, False, "the process was ended by SIGABRT"),
        (-99, False, "the process was ended by signal 99"),
        (3, False, "the process ended with exit code 3"),
    ],
)
def test_a_process_that_gives_no_answer_has_its_ending_told(
    code: int, is_out_of_memory: bool, words: str
) -> None:
    ending = measure._ending(code)
    assert isinstance(ending, measure.OutOfMemoryError) == is_out_of_memory
    assert str(ending) == words


@pytest.mark.parametrize(("system", "method"), [("linux", "forkserver"), ("darwin", "spawn")])
def test_on_a_mac_no_process_that_used_apples_libraries_is_forked(
    system: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert measure._process_context().get_start_method() == method


def test_the_machine_has_limits() -> None:
    assert measure.available_memory_bytes("cpu") > 2**28

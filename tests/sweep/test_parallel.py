"""How many trials train at a time, and on how many threads."""

from typing import Any, Literal

import pytest

from hwcli import resources
from hwcli.sweep.launcher import LauncherConfig
from hwcli.sweep.parallel import Parallel

NEEDS = 800 * 10**6


def parallel(
    num_trials: int,
    jobs: int | Literal["auto"] = "auto",
    *,
    on_gpu: bool = False,
    most_threads: int = 8,
    **launcher: Any,
) -> Parallel:
    return Parallel.of_sweep(
        jobs,
        LauncherConfig(**launcher),
        num_in_sweep=num_trials,
        most_threads=most_threads,
        worker_bytes=NEEDS,
        on_gpu=on_gpu,
    )


@pytest.fixture(autouse=True)
def seven_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "num_cores", lambda: 7)
    monkeypatch.setattr(resources, "free_memory_bytes", lambda: 100 * 2**30)


def test_a_grid_trains_a_trial_on_each_core(capsys: pytest.CaptureFixture[str]) -> None:
    assert parallel(15) == Parallel(num_trials=7, num_threads=1)
    assert str(parallel(15)) == "7 trials train at a time."
    assert capsys.readouterr().err == ""


def test_cores_without_a_trial_of_their_own_help_the_others() -> None:
    assert parallel(1) == Parallel(num_trials=1, num_threads=7)
    assert str(parallel(1)) == "1 trial trains at a time, on 7 threads."
    assert parallel(3) == Parallel(num_trials=3, num_threads=2)
    assert str(parallel(3)) == "3 trials train at a time, on 2 threads each."
    assert parallel(15, jobs=2) == Parallel(num_trials=2, num_threads=3)
    assert parallel(15, jobs=20) == Parallel(num_trials=15, num_threads=1)


def test_where_memory_is_short_fewer_trials_have_more_threads_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = resources.DRIVER_BYTES + 3 * NEEDS + 1
    monkeypatch.setattr(resources, "free_memory_bytes", lambda: free)
    assert parallel(15) == Parallel(num_trials=3, num_threads=2)
    assert "jobs: 3 in parallel instead of 7: free memory holds no more" in capsys.readouterr().err
    assert parallel(15, jobs=5) == Parallel(num_trials=5, num_threads=1)
    assert parallel(2) == Parallel(num_trials=2, num_threads=3)
    assert capsys.readouterr().err == ""


def test_threads_are_as_many_as_the_user_says() -> None:
    assert parallel(1, cpus=2) == Parallel(num_trials=1, num_threads=2)
    assert parallel(15, cpus=2) == Parallel(num_trials=3, num_threads=2)
    assert parallel(1, cpus=20) == Parallel(num_trials=1, num_threads=7)
    # Those that a trial cannot use are not kept free for it.
    assert parallel(15, cpus=3, most_threads=1) == Parallel(num_trials=7, num_threads=1)
    assert parallel(15, jobs=5, cpus=2) == Parallel(num_trials=5, num_threads=2)
    assert parallel(15, kind="slurm") == Parallel(num_trials=15, num_threads=1)
    assert parallel(15, jobs=4, kind="ray", cpus=6) == Parallel(num_trials=4, num_threads=6)


def test_a_trial_gets_no_more_threads_than_it_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "num_cores", lambda: 64)
    assert parallel(1).num_threads == 8
    assert parallel(1, most_threads=1) == Parallel(num_trials=1, num_threads=1)
    assert parallel(15, on_gpu=True, most_threads=1) == Parallel(num_trials=1, num_threads=1)


def test_a_dry_run_knows_that_two_hardware_threads_share_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four cores with two hardware threads each."""
    monkeypatch.setattr(resources, "slowdown_of_sharing", lambda busy: max(1.0, busy / 4))
    assert Parallel(num_trials=1, num_threads=8).slowdown() == 1
    assert Parallel(num_trials=2, num_threads=4).slowdown() == 2
    assert Parallel(num_trials=8, num_threads=1).slowdown() == 2
    assert Parallel(num_trials=3, num_threads=1).slowdown() == 1

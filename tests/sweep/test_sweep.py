import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from hwcli import resources
from hwcli.errors import LauncherError
from hwcli.sweep import workers as workers_module
from hwcli.sweep.runner import Outcome, run_trials
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from hwcli.sweep.workers import Workers
from tests.sweep.toy_trials import is_broken, toy, toy_trial


def sweep(path: Path, *trials: Trial, num_workers: int = 2, **more: bool) -> list[Outcome]:
    return run_trials(trials, toy_trial, TrialStore(path), num_workers=num_workers, **more)


def test_what_decides_the_numbers_decides_the_identity_and_nothing_else() -> None:
    trial = toy(3)
    assert trial.id == toy(3).id
    same = Trial(trial.config, {"other": 1}, trial.facts, cost=9.0)
    assert same.id == trial.id
    assert Trial(trial.config, trial.label, {"recipe": 2}, trial.cost).id != trial.id
    assert toy(3, num_steps=4).id != trial.id


def test_every_trial_is_done_once_and_reused_after(tmp_path: Path) -> None:
    trials = [toy(n) for n in (2, 3, 5)]
    outcomes = sweep(tmp_path, *trials)
    assert [o.trial for o in outcomes] == trials
    assert [o.result and o.result["square"] for o in outcomes] == [4, 9, 25]
    assert {o.result and o.result["threads"] for o in outcomes} == {"1"}
    assert not any(o.reused for o in outcomes)
    wider = sweep(tmp_path, *trials, toy(7), num_workers=1)
    assert [o.reused for o in wider] == [True, True, True, False]
    steps = TrialStore(tmp_path).folder(trials[0]).path / "steps.txt"
    assert steps.read_text() == "0\n1\n2\n"


def test_a_failed_trial_is_an_outcome_with_reason_and_log(tmp_path: Path) -> None:
    outcomes = sweep(tmp_path, toy(2), toy(3, behaviour="raise"), toy(5))
    assert [o.status for o in outcomes] == ["done", "failed", "done"]
    failed = outcomes[1]
    assert failed.reason == "ValueError: told to"
    log = Path(failed.log or "").read_text()
    assert "about to fail" in log
    assert "Traceback" in log


def test_who_shares_the_folder_may_write_every_file_of_a_trial(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    before = os.umask(0o077)
    try:
        sweep(tmp_path, toy(3, behaviour="raise"))
    finally:
        os.umask(before)
    files = list(tmp_path.rglob("*"))
    assert {"log.txt", "failure.json"} < {path.name for path in files}
    assert [path.name for path in files if not path.stat().st_mode & stat.S_IWGRP] == []


def test_a_failed_trial_is_kept_until_a_retry_is_asked_for(tmp_path: Path) -> None:
    trial = toy(3, behaviour="raise")
    sweep(tmp_path, trial)
    again = sweep(tmp_path, trial)
    assert (again[0].status, again[0].reused) == ("failed", True)
    retried = sweep(tmp_path, trial, retry_failed=True)
    assert (retried[0].status, retried[0].reused) == ("failed", False)


def test_a_worker_that_dies_is_replaced_and_its_trial_goes_on(tmp_path: Path) -> None:
    trial = toy(3, behaviour="die once", num_steps=5)
    (outcome,) = sweep(tmp_path, trial)
    assert outcome.status == "done"
    steps = TrialStore(tmp_path).folder(trial).path / "steps.txt"
    assert steps.read_text().split() == ["0", "1", "2", "3", "4"]


def test_a_trial_whose_workers_die_without_progress_fails_and_no_other(tmp_path: Path) -> None:
    outcomes = sweep(tmp_path, toy(2), toy(3, behaviour="die"), toy(5))
    assert [o.status for o in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].reason == (
        "its worker died (SIGKILL, perhaps out of memory), 3 times without a new checkpoint"
    )


def test_a_trial_that_comes_further_each_time_may_lose_any_number_of_workers(
    tmp_path: Path,
) -> None:
    trial = toy(3, behaviour="die at every step", num_steps=6)
    (outcome,) = sweep(tmp_path, trial, num_workers=1)
    assert outcome.status == "done"


def test_a_worker_that_the_system_kills_is_replaced_with_fewer_beside_it(tmp_path: Path) -> None:
    reasons = []
    with Workers(toy_trial, TrialStore(tmp_path), num_workers=3) as workers:
        for number in (2, 3, 5, 7):
            workers.submit(toy(number, behaviour="die once", num_steps=3))
        for event in workers.events():
            if event.kind == "restarted":
                reasons.append(event.reason)
        assert len(workers._workers) == 1
    assert [reason.rpartition("; ")[2] for reason in reasons[:2]] == [
        "now 2 trials at a time",
        "now 1 trial at a time",
    ]


def test_a_process_that_a_failed_trial_broke_trains_no_other(tmp_path: Path) -> None:
    trials = [toy(3, behaviour="break the process"), toy(2), toy(5)]
    store = TrialStore(tmp_path)
    with Workers(toy_trial, store, num_workers=1, is_spent=is_broken) as workers:
        for trial in trials:
            workers.submit(trial)
        ends = [event for event in workers.events() if event.kind not in ("started", "progress")]
    assert [(event.trial, event.kind) for event in ends] == [
        (trials[0], "failed"),
        (trials[1], "done"),
        (trials[2], "done"),
    ]
    assert ends[0].reason == "ValueError: told to break it"


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_the_system_lets_no_more_processes_start_fewer_train_or_one_line_says_so(
    allowed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = Workers._spawn

    def limited(workers: Workers) -> Any:
        if len(workers._workers) >= allowed:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return spawn(workers)

    monkeypatch.setattr(Workers, "_spawn", limited)
    refused = pytest.raises(LauncherError, match=r"^no worker can be started \(Resource temp")
    with nullcontext() if allowed else refused:
        outcomes = sweep(tmp_path, toy(2), toy(3), num_workers=2)
        assert [outcome.status for outcome in outcomes] == ["done", "done"]


@pytest.mark.parametrize(
    ("free", "before", "after"),
    [
        (2 * resources.DRIVER_BYTES, "0", "500"),
        (20 * resources.DRIVER_BYTES, "200", "250"),
        (0, "0", "1000"),
        (resources.DRIVER_BYTES, "-500", "500"),
        (None, "7", "7"),
    ],
)
def test_a_system_out_of_memory_ends_a_worker_before_the_driver(
    free: int | None, before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "free_memory_bytes", lambda: free)
    score = tmp_path / "oom_score_adj"
    workers_module._be_killed_first(score)  # no such file: not Linux
    assert not score.exists()
    score.write_text(before)
    workers_module._be_killed_first(score)
    assert score.read_text() == after


def test_fail_fast_leaves_the_rest_missing(tmp_path: Path) -> None:
    slow = [toy(n, step_s=0.2, num_steps=50) for n in (1, 2)]
    outcomes = sweep(tmp_path, toy(9, behaviour="raise"), *slow, fail_fast=True)
    assert [o.status for o in outcomes] == ["failed", "missing", "missing"]


def test_a_trial_that_another_program_trains_is_waited_for_and_used(tmp_path: Path) -> None:
    trial = toy(3)
    store = TrialStore(tmp_path)
    folder = store.folder(trial)
    folder.prepare(trial)
    kinds = []
    with folder.own(0) as ownership, Workers(toy_trial, store, num_workers=1) as workers:
        assert ownership.taken
        assert folder.state() == "running"
        workers.submit(trial)
        for event in workers.events():
            kinds.append(event.kind)
            if event.kind == "busy":
                folder.finish({"square": 9, "by": "the other"})
    assert kinds == ["started", "busy", "done"]
    assert event.result
    assert event.result["by"] == "the other"


def test_workers_leave_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom hwcli.sweep.runner import run_trials\n"
        "from hwcli.sweep.store import TrialStore\n"
        "from tests.sweep.toy_trials import toy, toy_trial\n"
        "if __name__ == '__main__':\n"
        "    trials = [toy(n, step_s=0.1, num_steps=600) for n in (1, 2)]\n"
        "    run_trials(trials, toy_trial, TrialStore(Path(sys.argv[1])), num_workers=2)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(code)
    store = TrialStore(tmp_path / "trials")
    trials = [toy(n, step_s=0.1, num_steps=600) for n in (1, 2)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, str(script), str(store.path)], env=environment, stderr=subprocess.DEVNULL
    ) as program:
        wait_until(lambda: all(store.folder(t).checkpoint.exists() for t in trials))
        program.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(store.folder(t).is_owned() for t in trials), seconds=15)
    assert all(store.folder(t).state() == "interrupted" for t in trials)


def wait_until(condition: "object", seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_no_worker_outlives_its_sweep(tmp_path: Path) -> None:
    sweep(tmp_path, toy(2), toy(3))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"<<<<<<< HEAD\n{}"]
)
@pytest.mark.parametrize("name", ["result.json", "identity.json"])
def test_a_damaged_result_is_told_and_counts_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    trial = toy(3)
    sweep(tmp_path, trial)
    folder = TrialStore(tmp_path).folder(trial)
    (folder.path / name).write_bytes(content)
    assert folder.state() == "interrupted"
    (outcome,) = sweep(tmp_path, trial)
    assert (outcome.status, outcome.reused) == ("done", False)
    assert f"{name} is damaged; it counts as missing" in capsys.readouterr().err
    assert folder.identity() == trial.identity


def test_a_result_in_another_trials_folder_is_not_used(tmp_path: Path) -> None:
    three, five = toy(3), toy(5)
    sweep(tmp_path, three, five)
    store = TrialStore(tmp_path)
    store.folder(three).path.rename(tmp_path / "aside")
    store.folder(five).path.rename(store.folder(three).path)
    assert store.folder(three).result() is None
    assert sweep(tmp_path, three)[0].result == {"square": 9, "threads": "1"}


def test_epochs_are_stored_as_they_end_also_of_a_trial_that_fails(tmp_path: Path) -> None:
    trial = toy(3, behaviour="fail at the end", num_steps=4)
    (outcome,) = sweep(tmp_path, trial)
    assert outcome.status == "failed"
    folder = TrialStore(tmp_path).folder(trial)
    assert [record["epoch"] for record in folder.epochs()] == [0, 1, 2, 3]
    assert folder.epochs()[1]["valid_accuracy"] == 0.6
    # An epoch that is trained again replaces what was there from it on.
    folder.append_epoch({"epoch": 1, "valid_accuracy": 0.9})
    assert [(r["epoch"], r["valid_accuracy"]) for r in folder.epochs()] == [(0, 0.5), (1, 0.9)]
    folder.metrics.write_bytes(b'5\n{"a": 1}\n{"epoch": 7}\n\xff\n{"epo')
    assert folder.epochs() == [{"epoch": 7}]

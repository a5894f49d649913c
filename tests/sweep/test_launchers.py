"""What the launchers of clusters do by themselves; real clusters are in tests/cluster."""

import os
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwcli.config import RunConfig, build
from hwcli.errors import ConfigError, LauncherError
from hwcli.sweep.clusters.ray import RayTasks
from hwcli.sweep.clusters.remote import RemoteTrials, attempt_here
from hwcli.sweep.launcher import LauncherConfig
from hwcli.sweep.queue import MAX_DEATHS_IN_ONE_PLACE, TrialQueue
from hwcli.sweep.runner import run_trials
from hwcli.sweep.store import TrialStore
from tests.sweep.toy_trials import toy, toy_trial


class ToyRun(RunConfig):
    launcher: LauncherConfig = LauncherConfig()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kind": "pbs"}, "launcher.kind = 'pbs': Input should be 'local', 'slurm' or 'ray'"),
        ({"detach": True}, "launcher.detach = True: only SLURM keeps a queue"),
        ({"kind": "slurm", "gpus": 0.5}, "launcher.gpus = 0.5: SLURM gives whole GPUs only"),
        ({"sbatch": ["account"]}, "launcher.sbatch = 'account': write --option"),
        ({"partiton": "a"}, "unknown key 'launcher.partiton': did you mean 'partition'?"),
    ],
)
def test_a_wrong_option_is_named_with_its_section(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(ToyRun, {"launcher": options})
    assert str(error.value).startswith(line)


@pytest.mark.parametrize(("kind", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_an_extra_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    launcher = LauncherConfig.model_validate({"kind": kind})
    with pytest.raises(LauncherError, match=rf"pip install -e '\.\[{kind}\]'"):
        run_trials([toy(2)], toy_trial, TrialStore(tmp_path), num_workers=1, launcher=launcher)


def test_a_machine_without_slurm_is_told_where_to_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        LauncherError, match="there is no sbatch on this machine; run it on a login"
    ):
        run_trials(
            [toy(2)],
            toy_trial,
            TrialStore(tmp_path),
            num_workers=1,
            launcher=LauncherConfig(kind="slurm"),
        )


def test_what_is_done_needs_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    run_trials([toy(2)], toy_trial, store, num_workers=1)
    monkeypatch.setitem(sys.modules, "ray", None)
    launcher = LauncherConfig(kind="ray")
    (outcome,) = run_trials([toy(2)], toy_trial, store, num_workers=1, launcher=launcher)
    assert outcome.reused


def test_ray_leaves_it_to_the_program_what_kill_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    node = {"Alive": True, "Resources": {"CPU": 1}}
    ray = SimpleNamespace(init=init, nodes=lambda: [node], shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    before = signal.getsignal(signal.SIGTERM)
    launcher = LauncherConfig(kind="ray")
    with RayTasks(toy_trial, TrialStore(tmp_path), launcher, num_workers=1):
        after = signal.signal(signal.SIGTERM, before)
    assert after == before


def attempt_in_a_process(store: TrialStore, number: int, **more: Any) -> None:
    """Attempt a trial as a far worker does: in a process of its own, which may die."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(
        target=attempt_here, args=(toy(number, **more), toy_trial, store.path)
    )
    process.start()
    process.join()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("threads")
def test_messages_are_read_once_each_and_tell_how_it_ended(tmp_path: Path) -> None:
    store, trial = TrialStore(tmp_path), toy(5)
    trials = RemoteTrials(store)
    assert list(trials.new_events(trial)) == []
    trials.prepare(trial)
    attempt_in_a_process(store, 5)
    events = list(trials.new_events(trial))
    assert [e.kind for e in events] == ["started", *["progress"] * 3]
    assert [e.progress and e.progress.epoch for e in events[1:]] == [0, 1, 2]
    assert list(trials.new_events(trial)) == []
    assert trials.last_status[trial.id] == "done"
    event = TrialQueue(store).final_event(trial)
    assert event is not None
    assert event.result is not None
    assert (event.kind, event.result["square"]) == ("done", 25)


@pytest.mark.usefixtures("threads")
def test_a_driver_that_comes_later_reads_the_latest_attempt_only(tmp_path: Path) -> None:
    store, more = TrialStore(tmp_path), {"behaviour": "die once", "num_steps": 3}
    trial = toy(5, **more)
    RemoteTrials(store).prepare(trial)
    attempt_in_a_process(store, 5, **more)  # ends after two steps
    with store.folder(trial).messages.open("a") as file:
        file.write('{"kind": "progr')  # torn by a kill
    attempt_in_a_process(store, 5, **more)
    events = list(RemoteTrials(store).new_events(trial))
    assert [e.progress and e.progress.epoch for e in events] == [None, 2]


@pytest.mark.usefixtures("threads")
def test_a_failure_names_the_machine(tmp_path: Path) -> None:
    store, trial = TrialStore(tmp_path), toy(5, behaviour="raise")
    trials = RemoteTrials(store)
    trials.prepare(trial)
    attempt_in_a_process(store, 5, behaviour="raise")
    event = TrialQueue(store).final_event(trial)
    assert event is not None
    assert event.reason == f"ValueError: told to (on {socket.gethostname()})"
    assert "Traceback" in Path(event.log).read_text()


def test_a_worker_that_does_not_see_the_results_says_so_and_makes_nothing(tmp_path: Path) -> None:
    ending, content = attempt_here(toy(5), toy_trial, tmp_path / "trials")
    assert ending == "failed"
    assert "--out must be a folder that all nodes share" in content["reason"]
    assert not (tmp_path / "trials").exists()


def test_deaths_count_only_where_the_trial_comes_no_further(tmp_path: Path) -> None:
    store, trial = TrialStore(tmp_path), toy(5)
    store.folder(trial).prepare(trial)
    queue = TrialQueue(store)
    for step in range(7):
        store.folder(trial).checkpoint.write_text(str(step))
        os.utime(store.folder(trial).checkpoint, (step, step))
        assert queue.handle_death(trial, "its node is gone").kind == "restarted"
    kinds = [queue.handle_death(trial, "killed").kind for _ in range(MAX_DEATHS_IN_ONE_PLACE - 1)]
    assert kinds == ["restarted", "failed"]
    event = queue.final_event(trial)
    assert event is not None
    assert event.reason == "killed, 3 times without a new checkpoint"

"""Who may train a trial, and how a lost node's trial is taken over."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwcli import machines
from hwcli.errors import OutputError
from hwcli.locks import Lock
from hwcli.output.files import write_atomic
from hwcli.sweep import ownership
from hwcli.sweep.attempt import attempt
from hwcli.sweep.live import LiveView
from hwcli.sweep.ownership import LOST_AFTER_S, Ownership, OwnershipLostError, read_owner
from hwcli.sweep.queue import TrialQueue
from hwcli.sweep.store import TrialFolder, TrialStore
from hwcli.training.progress import Progress
from tests.sweep.toy_trials import toy, toy_trial


def as_another_node(path: Path, age_s: float) -> None:
    """Let the owner be a process of another node that was last heard of so long ago."""
    owner = json.loads((path / "owner.json").read_text())
    another = {"machine": "another node, just started", "host": "another node"}
    (path / "owner.json").write_text(json.dumps({**owner, **another}))
    then = time.time() - age_s
    os.utime(path / "owner.json", (then, then))


def test_the_owner_is_known_without_taking_the_lock(tmp_path: Path) -> None:
    assert read_owner(tmp_path) is None
    with Ownership(tmp_path, 0) as mine:
        assert mine.taken
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.is_alive()
        assert (owner.machine, owner.process) == (machines.machine_id(), os.getpid())
        with Ownership(tmp_path, 0) as other:
            assert not other.taken
        assert read_owner(tmp_path) is not None
    assert read_owner(tmp_path) is None


def test_a_process_that_died_owns_nothing(tmp_path: Path) -> None:
    record = {"machine": machines.machine_id(), "process": os.getpid(), "started": "long ago"}
    (tmp_path / "owner.json").write_text(json.dumps(record))
    owner = read_owner(tmp_path)
    assert owner is not None
    assert not owner.is_alive()
    (tmp_path / "owner.json").write_text("<<<<<<< HEAD")
    assert read_owner(tmp_path) is None


@pytest.mark.parametrize(
    ("host", "alive"),
    [({"host": machines.host_id()}, False), ({"host": "another"}, True), ({}, True)],
)
def test_what_this_machine_trained_before_a_restart_is_dead_at_once(
    tmp_path: Path, host: dict[str, str], alive: bool
) -> None:
    # Without "host": an older version wrote it.
    record = {"machine": "before the restart", "process": os.getpid(), "started": "1", **host}
    (tmp_path / "owner.json").write_text(json.dumps(record))
    then = time.time() - 10
    os.utime(tmp_path / "owner.json", (then, then))
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.is_alive() is alive


def test_another_users_hidden_process_counts_as_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"machine": machines.machine_id(), "process": 2**22 - 1, "started": "12345"}
    (tmp_path / "owner.json").write_text(json.dumps(record))
    owner = read_owner(tmp_path)
    assert owner is not None
    assert not owner.is_alive()

    def refused(process: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert owner.is_alive()


@pytest.mark.parametrize(("age_s", "lost"), [(LOST_AFTER_S - 60, False), (LOST_AFTER_S + 60, True)])
def test_a_lost_nodes_trial_is_taken_over_after_ten_minutes(
    tmp_path: Path, age_s: float, lost: bool
) -> None:
    with Ownership(tmp_path, 0) as first:
        as_another_node(tmp_path, age_s)
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.is_alive() is not lost
        with Ownership(tmp_path, 0) as second:
            assert second.taken is lost
            if lost:
                second.confirm()
                # The first owner comes back after all: it stops, and leaves the second alone.
                with pytest.raises(OwnershipLostError):
                    first.confirm()
                first.close(None)
                assert read_owner(tmp_path) is not None
            else:
                first.confirm()


def test_a_trial_whose_folder_is_moved_away_ends_the_sweep_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwcli.sweep.attempt._write_output_to", lambda path: None)
    folder = TrialFolder(tmp_path / "here" / toy(3).id)

    def moves(config: Any, folder: TrialFolder, on_progress: Any) -> dict[str, Any]:
        (tmp_path / "here").rename(tmp_path / "there")
        on_progress(Progress(1, 3, 1, 3))
        return {}

    ending, content = attempt(toy(3), moves, folder, lambda progress: None)
    assert ending == "unwritable"
    assert content["reason"] == f"{folder.path} is gone: it was moved or deleted meanwhile"
    assert not folder.path.exists()


def test_an_owner_stopped_by_ctrl_z_is_told(tmp_path: Path) -> None:
    trial, store = toy(3), TrialStore(tmp_path)
    folder = store.folder(trial)
    folder.prepare(trial)
    code = (
        "import sys\nfrom pathlib import Path\nfrom hwcli.sweep.ownership import Ownership\n"
        "with Ownership(Path(sys.argv[1]), 0):\n    print('mine', flush=True)\n    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        waiting = TrialQueue(store)
        assert waiting.settle(trial, "busy", {}).reason == ""
        assert not list(waiting.poll_others())
        other.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not machines.is_stopped(other.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        told = [TrialQueue(store).settle(trial, "busy", {}).reason]
        # Who was waiting already is told as well, once.
        told += [event.reason for _ in range(3) for event in waiting.poll_others()]
        other.send_signal(signal.SIGCONT)
        (goes_on,) = waiting.poll_others()
        other.communicate("\n")
        assert goes_on.reason == ""
        assert told == 2 * [f"process {other.pid} is stopped: type fg in its terminal"]


def test_only_one_takes_a_trial_over(tmp_path: Path) -> None:
    with Ownership(tmp_path, 0):
        as_another_node(tmp_path, LOST_AFTER_S + 60)
        guard = Lock(tmp_path / ".takeover")
        assert guard.acquire()
        with Ownership(tmp_path, 0) as second:
            assert not second.taken
        guard.release()
        with Ownership(tmp_path, 0) as third, Ownership(tmp_path, 0) as fourth:
            assert (third.taken, fourth.taken) == (True, False)


def test_the_owner_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "HEARTBEAT_S", 0.01)
    with Ownership(tmp_path, 0) as mine:
        mine.confirm(0.25)
        mine.confirm(0.5)
        os.utime(tmp_path / "owner.json", (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / "owner.json").stat().st_mtime < 1:
            assert time.monotonic() < deadline
        owner = read_owner(tmp_path)
        assert owner is not None
        assert (owner.share_at_start, owner.share) == (0.25, 0.5)


def test_a_heartbeat_that_is_writing_when_the_trial_is_given_back_leaves_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()
    mine = Ownership(tmp_path, 0)

    def slow(path: Path, content: str, *, durable: bool) -> None:
        if threading.current_thread() is not threading.main_thread():
            began.set()
            assert mine._stop.wait(10)
            time.sleep(0.2)
        write_atomic(path, content, durable=durable)
        if began.is_set():
            ended.set()

    monkeypatch.setattr(ownership, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(ownership, "write_atomic", slow)
    with mine:
        assert began.wait(10)
    assert ended.wait(10)
    assert read_owner(tmp_path) is None


def test_a_trial_whose_owner_has_another_clock_is_told_once_and_not_tried_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, store = toy(3), TrialStore(tmp_path)
    folder, queue, view = store.folder(trial), TrialQueue(store), LiveView([trial])
    folder.prepare(trial)
    clock = SimpleNamespace(now=0, monotonic=lambda: clock.now)
    monkeypatch.setattr("hwcli.sweep.queue.time", clock)
    # The file server's clock says that the owner lives, this machine's that it is dead.
    monkeypatch.setattr(Ownership, "_owner_is_lost", lambda self: False)
    num_attempts = 0
    with folder.own(0):
        as_another_node(folder.path, LOST_AFTER_S + 100)
        queue.waiting.append(trial)
        for seconds in (0, 1, 2, 21, 22, 43):
            clock.now = seconds
            assert list(queue.poll_others()) == []
            while queue.waiting:
                ending = attempt(
                    queue.waiting.popleft(), toy_trial, folder, lambda _: None, lock_timeout_s=0
                )
                view.show(queue.settle(trial, *ending))
                num_attempts += 1
    assert num_attempts == 3
    assert capsys.readouterr().err.splitlines() == [
        "number 3: already training in another process; will use its result"
    ]


def test_leftovers_of_the_dead_are_swept_away_and_those_of_the_living_kept(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".x.4194305.tmp", tmp_path / f".x.{os.getpid()}.tmp"
    dead.write_text("")
    alive.write_text("")
    with Ownership(tmp_path, 0):
        assert not dead.exists()
        assert alive.exists()


def test_files_that_another_machine_writes_are_not_swept_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, them = f"{machines.host_id()}-{machines.machine_id()}", f"{'0' * 16}-{'0' * 16}"
    there = tmp_path / f".job.json.{them}-4194305.tmp"  # a process that does not exist here
    here = tmp_path / f".job.json.{us}-4194305.tmp"
    there.write_text("")
    here.write_text("")
    with Ownership(tmp_path, 0):
        assert there.exists()
        assert not here.exists()
    written = []
    monkeypatch.setattr(Path, "replace", lambda self, target: written.append(self.name))
    write_atomic(tmp_path / "a", "x")
    assert written == [f".a.{us}-{os.getpid()}.tmp"]


def test_looking_at_a_trial_makes_nothing_and_is_no_attempt(tmp_path: Path) -> None:
    trial, store = toy(3), TrialStore(tmp_path)
    folder = store.folder(trial)
    folder.prepare(trial)
    folder.checkpoint.write_text("1")
    before = sorted(p.name for p in folder.path.iterdir())
    folder.path.chmod(0o555)
    assert folder.state() == "interrupted"
    assert sorted(p.name for p in folder.path.iterdir()) == before
    folder.path.chmod(0o755)


def test_a_folder_that_cannot_be_written_ends_the_attempt_and_fails_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, folder = toy(3), TrialFolder(tmp_path / toy(3).id)

    def refuse(self: Ownership) -> None:
        raise OutputError("owner.json: cannot be written (No space left on device)")

    monkeypatch.setattr(Ownership, "_write", refuse)
    ending, content = attempt(trial, toy_trial, folder, lambda progress: None)
    assert ending == "unwritable"
    assert "No space left on device" in content["reason"]
    assert folder.failure() is None
    assert Lock(folder.path / ".lock").acquire()

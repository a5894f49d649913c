"""Who may train a trial, and how a lost node's trial is taken over."""

import json
import os
import time
from pathlib import Path

import pytest

from hwcli import runtime
from hwcli.errors import OutputError
from hwcli.locks import Lock
from hwcli.output.files import write_atomic
from hwcli.sweep import ownership
from hwcli.sweep.attempt import attempt
from hwcli.sweep.ownership import LOST_AFTER_S, Ownership, OwnershipLostError, read_owner
from hwcli.sweep.store import TrialFolder, TrialStore
from tests.sweep.toy_trials import toy, toy_trial


def as_another_node(path: Path, age_s: float) -> None:
    """Let the owner be a process of another node that was last heard of so long ago."""
    owner = json.loads((path / "owner.json").read_text())
    (path / "owner.json").write_text(json.dumps({**owner, "machine": "another node"}))
    then = time.time() - age_s
    os.utime(path / "owner.json", (then, then))


def test_the_owner_is_known_without_taking_the_lock(tmp_path: Path) -> None:
    assert read_owner(tmp_path) is None
    with Ownership(tmp_path, 0) as mine:
        assert mine.taken
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.is_alive()
        assert (owner.machine, owner.process) == (runtime.machine_id(), os.getpid())
        with Ownership(tmp_path, 0) as other:
            assert not other.taken
        assert read_owner(tmp_path) is not None
    assert read_owner(tmp_path) is None


def test_a_process_that_died_owns_nothing(tmp_path: Path) -> None:
    record = {"machine": runtime.machine_id(), "process": os.getpid(), "started": "long ago"}
    (tmp_path / "owner.json").write_text(json.dumps(record))
    owner = read_owner(tmp_path)
    assert owner is not None
    assert not owner.is_alive()
    (tmp_path / "owner.json").write_text("<<<<<<< HEAD")
    assert read_owner(tmp_path) is None


def test_another_users_hidden_process_counts_as_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"machine": runtime.machine_id(), "process": 2**22 - 1, "started": "12345"}
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
    there = tmp_path / f".job.json.{'0' * 16}-4194305.tmp"  # a process that does not exist here
    here = tmp_path / f".job.json.{runtime.machine_id()}-4194305.tmp"
    there.write_text("")
    here.write_text("")
    with Ownership(tmp_path, 0):
        assert there.exists()
        assert not here.exists()
    written = []
    monkeypatch.setattr(Path, "replace", lambda self, target: written.append(self.name))
    write_atomic(tmp_path / "a", "x")
    assert written == [f".a.{runtime.machine_id()}-{os.getpid()}.tmp"]


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

"""Locks, and what shared, foreign, read-only and lockless folders answer."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwcli.errors import OutputError
from hwcli.locks import Lock, make_folder, share_like_its_folder

HOLD = (
    "import sys\nfrom pathlib import Path\nfrom hwcli.locks import Lock\n"
    "lock = Lock(Path(sys.argv[1]))\nprint(lock.acquire(), flush=True)\ninput()\n"
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")


def test_one_process_holds_a_lock_and_its_death_releases_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        lock = Lock(path)
        assert not lock.acquire()
        other.kill()
        assert lock.acquire(timeout_s=10)
    assert lock.is_still_ours()
    path.unlink()
    assert not lock.is_still_ours()
    lock.release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError, match=r"this file system has no file locks; .* by --out"):
        Lock(tmp_path / ".lock").acquire()


@as_root
def test_a_lock_that_its_owner_does_not_share_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("")
    path.chmod(0o644)
    allow(tmp_path)
    said = as_user(4711, f"Lock(Path({str(path)!r})).acquire()")
    assert "OutputError" in said
    assert "belongs to another user, who does not share it" in said


@as_root
def test_two_users_share_a_folder_that_their_group_may_write(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 0, 815)
    shared.chmod(0o2775)
    allow(tmp_path)
    work = (
        f"path = Path({str(shared / 'results' / 'trial')!r}); make_folder(path)\n"
        "lock = Lock(path / '.lock'); assert lock.acquire()\n"
        "write_atomic(path / 'result.json', str(os.getuid()))\n"
        "append_jsonl(path / 'metrics.jsonl', {'user': os.getuid()})\n"
    )
    for user in (4711, 4712):
        assert as_user(user, work) == ""
    assert (shared / "results" / "trial" / "result.json").read_text() == "4712"
    assert len((shared / "results" / "trial" / "metrics.jsonl").read_text().splitlines()) == 2


def allow(path: Path) -> None:
    """Let any user go through a folder of pytest's."""
    for folder in (path, *path.parents[:-2]):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)


def as_user(user: int, code: str) -> str:
    """Run code as another user of the group 815, with a umask that shares nothing."""
    whole = (
        "import os, sys\nfrom pathlib import Path\n"
        "from hwcli.locks import Lock, make_folder\n"
        "from hwcli.output.files import append_jsonl, write_atomic\n"
        f"os.setgroups([]); os.setgid(815); os.setuid({user}); os.umask(0o022)\n{code}"
    )
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True)
    return done.stderr


def test_what_is_made_in_a_private_folder_stays_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    # Of root and of many systems; where each user has a group, it is often 0o002.
    before = os.umask(0o022)
    try:
        make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert not (tmp_path / "a" / "b").stat().st_mode & 0o020
    file = tmp_path / "f"
    file.write_text("")
    file.chmod(0o600)
    share_like_its_folder(file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/a: cannot be made \(Not a directory\)"):
        make_folder(tmp_path / "file" / "a")

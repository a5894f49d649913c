"""Locks that the operating system releases when their owner dies, however it dies.

A lock is a file that is locked with ``flock``. Where a file system has no such locks, or the file
belongs to somebody who does not share it, one line says so: a lock that nobody would release is
never taken instead.
"""

import errno
import fcntl
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from hwcli.errors import OutputError, reason_of

# What a file system without locks answers: Lustre without -o flock, NFS without a lock service.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


class Closing:
    """A context manager that does nothing but ``close`` at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(error)

    def close(self, error: BaseException | None) -> None:
        """Let go of what is held; ``error`` is what ended the block, if anything did."""
        raise NotImplementedError


class Lock:
    """One process at a time holds it.

    Args:
        path: of the lock file; its folder must exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = FileLock(path, fallback_to_soft=False, thread_local=False)
        self._inode = 0

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self, timeout_s: float | None = 0.0) -> bool:
        """Take the lock, or return False if another process holds it all the time.

        Args:
            timeout_s: how long to wait; None waits without end.

        Raises:
            OutputError: the lock file cannot be opened, or the file system has no locks.
        """
        existed = self.path.exists()
        try:
            self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s, poll_interval=0.05)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            raise self._refused(error) from None
        with suppress(OSError):
            self._inode = self.path.stat().st_ino
        if not existed:
            share_like_its_folder(self.path)
        return True

    def release(self) -> None:
        """Let the lock go; harmless if it is not held."""
        self._lock.release()

    def is_still_ours(self) -> bool:
        """Tell whether the lock file is the one that was locked; another owner replaces it."""
        try:
            return self._lock.is_locked and self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def _refused(self, error: Exception) -> OutputError:
        number = getattr(error, "errno", None)
        if number in NO_LOCKS or isinstance(error, NotImplementedError):
            return OutputError(
                f"{self.path.parent}: this file system has no file locks; write results to "
                "another one by --out, or mount it with locks (Lustre: -o flock)"
            )
        if number in (errno.EACCES, errno.EPERM):
            return OutputError(
                f"{self.path}: belongs to another user, who does not share it; ask them for "
                "chmod g+w, or write results to a folder of your own by --out"
            )
        return OutputError(f"{self.path}: cannot be locked ({reason_of(error)})")


def is_held(path: Path) -> bool:
    """Tell whether a process holds a lock, without a wait and without a change to the file."""
    with suppress(OSError), path.open("rb") as file:
        try:
            # A reader's lock: two who ask at the same time do not see each other.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def make_folder(path: Path) -> None:
    """Make a folder and those above it; a new one is as open to the group as the one it is in.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made ({error.strerror})") from None
    for folder in reversed(missing):
        share_like_its_folder(folder)


def share_like_its_folder(path: Path) -> None:
    """Let the group write a file or folder if it may write the folder around it."""
    with suppress(OSError):
        around = path.parent.stat().st_mode
        if around & stat.S_IWGRP:
            own = path.stat().st_mode
            more = stat.S_IRGRP | stat.S_IWGRP
            if stat.S_ISDIR(own):
                more |= stat.S_IXGRP | (around & stat.S_ISGID)
            path.chmod(stat.S_IMODE(own) | more)

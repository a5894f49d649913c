"""Who may train a trial: one process at a time, and never nobody for ever.

The owner holds the lock of the trial's folder, which the operating system releases when the
process dies. It also keeps ``owner.json`` there, which names it for readers, and touches the file
every 20 seconds.

A node that is lost may leave its lock behind, on a file server that does not notice. The rule for
that: if the lock cannot be taken, the owner is on another machine, and ``owner.json`` has not been
touched for 10 minutes by the file server's own clock, the lock file is replaced and the trial is
taken over. An owner that comes back after all notices at its next report, and stops.
"""

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from hwcli import machines
from hwcli.errors import OutputError
from hwcli.locks import Closing, Lock
from hwcli.output.files import read_json, remove_leftovers, write_atomic

HEARTBEAT_S = 20.0
LOST_AFTER_S = 600.0

OWNER = "owner.json"


class OwnershipLostError(Exception):
    """Another process has taken the trial over."""


@dataclass(frozen=True)
class Owner:
    """A process that trains a trial.

    Attributes:
        machine: its :func:`hwcli.machines.machine_id`.
        process: its number there.
        started: its :func:`hwcli.machines.process_start`.
        host: the machine's :func:`hwcli.machines.host_id`; empty where an older version wrote it.
        share: the part of the trial that is done.
        share_at_start: the part that was done when the process began.
        seconds: since then.
        age_s: since the file was touched, by this machine's clock.
    """

    machine: str
    process: int
    started: str | None
    host: str = ""
    share: float = 0.0
    share_at_start: float = 0.0
    seconds: float = 0.0
    age_s: float = 0.0

    def is_alive(self) -> bool:
        """Tell whether the process lives, as far as can be seen from here."""
        if self.machine == machines.machine_id():
            seen = machines.process_start(self.process)
            return seen is not None and (
                seen == self.started or machines.ALIVE in (seen, self.started)
            )
        # This machine before it was started again: no process of then is left.
        return self.host != machines.host_id() and self.age_s < LOST_AFTER_S

    def is_stopped(self) -> bool:
        """Tell whether it is a process of this machine that Ctrl-Z has stopped."""
        is_here = self.machine == machines.machine_id()
        return is_here and self.is_alive() and machines.is_stopped(self.process)


def read_owner(folder: Path) -> Owner | None:
    """Return who trains a trial, or trained it when its process died; None if nobody did."""
    try:
        record = read_json(folder / OWNER)
        age_s = time.time() - (folder / OWNER).stat().st_mtime
        return Owner(**{**record, "age_s": age_s})
    except (OSError, ValueError, TypeError):
        return None


class Ownership(Closing):
    """The right to train a trial, for as long as the block lasts.

    Args:
        folder: of the trial.
        timeout_s: how long to wait for another owner; None waits without end.

    Attributes:
        taken: whether this process has it; False where another one trains the trial.
    """

    def __init__(self, folder: Path, timeout_s: float | None):
        self._folder = folder
        self._timeout_s = timeout_s
        self._lock = Lock(folder / ".lock")
        self._stop = threading.Event()
        # What the heartbeat writes must not come after what close removes.
        self._writing = threading.Lock()
        self._began = time.monotonic()
        self._shares: tuple[float, float] | None = None
        self.taken = False

    def __enter__(self) -> Self:
        """Take the trial, if it is to be had.

        Raises:
            OutputError: the folder cannot be written or locked.
        """
        # Who waits without end takes nothing over: such an owner never asks whether it was.
        self.taken = self._lock.acquire(self._timeout_s) or self._take_over()
        if self.taken:
            remove_leftovers(self._folder)
            try:
                self._write()
            except OutputError:
                self._lock.release()
                raise
            threading.Thread(target=self._keep_alive, daemon=True).start()
        return self

    def close(self, error: BaseException | None) -> None:
        """Give the trial back."""
        self._stop.set()
        with self._writing:
            if self.taken and self._lock.is_still_ours():
                with suppress(OSError):
                    (self._folder / OWNER).unlink(missing_ok=True)
        self._lock.release()
        self.taken = False

    def confirm(self, share: float | None = None) -> None:
        """Make sure that the trial has not been taken over, and note how much of it is done.

        Raises:
            OwnershipLostError: it has.
            OutputError: the folder is gone, and with it what was trained.
        """
        if not self._lock.is_still_ours():
            if not self._folder.exists():
                raise OutputError(f"{self._folder} is gone: it was moved or deleted meanwhile")
            raise OwnershipLostError("another process has taken the trial over")
        if share is not None:
            self._shares = (self._shares[0] if self._shares else share, share)

    def _write(self) -> None:
        first, latest = self._shares or (0.0, 0.0)
        me = os.getpid()
        owner = Owner(
            machine=machines.machine_id(),
            process=me,
            started=machines.process_start(me),
            host=machines.host_id(),
            share=latest,
            share_at_start=first,
            seconds=time.monotonic() - self._began,
        )
        record = asdict(owner)
        del record["age_s"]
        write_atomic(self._folder / OWNER, json.dumps(record), durable=False)

    def _keep_alive(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with self._writing:
                if self._stop.is_set() or not self._lock.is_still_ours():
                    return
                with suppress(OutputError):  # a full disk now may have room again later
                    self._write()

    def _take_over(self) -> bool:
        """Replace the lock of an owner that is lost; return whether that was so."""
        if not self._owner_is_lost():
            return False
        guard = Lock(self._folder / ".takeover")
        if not guard.acquire():
            return False  # somebody else is doing it
        try:
            if not self._owner_is_lost():
                return False
            with suppress(OSError):
                (self._folder / ".lock").unlink(missing_ok=True)
            if not self._lock.acquire():
                return False
            self._write()
            return True
        finally:
            guard.release()

    def _owner_is_lost(self) -> bool:
        owner = read_owner(self._folder)
        if owner is None or owner.machine == machines.machine_id():
            return False
        # The clock of the file server, which need not be this machine's.
        clock = self._folder / f".clock.{os.getpid()}.tmp"
        try:
            clock.write_text("")
            now = clock.stat().st_mtime
            clock.unlink()
            return now - (self._folder / OWNER).stat().st_mtime > LOST_AFTER_S
        except OSError:
            return False

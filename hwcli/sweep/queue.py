"""The trials that a launcher still has to train, and what follows from each ending."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hwcli.errors import OutputError
from hwcli.sweep.attempt import Ending
from hwcli.sweep.events import Event
from hwcli.sweep.ownership import HEARTBEAT_S, read_owner
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial

# A killed process or a lost node is not the trial's fault. A trial may lose any number of workers
# while each writes a new checkpoint. After this many deaths at one checkpoint it has failed.
MAX_DEATHS_IN_ONE_PLACE = 3


@dataclass
class _Busy:
    """A trial that another program owns.

    Attributes:
        trial: which.
        found_at: when it was found to be owned.
        reason: why it does not go on, as it was told last; empty if it does.
    """

    trial: Trial
    found_at: float
    reason: str


class TrialQueue:
    """What waits, what other programs train, and how often workers have died.

    Args:
        store: where trials live.
    """

    def __init__(self, store: TrialStore):
        self.waiting: deque[Trial] = deque()
        self._store = store
        self._owned_by_others: list[_Busy] = []
        self._deaths: Counter[str] = Counter()
        self._checkpoints: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self.waiting or self._owned_by_others)

    def clear(self) -> None:
        """Forget all trials."""
        self.waiting.clear()
        self._owned_by_others.clear()

    def poll_others(self) -> Iterator[Event]:
        """See what became of trials that other programs own; queue those they have given up.

        An owner that is stopped or goes on is told. A trial that was found owned is left alone for
        one heartbeat. Where clocks differ, its owner may seem dead all the time, and the trial
        would be tried again at every look.
        """
        for busy in list(self._owned_by_others):
            trial, before = busy.trial, busy.reason
            event = self.final_event(trial)
            is_free = time.monotonic() - busy.found_at > HEARTBEAT_S and (
                not self._store.folder(trial).is_owned()
            )
            if event is None and not is_free:
                busy.reason = self._why_it_waits(trial)
                if busy.reason != before:
                    yield Event("busy", trial, reason=busy.reason)
                continue
            self._owned_by_others.remove(busy)
            if event is not None:
                yield event
            else:
                self.waiting.append(trial)

    def _why_it_waits(self, trial: Trial) -> str:
        owner = read_owner(self._store.folder(trial).path)
        if owner is None or not owner.is_stopped():
            return ""
        return f"process {owner.process} is stopped: type fg in its terminal"

    def settle(self, trial: Trial, ending: Ending, content: dict[str, Any]) -> Event:
        """Return what follows from how an attempt ended.

        Raises:
            OutputError: the results folder cannot be written; no trial can be kept.
        """
        if ending == "unwritable":
            raise OutputError(f"{content['reason']}; solve that and run the command again")
        if ending == "busy":
            busy = _Busy(trial, time.monotonic(), self._why_it_waits(trial))
            self._owned_by_others.append(busy)
            return Event("busy", trial, reason=busy.reason)
        if ending == "done":
            return Event("done", trial, result=content)
        return self.fail(trial, **content)

    def fail(self, trial: Trial, reason: str, **more: object) -> Event:
        """Store that a trial has failed."""
        folder = self._store.folder(trial)
        folder.fail(reason, **more)
        return Event("failed", trial, reason=reason, log=str(folder.log))

    def final_event(self, trial: Trial) -> Event | None:
        """Return that a trial is done or has failed, where its files say so."""
        folder = self._store.folder(trial)
        # Listing a folder makes a network file system look at it again.
        with suppress(OSError):
            next(folder.path.iterdir(), None)
        result = folder.result()
        if result is not None:
            return Event("done", trial, result=result)
        failure = folder.failure()
        if failure is not None and not folder.is_owned():
            return Event("failed", trial, reason=str(failure["reason"]), log=str(folder.log))
        return None

    def handle_death(self, trial: Trial, reason: str) -> Event:
        """Return what follows from a worker's death: ``restarted``, or ``failed`` in the end."""
        folder = self._store.folder(trial)
        checkpoint = 0.0
        with suppress(OSError):
            checkpoint = folder.checkpoint.stat().st_mtime
        if self._checkpoints.get(trial.id) != checkpoint:
            self._deaths[trial.id] = 0
        self._checkpoints[trial.id] = checkpoint
        self._deaths[trial.id] += 1
        if self._deaths[trial.id] < MAX_DEATHS_IN_ONE_PLACE:
            return Event("restarted", trial, reason=reason)
        times = f"{MAX_DEATHS_IN_ONE_PLACE} times without a new checkpoint"
        return self.fail(trial, f"{reason}, {times}")

"""What SLURM and Ray share: how a worker on another machine and the driver hear of each other.

All they have in common is the folder that the results lie in. A worker appends its messages to
``messages.jsonl`` in the trial's folder, the driver reads on from where it was; whether a trial
is done or has failed is told by ``result.json`` and ``failure.json`` alone, as it is locally.
"""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hwcli.output.files import append_jsonl
from hwcli.sweep.attempt import Ending, attempt
from hwcli.sweep.launcher import Event, TrialFunction
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial

# When a node is lost, the lock of its trial lives on until the file server gives it up (90 s on
# NFS); the trial's next process waits for that instead of leaving the trial to nobody.
LOCK_TIMEOUT_S = 120.0
# A lost node is not the trial's fault, and a trial that comes further each time may lose any
# number of them; one that dies this often without a new checkpoint has failed.
MAX_DEATHS_IN_ONE_PLACE = 3

MESSAGES = "messages.jsonl"


# --------------------------------------------------------------------------------------
# Inside a worker


def attempt_here(
    trial: Trial, function: TrialFunction, store_path: Path
) -> tuple[Ending, dict[str, Any]]:
    """Make one attempt at a trial on whatever machine this is, telling the driver through files.

    Returns:
        How it ended, and its result or a ``reason`` that names this machine.
    """
    here = f"(on {socket.gethostname()})"
    unshared = f"{store_path} is missing; --out has to lie on a folder that all nodes share {here}"
    folder = TrialStore(store_path).folder(trial)
    messages = folder.path / MESSAGES
    # The driver made it: what is made here would be seen by nobody.
    if not (folder.path / "identity.json").exists():
        return "failed", {"reason": unshared}
    if messages.exists():
        with messages.open("a") as file:  # the last line may be torn
            file.write("\n")

    def tell(kind: str, content: dict[str, Any]) -> None:
        append_jsonl(messages, {"kind": kind, "content": content})

    tell("started", {})
    ending, content = attempt(
        trial,
        function,
        folder,
        lambda progress: tell("progress", progress),
        lock_timeout_s=LOCK_TIMEOUT_S,
    )
    if ending == "failed":
        content = {"reason": f"{content['reason']} {here}"}
        folder.fail(content["reason"])
    # A full disk may have no room for the message either.
    with suppress(OSError):
        tell(ending, {} if ending == "done" else content)
    return ending, content


# --------------------------------------------------------------------------------------
# Inside the driver


class RemoteTrials:
    """What the driver knows of trials that train elsewhere, from their folders.

    Args:
        store: where they live.
    """

    def __init__(self, store: TrialStore):
        self._store = store
        self._positions: dict[str, int] = {}
        self._deaths: Counter[str] = Counter()
        self._marks: dict[str, float] = {}
        self.endings: dict[str, Ending] = {}

    def prepare(self, trial: Trial) -> None:
        """Make a trial's folder, and skip the messages of earlier attempts at it."""
        folder = self._store.folder(trial)
        folder.prepare(trial)
        with suppress(FileNotFoundError):
            self._positions[trial.id] = (folder.path / MESSAGES).stat().st_size
        self.endings.pop(trial.id, None)

    def news(self, trial: Trial) -> Iterator[Event]:
        """Yield that it has started, and what it has reported since the last look.

        Of a trial that was not prepared here, everything of its latest attempt is new. How an
        attempt ended goes to ``endings``.
        """
        position = self._positions.get(trial.id)
        try:
            with (self._store.folder(trial).path / MESSAGES).open("rb") as file:
                file.seek(position or 0)
                content = file.read()
        except FileNotFoundError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._positions[trial.id] = (position or 0) + len(whole)
        messages = []
        for line in whole.splitlines():
            with suppress(ValueError):
                messages.append(json.loads(line))
        if position is None:
            starts = [n for n, message in enumerate(messages) if message["kind"] == "started"]
            messages = messages[starts[-1] :] if starts else []
        for message in messages:
            if message["kind"] in ("started", "progress"):
                self.endings.pop(trial.id, None)
                yield Event(message["kind"], trial, message["content"])
            else:
                self.endings[trial.id] = message["kind"]

    def settled(self, trial: Trial) -> Event | None:
        """Return that a trial is done or has failed, where it is so."""
        folder = self._store.folder(trial)
        # Listing a folder makes a network file system look at it anew.
        with suppress(FileNotFoundError):
            next(folder.path.iterdir(), None)
        result, failure = folder.result(), folder.failure()
        if result is not None:
            return Event("done", trial, result)
        if failure is not None:
            return Event("failed", trial, {"reason": failure["reason"], "log": str(folder.log)})
        return None

    def is_owned(self, trial: Trial) -> bool:
        """Tell whether some process trains a trial now."""
        return self._store.folder(trial).is_owned()

    def bury(self, trial: Trial, reason: str) -> Event:
        """Return what follows from a worker's death: ``restarted``, or ``failed`` in the end."""
        folder = self._store.folder(trial)
        mark = folder.checkpoint.stat().st_mtime if folder.checkpoint.exists() else 0.0
        if self._marks.get(trial.id) != mark:
            self._deaths[trial.id] = 0
        self._marks[trial.id] = mark
        self._deaths[trial.id] += 1
        if self._deaths[trial.id] < MAX_DEATHS_IN_ONE_PLACE:
            return Event("restarted", trial, {"reason": reason})
        reason = f"{reason}, {MAX_DEATHS_IN_ONE_PLACE} times without a new checkpoint"
        folder.fail(reason)
        return Event("failed", trial, {"reason": reason, "log": str(folder.log)})

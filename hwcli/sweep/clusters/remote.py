"""What SLURM and Ray share: how a worker on another machine and the driver hear of each other.

All they have in common is the folder that the results lie in. A worker appends its messages to
``messages.jsonl`` in the trial's folder, and the driver reads on from where it was. Whether a trial
is done or has failed is decided by ``result.json`` and ``failure.json`` alone, as it is locally.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hwcli.errors import OutputError
from hwcli.output.files import append_jsonl
from hwcli.sweep.attempt import Ending, attempt
from hwcli.sweep.events import Event, TrialFunction
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from hwcli.training.progress import Progress

# When a node is lost, its lock lives on until the file server gives it up (90 s on NFS): the
# trial's next process waits for that. A server that does not notice is what
# hwcli.sweep.ownership is for.
LOCK_TIMEOUT_S = 120.0


# --------------------------------------------------------------------------------------
# Inside a worker


def attempt_here(
    trial: Trial, function: TrialFunction, store_path: Path
) -> tuple[Ending, dict[str, Any]]:
    """Make one attempt at a trial on whatever machine this is, and report to the driver by files.

    Returns:
        How it ended, and its result or a ``reason`` that names this machine.
    """
    here = f"(on {socket.gethostname()})"
    folder = TrialStore(store_path).folder(trial)
    # The driver made it: what is made here would be seen by nobody.
    if not (folder.path / "identity.json").exists():
        missing = f"{store_path} is missing; --out must be a folder that all nodes share {here}"
        return "failed", {"reason": missing}

    def send(kind: str, **content: Any) -> None:
        # A full disk may have no room for the message either.
        with suppress(OutputError):
            append_jsonl(folder.messages, {"kind": kind, **content})

    with suppress(OSError):
        if folder.messages.exists():
            with folder.messages.open("a") as file:  # the last line may be torn
                file.write("\n")
    send("started")
    ending, content = attempt(
        trial,
        function,
        folder,
        lambda progress: send("progress", progress=asdict(progress)),
        lock_timeout_s=LOCK_TIMEOUT_S,
    )
    if ending == "failed":
        content = {"reason": f"{content['reason']} {here}"}
        folder.fail(content["reason"])
    send(ending, **({"reason": content["reason"]} if ending == "unwritable" else {}))
    return ending, content


# --------------------------------------------------------------------------------------
# Inside the driver


class RemoteTrials:
    """What the driver hears of trials that train elsewhere, from their folders.

    Args:
        store: where they live.

    Attributes:
        last_status: how the latest attempt at a trial ended, by the trial's id.
        unwritable: why a worker could not write results, as the last one told it; empty if all
            could.
    """

    def __init__(self, store: TrialStore):
        self._store = store
        self._positions: dict[str, int] = {}
        self._skipped: dict[str, int] = {}
        self.last_status: dict[str, Ending] = {}
        self.unwritable = ""

    def prepare(self, trial: Trial) -> None:
        """Make a trial's folder, and skip the messages of earlier attempts at it."""
        folder = self._store.folder(trial)
        folder.prepare(trial)
        with suppress(FileNotFoundError):
            self._positions[trial.id] = folder.messages.stat().st_size
        self.last_status.pop(trial.id, None)

    def adopt(self, trial: Trial, heard_bytes: int) -> None:
        """Skip the messages that were there when another driver submitted a trial's job."""
        self._skipped[trial.id] = heard_bytes

    def position(self, trial: Trial) -> int:
        """Return how many bytes of a trial's messages have been read or skipped."""
        return self._positions.get(trial.id, 0)

    def new_events(self, trial: Trial) -> Iterator[Event]:
        """Yield that it has started, and what it has reported since the last look.

        Of a trial that was not prepared here, everything of its latest attempt is new. How an
        attempt ended goes to ``last_status``.
        """
        position = self._positions.get(trial.id)
        try:
            with self._store.folder(trial).messages.open("rb") as file:
                begin = self._skipped.get(trial.id, 0) if position is None else position
                file.seek(begin)
                content = file.read()
        except OSError:
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._positions[trial.id] = begin + len(whole)
        messages = []
        for line in whole.splitlines():
            with suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and "kind" in message:
                    messages.append(message)
        if position is None:
            starts = [n for n, message in enumerate(messages) if message["kind"] == "started"]
            messages = messages[starts[-1] :] if starts else []
        for message in messages:
            if message["kind"] == "started":
                self.last_status.pop(trial.id, None)
                yield Event("started", trial)
            elif message["kind"] == "progress":
                self.last_status.pop(trial.id, None)
                with suppress(TypeError, KeyError):  # of a worker of another version
                    progress = Progress.from_json(message["progress"])
                    yield Event("progress", trial, progress=progress)
            else:
                self.last_status[trial.id] = message["kind"]
                if message["kind"] == "unwritable":
                    self.unwritable = str(message.get("reason") or "results cannot be written")

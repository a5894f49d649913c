"""Trials on disk: ``OUT/<command>/trials/<id>/``, shared by every run of the command.

A trial's folder holds ``identity.json``, ``env.json`` (where it was trained last),
``metrics.jsonl`` (its finished epochs), ``checkpoint.safetensors``, ``log.txt``,
``predictions.safetensors`` and last, atomically, ``result.json``: the sign that it is done.
``failure.json`` says why it failed. ``owner.json`` names the process that trains it now. On a
cluster, ``job.json`` names its job, and ``messages.jsonl`` is what its process tells the driver.

Reading a trial's state takes no lock and writes nothing.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from hwcli.errors import OutputError
from hwcli.locks import make_folder
from hwcli.output.files import (
    append_jsonl,
    read_jsonl,
    read_mapping,
    short_digest,
    unwritable,
    write_atomic,
    write_json,
)
from hwcli.sweep.ownership import Ownership, read_owner
from hwcli.sweep.trial import Trial

State = Literal["done", "failed", "running", "interrupted", "missing"]


class TrialFolder:
    """The folder of one trial."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoint = path / "checkpoint.safetensors"
        self.predictions = path / "predictions.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.environment = path / "env.json"
        self.log = path / "log.txt"
        self.job = path / "job.json"
        self.messages = path / "messages.jsonl"

    def prepare(self, trial: Trial) -> None:
        """Make the folder and write down what it belongs to.

        What another trial has left there, as its ``identity.json`` says, is removed.

        Raises:
            OutputError: the folder cannot be written.
        """
        make_folder(self.path)
        if self.identity() is not None:
            return
        try:
            if self._read("identity.json"):
                for path in self.path.iterdir():
                    if path.is_file() and not path.name.startswith("."):
                        path.unlink()
        except OSError as error:
            raise unwritable(self.path, error) from None
        write_json(self.path / "identity.json", trial.identity)

    def identity(self) -> dict[str, Any] | None:
        """Return everything that decides the trial's numbers, if it is there and of this trial."""
        identity = self._read("identity.json")
        return identity if identity and short_digest(identity) == self.path.name else None

    def result(self) -> dict[str, Any] | None:
        """Return what the trial found, or None while it is not done.

        A result that lies in another trial's folder, or is damaged, counts as none.
        """
        result = self._read("result.json")
        return result if result and self.identity() is not None else None

    def failure(self) -> dict[str, Any] | None:
        """Return ``{"reason"}`` where the trial failed and has not been tried since."""
        failure = self._read("failure.json")
        return {"reason": "no reason is stored", **failure} if failure else None

    def epochs(self) -> list[dict[str, Any]]:
        """Return its finished epochs; damaged lines are left out."""
        try:
            records = read_jsonl(self.metrics)
        except OSError:
            return []
        return [record for record in records if isinstance(record.get("epoch"), int)]

    def append_epoch(self, epoch: dict[str, Any]) -> None:
        """Add a finished epoch; one that was trained again replaces the earlier record.

        Raises:
            OutputError: the file cannot be written.
        """
        earlier = self.epochs()
        if any(record["epoch"] >= epoch["epoch"] for record in earlier):
            kept = [record for record in earlier if record["epoch"] < epoch["epoch"]]
            self.write_epochs([*kept, epoch])
        else:
            append_jsonl(self.metrics, epoch)

    def write_epochs(self, epochs: list[dict[str, Any]]) -> None:
        """Replace the list of finished epochs."""
        lines = (json.dumps(epoch, allow_nan=False) + "\n" for epoch in epochs)
        write_atomic(self.metrics, "".join(lines))

    def finish(self, result: dict[str, Any]) -> None:
        """Store the result."""
        write_json(self.path / "result.json", result)
        self.forget_failure()

    def forget_result(self) -> None:
        """Let a trial be finished again, from its last checkpoint.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            (self.path / "result.json").unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def fail(self, reason: str, **more: object) -> None:
        """Store why the trial failed."""
        with suppress(OutputError):  # then it is missing, and is tried again
            write_json(self.path / "failure.json", {"reason": reason, **more})

    def forget_failure(self) -> None:
        """Let a failed trial be tried again, from its last checkpoint."""
        with suppress(OSError):
            (self.path / "failure.json").unlink(missing_ok=True)

    def own(self, timeout_s: float | None) -> Ownership:
        """Return a context manager: whether this process may train the trial is ``taken``."""
        return Ownership(self.path, timeout_s)

    def is_owned(self) -> bool:
        """Tell whether some process trains this trial now."""
        owner = read_owner(self.path)
        return owner is not None and owner.is_alive()

    def state(self) -> State:
        """Return the state of the trial."""
        if self.result() is not None:
            return "done"
        if self.is_owned():
            return "running"
        if self.failure() is not None:
            return "failed"
        return "interrupted" if self.checkpoint.is_file() else "missing"

    def queued_job(self) -> str | None:
        """Return the job that the trial waits for in SLURM's queue, as far as its files tell.

        None where no job was submitted, or where the latest one has started: it has sent a message.
        Also None where the trial has been trained without SLURM since then.
        """
        submitted = self.submitted_job()
        if submitted is None:
            return None
        job, heard_bytes = submitted
        with suppress(OSError):
            if self.messages.stat().st_size > heard_bytes:
                return None
        with suppress(OSError):
            if self.environment.stat().st_mtime_ns > self.job.stat().st_mtime_ns:
                return None
        return job

    def submitted_job(self) -> tuple[str, int] | None:
        """Return the latest job, and how long the messages were then, in bytes; None: no job."""
        note = self._read("job.json")
        heard_bytes = note.get("heard_bytes", 0)
        if "job" not in note or not isinstance(heard_bytes, int):
            return None
        return str(note["job"]), heard_bytes

    def damaged_files(self) -> list[str]:
        """Return the names of files that are there but are not what they should be."""
        names = []
        if (self.path / "result.json").exists() and not self._read("result.json"):
            names.append("result.json")
        if (self.path / "identity.json").exists() and self.identity() is None:
            names.append("identity.json")
        return names

    def _read(self, name: str) -> dict[str, Any]:
        return read_mapping(self.path / name)


class TrialStore:
    """All trials of one command."""

    def __init__(self, path: Path):
        self.path = path

    def folder(self, trial: Trial | str) -> TrialFolder:
        """Return the folder of a trial, given whole or by its id."""
        return TrialFolder(self.path / (trial if isinstance(trial, str) else trial.id))

    def folders(self) -> list[TrialFolder]:
        """Return the folders of all trials that are here."""
        with suppress(OSError):
            return [TrialFolder(p) for p in sorted(self.path.iterdir()) if p.is_dir()]
        return []

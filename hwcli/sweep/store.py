"""Trials on disk: ``OUT/<command>/trials/<id>/``, shared by every run of the command.

A trial's folder holds ``identity.json``, ``env.json`` (where it was trained last),
``metrics.jsonl`` (its finished epochs), ``checkpoint.safetensors``, ``log.txt``,
``predictions.safetensors`` and last, atomically, ``result.json``: the sign that it is done.
``failure.json`` says why it failed. Whoever trains a trial holds its lock, which the operating
system lets go when the process dies.
"""

import json
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from hwcli.output.files import read_json, read_jsonl, write_atomic, write_json
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
        self.lock = FileLock(path / ".lock")

    def prepare(self, trial: Trial) -> None:
        """Make the folder and say what it belongs to."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "identity.json").exists():
            write_json(self.path / "identity.json", trial.identity)

    def result(self) -> dict[str, Any] | None:
        """Return what the trial came to, or None while it is not done."""
        return self._read("result.json")

    def failure(self) -> dict[str, Any] | None:
        """Return ``{"reason"}`` where the trial failed and has not been tried since."""
        return self._read("failure.json")

    def epochs(self) -> list[dict[str, Any]]:
        """Return its finished epochs."""
        return read_jsonl(self.metrics) if self.metrics.exists() else []

    def write_epochs(self, epochs: list[dict[str, Any]]) -> None:
        """Replace the list of finished epochs."""
        lines = (json.dumps(epoch, allow_nan=False) + "\n" for epoch in epochs)
        write_atomic(self.metrics, "".join(lines))

    def finish(self, result: dict[str, Any]) -> None:
        """Store the result."""
        write_json(self.path / "result.json", result)
        self.forget_failure()

    def fail(self, reason: str) -> None:
        """Store why the trial failed."""
        write_json(self.path / "failure.json", {"reason": reason})

    def forget_failure(self) -> None:
        """Let a failed trial be tried again, from its last checkpoint."""
        (self.path / "failure.json").unlink(missing_ok=True)

    def is_owned(self) -> bool:
        """Tell whether some process trains this trial now."""
        if not self.path.exists():
            return False
        try:
            with FileLock(self.path / ".lock", blocking=False):
                return False
        except Timeout:
            return True

    def state(self) -> State:
        """Return where the trial stands."""
        if self.result() is not None:
            return "done"
        if self.failure() is not None:
            return "failed"
        if self.is_owned():
            return "running"
        return "interrupted" if self.checkpoint.exists() else "missing"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            value = read_json(self.path / name)
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None


class TrialStore:
    """All trials of one command."""

    def __init__(self, path: Path):
        self.path = path

    def folder(self, trial: Trial | str) -> TrialFolder:
        """Return the folder of a trial, given whole or by its id."""
        return TrialFolder(self.path / (trial if isinstance(trial, str) else trial.id))

"""Every write that can fail, failing once: one line, nothing lost, and the next run is whole."""

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwcli.config import RunConfig
from hwcli.errors import OutputError
from hwcli.output import run_folder
from hwcli.output.run_folder import RunFolder, Summary
from hwcli.output.tables import Column, Table
from hwcli.sweep.attempt import attempt
from hwcli.sweep.store import TrialFolder
from tests.sweep.toy_trials import toy, toy_trial

others = (errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.ESTALE)
each_error = pytest.mark.parametrize(
    "number", [errno.ENOSPC, *(pytest.param(number, marks=pytest.mark.slow) for number in others)]
)


class Faults:
    """Counts the calls that change a folder, and lets the one asked for fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path):
        self.folder, self.count, self.fail_at, self.number = str(folder), 0, -1, errno.EIO
        for name in ("rename", "replace", "mkdir"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))
        monkeypatch.setattr(os, "fsync", self._wrapped(lambda file: None))  # it takes its time
        opened = io.open

        def checked(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            if set(mode) & set("wax") and str(file).startswith(self.folder):
                self._count(file)
            return opened(file, mode, *more, **named)

        monkeypatch.setattr(io, "open", checked)
        monkeypatch.setattr(builtins, "open", checked)

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any, **named: Any) -> Any:
            if isinstance(arguments[0], int) or str(arguments[0]).startswith(self.folder):
                self._count(arguments[0])
            return call(*arguments, **named)

        return checked

    def _count(self, what: object) -> None:
        self.count += 1
        if self.count == self.fail_at:
            raise OSError(self.number, os.strerror(self.number), str(what))


class Answer(Summary):
    answer: int


def write_a_run(out: Path, answer: int) -> None:
    config = RunConfig(name="n")
    with RunFolder(out, "command", "n") as folder:
        folder.claim(config, {"cores": 2})
        folder.append_metrics(step=answer)
        folder.write_table(Table("t", [Column("a", "a")], [{"a": answer}]))
        folder.finish(Answer(command="command", name="n", status="complete", answer=answer))


@each_error
def test_a_run_survives_any_one_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(run_folder, "HEADROOM_BYTES", 16)
    faults = Faults(monkeypatch, tmp_path)
    write_a_run(tmp_path / "whole", 1)
    writes = faults.count
    assert writes > 12
    for fail_at in range(1, writes + 6):
        out = tmp_path / str(fail_at)
        write_a_run(out, 1)
        faults.count, faults.fail_at, faults.number = 0, fail_at, number
        refusal = None
        try:
            write_a_run(out, 2)
        except OutputError as error:
            refusal = str(error)
        faults.fail_at = -1
        assert refusal is None or os.strerror(number) in refusal or "another user" in refusal
        assert refusal is None or "\n" not in refusal
        folder = RunFolder(out, "command", "n")
        summary = folder.summary()
        assert summary is not None
        assert summary["answer"] in (1, 2)
        assert not list(out.rglob("*.tmp"))
        write_a_run(out, 3)
        assert (folder.summary() or {})["answer"] == 3
        assert (folder.path / "table.csv").read_text() == "a\n3\n"


@each_error
def test_a_trial_survives_any_one_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("hwcli.sweep.attempt._write_output_to", lambda path: None)
    faults = Faults(monkeypatch, tmp_path)
    trial = toy(3)

    def run(folder: TrialFolder) -> tuple[str, dict[str, Any]]:
        return attempt(trial, toy_trial, folder, lambda progress: None)

    assert run(TrialFolder(tmp_path / "whole" / trial.id))[0] == "done"
    writes = faults.count
    assert writes > 18
    for fail_at in range(1, writes + 1):
        folder = TrialFolder(tmp_path / str(fail_at) / trial.id)
        faults.count, faults.fail_at, faults.number = 0, fail_at, number
        ending, content = run(folder)
        faults.fail_at = -1
        assert ending in ("unwritable", "done")
        assert "\n" not in content.get("reason", "")
        assert run(folder)[0] == "done"
        assert folder.result() == {"square": 9, "threads": "1"}
        assert [epoch["epoch"] for epoch in folder.epochs()] == [0, 1, 2]

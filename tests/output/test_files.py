"""Files survive a power cut, where the system can promise that, and damage is no mapping."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwcli import machines
from hwcli.output import files


@pytest.mark.parametrize(
    ("can_do", "expected"),
    [
        ({"F_FULLFSYNC": 51}, ["full"]),
        ({"F_FULLFSYNC": 51, "refuses": True}, ["full", "fsync"]),
        ({}, ["fsync"]),
    ],
    ids=["macOS", "a network drive on macOS", "Linux"],
)
def test_a_file_is_written_through_the_drives_own_cache_where_that_can_be_asked_for(
    can_do: dict[str, int], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def fcntl(file: int, command: int) -> int:
        assert command == 51
        called.append("full")
        if "refuses" in can_do:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        return 0

    monkeypatch.setattr(files, "fcntl", SimpleNamespace(fcntl=fcntl, **can_do))
    monkeypatch.setattr(os, "fsync", lambda file: called.append("fsync"))
    files.write_atomic(tmp_path / "a", "x")
    assert called == expected
    files.write_atomic(tmp_path / "a", "y", durable=False)
    assert called == expected
    assert (tmp_path / "a").read_text() == "y"


@pytest.mark.parametrize("content", [None, "{", "[1]", "[" * 100_000, "\0"])
def test_a_file_that_holds_no_mapping_is_read_as_an_empty_one(
    content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_text(content)
    assert files.read_mapping(path) == {}
    path.write_text('{"a": 1}')
    assert files.read_mapping(path) == {"a": 1}


def test_what_was_being_written_when_the_machine_went_down_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", lambda *_: None)
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        files.write_atomic(tmp_path / "checkpoint", b"all of it")
    (left,) = tmp_path.iterdir()
    files.remove_leftovers(tmp_path)
    assert left.exists()  # its process lives, and would still rename it
    monkeypatch.setattr(machines, "machine_id", lambda: "0" * 16)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(machines, "host_id", lambda: "1" * 16)
        files.remove_leftovers(tmp_path)
    assert left.exists()
    # Another process has the number now.
    files.remove_leftovers(tmp_path)
    assert not left.exists()

"""Files that are whole or absent: written under a temporary name, then renamed."""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hwcli import machines
from hwcli.errors import OutputError, reason_of
from hwcli.locks import share_like_its_folder


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace a file in one step: whoever reads it sees the old content or the new, whole.

    Args:
        path: the file.
        content: all of it.
        durable: wait until it would survive a power cut.

    Raises:
        OutputError: the file cannot be written; the old one is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    writer = f"{machines.host_id()}-{machines.machine_id()}-{os.getpid()}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    sync(file.fileno())
            share_like_its_folder(temporary)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def sync(file: int) -> None:
    """Wait until what was written to an open file would survive a power cut.

    On macOS, ``fsync`` leaves it in the drive's own cache. Not every file system there does more.

    Args:
        file: its descriptor.

    Raises:
        OSError: it cannot be written.
    """
    whole = getattr(fcntl, "F_FULLFSYNC", None)
    if whole is not None:
        with suppress(OSError):
            fcntl.fcntl(file, whole)
            return
    os.fsync(file)


def unwritable(path: Path, error: OSError) -> OutputError:
    """Return the one line for a file that could not be written."""
    return OutputError(f"{path}: cannot be written ({reason_of(error)})")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that were killed while they wrote into a folder.

    To be called by who holds the folder's lock. Files of processes that live stay, and so do those
    of other machines, whose processes cannot be seen from here.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            # Older versions wrote no host, or neither.
            found = re.fullmatch(
                r"\..+\.(?:(?:([0-9a-f]{16})-)?([0-9a-f]{16})-)?(\d+)\.tmp", path.name
            )
            if not found or found[1] not in (None, machines.host_id()):
                continue
            # No process is left of before this machine was started again.
            is_older = found[2] not in (None, machines.machine_id())
            if is_older and found[1] is None:  # maybe another machine's
                continue
            if is_older or not _is_alive(int(found[3])):
                with suppress(OSError):
                    path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in their order; NaN is refused, not written."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError, ValueError: the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a JSON file holds; an empty one where it holds none."""
    with suppress(OSError, ValueError):
        found = read_json(path)
        if isinstance(found, dict):
            return found
    return {}


def short_digest(value: Mapping[str, Any]) -> str:
    """Return 16 hex digits that name a JSON object, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON object as a line, in one write, so that a kill tears at most this line.

    Raises:
        OutputError: the file cannot be written.
    """
    line = json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        existed = path.exists()
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
        if not existed:
            share_like_its_folder(path)
    except OSError as error:
        raise unwritable(path, error) from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a JSON-lines file; lines that are torn or damaged are left out.

    Raises:
        OSError: the file cannot be read.
    """
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records

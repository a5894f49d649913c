"""Files that are whole or absent: written under a temporary name, then renamed."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: whoever reads it sees the old content or the new, whole.

    Raises:
        OSError: the folder cannot be written; the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in their order; NaN is refused, not written."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError, ValueError: the file cannot be read, or is no JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON object as a line, in one write, so that a kill tears at most this line."""
    line = json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a JSON-lines file; a line torn by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records

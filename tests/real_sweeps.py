"""hw2 vit-sweep as a program of its own: its command line, what it computed, and its workers."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = "from hwcli.cli import main; main()"
# Workers notice within this time that their driver is gone.
LEAVES_WITHIN_S = 30


def command(out: Path, *more: str, grid: Sequence[str]) -> list[str]:
    """Return the program and its arguments."""
    return [sys.executable, "-c", PROGRAM, "vit-sweep", *grid, "--out", str(out), *more]


def summary_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the summary whose path a sweep that succeeded printed last."""
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(Path(done.stdout.splitlines()[-1]).read_text())
    return content


def numbers(out: Path) -> dict[str, Any]:
    """Return everything that the sweeps in a folder computed, by trial and run; no times."""
    found: dict[str, Any] = {}
    for folder in (out / "vit-sweep" / "trials").iterdir():
        result = json.loads((folder / "result.json").read_text())
        del result["train_s"], result["trained_on"]
        epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for epoch in epochs:
            del epoch["train_s"], epoch["examples_per_s"]
        predictions = (folder / "predictions.safetensors").read_bytes()
        found[folder.name] = (result, epochs, predictions)
    for summary in sorted(out.glob("vit-sweep/*/summary.json")):
        cells = json.loads(summary.read_text())["cells"]
        for cell in cells:
            del cell["train_s"]
        found[summary.parent.name] = cells
    return found


def children_of(pid: int) -> list[int]:
    """Return the worker processes of a running sweep (Linux)."""
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in tasks.read_text().split()] if tasks.exists() else []
    return [child for child in found if b"spawn_main" in _command_line(child)]


def is_alive(pid: int) -> bool:
    """Tell whether a process exists that is no zombie (Linux)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int]) -> None:
    """Wait for workers whose driver is dead.

    Raises:
        TimeoutError: one is still there after half a minute.
    """
    deadline = time.monotonic() + LEAVES_WITHIN_S
    while any(map(is_alive, pids)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"workers {pids} outlived their driver")
        time.sleep(0.05)


def _command_line(pid: int) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""

"""The grid that both clusters train, and what a test waits for and reads of its trials."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Long enough that what is killed after its first epoch is never about to end.
NUM_EPOCHS = 7
NUM_TRIALS = 4
GRID = ["--layers", "1..2", "--heads", "2..3", "--epochs", str(NUM_EPOCHS), "--train-limit", "3000"]


def wait_until(condition: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


def finished_epochs(folder: Path) -> list[int]:
    """Return the epochs that a trial's workers, all of them, said they had finished."""
    lines = (folder / "messages.jsonl").read_text().splitlines()
    messages = [json.loads(line) for line in lines if line]
    finished = [m["progress"]["finished"] for m in messages if m["kind"] == "progress"]
    return [epoch["epoch"] for epoch in finished if epoch is not None]

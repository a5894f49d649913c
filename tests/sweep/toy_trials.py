"""Trial functions for the tests of the sweep: small, and real enough to die."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from hwcli.config import Section
from hwcli.sweep.store import TrialFolder
from hwcli.sweep.trial import Trial
from hwcli.training.progress import Epoch, Progress

OnProgress = Callable[[Progress], None]


class ToyConfig(Section):
    number: int
    behaviour: str = "work"
    num_steps: int = 3
    step_s: float = 0.0


BROKEN = False
"""Whether a trial broke this process, as a GPU's kernel that fails does."""


def is_broken() -> bool:
    return BROKEN


def toy_trial(config: ToyConfig, folder: TrialFolder, on_progress: OnProgress) -> dict[str, Any]:
    """Count to num_steps, keeping each step; fail, hang or die as told."""
    global BROKEN
    if BROKEN:
        raise ValueError("an earlier trial broke this process")
    if config.behaviour == "break the process":
        BROKEN = True
        raise ValueError("told to break it")
    if config.behaviour == "raise":
        print("about to fail")
        raise ValueError("told to")
    if config.behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    start = int(folder.checkpoint.read_text()) if folder.checkpoint.exists() else 0
    for step in range(start, config.num_steps):
        time.sleep(config.step_s)
        folder.checkpoint.write_text(str(step + 1))
        with (folder.path / "steps.txt").open("a") as file:
            file.write(f"{step}\n")
        epoch = Epoch(step, 1 / (step + 1), 0.5, 0.7, 0.5 + step / 10, 1.0, 7.0)
        on_progress(Progress(step + 1, config.num_steps, step, config.num_steps, finished=epoch))
        dies = config.behaviour == "die once" and start == 0 and step == 1
        if dies or (config.behaviour == "die at every step" and step + 1 < config.num_steps):
            os.kill(os.getpid(), signal.SIGKILL)
    if config.behaviour == "fail at the end":
        raise ValueError("told to, at the end")
    folder.write_epochs(
        [{"epoch": step, "valid_accuracy": 0.5 + step / 10} for step in range(config.num_steps)]
    )
    return {"square": config.number**2, "threads": os.environ["OMP_NUM_THREADS"]}


def toy(number: int, **more: Any) -> Trial:
    """Make a trial."""
    config = ToyConfig(number=number, **more)
    return Trial(config, {"number": number}, facts={"recipe": 1}, cost=float(number))

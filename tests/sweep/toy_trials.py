"""Trial functions for the tests of the sweep: small, and real enough to die."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from hwcli.config import Section
from hwcli.sweep.store import TrialFolder
from hwcli.sweep.trial import Trial

Report = Callable[[dict[str, Any]], None]


class ToyConfig(Section):
    number: int
    behaviour: str = "work"
    num_steps: int = 3
    step_s: float = 0.0


def toy_trial(config: ToyConfig, folder: TrialFolder, report: Report) -> dict[str, Any]:
    """Count to num_steps, keeping each step; fail, hang or die as told."""
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
        report({"epoch": step, "num_epochs": config.num_steps, "share": step / config.num_steps})
        if config.behaviour == "die once" and start == 0 and step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return {"square": config.number**2, "threads": os.environ["OMP_NUM_THREADS"]}


def toy(number: int, **more: Any) -> Trial:
    """Make a trial."""
    config = ToyConfig(number=number, **more)
    return Trial(config, {"number": number}, facts={"recipe": 1}, cost=float(number))

"""One attempt at a trial, the same in every process that makes one, near or far.

A worker owns the trial it trains through the trial's lock, writes the result itself and only then
says so, which makes the files the truth: a message can be lost, a result cannot.
"""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from hwcli.sweep.launcher import TrialFunction
from hwcli.sweep.store import TrialFolder
from hwcli.sweep.trial import Trial

Ending = Literal["done", "failed", "busy", "disk"]
"""How an attempt ended; ``disk``: it is full, and nothing more can be kept."""


def attempt(
    trial: Trial,
    function: TrialFunction,
    folder: TrialFolder,
    report: Callable[[dict[str, Any]], None],
    *,
    lock_timeout_s: float = 0.0,
) -> tuple[Ending, dict[str, Any]]:
    """Train a trial, from its checkpoint if there is one, and store its result.

    Args:
        trial: which.
        function: trains it.
        folder: where it lives.
        report: gets what the function reports.
        lock_timeout_s: wait this long for another process that trains it.

    Returns:
        How it ended, and its result or a ``reason``.
    """
    try:
        folder.prepare(trial)
        with folder.lock.acquire(timeout=lock_timeout_s):
            result = folder.result()  # another program may have finished it just now
            if result is None:
                _write_output_to(folder.log)
                result = function(trial.config, folder, report)
                folder.finish(result)
            return "done", result
    except Timeout:
        return "busy", {}
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "disk", {"reason": error.strerror}
        traceback.print_exc()
        sys.stderr.flush()
        return "failed", {"reason": f"{type(error).__name__}: {error}"}


def _write_output_to(path: Path) -> None:
    """Send this process's output to a file: warnings must not tear the live view."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

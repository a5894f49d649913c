"""One attempt at a trial, the same in every process that makes one, near or far.

A worker owns the trial it trains, writes the result itself and only then reports it: a message
can be lost, a result cannot, so the result file, not the message, is authoritative.
"""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from hwcli.errors import OutputError
from hwcli.locks import share_like_its_folder
from hwcli.sweep.events import TrialFunction
from hwcli.sweep.ownership import OwnershipLostError
from hwcli.sweep.store import TrialFolder
from hwcli.sweep.trial import Trial
from hwcli.training.progress import Progress

Ending = Literal["done", "failed", "busy", "unwritable"]
"""How an attempt ended; ``unwritable``: the results folder is full or not ours to write."""

# Others look at a trial for a moment at most; who trains it keeps it longer than this.
LOCK_TIMEOUT_S = 0.5
# What any write may meet on a disk that is full, was removed, or went read-only.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}


def attempt(
    trial: Trial,
    function: TrialFunction,
    folder: TrialFolder,
    on_progress: Callable[[Progress], None],
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> tuple[Ending, dict[str, Any]]:
    """Train a trial, from its checkpoint if there is one, and store its result.

    Args:
        trial: which.
        function: trains it.
        folder: where it lives.
        on_progress: gets what the function reports, after finished epochs are stored.
        lock_timeout_s: wait this long for another process that trains it.

    Returns:
        How it ended, and its result or a ``reason``.
    """
    try:
        folder.prepare(trial)
        with folder.own(lock_timeout_s) as ownership:
            if not ownership.taken:
                return "busy", {}
            result = folder.result()  # another program may have finished it just now
            if result is None:
                _write_output_to(folder.log)

                def record(progress: Progress) -> None:
                    ownership.confirm(progress.share)
                    if progress.finished is not None:
                        folder.append_epoch(asdict(progress.finished))
                    on_progress(progress)

                result = function(trial.config, folder, record)
                ownership.confirm()
                folder.finish(result)
            return "done", result
    except OwnershipLostError:
        return "busy", {}
    except OutputError as error:
        return "unwritable", {"reason": str(error)}
    except Exception as error:
        if isinstance(error, OSError) and (
            error.errno in UNWRITABLE or str(error.filename).startswith(str(folder.path))
        ):
            return "unwritable", {"reason": f"{folder.path}: {error.strerror or error}"}
        traceback.print_exc()
        sys.stderr.flush()
        return "failed", {"reason": f"{type(error).__name__}: {error}"}


def _write_output_to(path: Path) -> None:
    """Send this process's output to a file: warnings must not tear the live view.

    Raises:
        OSError: the file cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    try:
        file = path.open("a")
    except PermissionError:  # another user's: a log is written for whoever trains now
        path.unlink()
        file = path.open("a")
    share_like_its_folder(path)
    with file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

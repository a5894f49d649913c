"""What a trial's function is, and what is heard of a trial while and after it trains."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hwcli.sweep.store import TrialFolder
from hwcli.sweep.trial import Trial
from hwcli.training.progress import Progress

TrialFunction = Callable[[Any, TrialFolder, Callable[[Progress], None]], dict[str, Any]]
"""``(config, folder, on_progress) -> result``; importable by name, so that a worker can find it.

It calls ``on_progress`` with a :class:`Progress` now and then, and once after every epoch with
``finished`` set: :func:`hwcli.training.loop.train` does so by itself. What it returns is JSON.
"""

EventKind = Literal["started", "progress", "done", "failed", "busy", "restarted"]


@dataclass(frozen=True)
class Event:
    """Something happened to a trial.

    Attributes:
        kind: ``busy`` means that another program trains it at the moment.
        trial: which.
        progress: of ``progress``.
        result: of ``done``.
        reason: of ``failed`` and ``restarted``.
        log: of ``failed``: the file with what the trial printed, its traceback included.
    """

    kind: EventKind
    trial: Trial
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    reason: str = ""
    log: str = ""

"""Signals that ask the program to stop, raised as Ctrl-C is."""

import os
import signal
import threading
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The system asked the program to stop; handled as Ctrl-C is, with an exit code of its own."""

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {number}")
        self.exit_code = 128 + number


_stopped_by: int = signal.SIGINT


def exit_code_of(error: KeyboardInterrupt) -> int:
    """Return the exit code that tells by which signal the program was stopped.

    Ray raises an interrupt of its own in the place of :class:`Stopped`.
    """
    return getattr(error, "exit_code", 128 + _stopped_by)


def stop_on_signals() -> None:
    """Let SIGTERM (``kill``, ``timeout``, systemd) and SIGHUP (a closed terminal) raise Stopped.

    A signal that is ignored stays ignored, as ``nohup`` wants it. Workers inherit none of this.
    """

    def stop(number: int, _: FrameType | None) -> None:
        global _stopped_by
        _stopped_by = number
        for each in handled:  # the clean-up must not be interrupted in turn
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    handled = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in handled:
        signal.signal(number, stop)


LIFELINE = "HW2_LIFELINE"
"""The variable by which a parent names the end of a pipe that it holds open while it lives."""


def stop_with_parent() -> None:
    """Let the end of a parent that gave a pipe stop the program as ``kill`` does.

    The parent may have been killed so that it could pass no signal on. Neither the pipe nor its
    name is handed on to the program's own children.
    """
    named = os.environ.pop(LIFELINE, None)
    if named is None:
        return
    pipe = int(named)
    os.set_inheritable(pipe, False)

    def wait() -> None:
        os.read(pipe, 1)  # nothing is written: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()

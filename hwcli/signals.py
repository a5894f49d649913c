"""Signals that ask the program to stop, raised as Ctrl-C is."""

import signal
from types import FrameType


class Stopped(KeyboardInterrupt):
    """The system asked the program to stop; handled as Ctrl-C is, with an exit code of its own."""

    def __init__(self, number: int):
        super().__init__(f"stopped by signal {number}")
        self.exit_code = 128 + number


def stop_on_signals() -> None:
    """Let SIGTERM (``kill``, ``timeout``, systemd) and SIGHUP (a closed terminal) raise Stopped.

    A signal that is ignored stays ignored, as ``nohup`` wants it. Workers inherit none of this.
    """

    def stop(number: int, _: FrameType | None) -> None:
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

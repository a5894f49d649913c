"""A parent that gave a pipe stops the program by its end, however it ends."""

import os
import signal
from queue import SimpleQueue
from typing import Any

import pytest

from hwcli import signals


def test_the_end_of_the_parents_pipe_is_as_kill_and_no_child_inherits_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, ours = os.pipe()
    os.set_inheritable(theirs, True)
    monkeypatch.setenv(signals.LIFELINE, str(theirs))
    killed: SimpleQueue[Any] = SimpleQueue()
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.put(arguments))
    signals.stop_with_parent()
    assert signals.LIFELINE not in os.environ
    assert not os.get_inheritable(theirs)
    assert killed.empty()
    os.close(ours)
    assert killed.get(timeout=10) == (os.getpid(), signal.SIGTERM)
    os.close(theirs)

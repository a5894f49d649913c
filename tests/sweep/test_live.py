"""The lines that a running sweep shows fit the terminal, and say what happens."""

import io
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hwcli.sweep.events import Event
from hwcli.sweep.live import LiveView, describe_running, sparkline
from hwcli.training.progress import Epoch, Progress
from tests.sweep.toy_trials import toy

EPOCHS = [Epoch(n, 0.5, 0.8, 0.4, 0.5 + n / 100, 1.0, 1234.0) for n in range(23)]
LATEST = Progress(2300, 4000, 23, 40, loss=0.345, examples_per_s=1234.5)


def test_a_sparkline_goes_from_the_least_to_the_greatest_value() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.25, 0.25]) == "▁▁"


def test_a_running_trial_is_described_with_its_curve_where_there_is_room() -> None:
    wide = describe_running(toy(3), LATEST, EPOCHS, 140)
    assert wide.startswith("  number 3  epoch 24/40  valid 72.00%  loss 0.345  1234 examples/s")
    curve = wide.rpartition("  ")[2]
    assert (len(curve), curve[0], curve[-1]) == (20, "▁", "█")
    narrow = describe_running(toy(3), LATEST, EPOCHS, 80)
    assert narrow == "  number 3  epoch 24/40  valid 72.00%  loss 0.345  1234 examples/s"
    assert describe_running(toy(3), LATEST, EPOCHS, 50) == (
        "  number 3  epoch 24/40  valid 72.00%  loss 0.345"
    )
    assert describe_running(toy(3), None, [], 80) == "  number 3  starting"


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_of_the_view_is_wider_than_the_terminal(width: int) -> None:
    trials = [toy(number) for number in (2, 3, 5)]
    view = LiveView(trials)
    for trial in trials[:2]:
        view.show(Event("started", trial))
        view.show(Event("progress", trial, progress=LATEST))
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(view._render(width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 3
    assert "0/3 trials" in lines[0]
    assert "elapsed" in lines[0]
    assert max(map(len, lines)) <= width
    assert "epoch 24/40" in lines[1]


PROGRAM = """
import sys, time
from hwcli.output import terminal
from hwcli.sweep.events import Event
from hwcli.sweep.live import LiveView
from hwcli.training.progress import Progress
from tests.sweep.toy_trials import toy

trials = [toy(2), toy(3)]
with LiveView(trials) as view:
    for trial in trials:
        view.show(Event("started", trial))
        for step in range(4):
            time.sleep(0.2)
            view.show(Event("progress", trial, progress=Progress(step + 1, 4, step, 4, loss=0.5)))
        print("a library says something")
        terminal.log(f"{trial} is done")
        view.show(Event("done", trial, result={}))
terminal.show("the table")
"""


def test_in_a_terminal_it_draws_and_ends(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "program.py").write_text(PROGRAM)
    reading, writing = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "TERM": "xterm", "COLUMNS": "80"},
        stdin=writing,
        stdout=writing,
        stderr=writing,
    ) as program:
        os.close(writing)
        shown = b""
        try:
            # Reading ends by an error on Linux, and by nothing to read elsewhere.
            while len(shown) < 100_000 and select.select([reading], [], [], 30)[0]:
                if not (part := os.read(reading, 4096)):
                    break
                shown += part
        except OSError:
            pass
        program.kill()
    os.close(reading)
    text = shown.decode()
    assert len(shown) < 100_000
    assert "0/2 trials" in text
    assert "a library says something" in text
    assert "number 3 is done" in text
    assert text.rstrip().endswith("the table")


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_where_colours_are_forced_a_pipe_still_gets_lines(name: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    root = Path(__file__).parents[2]
    shown = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "TERM": "xterm", name: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr.splitlines() == ["number 2 is done", "number 3 is done"]
    assert shown.stdout.splitlines()[-1] == "the table"


def test_where_nobody_watches_a_line_says_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    trial = toy(3)
    view = LiveView([trial])
    view.show(Event("started", trial))
    view.show(Event("progress", trial, progress=Progress(1, 4, 0, 4, finished=EPOCHS[0])))
    view.show(Event("progress", trial, progress=Progress(1, 4, 0, 4, note="a note")))
    stopped = "process 7 is stopped"
    for reason in ("", "", stopped, stopped, "", stopped):
        view.show(Event("busy", trial, reason=reason))
    view.show(Event("failed", trial, reason="it broke"))
    assert capsys.readouterr().err.splitlines() == [
        "number 3: epoch 1/4  loss 0.500  valid loss 0.400  valid 50.00%  1234 examples/s",
        "number 3: a note",
        "number 3: already training in another process; will use its result",
        "number 3: already training in another process; will use its result (process 7 is stopped)",
        "number 3: already training in another process; will use its result (process 7 is stopped)",
        "number 3: failed: it broke",
    ]

"""The run ends whole whoever reads its output, and however it is stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
needs_a_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="there is no /dev/full here"
)
# A stand-in for an experiment: it shows a table with letters that not every terminal has.
PROGRAM = """
import sys, time
from pathlib import Path
from hwcli import cli
from hwcli.config import RunConfig
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder, Summary
from hwcli.output.tables import Column, Table

def app(**_):
    out, waits = Path(sys.argv[1]), "wait" in sys.argv
    with RunFolder(out, "command", "n", terminal.log) as folder:
        folder.claim(RunConfig(name="n"), {})
        with terminal.held_back():
            for line in range(50):
                terminal.log(f"epoch {line} – accuracy ±1 %")
            terminal.show(Table("Ränge – α", [Column("a", "a")], [{"a": "±"}] * 2000))
            if waits:
                print("ready", file=sys.__stderr__, flush=True)
                time.sleep(60)
            path = folder.finish(Summary(command="command", name="n", status="complete"))
        terminal.show_path(path)

cli.app = app
cli.main()
"""


def command(
    tmp_path: Path, redirection: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} program.py out {redirection}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )


@pytest.mark.parametrize(
    ("redirection", "environment", "said"),
    [
        ("| head -1", {}, ""),
        ("| true", {}, ""),
        pytest.param(
            ">/dev/full",
            {},
            "standard output could not be written (No space left on device)",
            marks=needs_a_full_device,
        ),
        pytest.param("2>/dev/full", {}, "", marks=needs_a_full_device),
        ("2>&1 >/dev/null | head -1", {}, ""),
        ("", {"PYTHONIOENCODING": "latin-1"}, "epoch 3 "),
        ("", {"PYTHONIOENCODING": "ascii"}, "epoch 3 "),
        ("<&-", {}, "epoch 3"),
        (">&-", {}, "epoch 3"),
        ("2>&-", {}, ""),
        ("<&- >&- 2>&-", {}, ""),
    ],
)
def test_the_run_is_whole_whoever_reads_it(
    tmp_path: Path, redirection: str, environment: dict[str, str], said: str
) -> None:
    done = command(tmp_path, redirection, **environment)
    assert done.returncode == 0, done.stderr
    summary = tmp_path / "out" / "command" / "n" / "summary.json"
    assert json.loads(summary.read_text())["status"] == "complete"
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_run_as_ctrl_c_does(tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, "program.py", "out", "wait"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started the tests may have these ignored, as nohup does.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as program:
        assert program.stderr is not None
        assert "ready\n" in iter(program.stderr.readline, "")
        program.send_signal(number)
        output, errors = program.communicate(timeout=30)
    assert program.returncode == code
    assert "Traceback" not in errors
    assert output.startswith("Ränge")
    assert not (tmp_path / "out" / "command" / "n" / "summary.json").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_gives_its_own_exit_code_in_a_command_that_is_no_run(
    waiting_command: list[str], number: int, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hwcli", *waiting_command],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as program:
        assert program.stderr is not None
        assert "waiting" in program.stderr.readline()
        program.send_signal(number)
        _, errors = program.communicate(timeout=30)
    assert program.returncode == code
    assert errors == ""

"""All four questions, then the hand-in: what ``hw2 homework`` does.

Each part runs as a command of its own, so a part that fails, or that the system stops for want of
memory, leaves the others and a hand-in that says what is missing. A part that is finished is
reused; one that was stopped goes on where it was, because its command does.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwcli.errors import ConfigError
from hwcli.output import terminal
from hwcli.output.files import read_json
from hwcli.output.tables import Column, Table
from hwcli.report import make

INTERRUPTED = (130, 143, -2, -15)

PartState = Literal["done before", "done", "failed", "to run"]


@dataclass(frozen=True)
class Part:
    """One experiment of the homework.

    Attributes:
        question: its number.
        command: such as ``vit-sweep``.
        name: of its run folder.
        flags: of the command.
    """

    question: int
    command: str
    name: str
    flags: tuple[str, ...] = ()

    def arguments(self, out: Path) -> list[str]:
        """Return the command line after ``hw2``."""
        return [self.command, *self.flags, "--out", str(out)]

    def is_done(self, out: Path) -> bool:
        """Tell whether a finished run is there."""
        try:
            found = read_json(out / self.command / self.name / "summary.json")
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and found.get("status") == "complete"


GRID = ("--layers", "4..8", "--heads", "2..4")
PRESETS: dict[str, tuple[Part, ...]] = {
    "quick": (
        Part(1, "rnn-trace", "alternating-sum", ("--preset", "alternating-sum")),
        Part(2, "attention-bench", "default"),
        Part(3, "vit-sweep", "quick", (*GRID, "--preset", "quick")),
        Part(4, "sentiment-train", "quick", ("--preset", "quick")),
    ),
    "standard": (
        Part(1, "rnn-trace", "alternating-sum", ("--preset", "alternating-sum")),
        Part(2, "attention-bench", "default"),
        Part(3, "vit-sweep", "standard", (*GRID, "--preset", "standard")),
        Part(4, "sentiment-train", "homework", ("--preset", "homework")),
    ),
}


def parts_of(preset: str) -> tuple[Part, ...]:
    """Return the parts of a preset.

    Raises:
        ConfigError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset = {preset!r}: unknown; choices: {', '.join(PRESETS)}")
    return PRESETS[preset]


def run(
    preset: str, out: Path, *, author: str | None = None, acknowledged: Sequence[str] = ()
) -> int:
    """Run the parts that are missing, then make the hand-in; returns the exit code.

    Raises:
        ConfigError: there is no such preset.
    """
    parts = parts_of(preset)
    states: dict[Part, PartState] = {}
    seconds: dict[Part, float] = {}
    started = time.monotonic()
    for number, part in enumerate(parts, 1):
        where = f"part {number} of {len(parts) + 1}, question {part.question}: {part.command}"
        if part.is_done(out):
            terminal.log(f"{where}: already done, reused")
            states[part] = "done before"
            continue
        gone = time.monotonic() - started
        terminal.log(f"{where} ({gone / 60:.0f} min elapsed): hw2 {_spelled(part, out)}")
        before = time.monotonic()
        code = _hw2(part.arguments(out))
        seconds[part] = time.monotonic() - before
        if code in INTERRUPTED:
            terminal.log("stopped; run the same command again to go on")
            return 130
        states[part] = "done" if part.is_done(out) else "failed"
        if states[part] == "failed":
            terminal.log(f"{where} failed (exit code {code}); the other parts go on")
    terminal.log(f"part {len(parts) + 1} of {len(parts) + 1}: the hand-in")
    paths = make.build(
        make.own_runs(out),
        out,
        formats=make.FORMATS,
        author=author,
        acknowledged=acknowledged,
        say=terminal.log,
    )
    terminal.show(_table(parts, states, seconds, out))
    for path in paths:
        terminal.show_path(path)
    return int("failed" in states.values())


def plan(preset: str, out: Path) -> None:
    """Show which parts are done and what each of the others would take on this machine.

    Raises:
        ConfigError: there is no such preset.
    """
    parts = parts_of(preset)
    states: dict[Part, PartState] = {
        part: "done before" if part.is_done(out) else "to run" for part in parts
    }
    terminal.show(_table(parts, states, {}, out))
    for part in parts:
        if states[part] == "to run":
            terminal.log(f"question {part.question}: what {part.command} would do")
            _hw2([*part.arguments(out), "--dry-run"])


def _hw2(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "hwcli", *arguments], check=False).returncode


def _spelled(part: Part, out: Path) -> str:
    return shlex.join(part.arguments(out))


def _table(
    parts: Sequence[Part], states: dict[Part, PartState], seconds: dict[Part, float], out: Path
) -> Table:
    return Table(
        title="The parts of the homework",
        columns=[
            Column("question", "question"),
            Column("state", "state"),
            Column("minutes", "minutes", "{:.1f}"),
            Column("command", "command"),
        ],
        rows=[
            {
                "question": part.question,
                "state": states[part],
                "minutes": seconds[part] / 60 if part in seconds else None,
                "command": f"hw2 {_spelled(part, out)}",
            }
            for part in parts
        ],
    )

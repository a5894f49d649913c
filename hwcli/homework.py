"""All four questions, then the hand-in: what ``hw2 homework`` does.

Each part runs as a command of its own, so a part that fails, or that the system stops for want of
memory, leaves the others and a hand-in that says what is missing. A part that is finished is
reused; one that was stopped goes on where it was, because its command does.
"""

import importlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hwcli import signals
from hwcli.config import load
from hwcli.data.catalogue import IMDB
from hwcli.errors import ConfigError, HwError, short
from hwcli.experiment import Plan
from hwcli.output import terminal
from hwcli.output.files import read_mapping
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table
from hwcli.output.units import duration, size

INTERRUPTED = (129, 130, 143, -1, -2, -15)

PartState = Literal["finished earlier", "differs", "finished", "failed", "missing", "blocked"]

# Prefixes of fields that may differ between two runs that answer the same question.
MAY_DIFFER = (
    *("name", "device", "precision", "kernels", "data_path", "texts", "compare_with"),
    *(f"data.{key}" for key in ("source", "text", "label", "header", "separator", "encoding")),
)


@dataclass(frozen=True)
class Part:
    """One experiment of the homework.

    Attributes:
        question: its number.
        command: such as ``vit-sweep``.
        name: of its run folder.
        preset: of the command.
        values: what the command is told besides, field by field.
    """

    question: int
    command: str
    name: str
    preset: str | None = None
    values: Mapping[str, str] = field(default_factory=dict, hash=False)

    def arguments(self, out: Path) -> list[str]:
        """Return the command line after ``hw2``."""
        preset = [] if self.preset is None else ["--preset", self.preset]
        flags = [text for name, value in self.values.items() for text in (f"--{name}", value)]
        return [self.command, *flags, *preset, "--out", str(out)]

    def plan(self, out: Path) -> Plan:
        """Return what the part would do and take.

        Raises:
            HwError: it cannot be run here.
        """
        with RunFolder(out, self.command, self.name, terminal.log) as folder:
            planned: Plan = self._experiment().plan(self._config(), folder)
        return planned

    def _experiment(self) -> Any:
        return importlib.import_module(f"hwcli.experiments.{self.command.replace('-', '_')}")

    def _config(self) -> Any:
        model = self._experiment().Config
        return load(model, self.command, preset=self.preset, flags=self.values)

    def is_done(self, out: Path) -> bool:
        """Tell whether a finished run is there, whatever its settings are."""
        found = read_mapping(out / self.command / self.name / "summary.json")
        return found.get("status") == "complete"

    def look_at(self, out: Path) -> tuple[PartState, str]:
        """Return whether a finished run answers the question, and in which settings it differs.

        A run that the part's command extends is missing, too.
        """
        if not self.is_done(out):
            return "missing", ""
        config = self._config()
        folder = out / self.command / self.name
        try:
            earlier = load(type(config), self.command, path=folder / "config.yaml")
        except HwError:
            return "differs", "its config.yaml cannot be read"
        told = _other_data(folder)
        if not told:
            if earlier.contains(config):
                return "finished earlier", ""
            if config.contains(earlier):
                return "missing", ""
        told += [
            f"{key} {short(there)}, not {short(here)}"
            for key, (there, here) in config.differences_from(earlier).items()
            if not key.startswith(MAY_DIFFER) and not _is_wider(there, here)
        ]
        return ("differs" if told else "finished earlier"), ", ".join(told)


def _other_data(folder: Path) -> list[str]:
    """Name the reviews of a run that is not of IMDB."""
    found = str(read_mapping(folder / "summary.json").get("dataset", IMDB.name))
    is_imdb = found in (IMDB.name, *IMDB.source.names) or IMDB.name in found.lower()
    return [] if is_imdb else [f"its reviews are {short(found)}"]


def _is_wider(there: object, here: object) -> bool:
    """Tell whether a list of values (an axis, seeds) holds all of another one."""
    if not (isinstance(there, list) and isinstance(here, list)):
        return False
    return set(map(str, here)) <= set(map(str, there))


GRID = {"layers": "4..8", "heads": "2..4"}
FIRST = (
    Part(1, "rnn-trace", "alternating-sum", "alternating-sum"),
    Part(2, "attention-bench", "default"),
)
PRESETS: dict[str, tuple[Part, ...]] = {
    "quick": (
        *FIRST,
        Part(3, "vit-sweep", "quick", "quick", GRID),
        Part(4, "sentiment-train", "quick", "quick"),
    ),
    "standard": (
        *FIRST,
        Part(3, "vit-sweep", "standard", "standard", GRID),
        Part(4, "sentiment-train", "homework", "homework"),
    ),
}
# The hand-in: its notebook is executed, and its PDF and page are set.
HAND_IN_S = 60.0


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
        HwError: a package that the hand-in is made with is missing.
    """
    from hwcli.report import make  # its packages are not needed for a dry run

    parts = parts_of(preset)
    # Hours of training must not end without a hand-in.
    make.check_tools(make.FORMATS)
    states: dict[Part, PartState] = {}
    seconds: dict[Part, float] = {}
    started = time.monotonic()
    for number, part in enumerate(parts, 1):
        where = f"part {number} of {len(parts) + 1}, question {part.question}: {part.command}"
        states[part], why = part.look_at(out)
        if states[part] != "missing":
            terminal.log(f"{where}: already done, reused" + (f" as it is ({why})" if why else ""))
            if why:
                terminal.log(f"the homework's own instead: {_spelled(part, out)} --replace")
            continue
        gone = time.monotonic() - started
        terminal.log(f"{where} ({gone / 60:.0f} min elapsed): {_spelled(part, out)}")
        before = time.monotonic()
        code = _hw2(part.arguments(out))
        seconds[part] = time.monotonic() - before
        if code in INTERRUPTED:
            terminal.log("stopped; run the same command again to continue")
            return code if code > 0 else 128 - code
        # A smaller grid that the part was to extend is finished, too.
        states[part] = "finished" if code == 0 and part.is_done(out) else "failed"
        if states[part] == "failed":
            terminal.log(f"{where} failed (exit code {code}); the other parts continue")
    terminal.log(f"part {len(parts) + 1} of {len(parts) + 1}: the hand-in")
    paths = make.build(
        make.own_runs(out),
        out,
        formats=make.FORMATS,
        author=author,
        acknowledged=acknowledged,
        say=terminal.log,
    )
    terminal.show(_table(parts, states, {"time": seconds}, out))
    for path in paths:
        terminal.show_path(path)
    return int("failed" in states.values())


def plan(preset: str, out: Path) -> None:
    """Show which parts are done, and what each of the others takes on this machine.

    Raises:
        ConfigError: there is no such preset.
    """
    parts = parts_of(preset)
    states: dict[Part, PartState] = {}
    plans: dict[Part, Plan] = {}
    for part in parts:
        states[part], _ = part.look_at(out)
        if states[part] == "missing":
            terminal.log(f"question {part.question}: timing a little of {part.command}")
            try:
                plans[part] = part.plan(out)
            except HwError as error:
                states[part] = "blocked"
                terminal.log(f"question {part.question}: {error}")
    terminal.show(plan_table(parts, states, plans, out))


def _hw2(arguments: Sequence[str]) -> int:
    """Run a part; return its exit code, or how this process was stopped, once the part is gone."""
    stopped = None
    command = [sys.executable, "-m", "hwcli", *arguments]
    # Held open as long as this process lives, even one that `kill -9` ends: its part then stops.
    theirs, ours = os.pipe()
    environment = {**os.environ, signals.LIFELINE: str(theirs)}
    with (
        os.fdopen(ours, "wb"),
        subprocess.Popen(command, env=environment, pass_fds=[theirs]) as part,
    ):
        os.close(theirs)
        while True:
            try:
                code = part.wait()
                return code if stopped is None else stopped
            except KeyboardInterrupt as error:
                # A terminal's Ctrl-C goes to the part, too; another signal to this process alone.
                stopped = signals.exit_code_of(error)
                if stopped != 130:
                    part.send_signal(stopped - 128)


def _spelled(part: Part, out: Path) -> str:
    return f"hw2 {shlex.join(part.arguments(out))}"


def plan_table(
    parts: Sequence[Part], states: Mapping[Part, PartState], plans: Mapping[Part, Plan], out: Path
) -> Table:
    """Return what each part takes: those that are planned, and the others without figures."""
    seconds = sum(planned.seconds or 0.0 for planned in plans.values()) + HAND_IN_S
    figures: Mapping[str, Mapping[Part, float | None]] = {
        "time": {part: planned.seconds for part, planned in plans.items()},
        "memory": {part: planned.memory_bytes for part, planned in plans.items()},
        "disk": {part: planned.disk_bytes for part, planned in plans.items()},
    }
    note = (
        f"About {duration(seconds)} in all on this machine, as busy as it is now. "
        "`hw2 COMMAND ... --dry-run` shows a part in detail. Nothing was run."
    )
    return _table(parts, states, figures, out, [note])


SPELLED: Mapping[str, Callable[[float], str]] = {"time": duration, "memory": size, "disk": size}


def _table(
    parts: Sequence[Part],
    states: Mapping[Part, PartState],
    figures: Mapping[str, Mapping[Part, float | None]],
    out: Path,
    notes: Sequence[str] = (),
) -> Table:
    """Return the state and the command of each part, and what is known of it by its name."""
    return Table(
        title="The parts of the homework",
        columns=[
            Column("question", "question", priority=0),
            Column("state", "state", priority=0),
            *(Column(name, name, SPELLED[name], priority=0) for name in figures),
            Column("command", "command", priority=1),
        ],
        rows=[
            {
                "question": part.question,
                "state": states[part],
                **{name: known.get(part) for name, known in figures.items()},
                "command": _spelled(part, out),
            }
            for part in parts
        ],
        notes=notes,
    )

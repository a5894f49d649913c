"""What a person sees of a long line."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from hwcli.output import terminal

LINE = (
    "The run would take about 48 s on this machine, as busy as it is now, 2.4 GB of memory and "
    "5 MB of disk. Nothing was run."
)
PATH = "/home/ada/a-folder-that-is-long/and-another-one/results/vit-sweep/standard/table.md"


class Screen(io.StringIO):
    """A stream with a terminal behind it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [20, 60, 80, 140])
def test_a_long_line_is_shown_whole_and_broken_at_spaces(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Screen()
    watched = Console(file=shown, width=width, highlight=False)
    monkeypatch.setattr(terminal, "progress", watched)
    terminal.log(f"{LINE}\n\n{PATH} is written")
    lines = shown.getvalue().splitlines()
    assert " ".join(" ".join(lines).split()) == f"{LINE} {PATH} is written"
    assert all(len(line) <= width for line in lines if PATH not in line)
    assert any(PATH in line for line in lines)  # people copy it
    assert "" in lines


@pytest.mark.parametrize("name", ["NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"])
def test_where_nobody_watches_lines_stay_whole_and_tables_wide(name: str) -> None:
    program = f"from hwcli.output import terminal as t; t.log('{LINE}'); print(t.output.width)"
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, name: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (shown.stderr, shown.stdout) == (f"{LINE}\n", "160\n")

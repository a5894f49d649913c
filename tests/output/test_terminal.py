"""What a person sees of a long line."""

import io

import pytest
from rich.console import Console

from hwcli.output import terminal

LINE = (
    "The run would take about 48 s on this machine, as busy as it is now, 2.4 GB of memory and "
    "5 MB of disk. Nothing was run."
)
PATH = "/home/ada/a-folder-that-is-long/and-another-one/results/vit-sweep/standard/table.md"


@pytest.mark.parametrize("width", [20, 60, 80, 140])
def test_a_long_line_is_shown_whole_and_broken_at_spaces(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    watched = Console(file=shown, width=width, force_terminal=True, highlight=False)
    monkeypatch.setattr(terminal, "progress", watched)
    terminal.log(f"{LINE}\n\n{PATH} is written")
    lines = shown.getvalue().splitlines()
    assert " ".join(" ".join(lines).split()) == f"{LINE} {PATH} is written"
    assert all(len(line) <= width for line in lines if PATH not in line)
    assert any(PATH in line for line in lines)  # people copy it
    assert "" in lines


def test_where_nobody_watches_a_line_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "progress", Console(file=shown, width=60, highlight=False))
    terminal.log(LINE)
    assert shown.getvalue() == LINE + "\n"

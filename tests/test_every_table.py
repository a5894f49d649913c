"""Every table that a command shows is whole at any width of the terminal."""

from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from hwcli import homework
from hwcli.attention.bench.results import AttentionSummary
from hwcli.attention.bench.tables import all_tables as attention_tables
from hwcli.cli import app
from hwcli.experiment import Plan
from hwcli.output import terminal
from hwcli.output.tables import Table
from hwcli.report.runs import read_run
from hwcli.sentiment.summary import SentimentSummary
from hwcli.sentiment.tables import all_tables as sentiment_tables
from hwcli.sweep.status import status_table, trials_table
from hwcli.vision.summary import VitSweepSummary
from hwcli.vision.tables import cells_table, comparison_table, grid_table, plan_table
from tests.output.whole_tables import hold_whole

REFERENCE = Path(__file__).parents[1] / "results" / "reference"


def shown_by(*arguments: str) -> list[Table]:
    """Return the tables that a command shows."""
    found: list[Table] = []
    with mock.patch.object(terminal, "show", found.append):
        app(list(arguments), standalone_mode=False)
    return found


def of_attention() -> Iterator[tuple[str, Table]]:
    for path in sorted(REFERENCE.glob("attention-bench/*")):
        for table in attention_tables(read_run(path).read(AttentionSummary)):
            yield f"{path.name}: {table.title}", table


def of_sentiment() -> Iterator[tuple[str, Table]]:
    for path in sorted(REFERENCE.glob("sentiment-train/*")):
        for table in sentiment_tables(read_run(path).read(SentimentSummary)):
            yield f"{path.name}: {table.title}", table


def of_vision() -> Iterator[tuple[str, Table]]:
    for path in sorted(REFERENCE.glob("vit-sweep/*")):
        found = read_run(path).read(VitSweepSummary)
        yield f"{path.name}: cells", cells_table(found)
        yield f"{path.name}: grid", grid_table(found)
        if found.comparison is not None:
            yield f"{path.name}: compared", comparison_table(found.comparison, found.axes)
    row = {"layers": 8, "heads": 4, "seed": 0, "state": "interrupted", "num_params": 271_690,
           "flops": 2.35e14, "estimate": "12 min 07 s"}  # fmt: skip
    yield "dry run", plan_table("vit-sweep standard: 15 trials", found.axes, [row], ["A note."])


def of_tools() -> Iterator[tuple[str, Table]]:
    yield "status", status_table(REFERENCE)
    yield "status, trials", trials_table(REFERENCE)
    yield from (("hw2 data", table) for table in shown_by("data"))
    yield from (("hw2 config presets", table) for table in shown_by("config", "presets"))
    parts = homework.PRESETS["standard"]
    plans = {part: Plan("", 3723.0, 4_000_000_000, 120_000_000) for part in parts}
    yield (
        "homework",
        homework.plan_table(parts, dict.fromkeys(parts, "missing"), plans, Path("out")),
    )


# A maker of tables, and how many it makes at least.
KINDS: dict[str, tuple[Callable[[], Iterator[tuple[str, Table]]], int]] = {
    "attention-bench": (of_attention, 10),
    "sentiment-train": (of_sentiment, 10),
    "vit-sweep": (of_vision, 10),
    "tools": (of_tools, 5),
}


@pytest.fixture(scope="module", params=KINDS)
def tables(request: pytest.FixtureRequest) -> dict[str, Table]:
    """The tables of the reference runs of a kind, or those about runs, by a name each."""
    make, at_least = KINDS[request.param]
    found = dict(make())
    assert len(found) >= at_least
    return found


@pytest.mark.parametrize("width", [80, 100, 140])
def test_they_are_whole(tables: dict[str, Table], width: int) -> None:
    for name, table in tables.items():
        print(name)
        hold_whole(table, width)

import csv
import io

import pytest

from hwcli.output import terminal
from hwcli.output.tables import Column, Table
from tests.output.whole_tables import hold_whole

TABLE = Table(
    title="Accuracy & time",
    columns=[
        Column("kind", "kind of_thing"),
        Column("accuracy", "accuracy", "{:.1%}"),
        Column("time_s", "time", lambda s: f"{s:.0f} s"),
    ],
    rows=[
        {"kind": "a|b", "accuracy": 0.98765, "time_s": 61.4},
        {"kind": "two\nlines", "accuracy": None, "time_s": 2},
    ],
    notes=["± is the error", "* best of all"],
)


def test_csv_holds_raw_values_under_their_keys() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.to_csv())))
    assert rows[0] == {"kind": "a|b", "accuracy": "0.98765", "time_s": "61.4"}
    assert rows[1]["accuracy"] == ""


def test_markdown_shows_formatted_cells_and_escapes_pipes() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert lines[2] == "| kind of_thing | accuracy | time |"
    assert lines[3] == "| --- | ---: | ---: |"
    assert lines[4] == r"| a\|b | 98.8% | 61 s |"
    assert lines[5] == "| two<br>lines | – | 2 s |"
    assert lines[-3:] == ["± is the error", "", r"\* best of all"]


def test_the_terminal_shows_every_cell_in_full() -> None:
    with terminal.output.capture() as captured:
        terminal.show(TABLE)
    for text in ("Accuracy & time", "kind of_thing", "a|b", "98.8%", "two", "lines", "61 s", "±"):
        assert text in captured.get()


def test_the_terminal_reads_no_markup_in_a_title_or_a_note() -> None:
    note = "RuntimeError: [enforce fail at alloc_cpu.cpp:118] [/bold]"
    with terminal.output.capture() as captured:
        terminal.show(Table("Runs in hw2 [late]", [Column("name", "name")], [], [note]))
    shown = "".join(captured.get().split())
    for text in ("Runs in hw2 [late]", note):
        assert text.replace(" ", "") in shown


WIDE = Table(
    "Every column that a command has",
    [
        Column("name", "name", priority=0),
        Column("accuracy", "test accuracy (mean over seeds)", "{:.2%}"),
        Column("parameters", "trainable parameters", "{:,}", priority=3),
        Column("time", "training time per network", "{:.1f} minutes", priority=2),
        Column("machine", "trained on", priority=4),
        Column("note", "what a reader should know", priority=1),
    ],
    [
        {
            "name": "four-layers",
            "accuracy": 0.92345,
            "parameters": 112_241_409,
            "time": 1234.5,
            "machine": "Intel Xeon Platinum\nAMD EPYC",
            "note": "not significantly different from the best (Holm-corrected)",
        },
        {"name": "linear", "accuracy": None, "parameters": 7, "note": "failed"},
    ],
    ["A note that is longer than the narrowest terminal of those that this test tries, by far."],
)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_word_and_no_number_is_broken_at_any_width(width: int) -> None:
    hold_whole(WIDE, width)
    if width == 140:
        assert WIDE.fit(width) == (WIDE.columns, [])


def test_columns_are_left_out_by_priority() -> None:
    _, left_out = WIDE.fit(66)
    assert [column.key for column in left_out] == ["parameters", "machine"]

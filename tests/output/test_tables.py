import csv
import io

from hwcli.output import terminal
from hwcli.output.tables import Column, Table

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

"""People's files, as they are: every ending, encoding, separator and line end."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from hwcli.data.cache import Found
from hwcli.errors import SourceError
from hwcli.sentiment.columns import DataConfig, LabelNames, spell
from hwcli.sentiment.files import split_lines
from hwcli.sentiment.layouts import open_file, read, read_file
from hwcli.sentiment.reviews import Reviews
from tests.sentiment.made_up_files import (
    EXPECTED,
    LABELS,
    PLAIN,
    TEXTS,
    as_csv,
    as_objects,
    as_parquet,
    as_zip,
)

FILES: dict[str, Callable[[], bytes]] = {
    "a.csv": as_csv,
    "A.CSV": as_csv,
    "semicolons.csv": lambda: as_csv(";"),
    "a.tsv": lambda: as_csv("\t"),
    "a.tab": lambda: as_csv("\t"),
    "unquoted.tsv": lambda: (
        b"text\tlabel\n"
        + b"".join(f"{t}\t{x}\n".encode() for t, x in zip(TEXTS, LABELS, strict=True))
    ),
    "no header.txt": lambda: b"".join(
        f"{t}\t{x}\r\n".encode() for t, x in zip(TEXTS, LABELS, strict=True)
    ),
    "marked.csv": lambda: b"\xef\xbb\xbf" + as_csv(),
    "utf16.csv": lambda: as_csv().decode().encode("utf-16"),
    "a.csv.gz": lambda: gzip.compress(as_csv()),
    "really gzip.csv": lambda: gzip.compress(as_csv()),
    "a.csv.bz2": lambda: bz2.compress(as_csv()),
    "a.csv.xz": lambda: lzma.compress(as_csv()),
    "really xz.csv": lambda: lzma.compress(as_csv()),
    "a.csv.zip": as_zip,
    "archive.zip": as_zip,
    "Archive.ZIP": lambda: as_zip(**{"films/a.tsv": as_csv("\t"), "films/.DS_Store": b""}),
    "from a mac.zip": lambda: as_zip(**{"a.parquet": as_parquet(), "__MACOSX/._a.parquet": b"?"}),
    "packed twice.zip": lambda: as_zip(**{"a.jsonl.gz": gzip.compress(FILES["a.jsonl"]())}),
    "no ending inside.csv.zip": lambda: as_zip(data=as_csv()),
    "a zip.csv": as_zip,
    "a.json": lambda: json.dumps(as_objects()).encode(),
    "wrapped.json": lambda: json.dumps({"data": as_objects()}).encode(),
    "columns.json": lambda: json.dumps({"text": TEXTS, "label": LABELS}).encode(),
    "pandas.json": lambda: json.dumps(
        {
            "text": {str(i): t for i, t in enumerate(TEXTS)},
            "label": {str(i): x for i, x in enumerate(LABELS)},
        }
    ).encode(),
    "lines.json": lambda: "\n".join(map(json.dumps, as_objects())).encode(),
    "a.jsonl": lambda: "\n".join(map(json.dumps, as_objects())).encode() + b"\n\n",
    "marked.ndjson": lambda: b"\xef\xbb\xbf" + "\n".join(map(json.dumps, as_objects())).encode(),
    "a.parquet": as_parquet,
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_reviews(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name]())
    assert read_file(tmp_path / name, PLAIN) == EXPECTED


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"text": "review", "label": "sentiment"}, "column 'review' is taken for the text"),
        ({"text": "Review", "label": "Liked"}, "column 'Liked' is taken for the label"),
        ({"text": "sentence", "label": "label"}, "column 'sentence' is taken for the text"),
        ({"text": "what", "label": "label"}, "column 'what' is taken for the text"),
        ({"text": "text", "label": "what"}, "column 'what' is taken for the label"),
    ],
)
def test_a_guess_is_told(columns: dict[str, str], line: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(as_csv(**columns))
    told: list[str] = []
    assert read_file(tmp_path / "a.csv", PLAIN, told.append) == EXPECTED
    assert any(line in each for each in told)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (
            "a.csv",
            "text,mark\nx,5\n",
            "which column is the label? columns: text, mark; write --set",
        ),
        ("a.csv", "I loved it\nI hated it\n", "is the first row a header (I loved it)? write"),
        ("a.csv", "one,two\nx,y\n", "which column is the text? columns: one, two; write --set"),
        ("a.csv", "text,rating,feedback\nx,5,1\n", "columns 'rating' and 'feedback' could each be"),
        ("a.csv", "0\nI loved it\n", "is the first row a header (0)? write"),
        ("a.csv", "0,1\nI loved it,1\nbad,0\n", "is the first row a header (0, 1)? write"),
        ("a.csv", "text,is_negative\nx,1\ny,0\n", "{negative: [LABEL], positive: [LABEL]}'"),
        ("a.csv", "text,label\nx,Fresh\ny,Rotten\n", "{negative: [LABEL], positive: [LABEL]}'"),
        ("a.csv", "id,feedback\n7,I love it so\n", "which column is the text? columns: id, feed"),
        ("a.csv", "text,text,label\nx,y,1\n", "write --set data.text_column=1 (or another one)"),
        ("a.csv", "text,stars\nx,1\ny,1\n", "row 1: label '1': which labels mean what?"),
        ("a.csv", "text,label\nx,1\ny,2\n", "row 2: label '2': which labels mean what?"),
        ("a.csv", "text,label\nx,0\ny,4\n", "negative: [0], positive: [4]}'"),
        ("a.csv", "text,label\nx,neutral\ny,neg\nz,pos\n", "{negative: [neg], positive: [pos]}'"),
        ("a.csv", "text,label\n", "no reviews in it"),
        ("a.csv", "", "no rows in it"),
        ("a.csv", "text,label\nx,1\ny\n", "row 2 has 1 fields where 2 are expected"),
        ("a.csv", "text,label\nx, y,1\n", "a text that holds ',' needs quotes around it"),
        ("a.csv", "text,label\nx,\n", "row 1 has no label in column 'label'"),
        ("a.csv", 'text,label\n"x,1\n', "cannot be read (unexpected end of data)"),
        ("a.jsonl", '{"text": "x", "label"', "line 1 is not JSON"),
        ("a.jsonl", "[1]\n", "row 1 is a list, not an object with a text"),
        ("a.jsonl", '{"text": 7, "label": 1}\n', "row 1 has a number in place of a text"),
        ("a.jsonl", '{"text": null, "label": 1}\n', "row 1 has no text in column 'text'"),
        ("a.jsonl", '{"text": ["x"], "label": 1}\n', "row 1 has a list in place of a text"),
        ("a.json", '[["x"]]', "row 1 is a list, not an object with a text"),
        ("a.json", '["x", 7]', "row 1 is a text, not an object with a text"),
        ("a.json", '[7, "x"]', "row 1 is a number, not an object with a text"),
        ("a.json", '{"text": ["x", "y"], "label": [1]}', "its lists are of unequal length"),
        ("a.json", "[" * 100_000, "a.json"),
        ("a.parquet", "not parquet at all", "cannot be read"),
        ("a.csv.gz", "not gzip", "is the first row a header (not gzip)?"),
        ("a.xlsx", "", "unknown kind of file; choices: .csv, .tsv"),
        ("a.zip", "PK\3\4", "cannot be read (File is not a zip file)"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_a_cure(
    name: str, content: str, line: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError) as caught:
        read_file(tmp_path / name, PLAIN)
    assert str(tmp_path / name) in str(caught.value)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_another_encoding_is_named_with_its_line_and_read_when_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(as_csv() + "très bon,1\n".encode("cp1252"))
    with pytest.raises(SourceError, match=r"line 6 is not UTF-8; .*data.encoding=cp1252"):
        read_file(path, PLAIN)
    path.write_bytes("text,label\ntrès bon,1\n".encode("cp1252"))
    assert read_file(path, DataConfig(encoding="cp1252")).texts == ["très bon"]
    with pytest.raises(SourceError, match=r"data.encoding = 'utf-9': unknown"):
        read_file(path, DataConfig(encoding="utf-9"))


def test_a_first_row_is_no_header_unless_that_is_certain(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("I loved it\nI hated it\n")
    by_hand = DataConfig(header=False), DataConfig(header=True)
    assert [open_file(path, data).column(0) for data in by_hand] == [
        ["I loved it", "I hated it"],
        ["I hated it"],
    ]
    path.write_text("x,bad\ny,good\n")
    labels = LabelNames(negative=("bad",), positive=("good",))
    numbered = DataConfig(text_column="1", label_column="2")
    told = numbered.model_copy(update={"labels": labels})
    assert read_file(path, told) == Reviews(["x", "y"], [0, 1])
    path.write_text("x,5\ny,1\n")
    with pytest.raises(SourceError, match=r"is the first row a header \(x, 5\)"):
        read_file(path, numbered)
    path.write_text("what,mark\nx,5\n")
    stars = LabelNames(negative=(1,), positive=(5,))
    named = DataConfig(text_column="What", label_column="MARK", labels=stars)
    with pytest.raises(SourceError, match=r"data.labels.negative: no row"):
        read_file(path, named)


def test_the_separator_is_guessed_from_the_first_line_whatever_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text;label\rgood, really, very;1\rbad, all of it;0\r")
    assert read_file(path, PLAIN).texts == ["good, really, very", "bad, all of it"]


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_16_without_its_mark_is_not_read_as_utf_8(order: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("I loved it\nI hated it\n".encode(f"utf-16-{order}"))
    with pytest.raises(SourceError, match=f"without its mark; .*data.encoding=utf-16-{order}"):
        open_file(path, PLAIN)
    told = open_file(path, DataConfig(encoding=f"utf-16-{order}"))
    assert told.column(0) == ["I loved it", "I hated it"]


def test_a_cell_that_only_a_later_column_has_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"text": {"0": "x"}, "label": {"0": 1, "1": 0}}')
    with pytest.raises(SourceError, match="row 2 has no text"):
        read_file(path, PLAIN)


def test_columns_and_labels_are_read_as_told(tmp_path: Path) -> None:
    path = tmp_path / "sentiment140.csv"
    path.write_text('0,17,"so, bad"\n4,18,good\n2,19,so so\n')
    data = DataConfig(
        text_column=3,  # type: ignore[arg-type]
        label_column="1",
        labels=LabelNames(negative=(0,), positive=(4,)),
    )
    told: list[str] = []
    assert read_file(path, data, told.append) == Reviews(["so, bad", "good"], [0, 1])
    assert told == [f"{path}: left out: 1 row labelled 2"]
    with pytest.raises(SourceError, match=r"data.text_column = 'x': .* choices: 1, 2, 3"):
        read_file(path, DataConfig(text_column="x"))
    with pytest.raises(SourceError, match=r"data.labels.positive: no row of .* 0 \(1 row\)"):
        read_file(
            path, data.model_copy(update={"labels": LabelNames(negative=(0,), positive=(9,))})
        )
    with pytest.raises(ValueError, match="'1' cannot mean both"):
        LabelNames(negative=(1,), positive=(1.0,))


@pytest.mark.parametrize(
    ("labels", "kept", "line"),
    [
        ([1, 2, 3, 4, 5], [0, 0, 1, 1], "1 and 2 stars are taken for negative"),
        ([1.0, 4.0, 5.0], [0, 1, 1], "1 and 2 stars are taken for negative"),
        ([1, 4, 5, 7, 10], [0, 0, 1, 1], "7 to 10 for positive"),
    ],
)
def test_stars_become_labels_and_the_middle_is_left_out(
    labels: list[float], kept: list[int], line: str, tmp_path: Path
) -> None:
    rows = [{"reviewText": str(x), "overall": x} for x in labels]
    (tmp_path / "a.json").write_text("\n".join(map(json.dumps, rows)))
    told: list[str] = []
    assert read_file(tmp_path / "a.json", PLAIN, told.append).labels == kept
    assert any(line in each for each in told)


def test_what_labels_mean_is_told_by_all_parts_together(tmp_path: Path) -> None:
    # The stars of the test part alone would be 1 to 5, or "positive".
    for test, expected in (("x,4\ny,5\nz,2\n", [0, 0]), ("x,1\n", [0])):
        (tmp_path / "train.csv").write_text("text,stars\nx,10\ny,1\n")
        (tmp_path / "test.csv").write_text(f"text,stars\n{test}")
        parts = read(Found(tmp_path, "stars", "folder"), PLAIN)
        assert parts["train"].labels == [1, 0]
        assert parts["test"].labels == expected
    # Nor need each part have both.
    data = DataConfig(labels=LabelNames(negative=(1,), positive=(10,)))
    assert read(Found(tmp_path, "stars", "folder"), data)["test"].labels == [0]


def test_a_text_column_is_not_taken_for_the_label_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,feedback,sentiment\n7,fine,pos\n8,dull,neg\n")
    data = DataConfig(text_column="feedback")
    assert read_file(path, data) == Reviews(["fine", "dull"], [1, 0])


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.tsv", 'text\n"one\ntwo"\nbad\n', ["one\ntwo", "bad"]),
        ("a.tsv", 'text\nsaid "so"\nbad\n', ['said "so"', "bad"]),
        ("a.csv", "text\none\n\nthree\n\n", ["one", "", "three"]),
        ("a.tsv", "text\none\n\nthree\n", ["one", "", "three"]),
    ],
)
def test_a_single_column_neither_loses_nor_gains_rows(
    name: str, content: str, texts: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert open_file(tmp_path / name, PLAIN).column(0) == texts


@pytest.mark.parametrize("name", ["negative", "neg", "Positive"])
def test_a_column_called_like_a_label_is_no_label(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"tweet_text,{name}\nI hate it,1\nI love it,0\n")
    if "neg" in name:  # 1 means negative there
        with pytest.raises(SourceError, match=f"In column '{name}'.*negative: .LABEL"):
            read_file(path, DataConfig())
        labels = LabelNames(negative=(1,), positive=(0,))
        assert read_file(path, DataConfig(labels=labels)).labels == [0, 1]
    else:
        assert read_file(path, DataConfig()) == Reviews(["I hate it", "I love it"], [1, 0])


def test_numbers_are_one_label_however_they_are_spelled(tmp_path: Path) -> None:
    assert {spell(x) for x in (-1.0, "-1.0", "-1", -1)} == {"-1"}
    assert {spell(x) for x in (1.0, "1.0", "+1", " 1 ")} == {"1"}
    assert spell("²") == "²"
    path = tmp_path / "a.csv"
    path.write_text("text,label\nbad,-1.0\ngood,1.0\n")
    assert read_file(path, DataConfig()).labels == [0, 1]


def test_stars_under_another_name_are_all_proposed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"film {n},{n}\n" for n in range(1, 6)))
    with pytest.raises(SourceError, match=r"negative: \[1, 2\], positive: \[4, 5\]"):
        read_file(path, DataConfig())


def test_a_tab_is_a_separator_that_can_be_typed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("5\tGreat film\n1\tDull\n")
    data = DataConfig(separator="\\t", header=False, text_column="2", label_column="1",
                      labels=LabelNames(negative=(1,), positive=(5,)))  # fmt: skip
    assert read_file(path, data) == Reviews(["Great film", "Dull"], [1, 0])
    assert read_file(path, data.model_copy(update={"separator": None})).labels == [1, 0]


def test_compressed_parquet_and_damaged_archives(tmp_path: Path) -> None:
    parquet.write_table(
        pa.table({"text": ["good", "bad"], "label": [1, 0]}), tmp_path / "a.parquet"
    )
    packed = tmp_path / "b.parquet.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert read_file(packed, DataConfig()).labels == [1, 0]
    content = gzip.compress(b"text,label\ngood,1\nbad,0\n")
    for name, kept in (("c.csv.gz", content[:4]), ("d.tar.gz", content[:9])):
        (tmp_path / name).write_bytes(kept)
        with pytest.raises(SourceError):
            read(Found(tmp_path / name, "mine", "the path given", ""), DataConfig())


def test_of_columns_with_one_name_a_number_chooses(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("what,what,label\nx,y,1\n")
    with pytest.raises(SourceError, match=r"2 columns of that name; write .*text_column=1"):
        read_file(path, DataConfig(text_column="what"))
    assert read_file(path, DataConfig(text_column="2")).texts == ["y"]


def test_labels_of_numbers_and_names_are_one(tmp_path: Path) -> None:
    for labels in (
        [0.0, 1.0],
        [False, True],
        ["LABEL_0", "LABEL_1"],
        [-1, 1],
        ["-1", "+1"],
        ["Neg", " POSITIVE"],
    ):
        rows = [{"text": "x", "label": x} for x in labels]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert read_file(tmp_path / "a.jsonl", PLAIN).labels == [0, 1]


def test_lines_end_at_line_feeds_alone() -> None:
    assert split_lines("a\u2028b\x0bc\r\nd\re\n\nf") == ["a\u2028b\x0bc", "d\re", "", "f"]
    assert split_lines("a\rb\r") == ["a", "b"]
    assert split_lines("") == []


def test_a_text_file_is_lines_unless_its_tabs_make_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ttab\nno tab\n")
    assert open_file(path, PLAIN).column(0) == ["one\ttab", "no tab"]
    path.write_text("one\ttab\ntwo\ttabs\n")
    assert open_file(path, PLAIN).column(0) == ["one\ttab", "two\ttabs"]

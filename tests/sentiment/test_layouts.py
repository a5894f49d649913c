"""Reviews in folders and archives, as they are passed around."""

import io
import tarfile
from pathlib import Path

import pytest

from hwcli.errors import SourceError
from hwcli.sentiment.layouts import read
from hwcli.sentiment.reviews import Reviews
from hwcli.sentiment.split import SplitConfig, load
from tests.sentiment.made_up_files import (
    EXPECTED,
    LABELS,
    PLAIN,
    TEXTS,
    as_csv,
    as_parquet,
    as_zip,
    found,
)


def test_what_datasets_saves_is_read_with_the_names_of_its_classes(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])}
    )
    reversed_labels = [1 - label for label in LABELS]
    part = datasets.Dataset.from_dict({"text": TEXTS, "label": reversed_labels}, features=features)
    datasets.DatasetDict({"train": part, "validation": part}).save_to_disk(tmp_path / "whole")
    part.save_to_disk(tmp_path / "part")
    part.to_parquet(tmp_path / "a.parquet")
    assert read(found(tmp_path / "whole"), PLAIN) == {"train": EXPECTED, "valid": EXPECTED}
    assert read(found(tmp_path / "part"), PLAIN) == {"train": EXPECTED}
    assert read(found(tmp_path / "a.parquet"), PLAIN) == {"train": EXPECTED}


def test_the_authors_archive_is_read_without_unpacking(tmp_path: Path) -> None:
    path = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for part in ("train", "test"):
            for index, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
                member = tarfile.TarInfo(f"aclImdb/{part}/{('neg', 'pos')[label]}/{index}_7.txt")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        archive.addfile(tarfile.TarInfo("aclImdb/train/unsup/0_0.txt"))
    parts = read(found(path), PLAIN)
    assert {name: part.digest for name, part in parts.items()} == {
        "train": EXPECTED.digest,
        "test": EXPECTED.digest,
    }


def test_parts_of_a_folder_are_known_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        (tmp_path / "data" / f"{name}.parquet").write_bytes(as_parquet())
    (tmp_path / "data" / "train_unsup-00000-of-00001.parquet").write_bytes(b"")
    parts = read(found(tmp_path), PLAIN)
    assert {name: len(part) for name, part in parts.items()} == {"train": 8, "valid": 4}


@pytest.mark.parametrize("folder", ["", "films/", "data/", "films/plain_text/"])
def test_a_zip_of_several_files_is_read_as_the_folder_that_was_packed(
    folder: str, tmp_path: Path
) -> None:
    names = {"train.csv": as_csv(), "test.csv": as_csv(), "about.md": b"# Films"}
    files = {folder + name: content for name, content in names.items()}
    (tmp_path / "archive.zip").write_bytes(as_zip(**files, **{"__MACOSX/._train.csv": b"?"}))
    expected = {"train": EXPECTED, "test": EXPECTED}
    assert read(found(tmp_path / "archive.zip"), PLAIN) == expected


def test_the_authors_folder_may_be_packed_in_a_zip(tmp_path: Path) -> None:
    texts = {"train/neg/0_1.txt": b"bad", "train/pos/0_9.txt": b"good", "test/pos/1_9.txt": b"\xff"}
    files = {f"aclImdb/{name}": content for name, content in texts.items()}
    path = tmp_path / "archive.zip"
    path.write_bytes(as_zip(**files))
    with pytest.raises(SourceError, match=r"archive.zip/aclImdb/test/pos/1_9.txt: not UTF-8"):
        read(found(path), PLAIN)
    path.write_bytes(as_zip(**{**files, "aclImdb/test/pos/1_9.txt": b"fine"}))
    parts = {"train": Reviews(["bad", "good"], [0, 1]), "test": Reviews(["fine"], [1])}
    assert read(found(path), PLAIN) == parts


def test_a_zip_in_which_it_is_in_doubt_what_is_meant_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    for files, line in (
        ({"a.csv": as_csv(), "b.csv": as_csv()}, "unpack it and name one of a.csv, b.csv"),
        ({"a.png": b"", "b.png": b""}, "no file in the zip is of a known kind"),
        ({"a.png": b""}, "unknown kind of file"),
        ({"films.csv": b"text,label\nx,1\ny\n"}, "archive.zip: row 2 has 1 fields"),
        (
            {"train.csv": as_csv(), "test.csv": b"text,label\nx\n"},
            "archive.zip/test.csv: row 1 has 1 fields",
        ),
        (
            {"whole/dataset_dict.json": b"{}", "whole/train/state.json": b"{}"},
            "archive.zip: holds a folder written by save_to_disk; unpack it",
        ),
    ):
        path.write_bytes(as_zip(**files))
        with pytest.raises(SourceError) as caught:
            read(found(path), PLAIN)
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)
    damaged = bytearray(as_zip())
    damaged[60] ^= 1  # inside the packed file
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match=r"cannot be read \(Bad CRC-32"):
        read(found(path), PLAIN)


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "IMDB Dataset.csv").write_bytes(as_csv(text="review", label="sentiment"))
    assert read(found(tmp_path), PLAIN) == {"train": EXPECTED}
    (tmp_path / "other.csv").write_bytes(as_csv())
    with pytest.raises(SourceError, match=r"which file .* IMDB Dataset.csv, other.csv"):
        read(found(tmp_path), PLAIN)
    (tmp_path / "other.csv").unlink()
    (tmp_path / "IMDB Dataset.csv").unlink()
    (tmp_path / "archive.zip").write_bytes(as_zip())
    assert read(found(tmp_path), PLAIN) == {"train": EXPECTED}


def test_a_validation_part_is_taken_as_it_is_and_duplicates_are_counted(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,0\nb,1\nc,0\nc,1\n")
    (tmp_path / "dev.csv").write_text("text,label\nd,0\n")
    (tmp_path / "test.csv").write_text("text,label\na,0\nd,1\ne,1\n")
    split = load(found(tmp_path), SplitConfig(valid_fraction=0.5))
    assert (len(split.train), len(split.valid), len(split.test)) == (4, 1, 3)
    assert dict(zip(split.test.texts, split.test_seen, strict=True)) == {
        "a": True,
        "d": True,
        "e": False,
    }
    assert split.num_in_both == 2
    assert split.num_contradictions == 2  # c within training, d between the parts

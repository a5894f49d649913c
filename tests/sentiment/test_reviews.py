import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from hwcli.data.cache import Found
from hwcli.errors import SourceError
from hwcli.sentiment.columns import DataConfig, LabelNames
from hwcli.sentiment.layouts import read
from hwcli.sentiment.reviews import Reviews, clean
from hwcli.sentiment.split import SplitConfig, load
from tests.sentiment.tiny import make_reviews, write_csv

TRAIN = Reviews(["a\nfine <br /> film", "dull, \"very\"", "", "😀 good"], [1, 0, 0, 1])  # fmt: skip
TEST = Reviews(["bad", "dull, \"very\"", "good"], [0, 0, 1])  # fmt: skip


def located(path: Path, holds: str = "") -> Found:
    return Found(path, "mine", "the path given", holds)


def as_parquet(folder: Path, names: tuple[str, str] = ("neg", "pos")) -> None:
    for part, reviews in (("train", TRAIN), ("test", TEST)):
        order = {"neg": 0, "pos": 1}
        labels = [names.index(next(n for n in names if order[n] == x)) for x in reviews.labels]
        table = pa.table({"text": list(reviews.texts), "label": labels})
        features = {
            "text": {"dtype": "string", "_type": "Value"},
            "label": {"names": list(names), "_type": "ClassLabel"},
        }
        info = {"info": {"features": features}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        parquet.write_table(table, folder / f"{part}-00000-of-00001.parquet")


def as_parquet_upside_down(folder: Path) -> None:
    as_parquet(folder, ("pos", "neg"))


def as_texts(folder: Path) -> None:
    for part, reviews in (("train", TRAIN), ("test", TEST)):
        for i, (text, label) in enumerate(zip(reviews.texts, reviews.labels, strict=True)):
            place = folder / "aclImdb" / part / ("neg", "pos")[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i}_7.txt").write_text(text, encoding="utf-8")


def as_jsonl(folder: Path) -> None:
    for part, reviews in (("train", TRAIN), ("test", TEST)):
        rows = zip(reviews.texts, reviews.labels, strict=True)
        lines = [json.dumps({"text": t, "label": ("Negative", "POSITIVE")[x]}) for t, x in rows]
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")


def as_csv(folder: Path) -> None:
    for part, reviews in (("train", TRAIN), ("test", TEST)):
        rows = zip(reviews.texts, reviews.labels, strict=True)
        lines = [f'{label},"{text.replace(chr(34), 2 * chr(34))}"' for text, label in rows]
        (folder / f"{part}.csv").write_text("label,text\n" + "\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("write", [as_parquet, as_parquet_upside_down, as_texts, as_jsonl, as_csv])
def test_every_layout_gives_the_same_reviews(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    parts = read(located(tmp_path), DataConfig())
    assert {name: part.digest for name, part in parts.items()} == {
        "train": TRAIN.digest,
        "test": TEST.digest,
    }


def test_a_digest_knows_labels_and_not_the_order() -> None:
    assert TRAIN.select([3, 1, 0, 2]).digest == TRAIN.digest
    assert Reviews(TRAIN.texts, [0, 0, 0, 1]).digest != TRAIN.digest


def test_a_training_is_named_by_the_order_of_its_reviews_too() -> None:
    assert TRAIN.select([3, 1, 0, 2]).digest_in_order != TRAIN.digest_in_order
    assert TRAIN.select([0, 1, 2, 3]).digest_in_order == TRAIN.digest_in_order


@pytest.mark.parametrize("copy", ["train.tsv", "train-small.csv", "test.jsonl"])
def test_one_part_in_two_files_is_refused(copy: str, tmp_path: Path) -> None:
    as_csv(tmp_path)
    (tmp_path / copy).write_text("label\ttext\n0\tx\n1\ty\n")
    with pytest.raises(SourceError, match="holds the part") as caught:
        read(located(tmp_path), DataConfig())
    assert copy in str(caught.value)


def test_numbered_pieces_of_a_part_are_joined_in_order(tmp_path: Path) -> None:
    for number, label in ((0, 1), (1, 0)):
        name = f"train-0000{number}-of-00002.csv"
        (tmp_path / name).write_text(f"text,label\nx{number},{label}\n")
    assert read(located(tmp_path), DataConfig())["train"] == Reviews(["x0", "x1"], [1, 0])


def test_a_part_of_which_pieces_are_missing_is_refused(tmp_path: Path) -> None:
    as_parquet(tmp_path)
    whole = tmp_path / "train-00000-of-00001.parquet"
    whole.rename(tmp_path / "train-00000-of-00002.parquet")
    with pytest.raises(SourceError, match="1 of the 2 files of the part 'train' are there"):
        read(located(tmp_path), DataConfig())


def test_files_of_no_known_part_are_named(tmp_path: Path) -> None:
    as_csv(tmp_path)
    (tmp_path / "test.csv").rename(tmp_path / "test_reviews.csv")
    told: list[str] = []
    assert set(read(located(tmp_path), DataConfig(), told.append)) == {"train"}
    assert f"{tmp_path}: not read: test_reviews.csv" in told


def test_a_test_part_without_labels_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\ngood,1\nbad,0\n")
    (tmp_path / "test.csv").write_text("text,id\nfine,7\n")
    with pytest.raises(SourceError, match=r"test.csv: which column is the label.* alone by --data"):
        read(located(tmp_path), DataConfig())
    # Labels that are withheld say nothing of what the others mean.
    (tmp_path / "test.csv").write_text("text,label\nfine,-1\n")
    with pytest.raises(SourceError, match=r"negative: \[0\], positive: \[1\]"):
        read(located(tmp_path), DataConfig())


def test_two_saved_parts_for_one_are_refused(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]})
    saved = datasets.DatasetDict({"train": part, "validation": part, "dev": part})
    saved.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(SourceError, match="two of its parts are for 'valid'; remove one"):
        read(located(tmp_path / "saved"), DataConfig())


def test_a_test_part_without_a_known_label_is_refused(tmp_path: Path) -> None:
    as_csv(tmp_path)
    (tmp_path / "test.csv").write_text("label,text\n-1,x\n-1,y\n")
    labels = LabelNames(negative=(0,), positive=(1,))
    with pytest.raises(SourceError, match="its test part has no review with one of the two"):
        load(located(tmp_path), SplitConfig(), DataConfig(labels=labels))


def test_a_folder_without_reviews_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected train\*.parquet"):
        read(located(tmp_path), DataConfig())


def test_of_the_package_only_imdbs_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "combined.csv"
    path.write_text("text,label,source\nx,1,imdb\ny,0,rotten_tomatoes\nz,0,imdb\n")
    parts = read(located(path, holds="the training half"), DataConfig())
    assert parts == {"train": Reviews(["x", "z"], [1, 0])}


def test_a_split_is_seeded_complete_and_disjoint(tmp_path: Path) -> None:
    reviews = make_reviews(101, seed=3)
    unique = Reviews([f"{i} {text}" for i, text in enumerate(reviews.texts)], reviews.labels)
    path = write_csv(tmp_path / "mine.csv", unique)
    split = load(located(path), SplitConfig())
    parts = [set(part.texts) for part in (split.train, split.valid, split.test)]
    assert [len(part) for part in parts] == [57, 24, 20]
    assert set.union(*parts) == set(unique.texts)
    assert split.num_in_both == 0
    assert load(located(path), SplitConfig()) == split
    assert load(located(path), SplitConfig(seed=1)).test != split.test
    limited = load(located(path), SplitConfig(train_limit=13, test_limit=5))
    assert list(limited.train.texts) == list(split.train.texts)[:13]
    assert list(limited.test.texts) == list(split.test.texts)[:5]


def test_a_held_out_part_is_never_called_the_official_test(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", make_reviews(31, seed=1))
    split = load(located(path), SplitConfig())
    assert (split.official_test, split.test_name) == (False, "held-out part of mine")
    path.write_text("text,label,source\n" + "x,1,imdb\ny,0,imdb\n" * 11)
    split = load(located(path, holds="the training half"), SplitConfig())
    assert (split.official_test, split.test_name) == (False, "held-out part of the training half")
    as_jsonl(tmp_path)
    split = load(located(tmp_path), SplitConfig())
    assert (split.official_test, split.test_name) == (False, "test part of mine")


def test_texts_that_stand_in_both_halves_are_counted(tmp_path: Path) -> None:
    as_jsonl(tmp_path)
    assert load(located(tmp_path), SplitConfig()).num_in_both == 1


def test_texts_that_are_read_alike_are_one(tmp_path: Path) -> None:
    rows = {
        "train": ["good film,1", "bad film,0", "dull,0"],
        "validation": ["good<br />film,1", "new,0"],
        "test": [" dull,0", "bad<br>film,1", "other,1"],
    }
    for part, lines in rows.items():
        (tmp_path / f"{part}.csv").write_text("\n".join(["text,label", *lines]))
    split = load(located(tmp_path), SplitConfig())
    assert split.num_valid_in_train == 1
    assert sum(split.test_seen) == 2
    assert split.num_contradictions == 1
    # What is read alike is counted, and stays where it is.
    assert [len(part) for part in (split.train, split.valid, split.test)] == [3, 2, 3]


def test_reviews_of_one_label_only_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "x,1\n" * 17)
    with pytest.raises(SourceError, match="none of them negative"):
        load(located(tmp_path / "a.csv"), SplitConfig())


def test_breaks_become_spaces_and_unreadable_characters_marks() -> None:
    assert clean("one<br /><br/> two <BR>three") == "one two three"
    assert clean("torn \ud83d emoji") == "torn ? emoji"
    assert clean("😀 <b>") == "😀 <b>"

"""Film reviews with their labels, from every layout they are passed around in.

A label is carried by name from the file to the prediction: copies of the same data disagree on
which number means which, and a classifier trained on one of them reads the other upside down.
"""

import csv
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from hwcli.config import Section
from hwcli.data.cache import Found
from hwcli.errors import SourceError
from hwcli.sentiment.summary import Label

LABELS: tuple[Label, Label] = ("negative", "positive")
"""The names of classes 0 and 1."""

SPELLINGS = {
    "negative": 0,
    "neg": 0,
    "0": 0,
    "positive": 1,
    "pos": 1,
    "1": 1,
}

# The official test half, known by its texts and labels in whatever order and layout.
OFFICIAL_TEST = "92e9eb46d496a471"

# Rows of the package's file that are IMDB's; the others are single sentences.
PACKAGE_ROWS = ("source", "imdb")


@dataclass(frozen=True)
class Reviews:
    """Texts and their classes (0 negative, 1 positive)."""

    texts: Sequence[str]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Iterable[int]) -> "Reviews":
        """Return some of the reviews, in the order asked for."""
        chosen = list(rows)
        return Reviews([self.texts[i] for i in chosen], [self.labels[i] for i in chosen])

    @property
    def digest(self) -> str:
        """Name of the reviews themselves, whatever their order and the layout they came in."""
        single = sorted(
            hashlib.sha256(f"{label}\t{text}".encode(errors="surrogatepass")).digest()
            for text, label in zip(self.texts, self.labels, strict=True)
        )
        return hashlib.sha256(b"".join(single)).hexdigest()[:16]


class SplitConfig(Section):
    """Which reviews are trained on, chosen by and tested on.

    Fractions are of the training half. ``test_fraction`` counts only where the data has no test
    part of its own. Limits keep the first so many after the seeded shuffle.
    """

    seed: int = Field(0, ge=0, description="Seed of the shuffle before the split.")
    valid_fraction: float = Field(
        0.3, gt=0, lt=1, description="Share of the training half used for validation."
    )
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share used for testing, only if the data has no test part of its own.",
    )
    train_limit: int | None = Field(
        None, ge=2, description="Train on the first N reviews after the seeded shuffle; null: all."
    )
    valid_limit: int | None = Field(
        None, ge=1, description="Validate on the first N reviews of that part; null: all."
    )
    test_limit: int | None = Field(
        None, ge=1, description="Test on the first N reviews of that part; null: all."
    )


@dataclass(frozen=True)
class Split:
    """The three parts of one data set.

    Attributes:
        train: learned from.
        valid: choices are made on it.
        test: looked at once.
        dataset: name of the data.
        official_test: the test part is (of) IMDB's own 25,000 test reviews.
        test_name: what tables call the test part.
        num_in_both: test reviews whose text stands in the training half too.
    """

    train: Reviews
    valid: Reviews
    test: Reviews
    dataset: str
    official_test: bool
    test_name: str
    num_in_both: int


def load(located: Found, config: SplitConfig) -> Split:
    """Read reviews and split them.

    Raises:
        SourceError: the files are no reviews with two labels, or are too few to split.
    """
    whole, test = read(located)
    order = _shuffle(len(whole), config.seed)
    if test is not None:
        official = test.digest == OFFICIAL_TEST
        name = "IMDB test" if official else f"test part of {located.name}"
        test = test.select(_shuffle(len(test), config.seed)[: config.test_limit])
    else:
        official = False
        name = f"held-out part of {located.holds or located.name}"
        num_test = max(1, round(config.test_fraction * len(whole)))
        test = whole.select(order[:num_test][: config.test_limit])
        order = order[num_test:]
    num_valid = max(1, round(config.valid_fraction * len(order)))
    train = whole.select(order[num_valid:][: config.train_limit])
    valid = whole.select(order[:num_valid][: config.valid_limit])
    if len(set(train.labels)) < 2:
        raise SourceError(
            f"{located.name}: {len(train)} training reviews, none of them "
            f"{LABELS[0] if 0 not in train.labels else LABELS[1]}"
        )
    seen = set(train.texts) | set(valid.texts)
    return Split(
        train=train,
        valid=valid,
        test=test,
        dataset=located.name,
        official_test=official,
        test_name=name,
        num_in_both=sum(text in seen for text in test.texts),
    )


def _shuffle(number: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(
        number, generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return order


# --------------------------------------------------------------------------------------
# Layouts


def read(located: Found) -> tuple[Reviews, Reviews | None]:
    """Read the training half and, where the data has one, the test half.

    A file is CSV or JSON lines with a text and a label; a folder is the hub's parquet files, the
    authors' own ``train/pos/*.txt``, or ``train`` and ``test`` as CSV or JSON lines.

    Raises:
        SourceError: it is none of these, or a row is wrong; the line names it.
    """
    path = located.path
    if path.is_file():
        only = PACKAGE_ROWS if located.holds else None
        return read_file(path, only), None
    for root in (path, path / "plain_text", path / "aclImdb"):
        for read_part in (_parquet_part, _text_part, _table_part):
            train = read_part(root, "train")
            if train is not None:
                return train, read_part(root, "test")
    raise SourceError(
        f"{path}: no reviews there; expected train*.parquet, train/pos and train/neg, "
        "train.csv or train.jsonl"
    )


def read_file(path: Path, only: tuple[str, str] | None = None) -> Reviews:
    """Read one CSV, JSON-lines or parquet file.

    Args:
        path: the file; its ending says what it is.
        only: a column and the value it must have.

    Raises:
        SourceError: it cannot be read, or a column or label is not what it should be.
    """
    if path.suffix not in READERS:
        raise SourceError(f"{path}: unknown kind of file; choices: {', '.join(READERS)}")
    texts, labels = [], []
    try:
        for number, row in enumerate(READERS[path.suffix](path), start=1):
            for column in ("text", "label"):
                if row.get(column) is None:
                    has = ", ".join(map(str, row)) or "none"
                    raise SourceError(f"{path}: row {number} has no {column!r}; columns: {has}")
            if only is None or row.get(only[0]) == only[1]:
                texts.append(str(row["text"]))
                labels.append(_label(row["label"], path, number))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise SourceError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if not texts:
        raise SourceError(f"{path}: no reviews in it")
    return Reviews(texts, labels)


def read_texts(path: Path) -> list[str]:
    """Read texts alone: the column ``text`` of CSV, JSON lines or parquet, else one text a line.

    Raises:
        SourceError: the file cannot be read, or has no such column.
    """
    rows = READERS.get(path.suffix)
    try:
        if rows is None:
            return path.read_text(encoding="utf-8").splitlines()
        texts = [row.get("text") for row in rows(path)]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise SourceError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    if None in texts:
        raise SourceError(f"{path}: row {texts.index(None) + 1} has no 'text'")
    return [str(text) for text in texts]


def _label(value: object, path: Path, row: int) -> int:
    spelled = str(value).strip().lower()
    if spelled not in SPELLINGS:
        raise SourceError(
            f"{path}: row {row}: label {value!r}: two labels are known, negative (neg, 0) and "
            "positive (pos, 1)"
        )
    return SPELLINGS[spelled]


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _jsonl_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                row = json.loads(line)
                yield row if isinstance(row, dict) else {}


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    names = _class_names(table.schema.metadata or {})
    for row in table.to_pylist():
        # The file itself says which number is which class.
        label = row.get("label")
        yield {**row, "label": names[label]} if names and label in range(len(names)) else row


def _class_names(schema_metadata: Mapping[bytes, bytes]) -> Sequence[str] | None:
    try:
        features = json.loads(schema_metadata[b"huggingface"])["info"]["features"]
        names: Sequence[str] = features["label"]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return names


READERS = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}


def _parquet_part(root: Path, part: str) -> Reviews | None:
    return _join(read_file(path) for path in sorted(root.glob(f"{part}*.parquet")))


def _table_part(root: Path, part: str) -> Reviews | None:
    paths = (root / f"{part}.csv", root / f"{part}.jsonl")
    return _join(read_file(path) for path in paths if path.is_file())


def _text_part(root: Path, part: str) -> Reviews | None:
    """Read the authors' layout: one file a review, in a folder named after its label."""
    texts, labels = [], []
    for name in ("neg", "pos"):
        for path in sorted((root / part / name).glob("*.txt")):
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise SourceError(f"{path}: cannot be read ({error})") from None
            labels.append(SPELLINGS[name])
    return Reviews(texts, labels) if texts else None


def _join(parts: Iterable[Reviews]) -> Reviews | None:
    files = list(parts)
    if not files:
        return None
    return Reviews(
        list(itertools.chain.from_iterable(file.texts for file in files)),
        list(itertools.chain.from_iterable(file.labels for file in files)),
    )


_BREAK = re.compile(r"\s*(?:<br\s*/?>\s*)+", re.IGNORECASE)


def clean(text: str) -> str:
    """Turn HTML's line breaks into spaces and drop what no tokenizer can read."""
    return _BREAK.sub(" ", text).encode(errors="replace").decode().strip()

"""Film reviews with their labels, from every layout they are passed around in.

A label is carried by name from the file to the prediction: copies of the same data disagree on
which number means which, and a classifier trained on one of them reads the other upside down.
"""

import hashlib
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from pydantic import Field

from hwcli.config import Section
from hwcli.data.cache import Found
from hwcli.errors import SourceError
from hwcli.sentiment.columns import (
    LABEL_COLUMNS,
    SPELLINGS,
    TEXT_COLUMNS,
    DataConfig,
    classes_of,
    find_columns,
    meaning_of_labels,
    texts_of,
)
from hwcli.sentiment.files import Rows, kind_of, read_rows, read_saved
from hwcli.sentiment.summary import Label

Log = Callable[[str], None]

LABELS: tuple[Label, Label] = ("negative", "positive")
"""The names of classes 0 and 1."""

# The official test half, known by its texts and labels in whatever order and layout.
OFFICIAL_TEST = "92e9eb46d496a471"

# Rows of the package's file that are IMDB's; the others are single sentences.
PACKAGE_ROWS = ("source", "imdb")

# What the parts of a data set are called.
PART_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("validation", "valid", "dev", "val"),
    "test": ("test",),
}
# Folders inside a download that hold the parts.
INNER_FOLDERS = ("", "plain_text", "data", "aclImdb", "aclImdb_v1", "aclImdb_v1/aclImdb")


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
        return hashlib.sha256(b"".join(sorted(self._digests()))).hexdigest()[:16]

    @property
    def digest_in_order(self) -> str:
        """Name of the reviews in this order, which decides what a step of training sees."""
        return hashlib.sha256(b"".join(self._digests())).hexdigest()[:16]

    def _digests(self) -> list[bytes]:
        return [
            hashlib.sha256(f"{label}\t{text}".encode(errors="surrogatepass")).digest()
            for text, label in zip(self.texts, self.labels, strict=True)
        ]


class SplitConfig(Section):
    """Which reviews are for training, validation and testing.

    A part that the data has of its own is taken as it is, and its fraction does not count. Limits
    keep the first so many after the seeded shuffle.
    """

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the shuffle before the split.")
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
        test: read once.
        dataset: name of the data.
        official_test: the test part is (of) IMDB's own 25,000 test reviews.
        test_name: what tables call the test part.
        test_seen: of every test review, whether its text also occurs in another part.
        num_contradictions: texts that occur with both labels.
    """

    train: Reviews
    valid: Reviews
    test: Reviews
    dataset: str
    official_test: bool
    test_name: str
    test_seen: Sequence[bool]
    num_contradictions: int

    @property
    def num_in_both(self) -> int:
        """Test reviews whose text also occurs in training or validation."""
        return sum(self.test_seen)


def load(
    found: Found,
    config: SplitConfig,
    data: DataConfig | None = None,
    log: Log = lambda line: None,
) -> Split:
    """Read reviews and split them.

    Args:
        found: where they are.
        config: how they are split.
        data: how their files are to be read.
        log: is told what was guessed.

    Raises:
        SourceError: the files are no reviews with two labels, or are too few to split.
    """
    parts = read(found, data or DataConfig(), log)
    whole = parts["train"]
    order = _shuffle(len(whole), config.seed)
    official = False
    if "test" in parts:
        test = parts["test"]
        official = test.digest == OFFICIAL_TEST
        name = "IMDB test" if official else f"test part of {found.name}"
        test = test.select(_shuffle(len(test), config.seed)[: config.test_limit])
    else:
        name = f"held-out part of {found.holds or found.name}"
        num_test = max(1, round(config.test_fraction * len(whole)))
        test = whole.select(order[:num_test][: config.test_limit])
        order = order[num_test:]
    if "valid" in parts:
        valid = parts["valid"]
        valid = valid.select(_shuffle(len(valid), config.seed)[: config.valid_limit])
    else:
        num_valid = max(1, round(config.valid_fraction * len(order)))
        valid = whole.select(order[:num_valid][: config.valid_limit])
        order = order[num_valid:]
    train = whole.select(order[: config.train_limit])
    for part, reviews in (("test", test), ("validation", valid)):
        if not len(reviews):
            raise SourceError(
                f"{found.name}: its {part} part has no review with one of the two labels; remove "
                f"that part, and hw2 sets reviews aside from training"
            )
    missing = [name for c, name in enumerate(LABELS) if c not in train.labels]
    if missing:
        raise SourceError(
            f"{found.name}: {len(train)} training reviews, none of them {missing[0]}; both labels "
            "are needed to train"
        )
    seen = set(train.texts) | set(valid.texts)
    everything = [
        (text, label)
        for part in (train, valid, test)
        for text, label in zip(part.texts, part.labels, strict=True)
    ]
    return Split(
        train=train,
        valid=valid,
        test=test,
        dataset=found.name,
        official_test=official,
        test_name=name,
        test_seen=[text in seen for text in test.texts],
        num_contradictions=len(set(everything)) - len({text for text, _ in everything}),
    )


def _shuffle(number: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(
        number, generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return order


# --------------------------------------------------------------------------------------
# Layouts


def read(found: Found, data: DataConfig, log: Log = lambda line: None) -> dict[str, Reviews]:
    """Read the parts of a data set: ``train`` and, where it has them, ``valid`` and ``test``.

    A file is any that :mod:`hwcli.sentiment.files` reads, or the authors' ``aclImdb_v1.tar.gz``.
    A folder holds a file for each part, the authors' ``train/pos/*.txt``, what ``datasets`` wrote
    by ``save_to_disk``, or a single file.

    Raises:
        SourceError: it is none of these, or a row is wrong; the line names it.
    """
    path = found.path
    if path.is_file():
        if _is_archive(path):
            return _read_archive(path)
        return {"train": read_file(path, data, log, PACKAGE_ROWS if found.holds else None)}
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _saved_parts(path, data, log)
    for inner in INNER_FOLDERS:
        parts = _text_parts(path / inner) or _table_parts(path / inner, data, log)
        if "train" in parts:
            return parts
    return {"train": read_file(_single_file(path), data, log)}


def _is_archive(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):  # compressed, and cut off
        return False


def read_file(
    path: Path, data: DataConfig, log: Log = lambda line: None, only: tuple[str, str] | None = None
) -> Reviews:
    """Read the labelled reviews of one file.

    Args:
        path: the file; its ending says what it is.
        data: how it is to be read.
        log: is told what was guessed.
        only: a column and the value it must have.

    Raises:
        SourceError: it cannot be read, or a row, a column or a label is not what it should be.
    """
    return _reviews([open_file(path, data)], data, log, only)[0]


def open_file(path: Path, data: DataConfig) -> Rows:
    """Read the rows of one file by the settings of a config.

    Raises:
        SourceError: it cannot be read.
    """
    given = [name.lower() for name in (data.text_column, data.label_column) if name]
    labels = data.labels.classes() if data.labels else {}
    return read_rows(
        path,
        separator=data.separator,
        header=data.header,
        encoding=data.encoding,
        # A column given by its number says nothing of a header.
        known_columns=(*TEXT_COLUMNS, *LABEL_COLUMNS, *(x for x in given if not x.isdigit())),
        known_labels=(*SPELLINGS, *labels),
    )


def _reviews(
    files: Sequence[Rows], data: DataConfig, log: Log, only: tuple[str, str] | None = None
) -> list[Reviews]:
    """Return the labelled reviews of each file of a data set, whose labels mean one thing."""
    found = []
    for rows in files:
        columns = find_columns(rows, data, log)
        if not rows.values:
            raise SourceError(f"{rows.source}: no reviews in it")
        if columns.label is None:
            raise SourceError(
                f"{rows.source}: which column is the label? columns: {', '.join(rows.columns)}; "
                "write --set data.label_column=NAME"
                + ("; or give a labelled file alone by --data" if len(files) > 1 else "")
            )
        found.append((rows, texts_of(rows, columns.text), columns.label))
    meaning = meaning_of_labels([(rows, label) for rows, _, label in found], data, log)
    return [
        _chosen(rows, texts, classes_of(rows, label, meaning, log), only)
        for rows, texts, label in found
    ]


def _chosen(
    rows: Rows,
    texts: Sequence[str],
    classes: Sequence[int | None],
    only: tuple[str, str] | None,
) -> Reviews:
    wanted = [True] * len(texts)
    if only is not None:
        column, value = only
        wanted = [cell == value for cell in rows.column(rows.columns.index(column))]
    kept = [
        (text, label)
        for text, label, keep in zip(texts, classes, wanted, strict=True)
        if keep and label is not None
    ]
    return Reviews([text for text, _ in kept], [label for _, label in kept])


def _part_of(name: str) -> str | None:
    """Tell the part that a file or folder holds by its name: ``train-00000-of-00001.parquet``."""
    stem = re.split(r"[-.]", name.lower())[0]
    return next((part for part, names in PART_NAMES.items() if stem in names), None)


def _table_parts(root: Path, data: DataConfig, log: Log) -> dict[str, Reviews]:
    files: dict[str, list[Path]] = {}
    for path in sorted(root.glob("*")):
        part = _part_of(path.name)
        if part and path.is_file() and kind_of(path):
            files.setdefault(part, []).append(path)
    if "train" not in files:
        return {}
    # The training part first: it tells what the labels mean.
    files = {part: files[part] for part in PART_NAMES if part in files}
    for part, paths in files.items():
        _refuse_copies(root, part, paths)
        _refuse_missing_pieces(root, part, paths)
    kinds = {kind_of(path) for paths in files.values() for path in paths}
    others = [path.name for path in sorted(root.glob("*")) if kind_of(path) in kinds]
    # The hub's IMDB has reviews without labels beside the others.
    unread = [name for name in others if _part_of(name) is None and "unsup" not in name.lower()]
    if unread:
        log(f"{root}: not read: {', '.join(unread[:5])}{', ...' if len(unread) > 5 else ''}")
    named = [(part, path) for part, paths in files.items() for path in paths]
    reviews = _reviews([open_file(path, data) for _, path in named], data, log)
    return {
        part: _join(r for (of, _), r in zip(named, reviews, strict=True) if of == part)
        for part in files
    }


_SHARD = re.compile(r"[a-z]+-(\d+)(?:-of-(\d+))?[-.]", re.IGNORECASE)


def _refuse_missing_pieces(folder: Path, part: str, paths: Sequence[Path]) -> None:
    """Make sure that all pieces of a part are there, where their names say how many there are.

    Raises:
        SourceError: some are missing.
    """
    pieces = [_SHARD.match(path.name) for path in paths]
    whole = max((int(piece[2]) for piece in pieces if piece and piece[2]), default=0)
    if len(paths) < whole:
        raise SourceError(
            f"{folder}: {len(paths)} of the {whole} files of the part {part!r} are there; get the "
            "others, or give one file alone by --data"
        )


def _refuse_copies(folder: Path, part: str, paths: Sequence[Path]) -> None:
    """Make sure that several files of a part are its numbered pieces, not one part in two forms.

    Raises:
        SourceError: they are not; read together, reviews would count twice.
    """
    pieces = [_SHARD.match(path.name) for path in paths]
    numbers = {piece[1] for piece in pieces if piece}
    if len(paths) > 1 and len(numbers) < len(paths):
        names = ", ".join(path.name for path in paths[:5]) + (", ..." if len(paths) > 5 else "")
        raise SourceError(f"{folder}: which file holds the part {part!r}? keep one of {names}")


def _saved_parts(folder: Path, data: DataConfig, log: Log) -> dict[str, Reviews]:
    rows: dict[str, Rows] = {}
    for name, found in read_saved(folder).items():
        part = _part_of(name)
        if part in rows:
            raise SourceError(f"{folder}: two of its parts are for {part!r}; remove one")
        if part is not None:
            rows[part] = found
    if "train" not in rows:
        raise SourceError(f"{folder}: saved by datasets, but it has no part called train")
    return dict(zip(rows, _reviews(list(rows.values()), data, log), strict=True))


def _text_parts(root: Path) -> dict[str, Reviews]:
    """Read the authors' layout: one file per review, in a folder named after its label."""
    parts = {}
    for part in ("train", "test"):
        texts, labels = [], []
        for name in ("neg", "pos"):
            for path in sorted((root / part / name).glob("*.txt")):
                try:
                    texts.append(path.read_text(encoding="utf-8"))
                except UnicodeDecodeError:
                    raise SourceError(f"{path}: not UTF-8") from None
                except OSError as error:
                    raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
                labels.append(SPELLINGS[name])
        if texts:
            parts[part] = Reviews(texts, labels)
    return parts


def _read_archive(path: Path) -> dict[str, Reviews]:
    """Read the authors' layout from its archive, without unpacking it."""
    members: dict[str, list[tuple[str, str, int]]] = {"train": [], "test": []}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if len(parts) < 3 or parts[-3] not in members or parts[-2] not in ("neg", "pos"):
                    continue
                file = archive.extractfile(member) if member.name.endswith(".txt") else None
                if file is not None:
                    text = file.read().decode("utf-8")
                    members[parts[-3]].append((member.name, text, SPELLINGS[parts[-2]]))
    except (
        OSError,
        EOFError,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        UnicodeDecodeError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{path}: cannot be read ({reason})") from None
    found = {
        part: Reviews([text for _, text, _ in files], [label for *_, label in files])
        for part, unsorted in members.items()
        if (files := sorted(unsorted))
    }
    if "train" not in found:
        raise SourceError(f"{path}: the archive has no train/pos/*.txt and train/neg/*.txt")
    return found


def _single_file(folder: Path) -> Path:
    """Return the one file of reviews in a folder.

    Raises:
        SourceError: there is none, or there are several.
    """
    files = [path for path in sorted(folder.glob("*")) if path.is_file() and kind_of(path)]
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files[:5]) + (", ..." if len(files) > 5 else "")
        raise SourceError(f"{folder}: which file holds the reviews? name one of {names}")
    raise SourceError(
        f"{folder}: no reviews there; expected train*.parquet, train.csv, train.tsv, "
        "train.jsonl, train/pos and train/neg, or a folder written by save_to_disk"
    )


def _join(parts: Iterable[Reviews]) -> Reviews:
    files = list(parts)
    return Reviews(
        [text for file in files for text in file.texts],
        [label for file in files for label in file.labels],
    )


_BREAK = re.compile(r"\s*(?:<br\s*/?>\s*)+", re.IGNORECASE)


def clean(text: str) -> str:
    """Turn HTML's line breaks into spaces and drop what no tokenizer can read."""
    return _BREAK.sub(" ", text).encode(errors="replace").decode().strip()

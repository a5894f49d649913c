"""The layouts in which reviews are passed around: files, folders and archives, read into parts."""

import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from hwcli.data.cache import Found, Log
from hwcli.errors import SourceError, reason_of
from hwcli.output.units import first_of
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
from hwcli.sentiment.files import (
    UNREADABLE,
    Place,
    Rows,
    is_zip,
    kind_of,
    read_rows,
    read_saved,
)
from hwcli.sentiment.reviews import Reviews

# Rows of the package's file that are IMDB's; the others are single sentences.
PACKAGE_ROWS = ("source", "imdb")

# What the parts of a data set are called.
PART_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("validation", "valid", "dev", "val"),
    "test": ("test",),
}
# In a folder that the library datasets wrote.
SAVED = ("dataset_dict.json", "state.json")
# Folders inside a download that hold the parts.
INNER_FOLDERS = ("", "plain_text", "data", "aclImdb", "aclImdb_v1", "aclImdb_v1/aclImdb")


def read(found: Found, data: DataConfig, log: Log = lambda line: None) -> dict[str, Reviews]:
    """Read the parts of a data set: ``train`` and, where it has them, ``valid`` and ``test``.

    A file is any that :mod:`hwcli.sentiment.files` reads, or the authors' ``aclImdb_v1.tar.gz``.
    A folder holds a file for each part, the authors' ``train/pos/*.txt``, what ``datasets`` wrote
    by ``save_to_disk``, or a single file. A zip is read as the folder that was packed.

    Raises:
        SourceError: it is none of these, or a row is wrong; the line names it.
    """
    path = found.path
    if path.is_file() and _is_archive(path):
        return _read_archive(path)
    if any((path / name).is_file() for name in SAVED):
        return _saved_parts(path, data, log)
    root = _packed_folder(path) if is_zip(path) else path
    if root is not path and any((root / name).is_file() for name in SAVED):
        raise SourceError(f"{path}: holds a folder written by save_to_disk; unpack it")
    for inner in INNER_FOLDERS:
        parts = _text_parts(root / inner) or _table_parts(root / inner, data, log)
        if "train" in parts:
            return parts
    file = path if path.is_file() else _single_file(path)
    return {"train": read_file(file, data, log, PACKAGE_ROWS if found.holds else None)}


def _is_archive(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except UNREADABLE:  # compressed, and cut off
        return False


def _packed_folder(path: Path) -> Place:
    """Return the folder in a zip that holds everything else in it; often it is the only one.

    A damaged zip is returned as it is: to read it says what is wrong.
    """
    try:
        root = zipfile.Path(path)
    except UNREADABLE:
        return path
    inside = [place for place in root.iterdir() if place.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else root


def _files(folder: Place) -> list[Place]:
    """Return the files in a folder by their names; none where there is no such folder."""
    inside: list[Place] = list(folder.iterdir()) if folder.is_dir() else []
    return sorted((place for place in inside if place.is_file()), key=lambda place: place.name)


def read_file(
    path: Place, data: DataConfig, log: Log = lambda line: None, only: tuple[str, str] | None = None
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


def open_file(path: Place, data: DataConfig) -> Rows:
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


def _table_parts(root: Place, data: DataConfig, log: Log) -> dict[str, Reviews]:
    files: dict[str, list[Place]] = {}
    for path in _files(root):
        part = _part_of(path.name)
        if part and kind_of(path.name):
            files.setdefault(part, []).append(path)
    if "train" not in files:
        return {}
    # The training part first: it tells what the labels mean.
    files = {part: files[part] for part in PART_NAMES if part in files}
    for part, paths in files.items():
        _refuse_copies(root, part, paths)
        _refuse_missing_pieces(root, part, paths)
    kinds = {kind_of(path.name) for paths in files.values() for path in paths}
    others = [path.name for path in _files(root) if kind_of(path.name) in kinds]
    # The hub's IMDB has reviews without labels beside the others.
    unread = [name for name in others if _part_of(name) is None and "unsup" not in name.lower()]
    if unread:
        log(f"{root}: not read: {first_of(unread)}")
    named = [(part, path) for part, paths in files.items() for path in paths]
    reviews = _reviews([open_file(path, data) for _, path in named], data, log)
    return {
        part: _join(r for (of, _), r in zip(named, reviews, strict=True) if of == part)
        for part in files
    }


_SHARD = re.compile(r"[a-z]+-(\d+)(?:-of-(\d+))?[-.]", re.IGNORECASE)


def _refuse_missing_pieces(folder: Place, part: str, paths: Sequence[Place]) -> None:
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


def _refuse_copies(folder: Place, part: str, paths: Sequence[Place]) -> None:
    """Make sure that several files of a part are its numbered pieces, not one part in two forms.

    Raises:
        SourceError: they are not; read together, reviews would count twice.
    """
    pieces = [_SHARD.match(path.name) for path in paths]
    numbers = {piece[1] for piece in pieces if piece}
    if len(paths) > 1 and len(numbers) < len(paths):
        names = first_of([path.name for path in paths])
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


def _text_parts(root: Place) -> dict[str, Reviews]:
    """Read the authors' layout: one file per review, in a folder named after its label."""
    parts = {}
    for part in ("train", "test"):
        files = [
            (path, SPELLINGS[name])
            for name in ("neg", "pos")
            for path in _files(root / part / name)
            if path.name.endswith(".txt")
        ]
        if files:
            parts[part] = Reviews([_read_text(path) for path, _ in files], [x for _, x in files])
    return parts


def _read_text(path: Place) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SourceError(f"{path}: not UTF-8") from None
    except UNREADABLE as error:
        raise SourceError(f"{path}: cannot be read ({reason_of(error)})") from None


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
    except UNREADABLE as error:
        raise SourceError(f"{path}: cannot be read ({reason_of(error)})") from None
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
    files = [
        path
        for path in sorted(folder.glob("*"))
        if path.is_file() and (kind_of(path.name) or is_zip(path))
    ]
    if len(files) == 1:
        return files[0]
    if files:
        names = first_of([path.name for path in files])
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

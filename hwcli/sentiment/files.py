"""Rows of people's files, read in one way for training and for prediction.

A file is known by its ending (.csv, .tsv, .txt, .json, .jsonl, .parquet) in upper or lower case, a
packed one by its name inside the zip; compression is known by content. What a file means (which
column is the text, which the label) is :mod:`hwcli.sentiment.columns`'s business.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from hwcli.errors import SourceError, reason_of
from hwcli.output.units import first_of

Kind = Literal["csv", "tsv", "txt", "json", "jsonl", "parquet"]

ENDINGS: Mapping[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "txt",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zip")

Place = Path | zipfile.Path
"""A file or folder on the disk or inside a zip."""

# As what damaged, encrypted and cut-off files surface.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    csv.Error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Rows:
    """The rows of one file.

    Attributes:
        source: the file, as messages name it.
        columns: names; ``1``, ``2``, ... where the file names none; ``text`` for plain lines.
        values: of every row, in the order of the columns; None where a row has none. Messages
            count rows from 1, without a header.
        class_names: of columns whose numbers the file itself names.
        header_in_doubt: the names are the first row's, which may be no header.
    """

    source: str
    columns: tuple[str, ...]
    values: Sequence[Sequence[Any]]
    class_names: Mapping[str, Sequence[str]]
    header_in_doubt: bool = False

    def column(self, index: int) -> list[Any]:
        """Return one column, its numbers by the names that the file gives them."""
        names = self.class_names.get(self.columns[index])
        values = [row[index] for row in self.values]
        if names is None:
            return values
        known = range(len(names))
        return [names[v] if isinstance(v, int) and v in known else v for v in values]


def kind_of(name: str) -> Kind | None:
    """Tell a file's kind by the ending of its name; None for one that is not known."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return ENDINGS.get(suffixes[-1]) if suffixes else None


def is_zip(path: Place) -> bool:
    """Tell a zip by its ending; what it holds is known by the names in it."""
    return path.name.lower().endswith(".zip")


def read_rows(
    path: Place,
    *,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    known_columns: Sequence[str] = (),
    known_labels: Sequence[str] = (),
) -> Rows:
    """Read a file.

    Args:
        path: the file.
        separator: between the columns of a CSV or text file; None: by ending and content.
        header: whether the first row of such a file names its columns; None: by content.
        encoding: of a text file; None: UTF-8, or UTF-16 with its mark.
        known_columns: names that tell a header from a first row, in lower case.
        known_labels: spellings of labels, which a header does not hold.

    Raises:
        SourceError: one line that names the file, the row and a cure.
    """
    kind = kind_of(path.name)
    try:
        if kind is not None or is_zip(path):
            kind, content = _unpack(path.read_bytes(), kind)
        if kind is None:
            choices = ", ".join([*ENDINGS, "each with .gz, .bz2, .xz or .zip"])
            raise SourceError(f"{path}: unknown kind of file; choices: {choices}")
        if kind == "parquet":
            return _read_parquet(path, content)
        text = decode_text(content, str(path), encoding)
        if kind == "jsonl":
            return _from_objects(path, _json_lines(text, path))
        if kind == "json":
            return _from_objects(path, _json_objects(text, path))
        if kind == "txt" and separator is None:
            lines = split_lines(text)
            cells = {cell.strip().lower() for cell in lines[0].split("\t")} if lines else set()
            table = {line.count("\t") for line in lines if line} not in ({0}, set())
            if table and (header is not None or cells & {*known_columns, *known_labels}):
                return _delimited(path, text, kind, "\t", header, known_columns, known_labels)
            return Rows(str(path), ("text",), [[x] for x in lines], {})
        return _delimited(path, text, kind, separator, header, known_columns, known_labels)
    except RecursionError:
        raise SourceError(f"{path}: cannot be read (nested too deeply)") from None
    except UNREADABLE as error:
        raise SourceError(f"{path}: cannot be read ({reason_of(error)})") from None


def split_lines(text: str) -> list[str]:
    """Split plain text into its lines: at LF or CR LF alone, at CR where there is no LF.

    Other separators of Unicode stand inside a line: to split there would shift every later row.
    """
    if not text:
        return []
    ending = "\n" if "\n" in text else "\r"
    lines = text.removesuffix(ending).split(ending)
    return [line.removesuffix("\r") for line in lines] if ending == "\n" else lines


def decode_text(content: bytes, source: str, encoding: str | None = None) -> str:
    """Decode text, and say where it cannot be.

    Raises:
        SourceError: naming the line and how to name another encoding.
    """
    if encoding is None:
        utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if utf_16 else "utf-8-sig"
        # Latin letters of UTF-16 are also UTF-8, with a NUL beside each of them.
        if not utf_16 and content.count(b"\0") > len(content) / 4:
            order = "be" if content.startswith(b"\0") else "le"
            raise SourceError(
                f"{source}: looks like UTF-16 without its mark; write --set "
                f"data.encoding=utf-16-{order}"
            )
    try:
        return content.decode(encoding)
    except LookupError:
        raise SourceError(
            f"data.encoding = {encoding!r}: unknown; choices: utf-8, utf-16, cp1252, latin-1, ..."
        ) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise SourceError(
            f"{source}: line {line} is not {name}; name the file's encoding, for example "
            "--set data.encoding=cp1252"
        ) from None


def _unpack(content: bytes, kind: Kind | None) -> tuple[Kind | None, bytes]:
    """Undo gzip, bzip2, xz or a zip of one table, whatever the ending says.

    A table in a zip is of the kind that its own name says.
    """
    if content.startswith(b"\x1f\x8b"):
        return kind, gzip.decompress(content)
    if content.startswith(b"BZh"):
        return kind, bz2.decompress(content)
    if content.startswith(b"\xfd7zXZ\0"):
        return kind, lzma.decompress(content)
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # macOS puts a folder of its own beside the files.
            names = [
                name
                for name in archive.namelist()
                if not name.endswith("/") and not name.startswith("__MACOSX/")
            ]
            tables = [name for name in names if kind_of(name)] if len(names) > 1 else names
            if not tables:
                raise ValueError("no file in the zip is of a known kind")
            if len(tables) > 1:
                raise ValueError(
                    f"which file in the zip? unpack it and name one of {first_of(tables)}"
                )
            return _unpack(archive.read(tables[0]), kind_of(tables[0]) or kind)
    return kind, content


# --------------------------------------------------------------------------------------
# Separated values


def _delimited(
    path: Place,
    text: str,
    kind: Kind,
    separator: str | None,
    header: bool | None,
    known_columns: Sequence[str],
    known_labels: Sequence[str],
) -> Rows:
    if separator is None:
        separator = "\t" if kind in ("tsv", "txt") else _sniff(text)
    separator = {"\\t": "\t", "tab": "\t"}.get(separator, separator)
    if len(separator) != 1:
        raise SourceError(f"data.separator = {separator!r}: one character is needed")
    records = _records(text, separator)
    if not records:
        raise SourceError(f"{path}: no rows in it")
    first = {cell.strip().lower() for cell in records[0]}
    names_columns = bool(first & set(known_columns)) or _has_word_above_numbers(
        records, set(known_labels)
    )
    # What holds labels alone is no review: pandas names columns 0, 1, ... where nobody does.
    is_a_row = bool(first & set(known_labels) and first - {*known_labels})
    in_doubt = header is None and not (names_columns or is_a_row)
    if header is None:
        header = in_doubt or names_columns
    if header:
        columns = tuple(cell.strip() for cell in records[0])
        records = records[1:]
    else:
        columns = tuple(str(index + 1) for index in range(len(records[0])))
    for number, record in enumerate(records, start=1):
        if len(record) != len(columns):
            raise SourceError(
                f"{path}: row {number} has {len(record)} fields where {len(columns)} are "
                f"expected; a text that holds {separator!r} needs quotes around it"
            )
    return Rows(str(path), columns, records, {}, in_doubt)


def _has_word_above_numbers(records: Sequence[Sequence[str]], words: set[str]) -> bool:
    """Tell whether the first row has a label's word above numbers: it names a column, then.

    In a column called "negative", 1 means negative.
    """
    first, *rest = records
    return bool(rest) and any(
        cell.strip().lower() in words
        and cell.strip().isalpha()
        and all(len(record) > index and _is_number(record[index]) for record in rest)
        for index, cell in enumerate(first)
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _sniff(text: str) -> str:
    """Return the separator of a CSV file: the most frequent one of its first line."""
    first = split_lines(text[:65536])[0] if text else ""
    return max(",;\t|", key=first.count) if any(c in first for c in ",;\t|") else ","


def _records(text: str, separator: str) -> list[list[str]]:
    """Split into rows of cells. Blank lines are no rows, but an empty text in a single column.

    With tabs, quotes are mostly part of the text: where every line has as many cells as the
    first, lines are rows, and only a cell that is quoted from end to end loses its quotes.
    """
    csv.field_size_limit(2**31 - 1)
    if separator == "\t":
        lines = [line.split("\t") for line in split_lines(text) if line.strip("\r")]
        is_table = len({len(line) for line in lines}) == 1 and len(lines[0]) > 1
        if is_table:
            return [[_unquote(cell) for cell in line] for line in lines]
    source = io.StringIO(text, newline="")
    records = list(csv.reader(source, delimiter=separator, strict=True))
    while records and not records[-1]:
        records.pop()
    if all(len(record) < 2 for record in records):
        return [record or [""] for record in records]
    return [record for record in records if record]


def _unquote(cell: str) -> str:
    whole = len(cell) >= 2 and cell[0] == cell[-1] == '"'
    inner = cell[1:-1]
    if whole and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


# --------------------------------------------------------------------------------------
# JSON


def _json_lines(text: str, path: Place) -> Iterator[Any]:
    for number, line in enumerate(split_lines(text), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise SourceError(f"{path}: line {number} is not JSON ({error})") from None


def _json_objects(text: str, path: Place) -> Iterator[Any]:
    """Give the objects of a list, of a mapping of columns, or of JSON lines under this ending."""
    try:
        whole = json.loads(text)
    except ValueError:
        yield from _json_lines(text, path)
        return
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        if len(lists) == 1 and len(whole) > 0 and all(isinstance(x, dict) for x in lists[0]):
            whole = lists[0]  # such as {"data": [...]}
        elif lists and len(lists) == len(whole):
            if len(set(map(len, lists))) > 1:
                raise SourceError(f"{path}: its lists are of unequal length")
            whole = [dict(zip(whole, cells, strict=True)) for cells in zip(*lists, strict=True)]
        elif whole and all(isinstance(value, dict) for value in whole.values()):
            # As pandas writes: {"text": {"0": ..., "1": ...}, "label": {"0": ..., "1": ...}}.
            keys = dict.fromkeys(key for cells in whole.values() for key in cells)
            whole = [{name: cells.get(key) for name, cells in whole.items()} for key in keys]
        else:
            whole = [whole]
    yield from whole if isinstance(whole, list) else [whole]


def _from_objects(path: Place, objects: Iterator[Any]) -> Rows:
    rows = list(objects)
    if rows and all(isinstance(row, str) for row in rows):
        return Rows(str(path), ("text",), [[row] for row in rows], {})
    columns: dict[str, None] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SourceError(
                f"{path}: row {number} is {describe_type(row)}, not an object with a text"
            )
        columns.update(dict.fromkeys(row))
    values = [[row.get(name) for name in columns] for row in rows]
    return Rows(str(path), tuple(columns), values, {})


def describe_type(value: object) -> str:
    """Name a value's type in JSON's words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "empty",
    }
    return names.get(type(value), f"a value of the type {type(value).__name__}")


# --------------------------------------------------------------------------------------
# Parquet, and what the library datasets saves


def _read_parquet(path: Place, content: bytes) -> Rows:
    import datasets
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(content))
        features = datasets.Features.from_arrow_schema(table.schema)
    except (pa.ArrowException, AttributeError, TypeError, KeyError) as error:
        # Names of classes that cannot be read must not be taken for none.
        raise ValueError(str(error)) from None
    return _from_columns(str(path), table.to_pydict(), features)


def read_saved(folder: Path) -> dict[str, Rows]:
    """Read the parts of a folder that ``datasets`` wrote by ``save_to_disk``.

    Raises:
        SourceError: it cannot be read.
    """
    import datasets

    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:
        # Damaged files surface as whatever the reader in question happens to raise.
        raise SourceError(f"{folder}: cannot be read by datasets ({reason_of(error)})") from None
    parts = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
    return {
        name: _from_columns(f"{folder} ({name})", part.to_dict(), part.features)
        for name, part in parts.items()
    }


def _from_columns(source: str, columns: Mapping[str, Sequence[Any]], features: Any) -> Rows:
    names = {
        name: feature.names
        for name, feature in features.items()
        if type(feature).__name__ == "ClassLabel" and feature.names
    }
    values = list(zip(*columns.values(), strict=True))
    return Rows(source, tuple(columns), values, names)

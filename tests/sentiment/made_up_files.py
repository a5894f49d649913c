"""Four reviews that are hard to write down, as files of several kinds."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from hwcli.data.cache import Found
from hwcli.sentiment.columns import DataConfig
from hwcli.sentiment.reviews import Reviews

TEXTS = ["a\u2028fine\x0bfilm\x85", 'dull, "very"; dull', "", "😀 good"]
LABELS = [1, 0, 0, 1]
EXPECTED = Reviews(TEXTS, LABELS)
PLAIN = DataConfig()


def as_csv(delimiter: str = ",", **names: str) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow([names.get("text", "text"), names.get("label", "label")])
    writer.writerows(zip(TEXTS, LABELS, strict=True))
    return buffer.getvalue().encode()


def as_objects() -> list[dict[str, Any]]:
    return [{"text": t, "label": x} for t, x in zip(TEXTS, LABELS, strict=True)]


def as_parquet() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table({"text": TEXTS, "label": LABELS}), sink)
    return sink.getvalue()


def as_zip(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in (files or {"IMDB Dataset.csv": as_csv()}).items():
            archive.writestr(name, content)
    return sink.getvalue()


def found(path: Path) -> Found:
    return Found(path, "mine", "the path given")

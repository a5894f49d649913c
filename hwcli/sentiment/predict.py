"""From texts and a run folder to labels: what ``hw2 sentiment-predict`` does."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hwcli import runtime
from hwcli.errors import SourceError
from hwcli.sentiment.classifier import load_saved
from hwcli.sentiment.reviews import read_texts
from hwcli.sentiment.summary import Prediction


def gather_texts(arguments: Sequence[str], file: Path | None) -> list[str]:
    """Return the texts of the arguments and the file; without either those of standard input.

    Raises:
        SourceError: the file cannot be read, or there is nothing to judge.
    """
    texts = [*arguments, *(read_texts(file) if file else [])]
    if not arguments and file is None:
        if sys.stdin.isatty():
            raise SourceError("no text given; name some, a --file, or pipe them in, one a line")
        texts = sys.stdin.read().splitlines()
    if not texts:
        raise SourceError("no text given: the input is empty")
    return texts


def find_run(run: Path | None, out: Path) -> Path:
    """Return the folder of a run: the one named, else the newest finished one.

    Raises:
        SourceError: it does not exist, or there is none.
    """
    if run is not None:
        if not run.is_dir():
            raise SourceError(f"model = {str(run)!r}: no such run folder")
        return run
    summaries = sorted(
        out.glob("sentiment-train/*/summary.json"), key=lambda path: path.stat().st_mtime
    )
    if not summaries:
        raise SourceError(
            f"no finished sentiment-train run in {out}; run hw2 sentiment-train, or name one "
            "by --model"
        )
    return summaries[-1].parent


def predict(texts: Sequence[str], run: Path, device: str) -> list[Prediction]:
    """Judge texts by a run's classifier.

    Raises:
        SourceError: the run holds no classifier, or a damaged one.
        ConfigError: the device is not on this machine.
    """
    return load_saved(run / "model", runtime.resolve_device(device)).predict(texts)


def to_json_lines(predictions: Sequence[Prediction]) -> str:
    """Spell predictions as JSON, one a line."""
    return "".join(json.dumps(p.model_dump(), ensure_ascii=False) + "\n" for p in predictions)

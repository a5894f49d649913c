"""Which runs are there, which of them are whole, and what is wrong with the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwcli.config import read_yaml
from hwcli.errors import HwError, OutputError
from hwcli.output.files import read_json, read_jsonl

PNG_END = b"IEND\xaeB`\x82"

# What a section reads of a summary, and what kind of value stands there.
NEEDED: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "rnn-trace": {"length": int, "final": dict, "property": dict, "checks": dict},
    "attention-bench": {"rows": list, "exponents": dict, "normalizers": list, "machine": dict},
    "vit-sweep": {"cells": list, "best": dict, "precision": str},
    "sentiment-train": {
        "epochs": list,
        "split_sizes": dict,
        "vocab_size": int,
        "num_params": int,
        "num_trainable_params": int,
        "test_loss": float,
        "test_accuracy": float,
        "test_accuracy_se": float,
        "baselines": dict,
        "predictions": list,
        "confusion": list,
    },
}


class DamagedRunError(HwError):
    """A run folder is not finished, or not whole; the text says why, without the folder."""


@dataclass(frozen=True)
class Run:
    """One finished run: its folder and what stands in it."""

    path: Path
    command: str
    name: str
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Return the folder as it lies under the results: ``vit-sweep/standard``."""
        return f"{self.command}/{self.name}"

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl``."""
        return read_jsonl(self.path / "metrics.jsonl")

    def has_picture(self, name: str) -> bool:
        """Tell whether the run has drawn a picture, and whole: a PNG from its first chunk on."""
        path = self.path / f"{name}.png"
        data = path.read_bytes() if path.exists() else b""
        return data.startswith(b"\x89PNG\r\n\x1a\n") and data.rstrip().endswith(PNG_END)


def read_run(path: Path) -> Run:
    """Read a run folder, and make sure that it is whole.

    Raises:
        DamagedRunError: it is not finished, finished in part, or something in it is damaged.
    """
    if not (path / "summary.json").exists():
        raise DamagedRunError("not finished: it has no summary.json")
    summary = _read(path / "summary.json", read_json)
    for key, expected in (("command", path.parent.name), ("name", path.name)):
        if summary.get(key) != expected:
            raise DamagedRunError(f"damaged: summary.json is of another {key}")
    if summary.get("status") != "complete":
        raise DamagedRunError("finished in part: some of it failed")
    for key, kind in NEEDED.get(path.parent.name, {}).items():
        if not isinstance(summary.get(key), kind):
            raise DamagedRunError(f"damaged: summary.json has no usable {key!r}")
    run = Run(
        path,
        path.parent.name,
        path.name,
        summary,
        _read(path / "config.yaml", read_yaml),
        _read(path / "env.json", read_json),
    )
    _count_records(run)
    return run


def _read(path: Path, reader: Callable[[Path], Any]) -> dict[str, Any]:
    try:
        content = reader(path)
    except (OSError, ValueError, HwError):
        raise DamagedRunError(f"damaged: {path.name} cannot be read") from None
    if not isinstance(content, dict):
        raise DamagedRunError(f"damaged: {path.name} holds no mapping")
    return content


def _count_records(run: Run) -> None:
    """Hold the records against the summary: a torn line would be a point missing from a plot."""
    if run.command == "attention-bench":
        expected = len(run.summary["rows"])
    elif run.command == "vit-sweep":
        seeds = run.config.get("seeds", [0])
        expected = len(run.summary["cells"]) * len(seeds) * run.config["epochs"]
    else:
        return
    try:
        found = len(run.records())
    except (OSError, ValueError):
        found = 0
    if found != expected:
        raise DamagedRunError(
            f"damaged: metrics.jsonl has {found} whole lines, {expected} were written"
        )


@dataclass(frozen=True)
class Runs:
    """The whole runs under a folder of results, and why others are left out.

    Attributes:
        root: the folder.
        whole: by ``<command>/<name>``.
        left_out: the reason, by ``<command>/<name>``.
    """

    root: Path
    whole: Mapping[str, Run]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def of(self, command: str) -> list[Run]:
        """Return the whole runs of one command, by name."""
        return [run for run in self.whole.values() if run.command == command]

    def get(self, command: str, name: str) -> Run | None:
        """Return one run, or None where it is not there or not whole."""
        return self.whole.get(f"{command}/{name}")

    def newest(self, runs: Sequence[Run]) -> Run | None:
        """Return the one that was finished last; a checkout's files are all of one age: by name."""
        return max(runs, default=None, key=lambda run: (_finished_s(run), run.name))


def _finished_s(run: Run) -> int:
    return int((run.path / "summary.json").stat().st_mtime)


def find_runs(root: Path) -> Runs:
    """Read every run folder under a folder of results.

    Raises:
        OutputError: there is no such folder.
    """
    if not root.is_dir():
        raise OutputError(f"runs = {str(root)!r}: no such folder; experiments write one")
    whole, left_out = {}, {}
    for command in NEEDED:
        for path in sorted((root / command).glob("*/")):
            if path.name == "trials" or not any(path.glob("*.*")):
                continue
            try:
                whole[f"{command}/{path.name}"] = read_run(path)
            except DamagedRunError as error:
                left_out[f"{command}/{path.name}"] = str(error)
    return Runs(root, whole, left_out)

"""Run folders for the report, copies of the committed reference runs, and cells in print."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from nbformat import v4

from hwcli.report import document

COMMITTED = Path(__file__).parents[2] / "results/reference"
SHOWN = (
    "rnn-trace/alternating-sum",
    "attention-bench/default",
    "vit-sweep/standard",
    "sentiment-train/homework",
    "sentiment-train/strong",
)


def link_committed(root: Path, *names: str) -> None:
    """Take the repository's runs as a user's own: not the very bytes of a reference run."""
    for name in names:
        shutil.copytree(COMMITTED / name, root / name)
        environment = root / name / "env.json"
        environment.write_text(environment.read_text() + "\n")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder with a run for every question."""
    root = tmp_path / "results"
    link_committed(root, *SHOWN)
    return root


def markdown(
    cells: list[Any], folder: Path, told: list[str] | None = None, generated: tuple[str, ...] = ()
) -> str:
    """Return cells as the document has them; the notebook lies in ``folder / "beside"``."""
    say = ([] if told is None else told).append
    made = v4.new_notebook(cells=cells, metadata={"hw2": {"generated": list(generated)}})
    return document.to_markdown(made, folder, folder / "beside", say)

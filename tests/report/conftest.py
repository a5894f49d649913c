"""Run folders for the report: copies of the committed reference runs."""

import shutil
from pathlib import Path

import pytest

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

"""The commands of the documents, in any order, leave the runs of the hand-in as they are."""

import hashlib
import importlib
import random
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwcli.config import every_value, load
from hwcli.experiment import Plan
from hwcli.output.run_folder import RunFolder, Summary
from hwcli.report import notebook
from hwcli.report.runs import SUMMARIES, find_runs
from tests.shown_lines import SHOWN as DOCUMENTED

from .conftest import SHOWN, link_committed

# What somebody would try next: names that are taken, with other settings.
TRIED = (
    "hw2 vit-sweep --layers 4 --heads 2",
    "hw2 vit-sweep --preset standard --seeds 0",
    "hw2 attention-bench --T 1024",
    "hw2 sentiment-train --preset homework --epochs 1",
    "hw2 sentiment-train --preset strong --train-limit 100",
)
LINES = sorted(
    {line for line, _ in DOCUMENTED if line.split()[1] in SUMMARIES and "--help" not in line}
)
REFUSED = {
    # The committed run has three seeds, and these have one.
    "hw2 vit-sweep",
    "hw2 vit-sweep --layers 4..8",
    "hw2 vit-sweep --layers 4..8 --heads 2..4",
    "hw2 vit-sweep --layers 4..8 --heads 2..4 --launcher ray",
    "hw2 vit-sweep --layers 4..8 --heads 2..4 --launcher slurm",
    # A user's own files.
    "hw2 rnn-trace --spec exercise.yaml",
    "hw2 rnn-trace --spec mine.yaml --expect parity",
}
# A wider grid may take the place of a narrower one; these say only how a run is computed.
AXES = {"layers", "heads", "seeds"}
HOW = {"jobs", "device", "launcher", "retry_failed", "fail_fast", "compare", "cores"}


def pretend(config: Any, folder: RunFolder) -> Summary:
    """Take the folder as an experiment does, and find at once what a real run would."""
    found = folder.summary()
    stored: dict[str, Any] = {}
    if found:
        # Settings that are newer than the run have their defaults there.
        earlier = load(type(config), folder.command, path=folder.path / "config.yaml")
        stored = every_value(earlier)
    folder.claim(config, {}, wait=False)
    if found is None:
        folder.write("table.csv", "made up")
        return Summary(command=folder.command, name=folder.name, status="complete")
    # The same run again, or a grid that has all of it: nothing else may be here.
    given = every_value(config)
    for key, value in stored.items():
        if key in AXES and isinstance(value, list):
            assert set(value) <= set(given[key]), key
        elif key not in HOW:
            assert given[key] == value, key
    return SUMMARIES[folder.command].model_validate(found)


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in SUMMARIES:
        module = importlib.import_module(f"hwcli.experiments.{command.replace('-', '_')}")
        monkeypatch.setattr(module, "run", pretend)
        monkeypatch.setattr(module, "plan", lambda *_: Plan("nothing", 0.0, 0, 0))


def contents(root: Path) -> dict[str, str]:
    """Return a digest of each file that the runs of the hand-in consist of."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for run in SHOWN
        for path in sorted((root / run).iterdir())
        # The summary is compared by what it says; the others of these name the newest machine.
        if path.name not in (".lock", "env.json", "config.yaml", "summary.json")
    }


def shown(root: Path) -> list[tuple[str, Any]]:
    """Return the runs of the hand-in and what they found."""
    used = notebook.used_runs(find_runs(root))
    return [(run.id, run.read(SUMMARIES[run.command])) for run in used]


@pytest.mark.usefixtures("experiments")
@pytest.mark.parametrize("seed", range(2))
def test_no_documented_command_takes_a_run_from_the_hand_in(
    own: Path, hw2: Callable[..., int], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    before, files = shown(own), contents(own)
    assert [run for run, _ in before] == list(SHOWN)
    monkeypatch.chdir(own.parent)
    lines = [*LINES, *TRIED, "hw2 rnn-trace --w-rec 2", "hw2 status"]
    random.Random(seed).shuffle(lines)
    codes = {line: hw2(*shlex.split(line)[1:]) for line in lines}
    assert shown(own) == before
    assert contents(own) == files
    # What is tried under a name that is taken is refused; what is documented works.
    assert set(codes.values()) == {0, 2}
    assert {line for line, code in codes.items() if code == 2} == {*TRIED, *REFUSED}


@pytest.mark.usefixtures("experiments")
def test_a_run_that_is_replaced_is_seen_to_be_lost(
    own: Path, hw2: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shown(own)
    monkeypatch.chdir(own.parent)
    with pytest.raises(AssertionError):
        hw2(*shlex.split(TRIED[0])[1:], "--replace")
    link_committed(own, "vit-sweep/quick")
    (own / "vit-sweep/standard/summary.json").unlink()
    assert shown(own) != before

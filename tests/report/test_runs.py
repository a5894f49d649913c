"""Which runs are taken, and what is said of the others."""

import json
import os
from pathlib import Path

import pytest

from hwcli.errors import OutputError
from hwcli.report import notebook, recurrences, sentiment, vision
from hwcli.report.runs import DamagedRunError, find_runs, read_run

from .conftest import link_committed, write_sentiment, write_sweep


def test_whole_runs_are_found_by_command_and_name(made_up: Path) -> None:
    runs = find_runs(made_up)
    assert list(runs.whole) == [
        "rnn-trace/alternating-sum",
        "attention-bench/default",
        "vit-sweep/standard",
        "sentiment-train/homework",
        "sentiment-train/strong",
    ]
    assert runs.left_out == {}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("summary.json", None, "not finished: it has no summary.json"),
        ("summary.json", '{"command": "vit-', "damaged: summary.json cannot be read"),
        ("summary.json", "[1]", "damaged: summary.json holds no mapping"),
        ("summary.json", '{"command": "x"}', "damaged: summary.json is of another command"),
        ("config.yaml", "a: [", "damaged: config.yaml cannot be read"),
        ("env.json", None, "damaged: env.json cannot be read"),
        ("metrics.jsonl", '{"layers": 4', "damaged: metrics.jsonl has 0 whole lines, 30 were"),
    ],
)
def test_a_run_that_is_not_whole_is_named_with_its_reason(
    tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    path = write_sweep(tmp_path, "standard") / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    runs = find_runs(tmp_path)
    assert runs.whole == {}
    assert runs.left_out["vit-sweep/standard"].startswith(reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "partial"}, "finished in part"),
        ({"cells": None}, "damaged: summary.json has no usable 'cells'"),
        ({"name": "other"}, "damaged: summary.json is of another name"),
    ],
)
def test_a_summary_that_says_otherwise_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    folder = write_sweep(tmp_path, "standard")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | change))
    with pytest.raises(DamagedRunError, match=reason):
        read_run(folder)


def test_a_run_damaged_within_is_left_out_and_the_others_are_not(made_up: Path) -> None:
    path = made_up / "vit-sweep/standard/summary.json"
    summary = json.loads(path.read_text())
    del summary["cells"][3]["test_accuracy_mean"]
    path.write_text(json.dumps(summary))
    runs = notebook.sift(find_runs(made_up))
    assert list(runs.left_out) == ["vit-sweep/standard"]
    assert "test_accuracy_mean" in runs.left_out["vit-sweep/standard"]
    assert len(runs.whole) == 4


def test_a_torn_picture_is_none(made_up: Path) -> None:
    run = read_run(made_up / "rnn-trace/alternating-sum")
    assert run.has_picture("trace")
    (run.path / "trace.png").write_bytes((run.path / "trace.png").read_bytes()[:99])
    assert not run.has_picture("trace")
    assert not run.has_picture("absent")


def test_a_folder_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        find_runs(tmp_path / "absent")


def test_of_the_grids_standard_is_taken_else_the_newest_whole_softmax_one(tmp_path: Path) -> None:
    for age, name in enumerate(["linear", "newer", "older"]):
        folder = write_sweep(tmp_path, name, attention="linear" if name == "linear" else "softmax")
        os.utime(folder / "summary.json", (1000 - age, 1000 - age))
    chosen = vision.choose(find_runs(tmp_path))
    assert chosen is not None
    assert chosen.name == "newer"
    write_sweep(tmp_path, "standard")
    os.utime(tmp_path / "vit-sweep/standard/summary.json", (1, 1))
    chosen = vision.choose(find_runs(tmp_path))
    assert chosen is not None
    assert chosen.name == "standard"


def test_a_grid_without_every_cell_asked_for_is_not_the_answer(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "small")
    summary = json.loads((folder / "summary.json").read_text())
    summary["cells"].pop()
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-2]))
    runs = find_runs(tmp_path)
    assert list(runs.whole) == ["vit-sweep/small"]
    assert vision.choose(runs) is None


def test_the_other_questions_know_their_runs(tmp_path: Path) -> None:
    link_committed(tmp_path, "rnn-trace/alternating-sum")
    write_sentiment(tmp_path, "quick")
    runs = find_runs(tmp_path)
    trace = recurrences.choose(runs)
    assert trace is not None
    assert trace.name == "alternating-sum"
    assert [run.name for run in sentiment.choose(runs)] == ["quick"]
    write_sentiment(tmp_path, "strong")
    assert [run.name for run in sentiment.choose(find_runs(tmp_path))] == ["strong"]

"""Which runs are taken, and what is said of the others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hwcli.errors import OutputError
from hwcli.report import attention, recurrences, sentiment
from hwcli.report.notebook import Author, all_cells
from hwcli.report.runs import find_runs, read_run

from .conftest import COMMITTED, SHOWN, link_committed


def test_whole_runs_are_found_by_command_and_name(own: Path) -> None:
    runs = find_runs(own)
    assert sorted(runs.whole) == sorted(SHOWN)
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
    ],
)
def test_a_run_that_is_not_whole_is_named_with_its_reason(
    tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    link_committed(tmp_path, "attention-bench/default")
    path = tmp_path / "attention-bench/default" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    runs = find_runs(tmp_path)
    assert runs.whole == {}
    assert runs.left_out["attention-bench/default"].startswith(reason)


def change(path: Path, **values: Any) -> None:
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | values))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": "partial"}, "a part of it failed"),
        ({"name": "other"}, "damaged: summary.json is of another name"),
        ({"machine": {}}, "damaged: summary.json has no usable 'machine.cpu'"),
    ],
)
def test_a_summary_that_says_otherwise_is_left_out(
    own: Path, values: dict[str, Any], reason: str
) -> None:
    change(own / "attention-bench/default/summary.json", **values)
    runs = find_runs(own)
    assert runs.left_out == {"attention-bench/default": reason}
    assert len(runs.whole) == len(SHOWN) - 1


def test_a_folder_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        find_runs(tmp_path / "absent")


def test_own_runs_come_before_reference_runs_question_by_question(tmp_path: Path) -> None:
    link_committed(tmp_path, "attention-bench/million")
    runs = find_runs(tmp_path, COMMITTED)
    (bench,) = attention.choose(runs)
    trace = recurrences.choose(runs)
    assert (bench.name, bench.is_reference) == ("million", False)
    assert trace is not None
    assert (trace.name, trace.is_reference) == ("alternating-sum", True)
    assert [run.is_reference for run in sentiment.choose(runs)] == [True, True]


def test_without_reference_a_clone_shows_nothing_of_the_projects(tmp_path: Path) -> None:
    """``results/`` of a clone holds the reference runs in a folder of their own."""
    link_committed(tmp_path / "reference", "attention-bench/default")
    assert find_runs(tmp_path).whole == {}


def test_a_copy_of_a_reference_run_is_a_reference_run(tmp_path: Path) -> None:
    for name in ("attention-bench/default", "rnn-trace/alternating-sum"):
        shutil.copytree(COMMITTED / name, tmp_path / name)
    # Trained anew: what it found may be the same, but its environment tells it apart.
    change(tmp_path / "rnn-trace/alternating-sum/env.json", commit="f" * 40)
    runs = find_runs(tmp_path, project=COMMITTED)
    assert {name: run.is_reference for name, run in runs.whole.items()} == {
        "attention-bench/default": True,
        "rnn-trace/alternating-sum": False,
    }
    # It is read where it lies, and called what it is.
    cells = all_cells(runs, {"runs": ".."}, Author())
    code = "\n".join(cell.source for cell in cells if cell.kind == "code")
    assert 'read_run(RUNS / "attention-bench/default", is_reference=True)' in code
    assert "REFERENCE" not in code
    assert any("Reference runs" in cell.source for cell in cells)


@pytest.mark.parametrize("inner", ["attention-bench", "attention-bench/default"])
def test_the_folder_of_one_experiment_is_refused_with_the_one_to_name(
    own: Path, inner: str
) -> None:
    with pytest.raises(OutputError, match=f"belongs to one experiment; .* --runs {own}$"):
        find_runs(own / inner)


def test_a_run_knows_its_machine() -> None:
    run = read_run(COMMITTED / "attention-bench/default")
    assert run.machine == "Intel(R) Xeon(R) Processor with AMX, 2 threads"

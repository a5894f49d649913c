"""Which runs are taken, and what is said of the others."""

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from hwcli.errors import OutputError
from hwcli.report import attention, recurrences, sentiment, vision
from hwcli.report.checks import doubts
from hwcli.report.notebook import Author, all_cells, not_shown, what_is_shown
from hwcli.report.runs import find_runs, newest, read_run

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
        ("config.yaml", "", "damaged: config.yaml has no usable 'causal'"),
        ("config.yaml", "{}", "damaged: config.yaml has no usable 'causal'"),
        ("config.yaml", "causal: 3", "damaged: config.yaml has no usable 'causal'"),
        ("vit-sweep/config.yaml", "seeds: '0'", "damaged: config.yaml has no usable 'epochs'"),
        ("sentiment-train/config.yaml", "texts: []", "damaged: config.yaml has no usable 'seed'"),
        ("env.json", None, "damaged: env.json cannot be read"),
        ("env.json", '{"versions": null}', "damaged: env.json has no usable 'versions'"),
        ("env.json", '{"versions": {"torch": 2}}', "damaged: env.json has no usable 'versions.t"),
        ("env.json", '{"trained_on": [{}]}', "damaged: env.json has no usable 'trained_on.0.mac"),
        ("env.json", '{"command_line": [1]}', "damaged: env.json has no usable 'command_line.0'"),
        ("env.json", '{"commit": 7}', "damaged: env.json has no usable 'commit'"),
        ("vit-sweep/trials.csv", None, "damaged: trials.csv: no such file"),
        ("vit-sweep/trials.csv", "torn", "damaged: trials.csv: cannot be read"),
    ],
)
def test_a_run_that_is_not_whole_is_named_with_its_reason(
    tmp_path: Path, file: str, content: str | None, reason: str
) -> None:
    runs_of = {"vit-sweep": "vit-sweep/quick", "sentiment-train": "sentiment-train/strong"}
    run = runs_of.get(file.partition("/")[0], "attention-bench/default")
    link_committed(tmp_path, run)
    path = tmp_path / run / Path(file).name
    path.unlink()
    if content is not None:
        path.write_text(content)
    runs = find_runs(tmp_path)
    assert runs.whole == {}
    assert runs.left_out[run].startswith(reason)


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


def test_a_picture_that_is_torn_or_no_png_is_not_shown(tmp_path: Path) -> None:
    link_committed(tmp_path, "rnn-trace/alternating-sum")
    run = read_run(tmp_path / "rnn-trace/alternating-sum")
    path = run.path / "trace.png"
    assert run.picture("trace") == path
    whole = path.read_bytes()
    header = len(b"\x89PNG\r\n\x1a\n") + 25
    short_chunk = bytes(4) + b"sRGB" + zlib.crc32(b"sRGB").to_bytes(4, "big")
    with_short_chunk = whole[:header] + short_chunk + whole[header:]
    for content in (whole[: len(whole) // 2], whole[:20], b"", b"no picture", with_short_chunk):
        path.write_bytes(content)
        assert run.picture("trace") is None
        assert "q1-picture" not in {c.id for c in recurrences.section(find_runs(tmp_path))}
    path.unlink()
    assert run.picture("trace") is None


def test_a_setting_that_is_newer_than_a_run_is_what_the_run_did_without_it(
    tmp_path: Path,
) -> None:
    link_committed(tmp_path, "vit-sweep/standard-gpu")
    path = tmp_path / "vit-sweep/standard-gpu"
    assert "early_tokens" not in (path / "config.yaml").read_text()
    assert read_run(path).config["augmentation"]["early_tokens"] == 1.0


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


def test_a_name_that_no_run_can_have_is_left_out(tmp_path: Path) -> None:
    """A name is printed inside code: it must not end the text that it stands in."""
    name = 'x" + str(1) + "'
    link_committed(tmp_path, "rnn-trace/alternating-sum")
    (tmp_path / "rnn-trace/alternating-sum").rename(tmp_path / "rnn-trace" / name)
    change(tmp_path / "rnn-trace" / name / "summary.json", name=name)
    runs = find_runs(tmp_path)
    assert runs.left_out == {f"rnn-trace/{name}": "its folder's name cannot be a run's"}


def with_cells(own: Path, num_cells: int, name: str) -> None:
    """Make a user's run of the first cells of the committed grid."""
    link_committed(own, "vit-sweep/standard")
    path = (own / "vit-sweep/standard").rename(own / "vit-sweep" / name)
    stored = json.loads((path / "summary.json").read_text())
    cells = [cell | {"versus_best": "best"} for cell in stored["cells"][:num_cells]]
    change(path / "summary.json", cells=cells, name=name)


@pytest.mark.parametrize(("name", "num_cells"), [("tiny", 2), ("standard", 14)])
def test_a_finished_run_that_is_not_shown_is_named_with_its_reason(
    tmp_path: Path, name: str, num_cells: int
) -> None:
    with_cells(tmp_path, num_cells, name)
    reason = f"it has {num_cells} of the 15 cells"
    runs = find_runs(tmp_path)
    assert not_shown(runs) == {f"vit-sweep/{name}": reason}
    cells = {cell.id: cell.source for cell in all_cells(runs, {"runs": ".."}, Author())}
    assert f"`vit-sweep/{name}` is not shown: {reason}." in cells["q3-answer"]
    assert f"`vit-sweep/{name}` is finished, but not shown: {reason}." in cells["back-appendix"]
    assert "No run is finished yet" not in cells["back-appendix"]
    assert not_shown(find_runs(COMMITTED)) == {}


def test_runs_that_give_way_are_named_and_questions_without_a_run(own: Path) -> None:
    shutil.copytree(own / "sentiment-train/strong", own / "sentiment-train/mine")
    shutil.copytree(own / "vit-sweep/standard", own / "vit-sweep/other")
    for command, name in (("sentiment-train", "mine"), ("vit-sweep", "other")):
        change(own / command / name / "summary.json", name=name)
    shutil.rmtree(own / "rnn-trace")
    assert what_is_shown(find_runs(own)) == [
        "question 1 has no run to show; to make one: hw2 rnn-trace",
        "question 3 shows standard, not other",
        "question 4 shows homework, strong, not mine",
    ]
    # A run with reviews of the author's own answers a question, whatever it is called.
    config = own / "sentiment-train/mine/config.yaml"
    config.write_text(config.read_text().replace("Two hours of my life", "Ten hours of my life"))
    shown = sentiment.choose(find_runs(own))
    assert [run.name for run in shown] == ["homework", "strong", "mine"]


def test_another_network_than_the_homeworks_is_said_to_be_one(tmp_path: Path) -> None:
    link_committed(tmp_path, "rnn-trace/alternating-sum")
    run = tmp_path / "rnn-trace/alternating-sum"
    (cell,) = [c for c in recurrences.section(find_runs(tmp_path)) if c.id == "q1-answer"]
    assert "not the homework's network" not in cell.source
    stored = json.loads((run / "summary.json").read_text())
    stored["network"]["spec"]["w_rec"] = [[1]]
    (run / "summary.json").write_text(json.dumps(stored))
    (cell,) = [c for c in recurrences.section(find_runs(tmp_path)) if c.id == "q1-answer"]
    assert "This is not the homework's network" in cell.source
    # The homework's is preferred, whatever its name.
    link_committed(tmp_path / "more", "rnn-trace/alternating-sum")
    (tmp_path / "more/rnn-trace/alternating-sum").rename(tmp_path / "rnn-trace/mine")
    change(tmp_path / "rnn-trace/mine/summary.json", name="mine")
    chosen = recurrences.choose(find_runs(tmp_path))
    assert chosen is not None
    assert chosen.name == "mine"


def test_a_reference_run_fills_the_place_of_one_that_cannot_be_shown(tmp_path: Path) -> None:
    with_cells(tmp_path, 2, "tiny")
    runs = find_runs(tmp_path, COMMITTED)
    (grid,) = vision.used(runs)
    assert (grid.name, grid.is_reference) == ("standard", True)
    assert list(not_shown(runs)) == ["vit-sweep/tiny"]


def test_a_causal_measurement_that_is_not_shown_is_named(tmp_path: Path) -> None:
    link_committed(tmp_path, "attention-bench/million")
    config = tmp_path / "attention-bench/million/config.yaml"
    config.write_text(config.read_text().replace("causal: false", "causal: true"))
    assert not_shown(find_runs(tmp_path)) == {
        "attention-bench/million": "it measured causal attention"
    }
    assert attention.choose(find_runs(tmp_path, COMMITTED))[0].is_reference


def test_a_causal_run_is_not_shown_by_the_name_of_the_full_one_either(tmp_path: Path) -> None:
    link_committed(tmp_path, "attention-bench/default")
    config = tmp_path / "attention-bench/default/config.yaml"
    config.write_text(config.read_text().replace("causal: false", "causal: true"))
    assert attention.choose(find_runs(tmp_path)) == []


def test_the_newest_run_is_the_one_that_was_started_last_however_it_was_copied(
    tmp_path: Path,
) -> None:
    link_committed(tmp_path, "sentiment-train/homework", "sentiment-train/strong")
    for name, started in (("homework", "2026-11-02T10:00:00+00:00"), ("strong", "2026-11-01")):
        change(tmp_path / "sentiment-train" / name / "env.json", started=started)
    os.utime(tmp_path / "sentiment-train/homework/summary.json", (0, 0))
    found = newest(find_runs(tmp_path).of("sentiment-train"))
    assert found is not None
    assert found.name == "homework"


def test_a_run_that_a_cluster_trained_names_its_machine(tmp_path: Path) -> None:
    link_committed(tmp_path, "vit-sweep/quick")
    path = tmp_path / "vit-sweep/quick/env.json"
    places = [{"machine": "NVIDIA A100", "num_trials": 14}, {"machine": "Other", "num_trials": 1}]
    change(path, trained_on=places)
    assert read_run(path.parent).machine == "NVIDIA A100"
    own = json.loads(path.read_text())["cpu"]
    change(path, trained_on=[{"machine": own, "num_trials": 15}])
    assert "thread" in read_run(path.parent).machine


def test_threads_are_those_that_trained_most_trials_on_the_machine_that_is_named(
    tmp_path: Path,
) -> None:
    link_committed(tmp_path, "vit-sweep/quick")
    path = tmp_path / "vit-sweep/quick/env.json"
    own = json.loads(path.read_text())["cpu"]
    places = [
        {"machine": "Other", "num_trials": 9, "threads": 4},
        {"machine": own, "num_trials": 4, "threads": 2},
        {"machine": f"{own}, partly on {own}", "num_trials": 2, "threads": 1},
    ]
    change(path, trained_on=places, threads=8)
    assert read_run(path.parent).machine == "AMD EPYC with AVX2, 2 threads"
    # Of networks trained by code that did not say it, the run's own number is the best guess.
    change(path, trained_on=[{"machine": own, "num_trials": 15}])
    assert read_run(path.parent).machine == "AMD EPYC with AVX2, 8 threads"


def test_a_grid_with_another_axis_is_not_shown_and_says_why(own: Path) -> None:
    path = grid_of(own) / "summary.json"
    axes = json.loads(path.read_text())["axes"]
    change(path, axes=[*axes, {"field": "model.width", "values": [32, 64]}])
    assert not_shown(find_runs(own)) == {"vit-sweep/standard": "it also varies width"}


def grid_of(own: Path) -> Path:
    return own / "vit-sweep/standard"


def test_a_summary_that_says_more_than_its_trials_is_told(own: Path) -> None:
    path = grid_of(own) / "summary.json"
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["test_accuracy_mean"] == pytest.approx(0.926233, abs=1e-6)
    cells[0]["test_accuracy_mean"] = 0.9599
    change(path, cells=cells)
    runs = find_runs(own)
    (grid,) = vision.used(runs)
    line = "4 layers, 2 heads, test images: summary.json says 95.99 %, trials.csv 92.62 %"
    assert doubts(grid) == [line]
    shown = {cell.id: cell.source for cell in all_cells(runs, {"runs": ".."}, Author())}
    assert f"- `vit-sweep/standard`: {line}." in shown["back-doubts"]
    for cell in cells:
        cell["valid_accuracy_mean"] += 0.01
    change(path, cells=cells)
    (grid,) = vision.used(find_runs(own))
    assert len(doubts(grid)) == 4
    assert doubts(grid)[-1] == "13 more do not agree"


def test_trials_that_say_more_than_their_predictions_are_told(own: Path) -> None:
    path = grid_of(own) / "trials.csv"
    text = path.read_text()
    assert text.count(",0.9249,") == 1
    path.write_text(text.replace(",0.9249,", ",0.9599,"))
    (grid,) = vision.used(find_runs(own))
    assert doubts(grid) == [
        "4 layers, 2 heads, seed 0: its test accuracy is stored as 95.99%, its predictions have "
        "92.49%"
    ]
    path.write_text("torn")
    assert doubts(grid) == ["trials.csv cannot be read"]
    path.unlink()
    assert doubts(grid) == []


def test_the_predictions_of_a_reference_run_are_recognised(own: Path) -> None:
    runs = find_runs(own, project=COMMITTED)
    (grid,) = vision.used(runs)
    assert (grid.is_reference, grid.twin) == (False, "standard")
    assert doubts(grid) == [
        "it has the predictions of the reference run standard: a copy, or trained on the same "
        "kind of processor"
    ]
    assert {run.id for run in runs.whole.values() if run.twin} == {"vit-sweep/standard"}


@pytest.mark.parametrize("inner", ["attention-bench", "attention-bench/default"])
def test_the_folder_of_one_experiment_is_refused_with_the_one_to_name(
    own: Path, inner: str
) -> None:
    with pytest.raises(OutputError, match=f"belongs to one experiment; .* --runs {own}$"):
        find_runs(own / inner)


def test_a_run_knows_its_machine() -> None:
    run = read_run(COMMITTED / "attention-bench/default")
    assert run.machine == "Intel(R) Xeon(R) Processor with AMX, 2 threads"


def test_a_run_whose_environment_says_little_is_shown(own: Path) -> None:
    for run in SHOWN:
        (own / run / "env.json").write_text('{"threads": 3, "newer": [1]}')
    runs = find_runs(own)
    assert runs.left_out == {}
    assert {run.machine for run in runs.whole.values()} == {"an unknown machine, 3 threads"}
    sources = [cell.source for cell in all_cells(runs, {"runs": ".."}, Author())]
    assert any("unknown" in source for source in sources)

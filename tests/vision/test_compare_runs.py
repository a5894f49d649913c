from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwcli.config import find_differences
from hwcli.errors import ConfigError
from hwcli.vision.compare_runs import Comparison, compare_runs, read_other_run
from hwcli.vision.grid import Axis
from hwcli.vision.record import SweepRecord, record_files, trials_csv
from hwcli.vision.tables import comparison_table
from tests.vision.made_up import AMD, record

AXES_OF_EIGHT = [
    Axis(field="layers", values=tuple(range(1, 9))),
    Axis(field="heads", values=(2,)),
]
AXES = [Axis(field="layers", values=(1, 2, 3)), Axis(field="heads", values=(2,))]


def compare(first: SweepRecord, second: SweepRecord) -> Comparison:
    comparison = compare_runs("linear", first, "softmax", second)
    assert comparison is not None
    return comparison


def test_two_runs_are_compared_where_both_are_done() -> None:
    first = record({(1, 2): [900], (2, 2): [None], (3, 2): [905]}, train_s=15.0)
    second = record({(1, 2): [902], (2, 2): [900]}, train_s=30.0)
    comparison = compare(first, second)
    (cell,) = comparison.cells
    assert cell.key == (1, 2)
    assert cell.difference == pytest.approx(-2 / 1009)
    # Two images lost and none won: a fair coin does that half of the time, either way.
    assert (cell.num_seeds, cell.p_value, cell.is_significant) == (1, 0.5, False)
    assert (cell.train_s, cell.other_train_s) == (15.0, 30.0)
    assert comparison.conclusion == (
        "linear minus softmax: -0.20 points of test accuracy in one cell (95 % interval -0.47 to "
        "+0.08), not significant at the 5 % level."
    )
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
    assert compare_runs("a", record({(4, 2): [1]}), "b", second) is None


def test_the_difference_is_of_the_seeds_that_both_runs_have() -> None:
    (cell,) = compare(record({(1, 2): [900, 940]}), record({(1, 2): [920]})).cells
    assert cell.num_seeds == 1
    assert cell.difference == pytest.approx(-20 / 1009)


def test_times_are_of_the_seeds_that_both_runs_have() -> None:
    first, second = record({(1, 2): [900, 940]}), record({(1, 2): [920]}, train_s=40.0)
    for trial, train_s in zip(first.trials, (20.0, 90.0), strict=True):
        assert trial.result is not None
        object.__setattr__(trial, "result", trial.result.model_copy(update={"train_s": train_s}))
    (cell,) = compare(first, second).cells
    assert (cell.train_s, cell.other_train_s) == (20.0, 40.0)


def test_several_seeds_are_tested_by_their_pooled_spread() -> None:
    first = record({(1, 2): [910, 912], (2, 2): [900, 906]})
    second = record({(1, 2): [900, 900], (2, 2): [900, 900]})
    comparison = compare(first, second)
    # Differences 10, 12 and 0, 6: variance (2 + 18) / 2 with two degrees of freedom, so that the
    # standard error of a mean of two is sqrt(5); t = 11 / sqrt(5) = 4.92 and 3 / sqrt(5) = 1.34.
    # With two degrees of freedom p is 1 - t / sqrt(t^2 + 2).
    assert [cell.p_value for cell in comparison.cells] == pytest.approx(
        [1 - t / (t**2 + 2) ** 0.5 for t in (11 / 5**0.5, 3 / 5**0.5)]
    )
    assert comparison.cells[0].p_value_adjusted == pytest.approx(
        2 * (comparison.cells[0].p_value or 0)
    )
    assert "t-test" in " ".join(comparison_table(comparison, AXES).notes)


def test_where_cells_have_unequal_seeds_the_mean_is_over_pairs_of_networks() -> None:
    first = record({(1, 2): [910, 911, 909], (2, 2): [890]})
    second = record({(1, 2): [900, 900, 900], (2, 2): [900]})
    # Ten images more in three pairs and ten less in one: 5 of 1,009 on average.
    assert compare(first, second).conclusion.startswith(
        "linear minus softmax: +0.50 points of test accuracy on average over 4 pairs of networks "
        "in 2 cells"
    )


def test_times_of_different_machines_are_not_compared() -> None:
    comparison = compare(record({(1, 2): [900]}, trained_on=AMD), record({(1, 2): [902]}))
    (cell,) = comparison.cells
    assert (cell.train_s, cell.other_train_s) == (None, None)
    table = comparison_table(comparison, AXES)
    assert not any("training" in column.heading for column in table.columns)
    assert "No training times: the runs were trained on different machines, " in table.notes[-1]


def test_the_settings_that_differ_are_named_and_the_grid_is_no_setting() -> None:
    first = record({(1, 2): [900]}, model={"width": 24, "mlp_width": 17, "attention": "linear"})
    comparison = compare(first, record({(1, 2): [900]}))
    assert comparison.settings == {"model.attention": ("softmax", "linear")}
    (note, *_) = comparison_table(comparison, AXES).notes
    assert (
        note
        == "Settings that differ between softmax and linear: model.attention softmax and linear."
    )


def test_a_field_that_is_an_axis_of_one_run_alone_is_matched_by_the_others_recipe() -> None:
    axes = ("layers", "model.width")
    first = record({(1, 24): [900], (1, 48): [910]}, axes=axes)
    comparison = compare_runs("widths", first, "plain", record({(1, 2): [902]}))
    assert comparison is not None
    assert [cell.key for cell in comparison.cells] == [(1, 24)]


def test_of_a_run_with_one_more_axis_the_cell_of_this_runs_recipe_counts(tmp_path: Path) -> None:
    axes = ("layers", "heads", "model.width")
    first, second = (
        record({(1, 2, width): [hits]}, axes=axes, model={"width": width})  # type: ignore[dict-item]
        for width, hits in ((16, 890), (24, 900))
    )
    predictions = {**first.predictions, **second.predictions}
    widths = SweepRecord([*first.trials, *second.trials], predictions, first.labels)
    plain = record({(1, 2): [902]}, model={"width": 24})
    comparison = compare(plain, widths)
    assert [cell.other_test_accuracy for cell in comparison.cells] == [900 / 1009]
    assert "model.width" not in comparison.settings
    other = tmp_path / "runs/widths"
    other.mkdir(parents=True)
    (other / "summary.json").write_text("{}")
    (other / "trials.csv").write_text(trials_csv(widths.trials))
    own = tmp_path / "runs/own"
    assert read_other_run("widths", own, AXES, {"model": {"width": 24}}).name == "widths"
    with pytest.raises(ConfigError, match="no cell of this grid"):
        read_other_run("widths", own, AXES, {"model": {"width": 32}})


def test_which_cells_are_done_does_not_decide_what_is_compared() -> None:
    axes = ("layers", "heads", "model.width")
    places: Any = {(1, 2, 16): [890], (1, 2, 24): [None], (2, 2, 16): [880], (2, 2, 24): [900]}
    plain = record({(1, 2): [902], (2, 2): [903]}, model={"width": 24})
    comparison = compare(plain, record(places, axes=axes))
    assert [cell.key for cell in comparison.cells] == [(2, 2)]
    assert comparison.cells[0].other_test_accuracy == 900 / 1009


def test_without_a_seed_in_both_nothing_is_called_tested() -> None:
    first = record({(1, 2): [900], (2, 2): [905]})
    other = record({(1, 2): [902], (2, 2): [901]})
    for trial in other.trials:
        object.__setattr__(trial, "seed", 5)
    comparison = compare(first, other)
    assert [cell.p_value for cell in comparison.cells] == [None, None]
    (*_, note) = comparison_table(comparison, AXES).notes
    assert note.startswith("No seed is in both runs: no difference was tested.")
    assert "McNemar" not in note
    object.__setattr__(other.trials[0], "seed", 0)
    (*_, note) = comparison_table(compare(first, other), AXES).notes
    assert "McNemar" in note
    assert "Cells without p were not tested" in note


def without_predictions(found: SweepRecord, *gone: int) -> SweepRecord:
    ids = {found.trials[index].id for index in gone}
    left = {key: value for key, value in found.predictions.items() if key not in ids}
    return replace(found, predictions=left)


def test_why_a_cell_was_not_tested_is_said_as_it_is() -> None:
    ours = record({(1, 2): [900], (2, 2): [905], (3, 2): [910]})
    theirs = record({(1, 2): [902], (2, 2): [901], (3, 2): [911]})
    comparison = compare(ours, without_predictions(theirs, 0, 1, 2))
    assert [cell.untested for cell in comparison.cells] == ["predictions"] * 3
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
    (*_, note) = comparison_table(comparison, AXES).notes
    assert note.startswith("Predictions are missing: no difference was tested.")

    part = without_predictions(theirs, 0)
    object.__setattr__(part.trials[1], "seed", 5)
    comparison = compare(ours, part)
    assert [cell.untested for cell in comparison.cells] == ["predictions", "seeds", None]
    assert "untested" not in comparison.cells[2].model_dump()
    (*_, note) = comparison_table(comparison, AXES).notes
    assert (
        "Cells without p were not tested: predictions of theirs are missing, or no seed of theirs "
        "is in both runs."
    ) in note


def test_runs_with_other_test_images_are_not_tested_image_by_image() -> None:
    theirs = record({(1, 2): [902]})
    assert theirs.labels is not None
    moved = {
        key: replace(value, label=np.roll(value.label, 1))
        for key, value in theirs.predictions.items()
    }
    moved_record = replace(theirs, labels=np.roll(theirs.labels, 1), predictions=moved)
    comparison = compare(record({(1, 2): [900]}), moved_record)
    assert [(cell.p_value, cell.untested) for cell in comparison.cells] == [(None, "images")]
    (*_, note) = comparison_table(comparison, AXES).notes
    assert note.startswith("The test images of the runs differ: no difference was tested.")


def test_a_field_that_identities_leave_out_at_its_old_value_is_matched_and_named() -> None:
    axes = ("layers", "augmentation.early_tokens")
    first = record({(1, 0.5): [900], (1, 1.0): [910]}, axes=axes)  # type: ignore[dict-item]
    for other, keys in (
        (record({(1, 0.5): [905], (1, 1.0): [909]}, axes=axes), [(1, 0.5), (1, 1.0)]),  # type: ignore[dict-item]
        (record({(1, 2): [902]}), [(1, 1.0)]),
    ):
        comparison = compare_runs("first", first, "other", other)
        assert comparison is not None
        assert [cell.key for cell in comparison.cells] == keys
    early = record({(1, 2): [900]}, augmentation={"early_tokens": 0.5})
    late = record({(1, 2): [900]}, augmentation={})
    assert compare(early, late).settings == {"augmentation.early_tokens": (1.0, 0.5)}


def test_what_the_other_run_sets_on_its_command_line_is_a_setting() -> None:
    wide = record({(1, 48): [910]}, axes=("layers", "model.width"), model={"width": 48})
    plain = record({(1, 2): [902]}, model={"width": 24})
    assert compare(plain, wide).settings == {"model.width": (48, 24)}


def test_times_of_a_cell_that_another_machine_trained_are_left_out() -> None:
    mixed = record({(1, 2): [900], (2, 2): [901]})
    (stray,) = record({(3, 2): [902]}, trained_on=AMD).trials
    theirs = record({(1, 2): [900], (2, 2): [901], (3, 2): [902]})
    both = SweepRecord(
        [*mixed.trials, stray],
        {**mixed.predictions, stray.id: theirs.predictions[theirs.trials[2].id]},
        mixed.labels,
    )
    assert [cell.train_s for cell in compare(both, theirs).cells] == [30.0, 60.0, None]


def test_settings_differ_by_their_dotted_keys() -> None:
    first = {"epochs": 3, "model": {"attention": "softmax", "width": 48}}
    second = {"epochs": 3, "model": {"attention": "linear", "width": 48}, "new": 1}
    assert find_differences(first, second) == {
        "model.attention": ("softmax", "linear"),
        "new": (None, 1),
    }


def write_run(folder: Path, found: SweepRecord) -> Path:
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    for name, content in record_files(found).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_two_runs_of_one_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, own = record({(1, 2): [900]}), tmp_path / "me/results/vit-sweep/standard"
    theirs = write_run(tmp_path / "alice/results/vit-sweep/standard", record({(1, 2): [950]}))
    other = read_other_run(str(theirs), own, AXES, {})
    assert other.name == "alice/.../standard"
    comparison = compare_runs("standard", ours, other.name, other.record)
    assert comparison is not None
    assert comparison.conclusion.startswith("standard minus alice/.../standard: -4.96 points")
    table = comparison_table(comparison, AXES)
    assert "standard vs alice/.../standard" in table.title
    headings = [column.heading for column in table.columns]
    assert {"test, standard", "test, alice/.../standard"} <= set(headings)
    assert len(set(headings)) == len(headings)
    beside = write_run(tmp_path / "me/results/old/standard", ours)
    assert read_other_run(str(beside), own, AXES, {}).name == "old/standard"
    # As a config file has it, where no shell replaces the home folder.
    monkeypatch.setenv("HOME", str(tmp_path))
    given = "~/alice/results/vit-sweep/standard"
    assert read_other_run(given, own, AXES, {}).name == "alice/.../standard"


def test_what_the_other_run_lacks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places: Any = {(layers, 2): [900] for layers in range(1, 9)}
    found = record(places)
    for trial in found.trials[:5]:
        assert trial.result is not None
        edited = trial.result.model_copy(update={"test_accuracy": 0.99})
        object.__setattr__(trial, "result", edited)
    other = write_run(tmp_path / "runs/other", without_predictions(found, 5, 6))
    read_other_run("other", other.parent / "own", AXES_OF_EIGHT, {})
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 5
    assert told[0] == (
        "compare_with = 'other': layers 1, heads 2, seed 0: not used: its test accuracy is stored "
        "as 99.00%, its predictions have 89.20%"
    )
    assert told[3] == "compare_with = 'other': not used either: 2 more damaged trials"
    assert told[4] == (
        "compare_with = 'other': 2 of its 3 finished trials cannot be tested: their predictions "
        "are missing"
    )


def test_another_run_is_found_by_name_or_folder_and_else_is_one_line(tmp_path: Path) -> None:
    own, other = tmp_path / "runs/own", tmp_path / "runs/other"
    other.mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"compare_with = 'other': no finished run; choices: none"
    ):
        read_other_run("other", own, AXES, {})
    (other / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"damaged run: .*trials\.csv: no such file"):
        read_other_run("other", own, AXES, {})
    (other / "trials.csv").write_text(trials_csv(record({(1, 2): [900]}).trials))
    assert read_other_run("other", own, AXES, {}).name == "other"
    assert read_other_run(str(other), own, AXES, {}).name == "other"
    with pytest.raises(ConfigError, match="choices: other, or the folder of a run"):
        read_other_run("nobody", own, AXES, {})
    with pytest.raises(ConfigError, match="this run's own name"):
        read_other_run("own", own, AXES, {})
    with pytest.raises(ConfigError, match="no cell of this grid"):
        read_other_run("other", own, [Axis(field="layers", values=(7,)), AXES[1]], {})

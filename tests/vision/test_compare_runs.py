import numpy as np
import pytest

from hwcli.training.significance import Estimate
from hwcli.vision.compare_runs import Beside, compare_runs, find_differences


def hits(num_right: int, num_images: int = 100) -> np.ndarray:
    return np.arange(num_images) < num_right


def cell(layers: int, heads: int, accuracy: float | None, train_s: float = 10.0) -> dict:
    return {
        "layers": layers,
        "heads": heads,
        "test_accuracy_mean": accuracy,
        "train_s": None if accuracy is None else train_s,
    }


def test_two_runs_are_compared_where_both_are_done() -> None:
    cells = [cell(4, 2, 0.90, 30.0), cell(4, 3, 0.91, 40.0), cell(5, 2, None)]
    others = [cell(4, 2, 0.92, 20.0), cell(5, 2, 0.9), cell(6, 2, 0.9)]
    (row,) = compare_runs(cells, others, {(4, 2): ({0: hits(90)}, {0: hits(92)})})
    assert row["difference"] == pytest.approx(-0.02)
    assert row["num_seeds"] == 1
    assert row["train_s_ratio"] == 1.5
    assert (row["p_value"], row["told_apart"]) == (0.5, False)
    (row,) = compare_runs(cells, others, {})
    assert (row["p_value"], row["told_apart"]) == (None, None)


def test_the_difference_is_of_the_seeds_that_both_runs_have() -> None:
    pairs = {(4, 2): ({0: hits(90), 1: hits(94)}, {0: hits(92)})}
    (row,) = compare_runs([cell(4, 2, 0.92)], [cell(4, 2, 0.92)], pairs)
    assert (row["test_accuracy"], row["other_test_accuracy"]) == (0.90, 0.92)
    assert row["num_seeds"] == 1


def test_settings_differ_by_their_dotted_keys() -> None:
    first = {"epochs": 3, "model": {"attention": "softmax", "width": 48}}
    second = {"epochs": 3, "model": {"attention": "linear", "width": 48}, "new": 1}
    assert find_differences(first, second) == {
        "model.attention": ("softmax", "linear"),
        "new": (None, 1),
    }


def test_the_sentence_says_difference_time_and_epochs_at_equal_time() -> None:
    rows = [
        {"difference": -0.02, "told_apart": True, "train_s": 30.0, "other_train_s": 40.0},
        {"difference": 0.01, "told_apart": False, "train_s": 30.0, "other_train_s": 40.0},
    ]
    rows = [{**row, "num_seeds": 1} for row in rows]
    mean = Estimate(-0.005, -0.011, 0.001)
    beside = Beside("linear", "softmax", 9, rows, {"config.epochs": (10, 9)}, mean)
    assert beside.train_s_ratio == 0.75
    assert beside.epochs_at_equal_time == 12
    assert beside.conclude() == (
        "linear minus softmax: -0.50 points of test accuracy on average over 2 cells (95 % "
        "interval -1.10 to +0.10), 1 of them told apart at the 5 % level; 0.75 times the training "
        "time, as long at 12 epochs."
    )
    assert (
        beside.table().notes[0] == "Settings in which softmax and linear differ: epochs 10 and 9."
    )
    unpaired = Beside("linear", "softmax", 9, rows, {}, None)
    assert "-0.50 points of test accuracy on average over 2 cells, 1" in unpaired.conclude()

import numpy as np
import pytest

from hwcli.training.significance import Estimate, mcnemar
from hwcli.vision.grid_statistics import (
    compare_pairs,
    conclude,
    fit_effects,
    mean_difference,
    p_text,
    points,
)


def hits(num_right: int, num_images: int = 101) -> np.ndarray:
    return np.arange(num_images) < num_right


def cell(layers: int, heads: int, accuracy: float | None, train_s: float = 10.0) -> dict:
    return {
        "layers": layers,
        "heads": heads,
        "test_accuracy_mean": accuracy,
        "train_s": None if accuracy is None else train_s,
    }


def test_pairs_are_corrected_for_their_number_and_do_not_depend_on_each_other() -> None:
    best, close, far = hits(90), hits(88), hits(60)
    tests = compare_pairs({(1, 2): ({0: best}, {0: close}), (2, 2): ({0: best}, {0: far})})
    assert tests[1, 2].p_value == mcnemar(best, close) == 0.5
    assert not tests[1, 2].tells_apart
    # Thirty won and none lost, and twice that for two comparisons.
    assert tests[2, 2].p_value == pytest.approx(2 * 0.5**30)
    assert tests[2, 2].p_value_holm == pytest.approx(4 * 0.5**30)
    assert tests[2, 2].tells_apart

    seeds = {0: hits(90), 1: hits(91)}, {0: hits(80), 1: hits(85)}
    alone = compare_pairs({(1, 2): seeds})[1, 2]
    beside = compare_pairs({(3, 3): (seeds[1], seeds[0]), (1, 2): seeds})[1, 2]
    assert alone.p_value == beside.p_value
    assert alone.num_seeds == 2


def test_only_seeds_that_both_have_are_compared() -> None:
    tests = compare_pairs(
        {
            (1, 2): ({0: hits(90), 1: hits(50)}, {0: hits(88), 2: hits(99)}),
            (1, 3): ({0: hits(90)}, {1: hits(80)}),
            (1, 4): ({0: hits(90)}, {}),
        }
    )
    assert tests.keys() == {(1, 2)}
    assert (tests[1, 2].num_seeds, tests[1, 2].p_value) == (1, 0.5)
    assert compare_pairs({}) == {}


def test_the_mean_difference_is_over_all_networks() -> None:
    pairs = {
        (1, 2): ({0: hits(90)}, {0: hits(80)}),
        (1, 3): ({0: hits(90)}, {0: hits(84)}),
        (1, 4): ({0: hits(90)}, {1: hits(0)}),
    }
    estimate = mean_difference(pairs)
    assert estimate is not None
    assert estimate.value == pytest.approx(8 / 101)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 8 / 101 < estimate.high
    one = mean_difference({(1, 2): pairs[1, 2]})
    assert one == Estimate(pytest.approx(10 / 101), None, None)
    assert mean_difference({}) is None


def test_what_the_grid_supports_is_one_sentence() -> None:
    noise = {(4, 2): 1, (4, 3): -1, (5, 2): -1, (5, 3): 1, (6, 2): 0, (6, 3): 0}
    cells = [cell(n, h, 0.8 + 0.01 * n + 0.0005 * e) for (n, h), e in noise.items()]
    effects = fit_effects(cells)
    assert effects["layers"] is not None
    assert effects["layers"].value == pytest.approx(0.01)
    sentence = conclude(cells, effects)
    assert sentence.startswith(
        "By a two-way additive fit over 6 cells the data support +1.00 points of test accuracy "
        "for each extra layer between 4 and 6 layers (95 % interval +0.9"
    )
    assert " and nothing about heads (" in sentence


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            [cell(4, 2, 0.9), cell(5, 2, None)],
            "One cell alone supports nothing about layers or heads.",
        ),
        (
            [cell(4, 2, 0.90), cell(5, 2, 0.91), cell(4, 3, None)],
            "nothing about layers (+1.00 points of test accuracy for each extra layer, too few "
            "cells for an interval) and nothing about heads (all cells have 2)",
        ),
        ([cell(4, 2, 0.90), cell(5, 3, 0.91)], "nothing about layers (too few cells)"),
    ],
)
def test_a_degenerate_grid_supports_nothing(cells: list[dict], said: str) -> None:
    assert said in conclude(cells, fit_effects(cells))


def test_a_grid_of_failures_has_no_effects() -> None:
    assert fit_effects([cell(4, 2, None)]) == {"layers": None, "heads": None}


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.00137, "+0.14"), (-0.02, "-2.00"), (-0.000037, "-0.0037"), (0.0, "+0.00")],
)
def test_points_are_signed_and_never_seem_zero(fraction: float, text: str) -> None:
    assert points(fraction) == text


def test_a_small_p_value_is_no_more_than_small() -> None:
    assert (p_text(0.0493), p_text(0.001), p_text(1e-9)) == ("0.049", "0.001", "< 0.001")

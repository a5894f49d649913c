import numpy as np
import pytest

from hwcli.training.significance import (
    Estimate,
    Spread,
    additive_fit,
    holm,
    least_difference,
    mcnemar,
    mean_difference,
    pooled_spread,
    tukey_p,
)


def hits(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_mcnemar_by_hand() -> None:
    # They differ on six examples, five of them to the first's advantage: the chance that a fair
    # coin falls 5 : 1 or more unevenly is 2 (1 + 6) / 64.
    first, second = hits("111110" + "1100"), hits("000001" + "1100")
    assert mcnemar(first, second) == pytest.approx(14 / 64)
    assert mcnemar(second, first) == pytest.approx(14 / 64)
    assert mcnemar(first, first) == 1.0


def test_holm_by_hand() -> None:
    # The smallest times 3, the next times 2 but no less than that, the last times 1 likewise.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_tukeys_range_by_its_published_table() -> None:
    # Critical values at 5 %: 3.877 for three groups and ten degrees of freedom, 3.151 for two
    # (where it is Student's quantile 2.228 times sqrt(2)).
    spread = Spread(variance=4.0, degrees=10)
    error = (4.0 / 5) ** 0.5
    for num_groups, critical in ((3, 3.877), (2, 3.151)):
        (p,) = tukey_p([critical * error], spread, [(5, 5)], num_groups)
        assert p == pytest.approx(0.05, abs=2e-4)
    # Kramer: with 4 and 12 values the variance is that of two means of 6.
    (p,) = tukey_p([3.877 * (4.0 / 6) ** 0.5], spread, [(4, 12)], 3)
    assert p == pytest.approx(0.05, abs=2e-4)
    assert tukey_p([], spread, [], 3) == []


def test_many_pairs_at_once_get_the_p_values_that_each_gets_alone() -> None:
    spread = Spread(variance=1.0, degrees=30)
    gaps = [0.05 * i for i in range(70)]
    many = tukey_p(gaps, spread, [(3, 3)] * 70, 15)
    for index in (0, 11, 29, 40, 60):
        (alone,) = tukey_p(gaps[index : index + 1], spread, [(3, 3)], 15)
        assert many[index] == pytest.approx(alone, rel=0.02, abs=1e-5)


def test_the_spread_of_seeds_is_pooled_by_hand() -> None:
    # Squares 2 and 2 + 0 + 2 about the means 2 and 5, with one and two degrees of freedom.
    assert pooled_spread([[1, 3], [4, 5, 6], [7], []]) == Spread(4 / 3, 3)
    assert pooled_spread([[0.9], [0.91]]) is None
    assert pooled_spread([[0.9, 0.9, 0.9]]) is None
    assert Spread.of(1e-34, 30) is None  # collapsed networks, all at 10.00 %


def test_the_mean_difference_of_one_pair_is_over_images_alone() -> None:
    # 40 won and 20 lost of 1000: the difference is 0.02, its standard error
    # sqrt((0.06 - 0.02^2) / 999) = 0.007725, Student's quantile 1.9623.
    row = np.zeros((1, 1000), dtype=np.int8)
    row[0, :40], row[0, 40:60] = 1, -1
    difference = mean_difference(row)
    assert difference.value == pytest.approx(0.02)
    assert difference.high == pytest.approx(0.02 + 1.9623 * 0.007725, abs=1e-5)


def test_the_mean_difference_of_two_pairs_has_students_wide_tail() -> None:
    # Differences 0.1 and 0.3 on images without a part of their own: mean 0.2, standard error
    # 0.1, one degree of freedom, for which Student's quantile is 12.706.
    order = np.random.default_rng(0)
    rows = np.array([order.permutation(np.arange(5000) < n) for n in (500, 1500)], dtype=np.int8)
    difference = mean_difference(rows)
    assert difference.value == pytest.approx(0.2)
    assert difference.low == pytest.approx(0.2 - 12.706 * 0.1, rel=0.05)
    assert mean_difference(np.ones((2, 5), dtype=np.int8)) == Estimate(1.0, 1.0, 1.0)


def test_images_that_favour_a_recipe_never_make_the_interval_of_few_networks_narrower() -> None:
    # 40 of 1000 images go to the first recipe in every pair, and others by chance: with their many
    # degrees of freedom the images alone would give a narrower interval than the three networks.
    order = np.random.default_rng(1)
    rows = np.zeros((3, 1000), dtype=np.int8)
    rows[:, :40] = 1
    for row, lost in zip(rows, (6, 10, 14), strict=True):
        row[order.choice(np.arange(40, 1000), lost, replace=False)] = -1
    difference = mean_difference(rows)
    # Differences 0.034, 0.030, 0.026: standard error 0.004 / sqrt(3), Student's quantile 4.3027.
    assert difference.value == pytest.approx(0.03)
    assert difference.low is not None
    assert difference.low <= 0.03 - 4.3027 * 0.004 / 3**0.5 + 1e-6


def test_the_least_significant_difference_is_tukeys() -> None:
    # The studentized range's 5 % point for three groups and ten degrees of freedom is 3.877.
    assert least_difference(Spread(4.0, 10), 4, 3) == pytest.approx(3.877, abs=1e-3)
    (p_value,) = tukey_p([3.877], Spread(4.0, 10), [(4, 4)], 3)
    assert p_value == pytest.approx(0.05, abs=1e-4)


def test_a_two_way_fit_finds_a_plane_and_its_intervals() -> None:
    """By hand: on a 3 x 2 grid the residual 1 -2 1 along each row leaves the slopes alone."""
    layers, heads = [1, 2, 3, 1, 2, 3], [2, 2, 2, 4, 4, 4]
    noise = [1, -2, 1, 1, -2, 1]
    values = [5 + 3 * n - 0.5 * h + e for n, h, e in zip(layers, heads, noise, strict=True)]
    effects = additive_fit(values, {"layers": layers, "heads": heads})
    # Residual variance 12 / (6 - 3) = 4; sums of squares 4 for layers and 6 for heads;
    # Student's 98.75 % point at 3 degrees of freedom is 4.1765: two intervals hold jointly.
    reach_layers, reach_heads = 4.1765 * (4 / 4) ** 0.5, 4.1765 * (4 / 6) ** 0.5
    assert effects["layers"] is not None
    assert effects["heads"] is not None
    assert effects["layers"].value == pytest.approx(3)
    assert effects["layers"].high == pytest.approx(3 + reach_layers, abs=1e-3)
    assert effects["heads"].value == pytest.approx(-0.5)
    assert effects["heads"].low == pytest.approx(-0.5 - reach_heads, abs=1e-3)
    assert not effects["layers"].is_significant
    assert not effects["heads"].is_significant
    assert Estimate(0.2, 0.1, 0.3).is_significant


def test_a_fit_counts_a_cell_by_its_weight() -> None:
    # Three cells at 0 and one at 1 with weight three: the mean at 1 is as if it were there thrice.
    factors = {"layers": [0, 0, 0, 1]}
    weighted = additive_fit([1, 2, 3, 5], factors, weights=[1, 1, 1, 3])["layers"]
    repeated = additive_fit([1, 2, 3, 5, 5, 5], {"layers": [0, 0, 0, 1, 1, 1]})["layers"]
    assert weighted is not None
    assert repeated is not None
    assert weighted.value == pytest.approx(repeated.value) == 3


def test_a_fit_says_nothing_that_the_cells_do_not() -> None:
    one = additive_fit([0.9], {"layers": [4], "heads": [2]})
    assert one == {"layers": None, "heads": None}
    row = additive_fit([0.90, 0.91, 0.93], {"layers": [4, 4, 4], "heads": [2, 3, 4]})
    assert row["layers"] is None
    assert row["heads"] is not None
    assert row["heads"].value == pytest.approx(0.015)
    diagonal = additive_fit([0.90, 0.91, 0.93], {"layers": [4, 5, 6], "heads": [2, 3, 4]})
    assert diagonal == {"layers": None, "heads": None}
    three = additive_fit([0.90, 0.91, 0.93], {"layers": [4, 5, 4], "heads": [2, 2, 3]})
    assert three["layers"] == Estimate(pytest.approx(0.01), None, None)
    assert three["layers"] is not None
    assert not three["layers"].is_significant

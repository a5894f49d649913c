import numpy as np
import pytest

from hwcli.training.significance import (
    Estimate,
    additive_fit,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_test,
)


def hits(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


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


def test_a_bootstrap_over_images_alone_agrees_with_the_normal_distribution() -> None:
    # Two seeds that behave alike add no spread. 1000 examples, 40 won and 20 lost: a difference
    # of 0.02, its standard error sqrt(0.06 - 0.02^2) / sqrt(1000) = 0.00772, hence z = 2.59.
    first = np.tile(np.arange(1000) < 40, (2, 1))
    second = np.tile((np.arange(1000) >= 40) & (np.arange(1000) < 60), (2, 1))
    p, difference = paired_bootstrap(first, second, seeded(), num_resamples=20_000)
    assert p == pytest.approx(0.0096, abs=0.003)
    assert difference.value == pytest.approx(0.02)
    assert difference.low == pytest.approx(0.02 - 1.96 * 0.00772, abs=0.001)
    assert difference.high == pytest.approx(0.02 + 1.96 * 0.00772, abs=0.001)


def test_a_bootstrap_sees_the_spread_of_seeds() -> None:
    """The same mean difference, once from every seed and once from one that was lucky."""
    order = np.random.default_rng(1).permutation(900)
    second = np.ones((3, 900), dtype=bool)
    second[:, order[:300]] = False
    alike, lucky = second.copy(), second.copy()
    alike[:, order[:20]] = True
    lucky[0, order[:60]] = True
    assert alike.mean() == lucky.mean()
    assert paired_bootstrap(alike, second, seeded())[0] < 0.001
    assert paired_bootstrap(lucky, second, seeded())[0] > 0.2


def test_a_bootstrap_of_two_seeds_has_their_whole_variance() -> None:
    # One seed always wins, the other never: 1 and 0 in place of 0.5, stretched by sqrt(2), each
    # for a quarter of the draws. Their variance is that of a mean of two: ((1 - 0)^2 / 2) / 2.
    first, second = np.array([[True] * 5, [False] * 5]), np.zeros((2, 5), dtype=bool)
    p, difference = paired_bootstrap(first, second, seeded())
    assert (difference.value, p) == (0.5, pytest.approx(0.5, abs=0.02))
    assert difference.low == pytest.approx(0.5 - 0.5**0.5)
    assert difference.high == pytest.approx(0.5 + 0.5**0.5)


def test_a_bootstrap_repeats_itself_and_finds_equals_equal() -> None:
    generator = np.random.default_rng(7)
    first, second = generator.random((2, 3, 211)) < 0.8
    assert paired_bootstrap(first, second, seeded()) == paired_bootstrap(first, second, seeded())
    assert paired_bootstrap(first, first, seeded())[0] == 1.0


def test_one_seed_is_tested_exactly() -> None:
    first, second = hits("1111100")[None], hits("0000011")[None]
    assert paired_test(first, second, seeded()) == mcnemar(first[0], second[0])


def test_a_two_way_fit_finds_a_plane_and_its_intervals() -> None:
    """By hand: on a 3 x 2 grid the residual 1 -2 1 along each row leaves the slopes alone."""
    layers, heads = [1, 2, 3, 1, 2, 3], [2, 2, 2, 4, 4, 4]
    noise = [1, -2, 1, 1, -2, 1]
    values = [5 + 3 * n - 0.5 * h + e for n, h, e in zip(layers, heads, noise, strict=True)]
    effects = additive_fit(values, {"layers": layers, "heads": heads})
    # Residual variance 12 / (6 - 3) = 4; sums of squares 4 for layers and 6 for heads;
    # Student's 97.5 % point at 3 degrees of freedom is 3.1824.
    reach_layers, reach_heads = 3.1824 * (4 / 4) ** 0.5, 3.1824 * (4 / 6) ** 0.5
    assert effects["layers"] is not None
    assert effects["heads"] is not None
    assert effects["layers"].value == pytest.approx(3)
    assert effects["layers"].high == pytest.approx(3 + reach_layers, abs=1e-3)
    assert effects["heads"].value == pytest.approx(-0.5)
    assert effects["heads"].low == pytest.approx(-0.5 - reach_heads, abs=1e-3)
    assert not effects["layers"].is_told_from_zero
    assert not effects["heads"].is_told_from_zero
    assert Estimate(0.2, 0.1, 0.3).is_told_from_zero


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
    assert not three["layers"].is_told_from_zero

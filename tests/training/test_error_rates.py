"""How often the statistics err, by simulation: docs/statistics.md quotes these figures.

Test images differ in difficulty, networks of one recipe in luck: a network is right on an image
with a probability that depends on both. The spread of seeds is that of real recipes: 0.1 points
of accuracy for the standard one, 1 to 2 points for a few epochs on a few images.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from hwcli.training.significance import (
    LEVEL,
    Spread,
    additive_fit,
    mcnemar,
    mean_difference,
    pooled_spread,
    tukey_p,
)

pytestmark = pytest.mark.slow

N = 2000
NUM_GRIDS = 1000
SPREADS = (0.001, 0.005, 0.02)  # of seeds, as fractions


def networks(
    generator: np.random.Generator, num: int, spread: float, *, rate: float = 0.9
) -> npt.NDArray[np.bool_]:
    """Draw which of N images each network gets right: (num, N), all of one recipe."""
    difficulty = np.clip(generator.beta(9, 1, N), 0.02, 0.98) * rate / 0.9  # mean about 0.9
    luck = spread * generator.standard_normal((num, 1))
    return np.asarray(generator.random((num, N)) < np.clip(difficulty + luck, 0, 1))


def share(num: int, happens: Callable[[np.random.Generator], bool]) -> float:
    """Return how often something happens, with one generator for each simulation."""
    return sum(happens(np.random.default_rng(seed)) for seed in range(num)) / num


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_a_grid_of_equal_cells_has_a_false_difference_in_5_of_100(
    spread: float, num_seeds: int
) -> None:
    """The best of 15 cells is selected by validation, in which the same networks are lucky."""

    furthest = []
    for seed in range(NUM_GRIDS):
        generator = np.random.default_rng(seed)
        luck = spread * generator.standard_normal((15, num_seeds))
        noise = (0.09 / N) ** 0.5
        test = luck + noise * generator.standard_normal((15, num_seeds))
        valid = luck + noise * generator.standard_normal((15, num_seeds))
        pooled = pooled_spread(test.tolist())
        assert pooled is not None
        gaps = test.mean(axis=1) - test.mean(axis=1)[int(valid.mean(axis=1).argmax())]
        furthest.append(float(np.abs(gaps).max()) / pooled.variance**0.5)
    # p-values depend on the gap in units of the spread alone: all grids are asked at once.
    unit = Spread(1.0, 15 * (num_seeds - 1))
    p_values = tukey_p(furthest, unit, [(num_seeds, num_seeds)] * NUM_GRIDS, 15)
    # The best against 14 others is less than all pairs: at most 5 %.
    assert np.mean(np.array(p_values) < LEVEL) < 0.05 + 3 * (0.05 * 0.95 / NUM_GRIDS) ** 0.5


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("num_pairs", [2, 4, 15])
def test_the_interval_of_a_mean_difference_covers_95_of_100(spread: float, num_pairs: int) -> None:
    def covers(generator: np.random.Generator) -> bool:
        both = networks(generator, 2 * num_pairs, spread)
        difference = mean_difference(both[:num_pairs].astype(np.int8) - both[num_pairs:])
        assert difference.low is not None
        assert difference.high is not None
        return difference.low <= 0 <= difference.high

    assert 0.92 < share(400, covers) < 0.985


def test_the_interval_of_one_pair_covers_what_other_images_would_show() -> None:
    """Two given networks: their accuracies on all images there are differ by a known amount."""
    generator = np.random.default_rng(0)
    first, second = (networks(generator, 1, 0.005)[0] for _ in range(2))
    truth = float(first.mean()) - float(second.mean())

    def covers(draw: np.random.Generator) -> bool:
        images = draw.integers(0, N, 500)
        gap = first[None, images].astype(np.int8) - second[None, images]
        difference = mean_difference(gap)
        assert difference.low is not None
        assert difference.high is not None
        return difference.low <= truth <= difference.high

    assert 0.92 < share(400, covers) < 0.98


def test_a_recipe_that_favours_some_images_widens_the_interval() -> None:
    """Images that favour one recipe in all of its networks are luck that more seeds do not show."""

    def covers(generator: np.random.Generator) -> bool:
        difficulty = generator.beta(9, 1, N)
        favour = 0.15 * generator.standard_normal(N)
        first = generator.random((10, N)) < np.clip(difficulty + favour, 0, 1)
        second = generator.random((10, N)) < np.clip(difficulty - favour, 0, 1)
        difference = mean_difference(first.astype(np.int8) - second)
        assert difference.low is not None
        assert difference.high is not None
        return difference.low <= 0 <= difference.high

    assert 0.92 < share(400, covers) < 0.985


def test_either_of_two_effects_is_falsely_significant_in_5_of_100() -> None:
    layers, heads = (axis.ravel().tolist() for axis in np.meshgrid(range(4, 9), range(2, 5)))

    def errs(generator: np.random.Generator) -> bool:
        values = generator.standard_normal(15).tolist()
        effects = additive_fit(values, {"layers": layers, "heads": heads})
        return any(effect is not None and effect.is_significant for effect in effects.values())

    assert 0.035 < share(2000, errs) < 0.065


def test_mcnemar_is_about_the_networks_and_not_about_recipes() -> None:
    """Where seeds spread, two networks of one recipe differ more often than in 5 of 100."""

    def differ(generator: np.random.Generator, spread: float) -> bool:
        first, second = networks(generator, 2, spread)
        return mcnemar(first, second) < LEVEL

    assert share(400, lambda generator: differ(generator, 0.0)) < 0.07
    assert share(400, lambda generator: differ(generator, 0.02)) > 0.4

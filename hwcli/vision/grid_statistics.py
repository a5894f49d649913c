"""What a grid of trained networks supports: its cells held against each other, and in one sentence.

A cell stands at (layers, heads). Its hits are, for each seed, which of the N test images the
trained network got right: booleans (N,).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwcli.training.significance import (
    Estimate,
    Hits,
    additive_fit,
    holm,
    paired_bootstrap,
    paired_test,
)

Place = tuple[int, int]
HitsBySeed = Mapping[int, npt.NDArray[np.bool_]]

LEVEL = 0.05
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class PairedTest:
    """Two cells compared on the same images: p-values alone and among all that were asked.

    Attributes:
        num_seeds: those that both cells have; with one the test is McNemar's, else the bootstrap.
        accuracies: of the first and the second over those seeds, as fractions.
        p_value: of this comparison alone.
        p_value_holm: corrected for the number of comparisons.
    """

    num_seeds: int
    accuracies: tuple[float, float]
    p_value: float
    p_value_holm: float

    @property
    def tells_apart(self) -> bool:
        """Whether the difference is no chance, at the 5 % level of all comparisons together."""
        return self.p_value_holm < LEVEL


def compare_pairs(pairs: Mapping[Place, tuple[HitsBySeed, HitsBySeed]]) -> dict[Place, PairedTest]:
    """Test each pair of cells, and correct for how many there are.

    Pairs that have no seed in common are left out. Every test draws from a generator of its own,
    so that none depends on which others are asked.
    """
    common = {place: _common_seeds(*pair) for place, pair in pairs.items()}
    common = {place: (first, second) for place, (first, second) in common.items() if len(first)}
    p_values = [
        paired_test(first, second, np.random.default_rng(BOOTSTRAP_SEED))
        for first, second in common.values()
    ]
    return {
        place: PairedTest(
            len(first), (float(first.mean()), float(second.mean())), p_value, corrected
        )
        for (place, (first, second)), p_value, corrected in zip(
            common.items(), p_values, holm(p_values), strict=True
        )
    }


def mark_against_best(
    cells: Sequence[dict[str, Any]],
    best: dict[str, Any] | None,
    hits: Mapping[Place, HitsBySeed],
) -> None:
    """Note in every cell but the best whether its test accuracy can be told from the best's.

    Sets ``p_value``, ``p_value_holm`` and ``indistinguishable_from_best`` where both have hits.
    """
    if best is None:
        return
    best_hits = hits.get((best["layers"], best["heads"]), {})
    others = {(cell["layers"], cell["heads"]): cell for cell in cells if cell is not best}
    pairs = {place: (best_hits, hits[place]) for place in others if place in hits}
    for place, test in compare_pairs(pairs).items():
        others[place] |= {
            "p_value": test.p_value,
            "p_value_holm": test.p_value_holm,
            "indistinguishable_from_best": not test.tells_apart,
        }


def mean_difference(pairs: Mapping[Place, tuple[HitsBySeed, HitsBySeed]]) -> Estimate | None:
    """Return how much more accurate the first of each pair is, over all pairs: a fraction.

    The interval is the paired bootstrap's, which draws networks (each cell and seed is one) and
    images anew; one pair of networks has none. None without pairs.
    """
    rows = [_common_seeds(*pair) for pair in pairs.values()]
    rows = [(first, second) for first, second in rows if len(first)]
    if not rows:
        return None
    first, second = (np.concatenate(side) for side in zip(*rows, strict=True))
    _, estimate = paired_bootstrap(first, second, np.random.default_rng(BOOTSTRAP_SEED))
    return estimate if len(first) > 1 else Estimate(estimate.value, None, None)


def _common_seeds(first: HitsBySeed, second: HitsBySeed) -> tuple[Hits, Hits]:
    """Stack the seeds that both have: two of (S, N)."""
    seeds = sorted(first.keys() & second.keys())
    return np.array([first[s] for s in seeds]), np.array([second[s] for s in seeds])


def fit_effects(cells: Sequence[Mapping[str, Any]]) -> dict[str, Estimate | None]:
    """Return what each extra layer and each extra head adds to a cell's mean test accuracy.

    See :func:`~hwcli.training.significance.additive_fit` for what the intervals cover. Cells
    count alike, however many of their seeds are done: more seeds show as less scatter.
    """
    done = [cell for cell in cells if cell["test_accuracy_mean"] is not None]
    if not done:
        return {"layers": None, "heads": None}
    return additive_fit(
        [cell["test_accuracy_mean"] for cell in done],
        {key: [cell[key] for cell in done] for key in ("layers", "heads")},
    )


def conclude(cells: Sequence[Mapping[str, Any]], effects: Mapping[str, Estimate | None]) -> str:
    """Say in one sentence what the grid supports about layers and about heads: maybe nothing."""
    done = [cell for cell in cells if cell["test_accuracy_mean"] is not None]
    if len(done) == 1:
        return "One cell alone supports nothing about layers or heads."
    clauses = []
    for key, effect in effects.items():
        levels = sorted({cell[key] for cell in done})
        unit = f"points of test accuracy for each extra {key.removesuffix('s')}"
        if effect is None:
            why = f"all cells have {levels[0]}" if len(levels) == 1 else "too few cells"
            clauses.append(f"nothing about {key} ({why})")
        elif effect.low is None or effect.high is None:
            why = f"{points(effect.value)} {unit}, too few cells for an interval"
            clauses.append(f"nothing about {key} ({why})")
        else:
            interval = f"95 % interval {points(effect.low)} to {points(effect.high)}"
            if effect.is_told_from_zero:
                span = f"between {levels[0]} and {levels[-1]} {key}"
                clauses.append(f"{points(effect.value)} {unit} {span} ({interval})")
            else:
                clauses.append(f"nothing about {key} ({points(effect.value)} {unit}, {interval})")
    return (
        f"By a two-way additive fit over {len(done)} cells the data support "
        f"{' and '.join(clauses)}."
    )


def points(fraction: float) -> str:
    """Return a difference of accuracies in percentage points, signed."""
    text = f"{100 * fraction:+.2f}"
    # A bound just off zero must not read as if it lay on it.
    if text in ("+0.00", "-0.00") and fraction:
        digits = 1 - math.floor(math.log10(abs(100 * fraction)))
        return f"{100 * fraction:+.{min(digits, 6)}f}"
    return text


def p_text(p_value: float) -> str:
    """Show a p-value; what is below a thousandth is no more than that."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"

import numpy as np
import pytest

from hwcli.sentiment.evaluation import paired_gain


@pytest.mark.parametrize(
    ("won", "lost", "p_value", "is_significant"),
    [
        (3, 0, 0.25, False),  # more than two standard errors, and yet three tosses of a coin
        (6, 0, 0.03125, True),
        (0, 6, 0.03125, True),
        (0, 0, 1.0, False),
    ],
)
def test_a_difference_over_few_reviews_is_judged_exactly(
    won: int, lost: int, p_value: float, is_significant: bool
) -> None:
    ours = np.array([True] * won + [False] * lost + [True] * (10 - won - lost))
    theirs = np.array([False] * won + [True] * lost + [True] * (10 - won - lost))
    gain = paired_gain(ours, theirs)
    assert gain.gain == pytest.approx((won - lost) / 10)
    assert gain.p_value == pytest.approx(p_value)
    assert gain.is_significant == is_significant

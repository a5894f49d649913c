import numpy as np
import pytest

from hwcli.sentiment.evaluation import paired_gain
from hwcli.sentiment.summary import Gain


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


def test_a_summary_without_p_values_is_judged_by_two_standard_errors() -> None:
    assert Gain(gain=0.03, standard_error=0.002).is_significant
    assert not Gain(gain=-0.003, standard_error=0.002).is_significant

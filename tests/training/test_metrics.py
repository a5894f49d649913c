import pytest

from hwcli.training.metrics import Mean, mean_and_std, standard_error


def test_batches_of_unequal_size_count_by_their_examples() -> None:
    mean = Mean()
    mean.add(loss_sum=7.0, num_correct=7, num_examples=7)
    mean.add(loss_sum=0.0, num_correct=0, num_examples=3)
    assert (mean.loss, mean.accuracy) == (0.7, 0.7)


def test_the_standard_error_of_92_percent_on_ten_thousand_is_a_quarter_point() -> None:
    assert standard_error(0.92, 10_000) == pytest.approx(0.002713, abs=1e-6)


def test_one_seed_has_no_deviation() -> None:
    assert mean_and_std([0.5]) == (0.5, None)
    assert mean_and_std([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, 1.527525))

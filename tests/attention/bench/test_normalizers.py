import math

import pytest
import torch

from hwcli.attention.bench.cases import Case
from hwcli.attention.bench.normalizers import row_sums, study


def test_sums_worked_by_hand() -> None:
    """Query 2 weighs keys 1 and -3 as 2 and -6: their sum is -4, their sizes sum to 8."""
    q, k = torch.tensor([[2.0]]), torch.tensor([[1.0], [-3.0]])
    assert [x.item() for x in row_sums(q, k, "identity")] == [-4.0, 8.0]
    assert [x.item() for x in row_sums(q, k, "relu")] == [2.0, 2.0]


def test_signed_weights_cancel_more_the_longer_the_sequence_and_positive_ones_never_do() -> None:
    short, long = (study(Case("linear", T, D=16)) for T in (64, 1024))
    assert short.negative_share == pytest.approx(0.5, abs=0.1)
    assert 2 < long.median_condition / short.median_condition < 8  # sqrt(16) = 4
    assert long.near_zero_share > 0.1
    positive = study(Case("linear", 1024, D=16, feature_map="elu1"))
    assert (positive.negative_share, positive.near_zero_share) == (0.0, 0.0)
    assert positive.largest_condition == pytest.approx(1.0)
    assert positive.largest_error < long.median_error


def test_a_row_that_lost_all_its_weights_is_counted() -> None:
    """Of width 1, ReLU leaves half of the queries nothing."""
    found = study(Case("linear", 211, D=1, feature_map="relu"))
    # Positive weights never cancel, and a query without any counts as one that does not.
    assert found.near_zero_share == 0.0
    assert found.median_condition == found.largest_condition == 1.0
    assert found.no_weight_share == pytest.approx(0.5, abs=0.1)
    assert all(
        value is None or math.isfinite(value)
        for value in found.model_dump(exclude={"feature_map"}).values()
    )

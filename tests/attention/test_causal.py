import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hwcli.attention.causal import BLOCK_TOKENS, CHUNK, CausalLinearAttention, CausalProduct
from tests.attention.reference import draw, gradients, plain_linear


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    y = CausalLinearAttention.apply(q, k, v, "elu1")
    assert isinstance(y, Tensor)
    return y


def test_the_state_is_carried_from_block_to_block() -> None:
    q, k, v = draw(1, 1, BLOCK_TOKENS + CHUNK + 5, 3)
    want = plain_linear(q, k, v, "elu1", causal=True)
    got = attend(q, k, v)
    assert_close(got, want)
    for ours, theirs in zip(gradients(got, q, k, v), gradients(want, q, k, v), strict=True):
        assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("changed", [0, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_what_comes_later_changes_nothing_before_it(changed: int) -> None:
    q, k, v = (x.detach() for x in draw(1, 2, 3 * CHUNK - 1, 3))
    before = attend(q, k, v)
    for x in (q, k, v):
        x[..., changed, :] += 1
    after = attend(q, k, v)
    assert torch.equal(after[..., :changed, :], before[..., :changed, :])
    assert not torch.isclose(after[..., changed, :], before[..., changed, :]).all()


def test_the_product_and_its_reverse_worked_by_hand() -> None:
    """With scalars, P_i = a_i sum b_j c_j over j <= i: b c = 3, 8 sum to 3, 11; times a."""
    a, b, c = (torch.tensor([[[[x], [y]]]]) for x, y in ((5.0, 7.0), (1.0, 2.0), (3.0, 4.0)))
    assert CausalProduct()(a, b, c).flatten().tolist() == [15.0, 77.0]
    assert CausalProduct(reverse=True)(a, b, c).flatten().tolist() == [55.0, 56.0]


def test_a_product_goes_on_where_it_stopped() -> None:
    a, b, c = (x.detach() for x in draw(2, 1, 2 * CHUNK, 3))
    whole = CausalProduct()(a, b, c)
    product = CausalProduct()
    halves = [
        product(*(x[:, :, at] for x in (a, b, c))) for at in (slice(CHUNK), slice(CHUNK, None))
    ]
    assert_close(torch.cat(halves, dim=2), whole)

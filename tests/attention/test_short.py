import pytest
import torch
from torch import Tensor

from hwcli.attention.short import LARGEST_SAFE_SCORE, ShortSoftmaxAttention


def draw(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    return [x.to(dtype).requires_grad_() for x in drawn]


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["small scores", "scores that would overflow"])
@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 1, 1, 1), (3, 2, 11, 1)])
def test_it_is_softmax_attention_and_its_gradient(
    shape: tuple[int, int, int, int], scale: float
) -> None:
    q, k, v = draw(*shape, scale=scale)
    if scale > 1 and shape[-1] > 1:
        assert (q @ k.mT).abs().max() > 5 * LARGEST_SAFE_SCORE
    torch.testing.assert_close(ShortSoftmaxAttention.apply(q, k, v), plain(q, k, v))
    upstream = torch.randn(shape, dtype=torch.float64)
    ours = torch.autograd.grad(ShortSoftmaxAttention.apply(q, k, v), (q, k, v), upstream)
    theirs = torch.autograd.grad(plain(q, k, v), (q, k, v), upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


def test_one_score_worked_by_hand() -> None:
    """Keys 0 and ln 3 under query 1 weigh 1 to 3."""
    q, v = torch.ones(1, 1, 2, 1), torch.tensor([[[[4.0], [8.0]]]])
    k = torch.tensor([[[[0.0], [1.0986123]]]])
    assert ShortSoftmaxAttention.apply(q, k, v).flatten().tolist() == pytest.approx([7.0, 7.0])


def test_bfloat16_is_as_close_to_the_truth_as_torchs_own_steps() -> None:
    exact = draw(5, 3, 49, 16)
    low = [x.detach().bfloat16() for x in exact]
    truth = plain(*exact)
    ours = (ShortSoftmaxAttention.apply(*low).double() - truth).norm()
    torchs = (plain(*low).double() - truth).norm()
    assert ours < 1.2 * torchs


def test_strided_inputs_give_the_same() -> None:
    q, k, v = draw(2, 5, 7, 3)
    strided = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    torch.testing.assert_close(
        ShortSoftmaxAttention.apply(*strided), ShortSoftmaxAttention.apply(q, k, v)
    )


def test_not_a_number_stays_one() -> None:
    q, k, v = (x.detach() for x in draw(1, 1, 3, 2))
    q[0, 0, 0, 0] = torch.nan
    assert ShortSoftmaxAttention.apply(q, k, v).isnan().any()

import pytest
import torch
from torch import Tensor

from hwcli.attention.functional import packed_softmax_attention
from hwcli.native import compiler
from hwcli.native.softmax_attention import NativeSoftmaxAttention, fits

pytestmark = pytest.mark.skipif(
    compiler.reason_against() is not None, reason=str(compiler.reason_against())
)

SHAPES = [(2, 49, 3, 16), (3, 7, 2, 5), (1, 1, 1, 1), (2, 17, 1, 20), (1, 64, 2, 33)]


def draw(B: int, T: int, H: int, D: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B * T + D)
    qkv = scale * torch.randn(B, T, 3, H, D, generator=generator, dtype=torch.float64)
    return qkv, torch.randn(B, T, H, D, generator=generator, dtype=torch.float64)


def reference(qkv: Tensor) -> Tensor:
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v).transpose(1, 2)


def with_gradient(function: object, qkv: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    qkv = qkv.detach().requires_grad_()
    y = function(qkv)  # type: ignore[operator]
    return y.detach(), torch.autograd.grad(y, qkv, upstream.to(y.dtype))[0]


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["small scores", "scores that would overflow"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_softmax_attention_and_its_gradient(
    shape: tuple[int, int, int, int], scale: float
) -> None:
    qkv, upstream = draw(*shape, scale=scale)
    ours = with_gradient(NativeSoftmaxAttention.apply, qkv.float(), upstream)
    # The same rounded inputs in float64.
    truth = with_gradient(reference, qkv.float().double(), upstream)
    q, k, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    largest = float((q @ k.mT / shape[-1] ** 0.5).abs().max())  # a score's rounding error grows so
    for got, expected in zip(ours, truth, strict=True):
        assert (got - expected).norm() < 3e-7 * (1 + largest) * (1 + expected.norm())


def test_in_bfloat16_it_is_closer_to_the_truth_than_torchs_own_steps() -> None:
    qkv, upstream = draw(5, 49, 4, 16)
    low = qkv.bfloat16()
    truth = with_gradient(reference, low.double(), upstream.bfloat16())
    ours = with_gradient(NativeSoftmaxAttention.apply, low, upstream)
    torchs = with_gradient(reference, low, upstream)
    for got, other, expected in zip(ours, torchs, truth, strict=True):
        assert (got - expected).norm() < 0.7 * (other - expected).norm()


def test_weights_worked_by_hand() -> None:
    """Keys 0 and ln 3 under query 1 weigh 1 to 3."""
    qkv = torch.tensor([[[1.0, 0.0, 4.0], [1.0, 1.0986123, 8.0]]]).view(1, 2, 3, 1, 1)
    assert NativeSoftmaxAttention.apply(qkv).flatten().tolist() == pytest.approx([7.0, 7.0])


def test_not_a_number_stays_one() -> None:
    qkv, _ = draw(1, 7, 1, 5)
    qkv[0, 3, 1, 0, 0] = torch.nan
    assert NativeSoftmaxAttention.apply(qkv.float()).isnan().all()


def test_strided_inputs_and_gradients_give_the_same() -> None:
    qkv, upstream = (x.float() for x in draw(2, 11, 3, 5))
    strided = qkv.permute(4, 0, 1, 2, 3).contiguous().permute(1, 2, 3, 4, 0)
    upstream_strided = upstream.mT.contiguous().mT
    a = with_gradient(NativeSoftmaxAttention.apply, qkv, upstream)
    b = with_gradient(NativeSoftmaxAttention.apply, strided, upstream_strided)
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])


def test_it_is_used_only_where_it_was_asked_for_and_fits() -> None:
    qkv = draw(1, 7, 1, 5)[0].float()
    assert not fits(qkv)
    with compiler.kernels(True):
        assert fits(qkv)
        assert not fits(qkv.double())
        assert not fits(qkv.expand(1, 7, 3, 1, 5).repeat(1, 40, 1, 1, 1))
        native = packed_softmax_attention(qkv)
        with compiler.kernels(False):
            assert not fits(qkv)
    torch.testing.assert_close(native, packed_softmax_attention(qkv))

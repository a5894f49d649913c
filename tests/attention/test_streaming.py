import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hwcli.attention import streaming
from hwcli.attention.feature_maps import FEATURE_MAPS
from hwcli.attention.streaming import LinearAttention, read_out, summarize
from tests.attention.reference import draw, gradients


@pytest.mark.parametrize("D", [64, 61])
def test_several_blocks_in_single_precision(D: int) -> None:
    """The last block is not whole."""
    exact = draw(1, 1, 2 * streaming._block(64) + 1101, D)
    q, k, v = (x.detach().float().requires_grad_() for x in exact)
    got = LinearAttention.apply(q, k, v, "elu1")
    S, z = exact_sums(*exact[1:])
    mapped = FEATURE_MAPS["elu1"].value(exact[0])
    want = (mapped @ S) / (mapped @ z)
    assert_close(got.double(), want, rtol=1e-4, atol=1e-6)
    plain = linear_in_one_go(*exact)
    for ours, theirs in zip(gradients(got, q, k, v), gradients(plain, *exact), strict=True):
        assert (ours.double() - theirs).norm() <= 1e-5 * theirs.norm()


def exact_sums(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    mapped = FEATURE_MAPS["elu1"].value(k)
    return mapped.mT @ v, mapped.sum(dim=-2).unsqueeze(-1)


def linear_in_one_go(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
    return q @ (k.mT @ v) / (q @ k.sum(dim=-2).unsqueeze(-1))


def test_the_two_sums_and_the_reading_worked_by_hand() -> None:
    """Keys 1 and 3 with values 4 and 8: S = 28, z = 4, and any query reads 28 / 4 = 7."""
    identity = FEATURE_MAPS["identity"]
    S, z = summarize(torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [8.0]]), identity)
    assert (S.item(), z.item()) == (28.0, 4.0)
    y, normalizers = torch.empty(1, 1), torch.empty(1)
    read_out(torch.tensor([[2.0]]), S, z, identity, y, normalizers)
    assert (y.item(), normalizers.item()) == (7.0, 8.0)


def test_sums_of_bfloat16_are_kept_in_single_precision() -> None:
    """A thousand and one ones: bfloat16 itself cannot count beyond 256."""
    ones = torch.ones(1001, 1, dtype=torch.bfloat16)
    _, z = summarize(ones, ones, FEATURE_MAPS["identity"])
    assert (z.dtype, z.item()) == (torch.float32, 1001.0)

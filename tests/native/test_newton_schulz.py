import pytest
import torch

from hwcli.native import compiler, gemm_bf16
from hwcli.native.newton_schulz import fits
from hwcli.training.optimizers import orthogonalize

pytestmark = pytest.mark.skipif(not gemm_bf16.usable(), reason="no products of bfloat16 here")


@pytest.mark.parametrize("shape", [(6, 192, 64), (1, 32, 32), (3, 64, 160)])
def test_it_takes_the_steps_that_torch_takes(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    torchs = orthogonalize(matrices).float()
    with compiler.kernels(True):
        ours = orthogonalize(matrices).float()
    # The order of sums may differ, and with it a rounding to bfloat16 here and there.
    assert (ours - torchs).norm() < 2e-2 * torchs.norm()
    values = torch.linalg.svdvals(ours)
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_where_it_does_not_fit() -> None:
    matrices = torch.ones(2, 32, 64).bfloat16()
    assert not fits(matrices)
    with compiler.kernels(True):
        assert fits(matrices)
        assert not fits(matrices.float())
        assert not fits(matrices.mT)
        assert not fits(matrices[:, :30])

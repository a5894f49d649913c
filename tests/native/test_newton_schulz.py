import pytest
import torch
from torch import Tensor

from hwcli.native import compiler, gemm_bf16
from hwcli.native.newton_schulz import fits, iterate
from hwcli.training.optimizers import COEFFICIENTS, orthogonalize

pytestmark = pytest.mark.skipif(
    compiler.reason_against() is not None, reason=str(compiler.reason_against())
)

# Tiles of 6 or 12 rows that do not come out even; one of each in bfloat16.
FLOAT_SHAPES = [(5, 64, 192), (1, 16, 16), (3, 48, 80)]
BF16_SHAPES = [(3, 64, 160), (1, 32, 32)]


def draw(shape: tuple[int, ...]) -> Tensor:
    """Return matrices of Frobenius norm 1, as the iteration wants them."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return matrices / matrices.norm(dim=(-2, -1), keepdim=True)


def written_out(X: Tensor, num_steps: int) -> Tensor:
    """Compute the formula in float64, rounding what is kept to the type of X."""
    a, b, c = COEFFICIENTS

    def kept(x: Tensor) -> Tensor:
        return x.to(dtype).double()

    dtype, X = X.dtype, X.double()
    for _ in range(num_steps):
        A = kept(X @ X.mT)
        X = kept(a * X + kept(b * A + c * A @ A) @ X)
    return X


@pytest.mark.parametrize("shape", FLOAT_SHAPES)
def test_in_float32_it_is_the_formula(shape: tuple[int, ...]) -> None:
    X = draw(shape)
    torch.testing.assert_close(
        iterate(X, 5, COEFFICIENTS).double(), written_out(X.double(), 5), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", BF16_SHAPES)
def test_in_bfloat16_what_is_kept_is_rounded(shape: tuple[int, ...]) -> None:
    X = draw(shape).bfloat16()
    once, exact = iterate(X, 1, COEFFICIENTS).double(), written_out(X, 1)
    # One of 256 steps between numbers, where a sum on the edge is rounded the other way.
    assert (once - exact).abs().max() <= 2**-8 * exact.abs().max()
    assert (once != exact).double().mean() < 0.05
    # Such roundings grow from step to step.
    error = iterate(X, 5, COEFFICIENTS).double() - written_out(X, 5)
    assert error.norm() < 2e-2 * written_out(X, 5).norm()


def test_one_step_worked_by_hand() -> None:
    """X = diag(1/2, 0, ..), A = 1/4: 1/2 a + (1/4 b + 1/16 c) 1/2 is 3/8 for a, b, c = 1, -2, 4."""
    X = torch.zeros(1, 32, 32)
    X[0, 0, 0] = 0.5
    torch.testing.assert_close(iterate(X, 1, (1.0, -2.0, 4.0)), 0.75 * X)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_nothing(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = draw((7, 32, 64)).to(dtype)
    results = []
    for num_threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=num_threads: number)
        results.append(iterate(X, 5, COEFFICIENTS))
    for other in results[1:]:
        assert torch.equal(results[0], other)


@pytest.mark.parametrize("shape", [(6, 192, 64), (2, 48, 80)])
def test_muon_gets_the_same_with_it_as_without(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    torchs = orthogonalize(matrices).float()
    with compiler.kernels(True):
        ours = orthogonalize(matrices).float()
    assert (ours - torchs).norm() < 2e-2 * torchs.norm()
    values = torch.linalg.svdvals(ours)
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = torch.ones(2, 32, 48)
    assert not fits(matrices)
    with compiler.kernels(True):
        assert fits(matrices)
        assert not fits(matrices.double())
        assert not fits(matrices.mT)
        assert not fits(matrices[:, :30])
        monkeypatch.setattr(gemm_bf16, "usable", lambda: True)
        assert not fits(matrices.bfloat16())  # 48 is no multiple of 32
        assert fits(torch.ones(2, 32, 64).bfloat16())
        monkeypatch.setattr(gemm_bf16, "usable", lambda: False)
        assert not fits(torch.ones(2, 32, 64).bfloat16())

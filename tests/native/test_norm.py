import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwcli.native import build
from hwcli.native.norm import add_branch, layer_norm

pytestmark = pytest.mark.skipif(
    build.reason_against() is not None, reason=str(build.reason_against())
)


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return 3 * torch.randn(shape, generator=generator) + 1


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("shape", [(5, 7, 48), (3, 16), (2, 1, 96)])
def test_it_is_layer_norm_and_its_gradient_rounded_once(shape: tuple[int, ...]) -> None:
    x, weight, bias = draw(*shape), draw(shape[-1]), draw(shape[-1])
    upstream = draw(*shape).bfloat16()
    exact = [t.double().requires_grad_() for t in (x, weight, bias)]
    truth = F.layer_norm(exact[0], (shape[-1],), exact[1], exact[2], 1e-5)
    true_gradients = torch.autograd.grad(truth, exact, upstream.double())
    ours = [t.clone().requires_grad_() for t in (x, weight, bias)]
    with build.kernels(True), bf16():
        y = layer_norm(ours[0], ours[1], ours[2], 1e-5)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), truth, atol=1e-2, rtol=2**-8)
    for got, expected in zip(torch.autograd.grad(y, ours, upstream), true_gradients, strict=True):
        torch.testing.assert_close(got.double(), expected, atol=1e-4, rtol=1e-4)


def test_a_constant_token_becomes_the_bias() -> None:
    bias = draw(16)
    with build.kernels(True), bf16():
        y = layer_norm(torch.full((2, 16), 7.0), draw(16), bias, 1e-5)
    assert torch.equal(y, bias.bfloat16().expand(2, 16))


def test_a_branch_is_added_in_float32() -> None:
    x, branch = draw(3, 5, 32), draw(3, 5, 32).bfloat16()
    a, b = x.clone().requires_grad_(), branch.clone().requires_grad_()
    with build.kernels(True), bf16():
        y = add_branch(a, b)
    assert torch.equal(y, x + branch.float())
    upstream = draw(3, 5, 32)
    to_x, to_branch = torch.autograd.grad(y, (a, b), upstream)
    assert torch.equal(to_x, upstream)
    assert torch.equal(to_branch, upstream.bfloat16())


@pytest.mark.parametrize("width", [16, 20])
def test_without_autocasting_or_for_other_widths_it_is_torchs(width: int) -> None:
    x, weight, bias = draw(3, width), draw(width), draw(width)
    with build.kernels(True):
        y = layer_norm(x, weight, bias, 1e-5)
        total = add_branch(x, x)
    assert torch.equal(y, F.layer_norm(x, (width,), weight, bias, 1e-5))
    assert torch.equal(total, x + x)

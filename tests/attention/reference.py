"""What the attention tests hold the fast forms against: sums written out, in float64."""

import torch
from torch import Tensor

from hwcli.attention.feature_maps import FeatureMapName

MAPS: tuple[FeatureMapName, ...] = ("identity", "elu1", "relu", "softmax")


def draw(*shape: int, seed: int = 0, positive: bool = False) -> list[Tensor]:
    """Draw q, k and v of shape (B, H, T, D) that ask for gradients."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    if positive:
        drawn = [x.abs() + 0.1 for x in drawn]
    return [x.requires_grad_() for x in drawn]


def plain_map(x: Tensor, name: FeatureMapName) -> Tensor:
    """Map features by torch's own functions and its automatic derivatives."""
    maps = {
        "identity": lambda: x,
        "elu1": lambda: torch.nn.functional.elu(x) + 1,
        "relu": x.relu,
        "softmax": lambda: x.softmax(dim=-1),
    }
    return maps[name]()


def plain_linear(
    q: Tensor, k: Tensor, v: Tensor, name: FeatureMapName, *, causal: bool = False
) -> Tensor:
    """Form the T x T weights, divide each row by its sum, average the values."""
    weights = plain_map(q, name) @ plain_map(k, name).mT
    if causal:
        weights = weights.tril()
    return (weights / weights.sum(dim=-1, keepdim=True)) @ v


def gradients(y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of a fixed random mixture of the outputs."""
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
    return torch.autograd.grad(y, inputs, upstream, retain_graph=True)

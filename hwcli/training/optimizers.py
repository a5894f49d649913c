"""AdamW for vectors, Muon for the matrices inside the network, and the rate over time."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from hwcli import runtime
from hwcli.config import Section
from hwcli.native import newton_schulz as native


class OptimizerConfig(Section):
    """How weights are moved.

    ``muon`` orthogonalises the updates of the matrices inside the blocks and leaves everything
    else (embeddings, norms, biases, the classifier) to AdamW; ``adamw`` does it all by AdamW.
    """

    kind: Literal["adamw", "muon"] = Field(
        "adamw",
        description="adamw for all weights, or muon for the matrices inside the layers.",
    )
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate of AdamW.")
    muon_learning_rate: float = Field(2e-2, gt=0, description="Peak learning rate of Muon.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of matrices.")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the mean of gradients.")
    beta2: float = Field(
        0.99, ge=0, lt=1, description="AdamW: decay of the mean of squared gradients."
    )
    momentum: float = Field(0.95, ge=0, lt=1, description="Momentum of Muon (Nesterov).")
    warmup_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of all steps in which the rate rises; then it falls linearly to 0.",
    )


def lr_factor_at(progress: float, warmup_fraction: float) -> float:
    """Return the learning rate's factor after a share of all steps: up, then down to 0, linearly.

    Both slopes are shares of the run, so a run of thirty steps warms up and cools down too.
    ``progress`` is that of the middle of a step, hence never 0 or 1.
    """
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return (1.0 - progress) / (1.0 - warmup_fraction)


def scale_learning_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to a factor of its ``initial_lr``."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            learning_rate = group["initial_lr"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate


@runtime_checkable
class HasHiddenMatrices(Protocol):
    """A model with matrices between hidden states, which are Muon's to move."""

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return these matrices, each (rows, columns)."""


def make_optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Make the optimisers of a model; for Muon it must name its hidden matrices.

    Raises:
        TypeError: Muon is asked for, and the model does not say which matrices are hidden.
    """
    hidden: list[nn.Parameter] = []
    if config.kind == "muon":
        if not isinstance(model, HasHiddenMatrices):
            raise TypeError(f"{type(model).__name__} has no hidden_matrices() for Muon")
        hidden = list(model.hidden_matrices())
    ids = {id(parameter) for parameter in hidden}
    device = next(model.parameters()).device
    on_cuda = device.type == "cuda"
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in ids]
    decayed = [p for p in others if p.ndim >= 2]
    plain = [p for p in others if p.ndim < 2]
    adamw = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
        capturable=on_cuda,
    )
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if hidden:
        optimizers.append(
            Muon(
                hidden,
                lr=config.muon_learning_rate,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
            if on_cuda:  # where a recorded step can read what changes from step to step
                group["lr"] = torch.tensor(group["lr"], device=device)
    return optimizers


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz (Jordan 2024, "Muon").

    For a matrix W with gradient G: M <- mu M + (1 - mu) G, U = orth((1 - mu) G + mu M) and
    W <- W (1 - lr wd) - lr sqrt(max(1, rows / columns)) U. The same update as
    ``torch.optim.Muon``; here matrices of one shape are stacked, so that a network of L equal
    blocks costs a few batched products instead of L times as many small ones.

    Args:
        params: matrices only, shapes (rows, columns).
        lr: the spectral size of an update.
        momentum: mu.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._step_stack(parameters, shape, group)

    def _step_stack(self, parameters: list[Tensor], shape: torch.Size, group: Any) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        # Underscores, but what torch's own optimisers are built on: one launch each on a GPU, where
        # a loop over the matrices has dozens.
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
        updates = orthogonalize(torch.stack(list(nesterov))).to(parameters[0].dtype)
        scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_sub_(parameters, (updates * scale).unbind(0))


# Jordan's (2024): they bring singular values into about 0.7..1.2 in five steps.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, num_steps: int = 5) -> Tensor:
    """Replace every singular value by about 1, by Newton-Schulz's iteration.

    X <- a X + (b A + c A^2) X with A = X X^T, after scaling X to Frobenius norm 1. It corrects
    itself, so that bfloat16 is enough; where that is not fast, it runs in float32.

    Args:
        matrices: (L, rows, columns).
        num_steps: of the iteration.

    Returns:
        (L, rows, columns) in bfloat16 or float32.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    fast = runtime.has_fast_bf16(matrices.device)
    X = matrices.to(torch.bfloat16 if fast else torch.float32)
    X = X.mT if tall else X
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    if native.fits(X):
        X = native.iterate(X, num_steps, COEFFICIENTS)
    else:
        for _ in range(num_steps):
            A = X @ X.mT
            X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X.mT if tall else X

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwcli.training import step as steps
from hwcli.training.optimizers import OptimizerConfig, make_optimizers
from hwcli.training.step import STEPS_BEFORE_RECORDING, BatchOutcome, Step

CPU = torch.device("cpu")
Tensors = tuple[Tensor, ...]


def batch_loss(model: nn.Module, batch: Tensors) -> BatchOutcome:
    loss = F.mse_loss(model(batch[0]), batch[1])
    return BatchOutcome(loss, torch.zeros(()), len(batch[0]))


def make_step(model: nn.Module) -> Step[Tensors]:
    optimizers = make_optimizers(model, OptimizerConfig(learning_rate=0.1))
    return Step(model, optimizers, batch_loss, CPU, torch.float32)


def batch(size: int) -> Tensors:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, 3, generator=generator), torch.randn(size, 2, generator=generator)


def test_a_step_moves_weights_by_its_own_gradient_at_the_rate_it_is_told() -> None:
    torch.manual_seed(0)
    model, reference = nn.Linear(3, 2), nn.Linear(3, 2)
    reference.load_state_dict(model.state_dict())
    step = make_step(model)
    optimizer = torch.optim.AdamW(
        reference.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.0
    )
    for size, rate in ((5, 1.0), (4, 0.5), (5, 0.0), (3, 0.25)):
        outcome = step(batch(size), rate)
        optimizer.param_groups[0]["lr"] = 0.1 * rate
        optimizer.zero_grad()
        expected = batch_loss(reference, batch(size))
        expected.loss.backward()
        optimizer.step()
        # Fused and unfused kernels of AdamW round differently on some processors.
        torch.testing.assert_close(outcome.loss, expected.loss)
        assert outcome.num_examples == size
        torch.testing.assert_close(model.weight, reference.weight)
    assert model.weight.grad is None


class RecordingHere:
    """In place of a CUDA graph: tells what would be recorded, and what would be replayed."""

    recorded: list[int]
    replayed: list[int]

    def __init__(self, step: Callable[[Tensors], BatchOutcome], batch: Tensors):
        self.step = step
        type(self).recorded.append(len(batch[0]))

    def replay(self, batch: Tensors) -> BatchOutcome:
        type(self).replayed.append(len(batch[0]))
        return self.step(batch)


@pytest.mark.parametrize("sizes", [(7, 7, 7, 5), (7, 5), (7,), (7, 7, 5)])
def test_each_shape_of_a_batch_is_recorded_once_and_replayed_from_then_on(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    RecordingHere.recorded, RecordingHere.replayed = [], []
    monkeypatch.setattr(steps, "Recording", RecordingHere)
    step = make_step(nn.Linear(3, 2))
    step._recorded = True
    shown = [size for _ in range(6) for size in sizes]
    for size in shown:
        assert step(batch(size), 1.0).num_examples == size
    assert sorted(RecordingHere.recorded) == sorted(set(sizes))
    for size in set(sizes):
        replayed = shown.count(size) - STEPS_BEFORE_RECORDING
        assert RecordingHere.replayed.count(size) == replayed

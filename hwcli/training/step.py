"""One training step: loss, gradients, optimiser; on a GPU replayed as one graph.

A small network's step on a GPU is some hundreds of kernels, each of which runs for less time
than it takes to launch it from Python. A CUDA graph launches them all at once: what one step sent
to the GPU is recorded, and replayed with the next batch's numbers in place of that one's (Nguyen
et al. 2021, "Accelerating PyTorch with CUDA Graphs").
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from hwcli.training.optimizers import scale_learning_rates

Batch = TypeVar("Batch")
Shapes = tuple[torch.Size, ...]

# A shape's first steps choose kernels and allocate what stays, neither of which can be recorded.
STEPS_BEFORE_RECORDING = 3


@dataclass(frozen=True)
class BatchOutcome:
    """What one batch gave: its mean loss (to be differentiated), correct predictions and size."""

    loss: Tensor
    num_correct: Tensor
    num_examples: int


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which a model computes in the given precision."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, precision)


class Step(Generic[Batch]):
    """A call takes one training step on a batch.

    Args:
        model: in train mode.
        optimizers: their groups carry ``initial_lr``.
        batch_loss: runs the model on a batch.
        device: where the model lives.
        precision: the type that matrix products run in.
        recorded: on CUDA, record a step per batch shape and replay it. A batch must be a tuple of
            tensors. ``batch_loss`` must do the same work for every batch of one shape, and must not
            wait for the GPU.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        batch_loss: Callable[[nn.Module, Batch], BatchOutcome],
        device: torch.device,
        precision: torch.dtype,
        *,
        recorded: bool = False,
    ):
        self._model, self._optimizers, self._batch_loss = model, optimizers, batch_loss
        self._device, self._precision = device, precision
        self._recorded = recorded and device.type == "cuda"
        self._seen: Counter[Shapes] = Counter()
        self._recordings: dict[Shapes, Recording] = {}

    def __call__(self, batch: Batch, lr_factor: float) -> BatchOutcome:
        """Take a step at this factor of the peak learning rates; return what the batch gave."""
        scale_learning_rates(self._optimizers, lr_factor)
        if not self._recorded:
            return self._take(batch)
        tensors = cast(tuple[Tensor, ...], batch)
        shapes = tuple(tensor.shape for tensor in tensors)
        if self._seen[shapes] < STEPS_BEFORE_RECORDING:
            self._seen[shapes] += 1
            return self._take(batch)
        if shapes not in self._recordings:
            self._recordings[shapes] = Recording(
                lambda batch: self._take(cast(Batch, batch)), tensors
            )
        return self._recordings[shapes].replay(tensors)

    def _take(self, batch: Batch) -> BatchOutcome:
        with autocast(self._device, self._precision):
            outcome = self._batch_loss(self._model, batch)
        outcome.loss.backward()
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return replace(outcome, loss=outcome.loss.detach())


class Recording:
    """A step on batches of one shape, recorded as a CUDA graph.

    Recording does not execute it; :meth:`replay` does.
    """

    def __init__(
        self, step: Callable[[tuple[Tensor, ...]], BatchOutcome], batch: tuple[Tensor, ...]
    ):
        # A replay reads and writes where the recorded step did.
        self._batch = tuple(tensor.clone() for tensor in batch)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outcome = step(self._batch)

    def replay(self, batch: tuple[Tensor, ...]) -> BatchOutcome:
        """Take the step on another batch of that shape."""
        for own, given in zip(self._batch, batch, strict=True):
            own.copy_(given)
        self._graph.replay()
        return replace(
            self._outcome,
            loss=self._outcome.loss.clone(),
            num_correct=self._outcome.num_correct.clone(),
        )

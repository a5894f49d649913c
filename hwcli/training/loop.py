"""The one training loop: set the rate, step, watch the loss, evaluate, checkpoint, report."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic

import torch
from torch import nn

from hwcli.training.checkpoint import restore_checkpoint, save_checkpoint
from hwcli.training.metrics import Mean
from hwcli.training.optimizers import rate_at
from hwcli.training.step import Batch, BatchOutcome, Step

# A loss on a GPU is read this seldom, since reading it waits for the GPU.
STEPS_BETWEEN_READS_ON_GPU = 50
SECONDS_BETWEEN_REPORTS = 0.5


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the text names the step."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training came to; losses in nats, accuracies as fractions."""

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    train_s: float
    examples_per_s: float


@dataclass(frozen=True)
class Work(Generic[Batch]):
    """What is trained, on what, and how a batch is judged.

    Attributes:
        model: in train mode while it trains; evaluation is the caller's.
        optimizers: their groups carry ``initial_lr``.
        batches: gives epoch e's batches in order; a pure function of e, so that a resumed run
            sees what an uninterrupted one does.
        judge: runs the model on a batch.
        evaluate: loss and accuracy on the validation part.
        num_epochs: in all.
        steps_per_epoch: batches of one epoch.
        warmup_fraction: share of all steps over which the rate rises.
        precision: the type that matrix products run in; float32 turns autocasting off.
        device: where the model lives.
        recorded: on CUDA, record a step and replay it: :class:`hwcli.training.step.Step` says
            what that asks of batches.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    batches: Callable[[int], Iterable[Batch]]
    judge: Callable[[nn.Module, Batch], BatchOutcome]
    evaluate: Callable[[nn.Module], Mean]
    num_epochs: int
    steps_per_epoch: int
    warmup_fraction: float
    precision: torch.dtype
    device: torch.device
    recorded: bool = False


def train(
    work: Work[Batch],
    checkpoint: Path | None = None,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
    checkpoint_every_s: float = math.inf,
) -> list[Epoch]:
    """Train to the end, from the checkpoint if there is one.

    Args:
        work: what to do.
        checkpoint: the file to go on from and to keep; written after every epoch.
        report: gets ``{"epoch", "step", "loss", "examples_per_s"}`` now and then, and every
            finished :class:`Epoch` as a mapping.
        checkpoint_every_s: also write it inside an epoch when this much time has passed.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite.
    """
    model, device = work.model, work.device
    num_steps = work.num_epochs * work.steps_per_epoch
    restored = restore_checkpoint(checkpoint, model, work.optimizers) if checkpoint else None
    position = restored or {"step": 0, "train_s": 0.0, "history": [], "running": None}
    step: int = position["step"]
    history = [Epoch(**record) for record in position["history"]]
    running = Mean(**position["running"]) if position["running"] else Mean()
    train_s: float = position["train_s"]
    take_step = Step(
        model, work.optimizers, work.judge, device, work.precision, recorded=work.recorded
    )
    steps_between_reads = 1 if device.type == "cpu" else STEPS_BETWEEN_READS_ON_GPU

    def keep() -> None:
        if checkpoint:
            save_checkpoint(
                checkpoint,
                model,
                work.optimizers,
                {
                    "step": step,
                    "train_s": train_s,
                    "history": [asdict(epoch) for epoch in history],
                    "running": asdict(running),
                },
            )

    while step < num_steps:
        epoch, done_in_epoch = divmod(step, work.steps_per_epoch)
        model.train()
        unread: list[BatchOutcome] = []
        started = reported = kept = time.perf_counter()
        num_seen, epoch_started = 0, started
        for batch in islice(work.batches(epoch), done_in_epoch, None):
            rate = rate_at((step + 0.5) / num_steps, work.warmup_fraction)
            outcome = take_step(batch, rate)
            step += 1
            num_seen += outcome.num_examples

            unread.append(outcome)
            if len(unread) == steps_between_reads or step % work.steps_per_epoch == 0:
                _read(unread, running, step)
                unread = []
            now = time.perf_counter()
            if now - reported > SECONDS_BETWEEN_REPORTS and running.num_examples:
                reported = now
                report(
                    {
                        "epoch": epoch,
                        "step": step,
                        "loss": running.loss,
                        "examples_per_s": num_seen / (now - epoch_started),
                    }
                )
            if now - kept > checkpoint_every_s and not unread:
                kept, train_s, started = now, train_s + now - started, now
                keep()
        train_s += time.perf_counter() - started
        finished = running
        running = Mean()
        epoch_s = train_s - sum(earlier.train_s for earlier in history)
        model.eval()
        valid = work.evaluate(model)
        history.append(
            Epoch(
                epoch=epoch,
                train_loss=finished.loss,
                train_accuracy=finished.accuracy,
                valid_loss=valid.loss,
                valid_accuracy=valid.accuracy,
                train_s=epoch_s,
                examples_per_s=finished.num_examples / epoch_s,
            )
        )
        keep()
        report(asdict(history[-1]))
    model.eval()
    return history


def _read(outcomes: Sequence[BatchOutcome], running: Mean, last_step: int) -> None:
    """Add outcomes to the running mean.

    Raises:
        NonFiniteLossError: naming the first step whose loss is not a number.
    """
    losses = torch.stack([outcome.loss for outcome in outcomes]).tolist()
    hits = torch.stack([outcome.num_correct for outcome in outcomes]).tolist()
    for index, (outcome, loss, num_correct) in enumerate(zip(outcomes, losses, hits, strict=True)):
        if not math.isfinite(loss):
            step = last_step - len(outcomes) + index + 1
            raise NonFiniteLossError(f"the loss is {loss} at step {step}")
        running.add(loss * outcome.num_examples, int(num_correct), outcome.num_examples)

"""The one training loop: learning rate, step, loss, validation, checkpoint, report."""

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
from hwcli.training.optimizers import lr_factor_at
from hwcli.training.progress import Epoch, Progress
from hwcli.training.step import Batch, BatchOutcome, Step

# A loss on a GPU is read this seldom, since reading it waits for the GPU.
STEPS_BETWEEN_READS_ON_GPU = 50
SECONDS_BETWEEN_REPORTS = 0.5
# A gap this long, in which the process computed for less than this share, was a pause.
SHORTEST_PAUSE_S = 2.0
LEAST_SHARE = 0.1


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite; the text names the step."""


@dataclass(frozen=True)
class TrainingJob(Generic[Batch]):
    """What is trained, on what, and how the loss of a batch is computed.

    Attributes:
        model: in train mode while it trains, in eval mode for ``evaluate``.
        optimizers: their groups carry ``initial_lr``.
        batches: gives epoch e's batches in order; a pure function of e, so that a resumed run
            sees what an uninterrupted one does.
        batch_loss: runs the model on a batch.
        evaluate: loss and accuracy on the validation part.
        epoch_costs: how much work each epoch is, compared with the others.
        steps_per_epoch: batches of one epoch.
        warmup_fraction: share of all steps over which the learning rate rises.
        precision: the type that matrix products run in; float32 turns autocasting off.
        device: where the model lives.
        recorded: on CUDA, record a step and replay it: :class:`hwcli.training.step.Step` says
            what that asks of batches.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    batches: Callable[[int], Iterable[Batch]]
    batch_loss: Callable[[nn.Module, Batch], BatchOutcome]
    evaluate: Callable[[nn.Module], Mean]
    epoch_costs: Sequence[float]
    steps_per_epoch: int
    warmup_fraction: float
    precision: torch.dtype
    device: torch.device
    recorded: bool = False

    @property
    def num_epochs(self) -> int:
        """Return the number of epochs."""
        return len(self.epoch_costs)

    def work_done(self, step: int) -> float:
        """Return the part of the work that so many steps are, from 0 to 1."""
        epoch, steps = divmod(step, self.steps_per_epoch)
        running = self.epoch_costs[epoch] * steps / self.steps_per_epoch if steps else 0.0
        return (sum(self.epoch_costs[:epoch]) + running) / sum(self.epoch_costs)


class TrainingClock:
    """Seconds spent on training; a time in which the process was stopped does not count.

    A suspended machine stops the clock by itself. A stopped process (SIGSTOP, Ctrl-Z) shows as a
    long gap in which it hardly computed. A process that waits for a GPU looks the same, so on a GPU
    no pause is looked for.

    Args:
        seconds: spent before.
        finds_pauses: the process computes itself.
    """

    def __init__(self, seconds: float = 0.0, *, finds_pauses: bool = True):
        self.seconds = seconds
        self._finds_pauses = finds_pauses
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> float:
        """Return the seconds so far; to be read after every step."""
        wall, processor = time.perf_counter(), time.process_time()
        passed, computed = wall - self._wall, processor - self._processor
        paused = passed > SHORTEST_PAUSE_S and computed < LEAST_SHARE * passed
        self.seconds += computed if paused and self._finds_pauses else passed
        self._wall, self._processor = wall, processor
        return self.seconds

    def skip(self) -> None:
        """Leave out what passed since the last reading."""
        self._wall, self._processor = time.perf_counter(), time.process_time()


def train(
    job: TrainingJob[Batch],
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    checkpoint_every_s: float = math.inf,
) -> list[Epoch]:
    """Train to the end, from the checkpoint if there is one.

    Args:
        job: what to do.
        checkpoint: the file to continue from and to write after every epoch.
        on_progress: is called now and then, and after every epoch.
        checkpoint_every_s: also write the file inside an epoch when this much time has passed.

    Raises:
        NonFiniteLossError: the training or validation loss became NaN or infinite.
        OutputError: the checkpoint cannot be written.
    """
    model, device = job.model, job.device
    num_steps = job.num_epochs * job.steps_per_epoch
    restored = restore_checkpoint(checkpoint, model, job.optimizers) if checkpoint else None
    position = restored or {"step": 0, "train_s": 0.0, "history": [], "running": None}
    step: int = position["step"]
    history = [Epoch(**record) for record in position["history"]]
    running = Mean(**position["running"]) if position["running"] else Mean()
    clock = TrainingClock(position["train_s"], finds_pauses=device.type == "cpu")
    take_step = Step(
        model, job.optimizers, job.batch_loss, device, job.precision, recorded=job.recorded
    )
    steps_between_reads = 1 if device.type == "cpu" else STEPS_BETWEEN_READS_ON_GPU

    def save() -> None:
        if checkpoint:
            save_checkpoint(
                checkpoint,
                model,
                job.optimizers,
                {
                    "step": step,
                    "train_s": clock.seconds,
                    "history": [asdict(epoch) for epoch in history],
                    "running": asdict(running),
                },
            )

    def report(**more: Any) -> None:
        epoch = min(step // job.steps_per_epoch, job.num_epochs - 1)
        where = {"epoch": epoch, "num_epochs": job.num_epochs, "work": job.work_done(step)}
        on_progress(Progress(step, num_steps, **{**where, **more}))

    if restored is None and checkpoint and checkpoint.exists():
        report(note=f"{checkpoint.name} is damaged; training starts over")
    while step < num_steps:
        epoch, done_in_epoch = divmod(step, job.steps_per_epoch)
        model.train()
        unread: list[BatchOutcome] = []
        clock.skip()
        epoch_started = reported = saved = clock.seconds
        num_seen = 0
        for batch in islice(job.batches(epoch), done_in_epoch, None):
            lr_factor = lr_factor_at((step + 0.5) / num_steps, job.warmup_fraction)
            outcome = take_step(batch, lr_factor)
            step += 1
            num_seen += outcome.num_examples

            unread.append(outcome)
            if len(unread) == steps_between_reads or step % job.steps_per_epoch == 0:
                _read(unread, running, step)
                unread = []
            now = clock.read()
            if now - reported > SECONDS_BETWEEN_REPORTS and running.num_examples:
                reported = now
                rate_now = num_seen / (now - epoch_started)
                report(epoch=epoch, loss=running.loss, examples_per_s=rate_now)
            if now - saved > checkpoint_every_s and not unread and step % job.steps_per_epoch:
                save()
                clock.skip()
                saved = now
        finished = running
        running = Mean()
        epoch_s = clock.seconds - sum(earlier.train_s for earlier in history)
        model.eval()
        valid = job.evaluate(model)
        if not math.isfinite(valid.loss):
            raise NonFiniteLossError(f"the validation loss is {valid.loss} after step {step}")
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
        save()
        report(epoch=epoch, loss=finished.loss, finished=history[-1])
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

"""The one training loop: learning rate, step, loss, validation, checkpoint, report."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
        batches: gives epoch e's batches in order; the same for the same e, so that a resumed run
            sees what an uninterrupted one does. Called when the epoch trains.
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
    training = Training(job, checkpoint, on_progress, checkpoint_every_s)
    position = training.position
    while position.step < training.num_steps:
        epoch, first = divmod(position.step, job.steps_per_epoch)
        training.take_steps(epoch, first)
        training.finish_epoch(epoch)
    job.model.eval()
    return position.history


@dataclass
class _Position:
    """Where a training stands: what a checkpoint holds besides weights, optimisers and generator.

    Attributes:
        step: steps done.
        train_s: seconds that they took.
        history: the finished epochs.
        running: the mean over the running epoch so far.
    """

    step: int = 0
    train_s: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    running: Mean = field(default_factory=Mean)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "_Position":
        """Return what ``dataclasses.asdict`` made a mapping of."""
        return cls(
            step=record["step"],
            train_s=record["train_s"],
            history=[Epoch(**epoch) for epoch in record["history"]],
            running=Mean(**record["running"]),
        )


class Training(Generic[Batch]):
    """A training that is under way; the arguments are those of :func:`train`."""

    def __init__(
        self,
        job: TrainingJob[Batch],
        checkpoint: Path | None,
        on_progress: Callable[[Progress], None],
        checkpoint_every_s: float,
    ):
        self._job, self._checkpoint = job, checkpoint
        self._on_progress, self._checkpoint_every_s = on_progress, checkpoint_every_s
        self.num_steps = job.num_epochs * job.steps_per_epoch
        restored = restore_checkpoint(checkpoint, job.model, job.optimizers) if checkpoint else None
        self.position = _Position() if restored is None else _Position.from_json(restored)
        on_cpu = job.device.type == "cpu"
        self._clock = TrainingClock(self.position.train_s, finds_pauses=on_cpu)
        self._steps_between_reads = 1 if on_cpu else STEPS_BETWEEN_READS_ON_GPU
        self._take_step = Step(
            job.model,
            job.optimizers,
            job.batch_loss,
            job.device,
            job.precision,
            recorded=job.recorded,
        )
        if restored is None and checkpoint and checkpoint.exists():
            self.report(0, note=f"{checkpoint.name} is damaged; training starts over")

    def take_steps(self, epoch: int, first: int) -> None:
        """Take the steps of an epoch, from its batch of number ``first`` on."""
        job, position, clock = self._job, self.position, self._clock
        job.model.train()
        unread: list[BatchOutcome] = []
        clock.skip()
        started = reported = saved = clock.seconds
        num_seen = 0
        for batch in islice(job.batches(epoch), first, None):
            lr_factor = lr_factor_at((position.step + 0.5) / self.num_steps, job.warmup_fraction)
            outcome = self._take_step(batch, lr_factor)
            position.step += 1
            num_seen += outcome.num_examples
            is_last = position.step % job.steps_per_epoch == 0

            unread.append(outcome)
            if len(unread) == self._steps_between_reads or is_last:
                _read(unread, position.running, position.step)
                unread = []
            now = position.train_s = clock.read()
            if now - reported > SECONDS_BETWEEN_REPORTS and position.running.num_examples:
                reported = now
                rate = num_seen / (now - started)
                self.report(epoch, loss=position.running.loss, examples_per_s=rate)
            if now - saved > self._checkpoint_every_s and not unread and not is_last:
                self.save()
                clock.skip()
                saved = now

    def finish_epoch(self, epoch: int) -> None:
        """Validate, add the epoch to the history, save and report."""
        position, model = self.position, self._job.model
        trained, position.running = position.running, Mean()
        train_s = position.train_s - sum(earlier.train_s for earlier in position.history)
        model.eval()
        valid = self._job.evaluate(model)
        if not math.isfinite(valid.loss):
            step = position.step
            raise NonFiniteLossError(f"the validation loss is {valid.loss} after step {step}")
        finished = Epoch(
            epoch=epoch,
            train_loss=trained.loss,
            train_accuracy=trained.accuracy,
            valid_loss=valid.loss,
            valid_accuracy=valid.accuracy,
            train_s=train_s,
            examples_per_s=trained.num_examples / train_s,
        )
        position.history.append(finished)
        self.save()
        self.report(epoch, loss=trained.loss, finished=finished)

    def save(self) -> None:
        """Write the checkpoint, if one is to be kept."""
        if self._checkpoint:
            job = self._job
            save_checkpoint(self._checkpoint, job.model, job.optimizers, asdict(self.position))

    def report(self, epoch: int, **more: Any) -> None:
        """Tell how far the training is, and more fields of :class:`Progress`."""
        job, step = self._job, self.position.step
        work = job.work_done(step)
        self._on_progress(Progress(step, self.num_steps, epoch, job.num_epochs, work=work, **more))


def _read(outcomes: Sequence[BatchOutcome], running: Mean, last_step: int) -> None:
    """Add outcomes to the running mean.

    Raises:
        NonFiniteLossError: naming the first step whose loss is not a number.
    """
    losses = torch.stack([outcome.loss for outcome in outcomes]).tolist()
    correct = torch.stack([outcome.num_correct for outcome in outcomes]).tolist()
    for index, (outcome, loss, num) in enumerate(zip(outcomes, losses, correct, strict=True)):
        if not math.isfinite(loss):
            step = last_step - len(outcomes) + index + 1
            raise NonFiniteLossError(f"the loss is {loss} at step {step}")
        running.add(loss * outcome.num_examples, int(num), outcome.num_examples)

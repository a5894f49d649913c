"""Training a classifier: one job, whose logits come from a frozen encoder or a trained one.

:class:`FrozenEncoder` runs once over all reviews and trains a head on what it kept;
:class:`FinetunedEncoder` runs in every step and is trained with its head. Both are a
:class:`StateSource`, and :func:`train_classifier` trains either.

Shapes: B reviews, N reviews of a part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwcli.errors import ConfigError
from hwcli.sentiment.best_epoch import BestEpoch
from hwcli.sentiment.classifier import count_parameters, mean_of
from hwcli.sentiment.finetuned import FinetunedEncoder
from hwcli.sentiment.frozen import FrozenEncoder
from hwcli.sentiment.prepare import PartName, SentimentData
from hwcli.sentiment.progress import EpochPrinter
from hwcli.sentiment.recipe import Recipe
from hwcli.sentiment.reviews import Reviews
from hwcli.sentiment.tokens import ReviewNumbers, Tokens, training_batches
from hwcli.training.loop import NonFiniteLossError, TrainingJob, train
from hwcli.training.metrics import Mean
from hwcli.training.progress import Epoch
from hwcli.training.step import BatchOutcome

SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass(frozen=True)
class TrainingResult:
    """A trained classifier and its logits on the test reviews.

    Attributes:
        model: encoder and head, in eval mode and float32.
        history: one entry per epoch.
        test_logits: (N,) on the test reviews, on the CPU.
        num_params: of encoder and head.
        num_trainable_params: of what was trained.
        encode_s: seconds of running the frozen encoder, in whichever process.
        train_s: seconds of training, in whichever process.
    """

    model: nn.Module
    history: Sequence[Epoch]
    test_logits: Tensor
    num_params: int
    num_trainable_params: int
    encode_s: float
    train_s: float


class StateSource(Protocol):
    """Where the logits of a training job come from.

    Attributes:
        model: the module that is trained.
        optimizers: of its parameters.
        warmup_fraction: share of all steps over which the learning rate rises.
        step_precision: the type that a step's matrix products run in.
        num_params: of encoder and head.
        encode_s: seconds of running a frozen encoder.
    """

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    warmup_fraction: float
    step_precision: torch.dtype
    num_params: int
    encode_s: float

    def parts_of(self, numbers: ReviewNumbers) -> list[slice]:
        """Cut a batch (B,) into parts whose activations fit into memory."""

    def logits(self, numbers: ReviewNumbers) -> Tensor:
        """Run the model on training reviews: (B,) float32."""

    def predict(self, part: PartName) -> Tensor:
        """Return the logits (N,) of a whole part, in its order, on the CPU."""

    def classifier(self) -> nn.Module:
        """Return encoder and head as one module that maps tokens to logits."""


def train_classifier(recipe: Recipe, data: SentimentData, folder: Path) -> TrainingResult:
    """Train by a recipe, from where an interrupted training of it stopped.

    Args:
        recipe: all that decides the numbers.
        data: reviews and encoder.
        folder: holds the checkpoint and the best epoch's weights.

    Raises:
        ConfigError: the loss became infinite or NaN.
        SourceError: encoder or kept weights cannot be used.
    """
    labels = labels_of(data.split.train).to(data.device)
    valid_labels = labels_of(data.split.valid)
    source: StateSource
    if recipe.finetune:
        source = FinetunedEncoder(recipe, data, folder)
    else:
        source = FrozenEncoder(recipe, data)
        if recipe.is_solved:
            return result_of(source, [source.solve(labels, valid_labels)])
    best = BestEpoch(folder / "best.safetensors")

    def batches(epoch: int) -> Iterator[ReviewNumbers]:
        if epoch == 0:  # asked for only by a training that starts: no finished epoch is lost
            best.start_over()
        return epoch_batches(data.train, recipe, epoch)

    def evaluate(model: nn.Module) -> Mean:
        valid = mean_of(source.predict("valid"), valid_labels)
        if recipe.keep == "best":
            best.save_if_best(model, valid)
        return valid

    steps_per_epoch = -(-len(data.train) // recipe.batch_size)
    job = TrainingJob(
        model=source.model,
        optimizers=source.optimizers,
        batches=batches,
        batch_loss=lambda _, numbers: batch_outcome(source, numbers, labels[numbers]),
        evaluate=evaluate,
        epoch_costs=[1.0] * recipe.epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_fraction=source.warmup_fraction,
        precision=source.step_precision,
        device=data.device,
    )
    reporter = EpochPrinter(recipe.epochs, steps_per_epoch)
    checkpoint = folder / "checkpoint.safetensors"
    try:
        history = train(job, checkpoint, reporter, SECONDS_BETWEEN_CHECKPOINTS)
    except NonFiniteLossError as error:
        which = "encoder_optimizer" if recipe.finetune else "optimizer"
        raise ConfigError(f"{error}; take a lower {which}.learning_rate") from None
    if recipe.keep == "best":
        best.restore(source.model, min(epoch.valid_loss for epoch in history))
    return result_of(source, history)


def result_of(source: StateSource, history: Sequence[Epoch]) -> TrainingResult:
    """Return a trained classifier, with its logits on the test reviews."""
    source.model.eval()
    test_logits = source.predict("test")
    return TrainingResult(
        model=source.classifier().eval(),
        history=history,
        test_logits=test_logits,
        num_params=source.num_params,
        num_trainable_params=count_parameters(source.model),
        encode_s=source.encode_s,
        train_s=sum(epoch.train_s for epoch in history),
    )


def labels_of(part: Reviews) -> Tensor:
    """Return the classes of reviews as (N,) float32."""
    return torch.tensor(part.labels, dtype=torch.float32)


def epoch_batches(tokens: Tokens, recipe: Recipe, epoch: int) -> Iterator[ReviewNumbers]:
    """Give one epoch's batches of review numbers."""
    return training_batches(
        tokens.lengths, batch_size=recipe.batch_size, seed=recipe.seed, epoch=epoch
    )


def batch_loss(logits: Tensor, labels: Tensor) -> BatchOutcome:
    """Return the mean loss of a batch, and how many are correct: (B,) logits, (B,) classes."""
    return BatchOutcome(
        loss=F.binary_cross_entropy_with_logits(logits, labels),
        num_correct=((logits.detach() > 0) == labels.bool()).sum(),
        num_examples=len(labels),
    )


def batch_outcome(source: StateSource, numbers: ReviewNumbers, labels: Tensor) -> BatchOutcome:
    """Return the outcome of a batch of training reviews (B,), run a few reviews at a time.

    The gradient of a batch's mean loss is the sum of its parts': all parts but the last are
    differentiated here, and their activations freed, before the next one runs.
    """
    *first, last = source.parts_of(numbers)
    loss, num_correct = torch.zeros(2, device=labels.device)
    for part in first:
        outcome = batch_loss(source.logits(numbers[part]), labels[part])
        share = outcome.num_examples / len(numbers)
        num_correct = num_correct + outcome.num_correct
        with torch.autocast(labels.device.type, enabled=False):
            (outcome.loss * share).backward()
        loss = loss + outcome.loss.detach() * share
    outcome = batch_loss(source.logits(numbers[last]), labels[last])
    return BatchOutcome(
        loss=loss + outcome.loss * (outcome.num_examples / len(numbers)),
        num_correct=num_correct + outcome.num_correct,
        num_examples=len(numbers),
    )

"""Training a classifier: one job, whose states come from a frozen encoder or a trained one.

:class:`FrozenEncoder` runs once over all reviews and trains a head on what it kept;
:class:`FinetunedEncoder` runs in every step and is trained with its head. Both are a
:class:`StateSource`, and :func:`train_classifier` trains either.

Shapes: B reviews, N reviews of a part, T tokens, L layers, D width.
"""

import copy
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hwcli.data.cache import cache_folder
from hwcli.errors import ConfigError
from hwcli.output import terminal
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment import logistic
from hwcli.sentiment.classifier import (
    BestEpoch,
    assemble,
    make_head,
    mean_of,
    predict_logits,
    reader_of,
)
from hwcli.sentiment.features import Features, cached_features, manifest
from hwcli.sentiment.heads import FrozenPooledHead
from hwcli.sentiment.prepare import SentimentData
from hwcli.sentiment.recipe import Recipe
from hwcli.sentiment.reviews import Reviews
from hwcli.sentiment.tokens import Tokens, sorted_batches, training_batches
from hwcli.training.loop import NonFiniteLossError, TrainingJob, train
from hwcli.training.metrics import Mean
from hwcli.training.optimizers import make_optimizers
from hwcli.training.progress import Epoch, Progress
from hwcli.training.step import BatchOutcome, autocast

SECONDS_BETWEEN_CHECKPOINTS = 60.0
SECONDS_BETWEEN_LINES = 15.0
REVIEWS_PER_EVALUATION_BATCH = 256
# Tokens whose activations are in memory at once while an encoder is fine-tuned: what decides the
# peak. Products of so many rows are as fast as those of more.
TOKENS_AT_ONCE = 4096
TOKENS_AT_ONCE_ON_GPU = 65_536

PartName = Literal["train", "valid", "test"]
PARTS: Mapping[PartName, str] = {"train": "training", "valid": "validation", "test": "test"}
Rows = NDArray[np.int64]


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
        warmup_fraction: share of all steps over which the rate rises.
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

    def batch_outcome(self, rows: Rows, labels: Tensor) -> BatchOutcome:
        """Run the model on training reviews (B,) with their labels, in the step's precision."""

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
    source: StateSource
    if recipe.finetune:
        source = FinetunedEncoder(recipe, data, folder)
    else:
        source = FrozenEncoder(recipe, data)
        if isinstance(source.model, FrozenPooledHead):
            return source.solve(source.model)
    labels = labels_of(data.split.train).to(data.device)
    valid_labels = labels_of(data.split.valid)
    best = BestEpoch(folder / "best.safetensors")

    def evaluate(model: nn.Module) -> Mean:
        valid = mean_of(source.predict("valid"), valid_labels)
        best.save_if_best(model, valid)
        return valid

    job = TrainingJob(
        model=source.model,
        optimizers=source.optimizers,
        batches=functools.partial(epoch_batches, data.train, recipe),
        batch_loss=lambda _, rows: source.batch_outcome(rows, labels[rows]),
        evaluate=evaluate,
        num_epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch(recipe, len(data.train)),
        warmup_fraction=source.warmup_fraction,
        precision=source.step_precision,
        device=data.device,
    )
    reporter = EpochPrinter(recipe, len(data.train))
    checkpoint = folder / "checkpoint.safetensors"
    try:
        history = train(job, checkpoint, reporter, SECONDS_BETWEEN_CHECKPOINTS)
    except NonFiniteLossError as error:
        raise ConfigError(f"{error}; take a lower optimizer.learning_rate") from None
    if recipe.keep == "best":
        best.restore(source.model)
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


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def labels_of(part: Reviews) -> Tensor:
    """Return the classes of reviews as (N,) float32."""
    return torch.tensor(part.labels, dtype=torch.float32)


def steps_per_epoch(recipe: Recipe, num_reviews: int) -> int:
    """Return the batches of one epoch."""
    return -(-num_reviews // recipe.batch_size)


def epoch_batches(tokens: Tokens, recipe: Recipe, epoch: int) -> Iterator[Rows]:
    """Give one epoch's batches of review numbers."""
    return training_batches(
        tokens.lengths, batch_size=recipe.batch_size, seed=recipe.seed, epoch=epoch
    )


def batch_loss(logits: Tensor, labels: Tensor) -> BatchOutcome:
    """Return the mean loss and the hits of a batch: (B,) logits, (B,) classes."""
    return BatchOutcome(
        loss=F.binary_cross_entropy_with_logits(logits, labels),
        num_correct=((logits.detach() > 0) == labels.bool()).sum(),
        num_examples=len(labels),
    )


# --------------------------------------------------------------------------------------
# The frozen encoder


class FrozenEncoder:
    """A head on the states of an encoder that ran once over all reviews."""

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]

    def __init__(self, recipe: Recipe, data: SentimentData):
        self._recipe, self._data = recipe, data
        self._encoder = encoders.load_encoder(
            data.encoder_folder, num_layers=recipe.num_encoder_layers
        ).requires_grad_(False)
        torch.manual_seed(recipe.seed)
        self.model = make_head(recipe.head, self._encoder, finetuned=False).to(data.device)
        trainable = count_parameters(self.model)
        self.num_params = count_parameters(self._encoder) + trainable
        terminal.log(
            f"{self.num_params:,} parameters; {trainable:,} trainable after freezing the encoder"
        )
        features = encode(recipe, data, self._encoder)
        self.encode_s = sum(part.encode_s for part in features.values())
        self._parts = {
            name: FeaturePart(part, self._pool(part), data.device)
            for name, part in features.items()
        }
        if isinstance(self.model, FrozenPooledHead):
            pooled = self._parts["train"].pooled
            assert pooled is not None
            self.model.standardize_by(pooled)
        self.optimizers = make_optimizers(self.model, recipe.optimizer)
        self.warmup_fraction = recipe.optimizer.warmup_fraction
        self.step_precision = data.precision if recipe.head.kind == "gru" else torch.float32

    def _pool(self, features: Features) -> Tensor | None:
        """Pooled states are small and kept in memory: (N, L + 1, D)."""
        gru = self._recipe.head.kind == "gru"
        return None if gru else features.whole().to(self._data.device)

    def batch_outcome(self, rows: Rows, labels: Tensor) -> BatchOutcome:
        """Run the head on kept states."""
        return batch_loss(self._parts["train"].forward_rows(self.model, rows), labels)

    def solve(self, head: FrozenPooledHead) -> TrainingResult:
        """Train a pooled head by logistic regression, which takes no steps and no epochs."""
        train, valid = self._parts["train"].pooled, self._parts["valid"].pooled
        assert train is not None
        assert valid is not None
        split = self._data.split
        started = time.perf_counter()
        strength, trained, validated = logistic.solve(
            head, train, labels_of(split.train), valid, labels_of(split.valid)
        )
        seconds = time.perf_counter() - started
        terminal.log(
            f"logistic regression: C = {strength:g}, training accuracy {trained.accuracy:.2%}, "
            f"validation accuracy {validated.accuracy:.2%}; {seconds:.1f} s"
        )
        epoch = Epoch(
            epoch=0,
            train_loss=trained.loss,
            train_accuracy=trained.accuracy,
            valid_loss=validated.loss,
            valid_accuracy=validated.accuracy,
            train_s=seconds,
            examples_per_s=len(split.train) / seconds,
        )
        return TrainingResult(
            model=self.classifier().eval(),
            history=[epoch],
            test_logits=self.predict("test"),
            num_params=self.num_params,
            num_trainable_params=count_parameters(head),
            encode_s=self.encode_s,
            train_s=seconds,
        )

    def predict(self, part: PartName) -> Tensor:
        """Run the head on a whole part: (N,)."""
        return self._parts[part].predict(self.model, self._data.precision).cpu()

    def classifier(self) -> nn.Module:
        """Return encoder and head together."""
        encoder = self._encoder.to(self._data.device)
        return assemble(encoder, self.model, self._recipe.head, finetuned=False)


@dataclass(frozen=True)
class FeaturePart:
    """One part's kept states.

    Attributes:
        features: on disk.
        pooled: (N, L + 1, D) in memory, None where the head reads every token.
        device: where the head runs.
    """

    features: Features
    pooled: Tensor | None
    device: torch.device

    def forward_rows(self, head: nn.Module, rows: Rows) -> Tensor:
        """Run a head on some reviews: (B,) logits."""
        logits: Tensor
        if self.pooled is not None:
            logits = head(self.pooled[rows])
        else:
            states, lengths = self.features.pad(rows)
            logits = head(states.to(self.device).float(), lengths.to(self.device))
        return logits.float()

    @torch.inference_mode()
    def predict(self, head: nn.Module, precision: torch.dtype) -> Tensor:
        """Return a head's logits (N,) for all reviews, in their order."""
        head.eval()
        logits = torch.zeros(len(self.features), device=self.device)
        if self.pooled is not None:
            for rows in torch.arange(len(logits), device=self.device).split(4096):
                logits[rows] = head(self.pooled[rows]).float()
            return logits
        tokens_per_batch = REVIEWS_PER_EVALUATION_BATCH * int(self.features.counts.max())
        for batch in sorted_batches(self.features.counts, tokens_per_batch):
            with autocast(self.device, precision):
                rows = torch.from_numpy(batch).to(self.device)
                logits[rows] = self.forward_rows(head, batch)
        return logits


def encode(recipe: Recipe, data: SentimentData, encoder: nn.Module) -> dict[PartName, Features]:
    """Return the features of the three parts, from the cache or into it."""
    # A copy: the encoder that is saved and predicts afterwards keeps its weights unrounded.
    for kind in dict.fromkeys((torch.float32, data.precision)):
        lowered = copy.deepcopy(encoder).to(data.device, kind)
        encoders.self_test(
            encoders.pooled_reader(lowered),
            lowered,
            data.tokenizer,
            name=data.encoder_name,
            precision=kind,
            max_length=recipe.text.max_length,
        )
    encoder = lowered
    features: dict[PartName, Features] = {}
    for name, shown in PARTS.items():
        tokens: Tokens = getattr(data, name)
        description = manifest(
            tokens,
            kind="tokens" if recipe.head.kind == "gru" else recipe.head.kind,
            encoder_digest=data.encoder_digest,
            num_layers=recipe.num_encoder_layers,
            precision=data.precision_name,
        )
        features[name] = cached_features(
            cache_folder() / "features",
            tokens,
            encoder,
            description,
            device=data.device,
            report=ProgressPrinter(f"encoding the {shown} reviews"),
        )
    return features


# --------------------------------------------------------------------------------------
# The fine-tuned encoder


class FinetunedEncoder:
    """An encoder that is trained together with its head."""

    encode_s: float = 0.0
    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]

    def __init__(self, recipe: Recipe, data: SentimentData, folder: Path):
        self._data, self._folder = data, folder
        on_cpu = data.device.type == "cpu"
        self._tokens_at_once = TOKENS_AT_ONCE if on_cpu else TOKENS_AT_ONCE_ON_GPU
        dropout = recipe.encoder_dropout
        torch.manual_seed(recipe.seed)
        if recipe.is_plain:
            encoder = encoders.load_classifier(data.encoder_folder, dropout=dropout, new_head=True)
            head = None
            own = [encoder.get_submodule("classifier")]
        else:
            encoder = encoders.load_encoder(
                data.encoder_folder, num_layers=recipe.num_encoder_layers, dropout=dropout
            )
            head = make_head(recipe.head, encoder, finetuned=True)
            own = [head]
        self.model = assemble(encoder, head, recipe.head, finetuned=True).to(data.device)
        encoders.self_test(
            reader_of(self.model.eval()),
            encoder,
            data.tokenizer,
            name=data.encoder_name,
            precision=data.precision,
            max_length=recipe.text.max_length,
        )
        self.num_params = count_parameters(self.model)
        terminal.log(f"{self.num_params:,} parameters, all of them trainable")
        self.optimizers = [
            *make_optimizers(_ParametersExcept(self.model, own), recipe.encoder_optimizer),
            *make_optimizers(nn.ModuleList(own), recipe.optimizer),
        ]
        self.warmup_fraction = recipe.encoder_optimizer.warmup_fraction
        self.step_precision = data.precision

    def batch_outcome(self, rows: Rows, labels: Tensor) -> BatchOutcome:
        """Run encoder and head on tokens, a few reviews at a time.

        The gradient of a batch's mean loss is the sum of its parts': all parts but the last are
        differentiated here, and their activations freed, before the next one runs.
        """
        losses, hits = torch.zeros(2, device=labels.device)
        parts = self._parts_of(rows)
        for index, part in enumerate(parts):
            outcome = batch_loss(self._logits(rows[part]), labels[part])
            share = outcome.num_examples / len(rows)
            hits = hits + outcome.num_correct
            if index == len(parts) - 1:
                losses = losses + outcome.loss * share
            else:
                with torch.autocast(labels.device.type, enabled=False):
                    (outcome.loss * share).backward()
                losses = losses + outcome.loss.detach() * share
        return BatchOutcome(loss=losses, num_correct=hits, num_examples=len(rows))

    def _parts_of(self, rows: Rows) -> list[slice]:
        longest = int(self._data.train.lengths[rows].max())
        size = max(1, self._tokens_at_once // longest)
        return [slice(start, start + size) for start in range(0, len(rows), size)]

    def _logits(self, rows: Rows) -> Tensor:
        ids, lengths = self._data.train.pad(rows)
        logits: Tensor = self.model(ids.to(self._data.device), lengths.to(self._data.device))
        return logits.float()

    def predict(self, part: PartName) -> Tensor:
        """Run encoder and head on a whole part: (N,)."""
        tokens: Tokens = getattr(self._data, part)
        long = part == "test"  # the longest pass of all: resumed after a stop
        return predict_logits(
            self.model,
            tokens,
            device=self._data.device,
            precision=self._data.precision,
            resume_file=self._folder / "test.safetensors" if long else None,
            on_progress=ProgressPrinter("reading the test reviews") if long else None,
        )

    def classifier(self) -> nn.Module:
        """Return encoder and head together."""
        return self.model


class _ParametersExcept(nn.Module):
    """A model's parameters without those of some modules, as a module of its own."""

    def __init__(self, model: nn.Module, left_out: Sequence[nn.Module]):
        super().__init__()
        ids = {id(p) for module in left_out for p in module.parameters()}
        self.kept = nn.ParameterList(p for p in model.parameters() if id(p) not in ids)


# --------------------------------------------------------------------------------------
# Progress


class ProgressPrinter:
    """Prints how far a long pass over reviews is, every few seconds."""

    def __init__(self, what: str):
        self.what = what
        self.started = self.printed = time.perf_counter()
        self.num_before: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Take note of progress."""
        now = time.perf_counter()
        if self.num_before is None:
            # A resumed pass did not do its first part just now.
            self.num_before, self.started = done, now
        elif now - self.printed > SECONDS_BETWEEN_LINES or done == total:
            self.printed = now
            rate = (done - self.num_before) / (now - self.started)
            terminal.log(f"{self.what}: {done:,} of {total:,} ({rate:.0f}/s)")


class EpochPrinter:
    """Prints what the training loop reports."""

    def __init__(self, recipe: Recipe, num_reviews: int):
        self.epochs = recipe.epochs
        self.steps = steps_per_epoch(recipe, num_reviews)
        self.printed = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        """Take note of what the loop reports."""
        now = time.perf_counter()
        done = progress.finished
        if progress.note is not None:
            terminal.log(progress.note)
        elif done is not None:
            self.printed = now
            terminal.log(
                f"epoch {done.epoch + 1} of {self.epochs}: loss {done.train_loss:.4f}, accuracy "
                f"{done.train_accuracy:.2%}; validation loss {done.valid_loss:.4f}, "
                f"accuracy {done.valid_accuracy:.2%}; {done.train_s / 60:.1f} min"
            )
        elif now - self.printed > SECONDS_BETWEEN_LINES:
            self.printed = now
            left = (progress.num_steps - progress.step) / self.steps
            terminal.log(
                f"epoch {progress.epoch + 1} of {self.epochs}: "
                f"step {progress.step - progress.epoch * self.steps} of {self.steps}, "
                f"loss {progress.loss:.4f}, {progress.examples_per_s:.0f} reviews/s, "
                f"{left:.2f} epochs left"
            )

"""A head on the states of a frozen encoder, which runs once over all reviews.

Shapes: B reviews, N reviews of a part, T tokens, L layers, D width.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwcli.data.cache import cache_folder
from hwcli.output import terminal
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment import logistic
from hwcli.sentiment.classifier import assemble, count_parameters, make_head
from hwcli.sentiment.features import Features, cached_features, manifest, refuse_full_disk
from hwcli.sentiment.finetuned import tokens_at_once
from hwcli.sentiment.heads import FrozenPooledHead
from hwcli.sentiment.prepare import PARTS, PartName, SentimentData
from hwcli.sentiment.progress import ProgressPrinter
from hwcli.sentiment.recipe import Recipe
from hwcli.sentiment.self_test import pooled_reader, refuse_another_function, self_test
from hwcli.sentiment.tokens import ReviewNumbers, Tokens, sorted_batches
from hwcli.training.optimizers import make_optimizers
from hwcli.training.progress import Epoch
from hwcli.training.step import autocast

REVIEWS_PER_EVALUATION_BATCH = 256


class FrozenEncoder:
    """A head on the states of an encoder that ran once over all reviews."""

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]

    def __init__(self, recipe: Recipe, data: SentimentData):
        self._recipe, self._data = recipe, data
        self._encoder = encoders.load_encoder(
            data.encoder_folder,
            num_layers=recipe.num_encoder_layers,
            attention=encoders.attention_for(data.device, data.precision),
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

    def parts_of(self, numbers: ReviewNumbers) -> list[slice]:
        """Take a batch whole: a head's activations are small.

        Only Apple's GPU takes a few reviews at a time, for a head that reads every token: of too
        many tokens its gradients may be wrong.
        """
        train = self._parts["train"]
        if train.pooled is not None or self._data.device.type != "mps":
            return [slice(None)]
        longest = int(train.features.counts[numbers].max())
        size = max(1, tokens_at_once(self._data.device) // longest)
        return [slice(start, start + size) for start in range(0, len(numbers), size)]

    def logits(self, numbers: ReviewNumbers) -> Tensor:
        """Run the head on kept states."""
        return self._parts["train"].logits(self.model, numbers)

    def solve(self, labels: Tensor, valid_labels: Tensor) -> Epoch:
        """Train a pooled head by logistic regression, which takes no steps and no epochs."""
        head, train, valid = self.model, self._parts["train"].pooled, self._parts["valid"].pooled
        assert isinstance(head, FrozenPooledHead)
        assert train is not None
        assert valid is not None
        started = time.perf_counter()
        strength, trained, validated = logistic.solve(head, train, labels, valid, valid_labels)
        seconds = time.perf_counter() - started
        terminal.log(
            f"logistic regression: C = {strength:g}, training accuracy {trained.accuracy:.2%}, "
            f"validation accuracy {validated.accuracy:.2%}; {seconds:.1f} s"
        )
        return Epoch(
            epoch=0,
            train_loss=trained.loss,
            train_accuracy=trained.accuracy,
            valid_loss=validated.loss,
            valid_accuracy=validated.accuracy,
            train_s=seconds,
            examples_per_s=len(labels) / seconds,
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

    def logits(self, head: nn.Module, numbers: ReviewNumbers) -> Tensor:
        """Run a head on some reviews: (B,)."""
        logits: Tensor
        if self.pooled is not None:
            logits = head(self.pooled[numbers])
        else:
            states, lengths = self.features.pad(numbers)
            logits = head(states.to(self.device).float(), lengths.to(self.device))
        return logits.float()

    @torch.inference_mode()
    def predict(self, head: nn.Module, precision: torch.dtype) -> Tensor:
        """Return a head's logits (N,) for all reviews, in their order."""
        head.eval()
        logits = torch.zeros(len(self.features), device=self.device)
        if self.pooled is not None:
            for some in torch.arange(len(logits), device=self.device).split(4096):
                logits[some] = head(self.pooled[some]).float()
            return logits
        tokens_per_batch = REVIEWS_PER_EVALUATION_BATCH * int(self.features.counts.max())
        for numbers in sorted_batches(self.features.counts, tokens_per_batch):
            with autocast(self.device, precision):
                places = torch.from_numpy(numbers).to(self.device)
                logits[places] = self.logits(head, numbers)
        return logits


def encode(recipe: Recipe, data: SentimentData, encoder: nn.Module) -> dict[PartName, Features]:
    """Return the features of the three parts, from the cache or into it."""
    reader = checked_copy(encoder, recipe, data)
    tokens: dict[PartName, Tokens] = {name: getattr(data, name) for name in PARTS}
    descriptions = {
        name: manifest(
            part,
            kind="tokens" if recipe.head.kind == "gru" else recipe.head.kind,
            encoder_digest=data.encoder_digest,
            num_layers=recipe.num_encoder_layers,
            precision=data.precision_name,
            has_float_buffers=any(b.is_floating_point() for b in reader.buffers()),
            device=data.device.type,
            attention=encoders.attention_for(data.device, data.precision),
        )
        for name, part in tokens.items()
    }
    folder = cache_folder() / "features"
    refuse_full_disk(folder, [(tokens[name], descriptions[name]) for name in PARTS], reader)
    return {
        name: cached_features(
            folder,
            tokens[name],
            reader,
            descriptions[name],
            device=data.device,
            report=ProgressPrinter(f"encoding the {shown} reviews"),
        )
        for name, shown in PARTS.items()
    }


def checked_copy(encoder: nn.Module, recipe: Recipe, data: SentimentData) -> nn.Module:
    """Return a copy of the encoder with weights in the run's precision, after its self-test.

    The encoder that is saved keeps its own weights, unrounded.

    Raises:
        SourceError: it reads a text differently in a padded batch, or in the run's precision.
    """
    precisions = list(dict.fromkeys((torch.float32, data.precision)))
    copies = [encoders.with_weights_in(encoder, each).to(data.device) for each in precisions]
    readings = [
        self_test(
            pooled_reader(copy),
            copy,
            data.tokenizer,
            name=data.encoder_name,
            precision=precision,
            max_length=recipe.text.max_length,
        )
        for copy, precision in zip(copies, precisions, strict=True)
    ]
    refuse_another_function(readings[-1], readings[0], data.encoder_name, data.precision)
    return copies[-1]

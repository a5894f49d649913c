"""How long a training would take and how much memory it needs, from a few timed batches."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hwcli.data.cache import cache_folder
from hwcli.output.units import duration, size
from hwcli.paths import nearest_folder
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.classifier import assemble, count_parameters, make_head
from hwcli.sentiment.finetuned import (
    layer_bytes_per_token,
    load_encoder_and_head,
    tokens_at_once,
    tokens_at_once_of,
)
from hwcli.sentiment.prepare import SentimentData
from hwcli.sentiment.recipe import Recipe
from hwcli.sentiment.tokens import TOKENS_PER_BATCH, Tokens
from hwcli.sentiment.training import batch_loss
from hwcli.training.step import autocast

# Backward costs about twice the forward pass.
FORWARD_AND_BACKWARD = 3
REVIEWS_TIMED = 16
# Bags of words over 17,500 reviews take about half a minute each on one core.
BASELINE_S_PER_REVIEW = 2e-3
FIT_S_PER_NUMBER = 1e-6
# PyTorch, transformers, reviews and tokens, before the first model is loaded.
PROGRAM_BYTES = 900 * 2**20
# A parameter, its gradient and Adam's two averages, in float32.
TRAINED_BYTES_PER_PARAMETER = 16
# A frozen encoder is copied twice, to compare what it reads in both precisions.
COPIED_BYTES_PER_PARAMETER = 8
# What a CPU keeps besides while an encoder is fine-tuned: oneDNN's compiled matrix products with
# their buffers, and freed memory (tests/benchmarks/LOG.md: 3.9 GB at the peak of strong).
KEPT_BYTES = 1500 * 10**6
# Bags of words, per character of training and test reviews: 2.6 GB in all for IMDB's 49,000
# (tests/benchmarks/LOG.md).
BASELINE_BYTES_PER_CHARACTER = 25


@dataclass(frozen=True)
class Costs:
    """What a training would take.

    Attributes:
        num_params, num_trainable_params: of encoder and head.
        encode_s: of running a frozen encoder over all parts.
        train_s: of training and validating in every epoch.
        test_s: of predicting the test reviews.
        baselines_s: of the bags of words.
        disk_bytes: of the states that are kept of a frozen encoder.
        free_bytes: on that disk.
        memory_bytes: at the peak, roughly.
    """

    num_params: int
    num_trainable_params: int
    encode_s: float
    train_s: float
    test_s: float
    baselines_s: float
    disk_bytes: int
    free_bytes: int
    memory_bytes: int

    @property
    def seconds(self) -> float:
        """Of everything, if nothing is cached."""
        return self.encode_s + self.train_s + self.test_s + self.baselines_s

    def facts(self) -> dict[str, str]:
        """Return the estimate in words."""
        facts = {
            "parameters": f"{self.num_params:,}",
            "trainable parameters": f"{self.num_trainable_params:,}",
            "time of encoding, if nothing is cached": duration(self.encode_s),
            "time of training and validation": duration(self.train_s),
            "time of testing": duration(self.test_s),
            "time of the bags of words": duration(self.baselines_s),
        }
        if self.disk_bytes:
            facts["disk for the encoder's states"] = (
                f"{size(self.disk_bytes)}; {size(self.free_bytes)} are free"
            )
        return facts


def estimate(recipe: Recipe, data: SentimentData, *, baselines: bool) -> Costs:
    """Time a few batches and scale them up.

    Raises:
        SourceError: the encoder cannot be used.
    """
    if recipe.finetune:
        encoder, head = load_encoder_and_head(recipe, data)
        model = assemble(encoder, head, recipe.head, finetuned=True).to(data.device)
        num_params = trainable = count_parameters(model)
        encode_s, train_s, test_s = _time_finetuned(recipe, data, encoder, model)
        disk_bytes = 0
    else:
        encoder = encoders.load_encoder(
            data.encoder_folder,
            num_layers=recipe.num_encoder_layers,
            attention=encoders.attention_for(data.device, data.precision),
        ).to(data.device)
        head = make_head(recipe.head, encoder, finetuned=False).to(data.device)
        trainable = count_parameters(head)
        num_params = count_parameters(encoder) + trainable
        encode_s, train_s, test_s = _time_frozen(recipe, data, encoder, head)
        disk_bytes = _states_bytes(recipe, data, encoder)
    return Costs(
        num_params=num_params,
        num_trainable_params=trainable,
        encode_s=encode_s,
        train_s=train_s,
        test_s=test_s,
        baselines_s=2 * BASELINE_S_PER_REVIEW * len(data.train) if baselines else 0.0,
        disk_bytes=disk_bytes,
        free_bytes=shutil.disk_usage(nearest_folder(cache_folder())).free,
        memory_bytes=peak_bytes(
            recipe, data, encoder, num_params=num_params, trainable=trainable, baselines=baselines
        ),
    )


def _time_finetuned(
    recipe: Recipe, data: SentimentData, encoder: nn.Module, model: nn.Module
) -> tuple[float, float, float]:
    """Return the seconds of encoding (none), of training and of testing an encoder and its head."""
    at_once = tokens_at_once_of(encoder, count_parameters(model), data)
    number = _num_timed(recipe, data, at_once)
    step = _time_per_token(model, data, number, train=True)
    read = _time_per_token(model, data, number, train=False)
    train, valid, test = _num_tokens(data)
    return 0.0, recipe.epochs * (train * step + valid * read), test * read


def _time_frozen(
    recipe: Recipe, data: SentimentData, encoder: nn.Module, head: nn.Module
) -> tuple[float, float, float]:
    """Return the seconds of encoding all parts, of training the head and of testing it."""
    train, valid, test = _num_tokens(data)
    read = _time_per_token(_States(encoder), data, REVIEWS_TIMED, train=False)
    encode_s = (train + valid + test) * read
    if recipe.is_solved:
        # A fit takes some hundred passes over the states.
        return encode_s, FIT_S_PER_NUMBER * len(data.train) * count_parameters(head), 0.0
    number = _num_timed(recipe, data, tokens_at_once(data.device))
    step = _time_head_per_token(head, data, number, width=encoders.width(encoder))
    passes = train + valid / FORWARD_AND_BACKWARD
    return encode_s, recipe.epochs * passes * step, test * step / FORWARD_AND_BACKWARD


def _states_bytes(recipe: Recipe, data: SentimentData, encoder: nn.Module) -> int:
    """Return the bytes of a frozen encoder's states, which are kept in float16."""
    if recipe.head.kind == "gru":
        num_states = sum(_num_tokens(data))
    else:
        num_layers = int(encoder.config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
        num_states = (num_layers + 1) * (len(data.train) + len(data.valid) + len(data.test))
    return 2 * num_states * encoders.width(encoder)


def _num_tokens(data: SentimentData) -> tuple[int, int, int]:
    """Count the tokens of the training, validation and test reviews."""
    return len(data.train.ids), len(data.valid.ids), len(data.test.ids)


def peak_bytes(
    recipe: Recipe,
    data: SentimentData,
    encoder: nn.Module,
    *,
    num_params: int,
    trainable: int,
    baselines: bool,
) -> int:
    """Forecast the memory at the peak: while training, or of the bags of words after it.

    Args:
        recipe: of the training.
        data: its reviews, device and precision.
        encoder: on its device.
        num_params: of encoder and head.
        trainable: of these, how many are trained.
        baselines: whether bags of words are trained.
    """
    kept = PROGRAM_BYTES + 4 * num_params
    trained = kept + TRAINED_BYTES_PER_PARAMETER * trainable
    peak = trained + _training_bytes(recipe, data, encoder, num_params)
    if baselines:
        texts = [*data.split.train.texts, *data.split.test.texts]
        peak = max(peak, kept + BASELINE_BYTES_PER_CHARACTER * sum(map(len, texts)))
    return peak


def _training_bytes(
    recipe: Recipe, data: SentimentData, encoder: nn.Module, num_params: int
) -> int:
    """Bound what encoding and training need beside the model and its optimiser, in bytes."""
    config = encoder.config
    parts = (data.train, data.valid, data.test)
    longest = int(data.train.lengths.max())
    width = encoders.width(encoder)
    layers = int(config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
    # Where nothing is trained, a layer's activations are freed before the next one's are made.
    longest_read = max(int(part.lengths.max()) for part in parts)
    reading = TOKENS_PER_BATCH * layer_bytes_per_token(config, longest_read, data.precision)
    if recipe.finetune:
        at_once = max(tokens_at_once_of(encoder, num_params, data), longest)
        tokens = min(at_once, recipe.batch_size * longest)
        activations = tokens * layers * layer_bytes_per_token(config, longest, data.precision)
        return activations + reading + (KEPT_BYTES if data.device.type == "cpu" else 0)
    encoding = COPIED_BYTES_PER_PARAMETER * num_params + reading
    if recipe.head.kind == "gru":
        # Per token and layer: inputs, gates and states of both directions, in float32.
        hidden = recipe.head.hidden
        per_token = 4 * (3 * width + recipe.head.layers * 2 * (3 + 4 + 2 + 3) * hidden)
        return max(encoding, recipe.batch_size * longest * per_token)
    # The states of every layer and part in float32, and in float64 those that are fitted.
    fitted = layers + 1 if recipe.head.all_layers else 1
    states = 4 * (layers + 1) * sum(map(len, parts)) + 16 * fitted * len(data.train)
    return encoding + states * width


class _States(nn.Module):
    """An encoder that returns one number per review, so that nothing is left out of the time."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Read reviews: (B, T), (B,) -> (B,)."""
        return encoders.states(self.encoder, ids, lengths).float().sum(dim=(1, 2))


def _num_timed(recipe: Recipe, data: SentimentData, at_once: int) -> int:
    """Return how many reviews are timed together.

    A CPU takes as long for a review in any batch. A GPU does not: it gets the training's batch,
    or as many reviews of it as have ``at_once`` tokens.
    """
    if data.device.type == "cpu":
        return REVIEWS_TIMED
    return min(recipe.batch_size, max(1, at_once // int(data.train.lengths.max())))


def _time_per_token(model: nn.Module, data: SentimentData, number: int, *, train: bool) -> float:
    """Return seconds per token of some reviews of the middle length and above."""
    tokens: Tokens = data.train
    chosen = np.argsort(tokens.lengths)[len(tokens) // 2 :][:number]
    ids, lengths = tokens.pad(chosen)
    ids, lengths = ids.to(data.device), lengths.to(data.device)
    labels = torch.zeros(len(chosen), device=data.device)

    def work() -> float:
        with autocast(data.device, data.precision), torch.set_grad_enabled(train):
            outcome = batch_loss(model(ids, lengths).float(), labels)
        if train:
            outcome.loss.backward()
            model.zero_grad()
        return outcome.loss.item()  # waits for a GPU

    model.train(train)
    return _seconds(work) / int(lengths.sum())


def _time_head_per_token(head: nn.Module, data: SentimentData, number: int, *, width: int) -> float:
    """Return seconds per token of one training step of the GRU on so many reviews."""
    longest = int(np.median(data.train.lengths))
    states = torch.randn(number, longest, width, device=data.device)
    lengths = torch.full((number,), longest, device=data.device)
    labels = torch.zeros(number, device=data.device)

    def work() -> float:
        with autocast(data.device, data.precision):
            outcome = batch_loss(head(states, lengths).float(), labels)
        outcome.loss.backward()
        head.zero_grad()
        return outcome.loss.item()

    head.train()
    return _seconds(work) / (number * longest)


def _seconds(work: Callable[[], float]) -> float:
    """Return the seconds of the second call: the first one loads and allocates."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started

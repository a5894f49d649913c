"""Question 4: is a film review positive? A pretrained transformer, and what is trained on top.

A frozen encoder's states go through the homework's bidirectional GRU, or are pooled into one
linear layer; or the encoder itself is fine-tuned. Bags of words are judged on the same reviews.
A part of the training reviews is set aside for validation; the test reviews are read once, after
training. From top to bottom: the config, the data, the training, what it shows.
"""

import copy
import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from hwcli import runtime
from hwcli.config import RunConfig, Section
from hwcli.data import catalogue
from hwcli.data.cache import cache_folder
from hwcli.errors import ConfigError
from hwcli.output import plots, terminal
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.baselines import BASELINES
from hwcli.sentiment.classifier import (
    KeepBest,
    Prediction,
    TextClassifier,
    assemble,
    confusion,
    is_plain,
    judge_tokens,
    make_head,
    mean_of,
    save_classifier,
)
from hwcli.sentiment.features import Features, cached_features, manifest
from hwcli.sentiment.heads import FrozenPooledHead, HeadConfig
from hwcli.sentiment.predict import predictions_table, shorten
from hwcli.sentiment.reviews import LABELS, Reviews, Split, SplitConfig, load
from hwcli.sentiment.tokens import TextConfig, Tokens, sorted_batches, tokenize, training_batches
from hwcli.sweep.store import TrialFolder, TrialStore
from hwcli.sweep.trial import Trial
from hwcli.training.loop import Epoch, NonFiniteLossError, Work, train
from hwcli.training.metrics import Mean, standard_error
from hwcli.training.optimizers import OptimizerConfig, make_optimizers
from hwcli.training.step import BatchOutcome, autocast

COMMAND = "sentiment-train"

# Raised whenever the same config would give other numbers: what another version left half-done is
# not gone on with.
RECIPE_VERSION = 1

SECONDS_BETWEEN_CHECKPOINTS = 60.0
SECONDS_BETWEEN_LINES = 15.0
REVIEWS_PER_EVALUATION_BATCH = 256
MISTAKES_SHOWN = 5

HOMEWORK_SENTENCES = ("Justice League is terrible. I hated it.", "Avengers was great!!")

# What classifiers of feeling trip over; the label is what a reader would say, None: neither.
PROBES: tuple[tuple[str, str, str | None], ...] = (
    ("negation", "This is not a good film.", "negative"),
    ("negation", "There is nothing bad about it, not one weak scene.", "positive"),
    ("negation", "I can't say that I didn't enjoy it.", "positive"),
    ("neutral", "The film runs for ninety minutes and is set in Oslo.", None),
    ("mixed", "The acting is superb, yet the story bored me to tears.", "negative"),
    ("mixed", "It starts slowly and looks cheap, but I loved every minute of it.", "positive"),
    ("short", "Superb.", "positive"),
    ("short", "Awful.", "negative"),
    ("short", "", None),
)


# --------------------------------------------------------------------------------------
# Config


class Recipe(Section):
    """All that decides the numbers of a run."""

    seed: int = Field(0, ge=0)
    epochs: int = Field(2, ge=1, le=10_000)
    batch_size: int = Field(128, ge=1)
    keep: Literal["best", "last"] = "best"
    finetune: bool = False
    num_encoder_layers: int | None = Field(None, ge=1)
    encoder_dropout: float = Field(0.1, ge=0, lt=1)
    text: TextConfig = TextConfig()
    head: HeadConfig = HeadConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    encoder_optimizer: OptimizerConfig = OptimizerConfig()
    split: SplitConfig = SplitConfig()


class Config(RunConfig, Recipe):
    """A run: the reviews, the encoder, the recipe, and what it is asked to judge."""

    data: str | None = None
    encoder: str = catalogue.MINILM.name
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    baselines: bool = True
    texts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        if self.head.all_layers and (self.finetune or self.head.kind == "gru"):
            raise ValueError(
                "head.all_layers = True: only a pooled head (head.kind = mean or cls) on a frozen "
                "encoder sees all layers"
            )
        if is_plain(self.head, finetuned=self.finetune) and self.num_encoder_layers is not None:
            raise ValueError(
                f"num_encoder_layers = {self.num_encoder_layers}: a fine-tuned cls head keeps "
                "every layer, so that transformers' own classes can load it"
            )
        for name in ("optimizer", "encoder_optimizer"):
            if getattr(self, name).kind != "adamw":
                raise ValueError(f"{name}.kind = 'muon': only adamw trains here")
        return self


class Identity(Recipe):
    """What a half-trained model belongs to, everything resolved."""

    device: str
    precision: str


# --------------------------------------------------------------------------------------
# Data


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before the first weight moves."""

    split: Split
    tokenizer: Any
    encoder_folder: Path
    encoder_name: str
    train: Tokens
    valid: Tokens
    test: Tokens
    device: torch.device
    precision: torch.dtype


def prepare(config: Config) -> Prepared:
    """Find reviews and encoder, split and tokenise.

    Raises:
        SourceError: either cannot be had, or is damaged.
        ConfigError: the device is not on this machine.
    """
    device = runtime.resolve_device(config.device)
    wanted = config.precision
    if wanted == "auto":
        wanted = "bfloat16" if runtime.has_fast_bf16(device) else "float32"
    located = catalogue.find("imdb", config.data)
    encoder = catalogue.find_encoder(config.encoder)
    terminal.log(
        f"{COMMAND} {config.name}: reviews {located.name} ({located.origin}), "
        f"encoder {encoder.name} ({encoder.origin})"
    )
    longest = encoders.max_positions(encoder.path)
    if config.text.max_length > longest:
        raise ConfigError(
            f"text.max_length = {config.text.max_length}: {encoder.name} reads at most "
            f"{longest} tokens"
        )
    tokenizer = encoders.load_tokenizer(encoder.path)
    split = load(located, config.split)
    terminal.log(
        f"{len(split.train):,} training, {len(split.valid):,} validation and "
        f"{len(split.test):,} test reviews ({split.test_name}); "
        f"{split.num_in_both} test texts stand among the others too"
    )
    parts = (split.train, split.valid, split.test)
    train_tokens, valid, test = (tokenize(part.texts, tokenizer, config.text) for part in parts)
    return Prepared(
        split=split,
        tokenizer=tokenizer,
        encoder_folder=encoder.path,
        encoder_name=encoder.name,
        train=train_tokens,
        valid=valid,
        test=test,
        device=device,
        precision=getattr(torch, wanted),
    )


def num_steps(config: Config, num_reviews: int) -> int:
    """Return the batches of one epoch."""
    return -(-num_reviews // config.batch_size)


def identify(config: Config, prepared: Prepared) -> Trial:
    """Name the training by everything that decides its numbers."""
    split = prepared.split
    recipe = {name: getattr(config, name) for name in Recipe.model_fields}
    identity = Identity(device=prepared.device.type, precision=_name(prepared.precision), **recipe)
    facts = {
        "command": COMMAND,
        "recipe": RECIPE_VERSION,
        "encoder": encoders.checkpoint_digest(prepared.encoder_folder),
        "data": [split.train.digest, split.valid.digest, split.test.digest],
    }
    return Trial(identity, {"seed": config.seed}, facts, cost=1.0)


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")


# --------------------------------------------------------------------------------------
# Training


@dataclass(frozen=True)
class Trained:
    """A trained classifier, and what it says of the test reviews.

    Attributes:
        model: encoder and head, in eval mode and float32.
        history: one entry for each epoch.
        test_logits: (N,) of the test reviews.
        num_params: of encoder and head.
        num_trainable_params: of what was trained.
        encode_s: seconds of running the frozen encoder, whenever that was.
        train_s: seconds of training.
    """

    model: nn.Module
    history: Sequence[Epoch]
    test_logits: Tensor
    num_params: int
    num_trainable_params: int
    encode_s: float
    train_s: float


def count(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def labels_of(part: Reviews) -> Tensor:
    """Return the classes of reviews as (N,) float32."""
    return torch.tensor(part.labels, dtype=torch.float32)


def train_on_frozen(config: Config, prepared: Prepared, folder: TrialFolder) -> Trained:
    """Run the frozen encoder once over all reviews, then train the head on what it said."""
    device, precision = prepared.device, prepared.precision
    encoder = encoders.load_encoder(
        prepared.encoder_folder, num_layers=config.num_encoder_layers
    ).requires_grad_(False)
    torch.manual_seed(config.seed)
    head = make_head(config.head, encoder, finetuned=False).to(device)
    terminal.log(
        f"{count(encoder) + count(head):,} parameters, {count(head):,} of them trainable once "
        "the encoder is frozen"
    )
    features = encode(config, prepared, encoder)
    parts = [
        make_part(config, known, part, device)
        for known, part in zip(
            features, (prepared.split.train, prepared.split.valid, prepared.split.test), strict=True
        )
    ]
    training, valid, test = parts
    if isinstance(head, FrozenPooledHead):
        assert training.pooled is not None
        head.standardize_by(training.pooled)

    best = KeepBest(folder.path / "best.safetensors")
    history = train(
        Work(
            model=head,
            optimizers=make_optimizers(head, config.optimizer),
            batches=functools.partial(draw, prepared.train, config),
            judge=lambda model, rows: judge(training.judge(model, rows), training.labels[rows]),
            evaluate=lambda model: offer(
                best, model, mean_of(evaluate(model, valid, device, precision), valid.labels)
            ),
            num_epochs=config.epochs,
            steps_per_epoch=num_steps(config, len(prepared.train)),
            warmup_fraction=config.optimizer.warmup_fraction,
            precision=precision if config.head.kind == "gru" else torch.float32,
            device=device,
        ),
        folder.checkpoint,
        Reporter(config, prepared),
        SECONDS_BETWEEN_CHECKPOINTS,
    )
    if config.keep == "best":
        best.restore(head)
    logits = evaluate(head, test, device, precision)
    model = assemble(encoder.to(device), head, config.head, finetuned=False)
    return Trained(
        model=model.eval(),
        history=history,
        test_logits=logits,
        num_params=count(encoder) + count(head),
        num_trainable_params=count(head),
        encode_s=sum(known.encode_s for known in features),
        train_s=sum(epoch.train_s for epoch in history),
    )


def encode(config: Config, prepared: Prepared, encoder: nn.Module) -> list[Features]:
    """Return the features of the three parts, from the cache or into it."""
    # A copy: what is saved and predicts afterwards keeps its weights unrounded.
    encoder = copy.deepcopy(encoder).to(prepared.device, prepared.precision)
    digest = encoders.checkpoint_digest(prepared.encoder_folder)
    kind = "tokens" if config.head.kind == "gru" else config.head.kind
    features = []
    for name, tokens in (
        ("training", prepared.train),
        ("validation", prepared.valid),
        ("test", prepared.test),
    ):
        description = manifest(
            tokens,
            kind=kind,
            encoder_digest=digest,
            num_layers=config.num_encoder_layers,
            precision=_name(prepared.precision),
        )
        known = cached_features(
            cache_folder() / "features",
            tokens,
            encoder,
            description,
            device=prepared.device,
            report=Ticker(f"encoding the {name} reviews"),
        )
        features.append(known)
    return features


@dataclass(frozen=True)
class Part:
    """One part's features and labels; pooled states are small and kept in memory."""

    features: Features
    pooled: Tensor | None
    labels: Tensor
    device: torch.device

    def judge(self, head: nn.Module, rows: NDArray[np.int64]) -> Tensor:
        """Run a head on some reviews: (B,) logits."""
        logits: Tensor
        if self.pooled is not None:
            logits = head(self.pooled[rows])
        else:
            states, lengths = self.features.pad(rows)
            logits = head(states.to(self.device).float(), lengths.to(self.device))
        return logits.float()


def make_part(config: Config, features: Features, part: Reviews, device: torch.device) -> Part:
    """Join features and labels on the device."""
    pooled = None if config.head.kind == "gru" else features.whole().to(device)
    return Part(features, pooled, labels_of(part).to(device), device)


def draw(tokens: Tokens, config: Config, epoch: int) -> Iterator[NDArray[np.int64]]:
    """Give one epoch's batches of review numbers."""
    return training_batches(
        tokens.lengths, batch_size=config.batch_size, seed=config.seed, epoch=epoch
    )


def judge(logits: Tensor, labels: Tensor) -> BatchOutcome:
    """Compare logits (B,) with classes (B,)."""
    return BatchOutcome(
        loss=F.binary_cross_entropy_with_logits(logits, labels),
        num_correct=((logits.detach() > 0) == labels.bool()).sum(),
        num_examples=len(labels),
    )


@torch.inference_mode()
def evaluate(head: nn.Module, part: Part, device: torch.device, precision: torch.dtype) -> Tensor:
    """Return the head's logits of a whole part, in the part's order, on the part's device."""
    head.eval()
    logits = torch.zeros(len(part.labels), device=device)
    if part.pooled is not None:
        for rows in torch.arange(len(part.labels), device=device).split(4096):
            logits[rows] = head(part.pooled[rows]).float()
        return logits
    tokens_per_batch = REVIEWS_PER_EVALUATION_BATCH * int(part.features.counts.max())
    for batch in sorted_batches(part.features.counts, tokens_per_batch):
        with autocast(device, precision):
            logits[torch.from_numpy(batch).to(device)] = part.judge(head, batch)
    return logits


def offer(best: KeepBest, model: nn.Module, valid: Mean) -> Mean:
    """Keep a model that is the best so far, and pass its figures on."""
    best.offer(model, valid)
    return valid


def finetune(config: Config, prepared: Prepared, folder: TrialFolder) -> Trained:
    """Train the encoder together with its head."""
    device, precision = prepared.device, prepared.precision
    torch.manual_seed(config.seed)
    if is_plain(config.head, finetuned=True):
        encoder = encoders.load_classifier(prepared.encoder_folder, dropout=config.encoder_dropout)
        head = None
        own = [encoder.get_submodule("classifier")]
    else:
        encoder = encoders.load_encoder(
            prepared.encoder_folder,
            num_layers=config.num_encoder_layers,
            dropout=config.encoder_dropout,
        )
        head = make_head(config.head, encoder, finetuned=True)
        own = [head]
    model = assemble(encoder, head, config.head, finetuned=True).to(device)
    terminal.log(f"{count(model):,} parameters, all of them trainable")
    labels, valid_labels = labels_of(prepared.split.train), labels_of(prepared.split.valid)

    def judge_rows(model: nn.Module, rows: NDArray[np.int64]) -> BatchOutcome:
        ids, lengths = prepared.train.pad(rows)
        logits = model(ids.to(device), lengths.to(device)).float()
        return judge(logits, labels[rows].to(device))

    judge_part = functools.partial(judge_tokens, device=device, precision=precision)
    best = KeepBest(folder.path / "best.safetensors")
    history = train(
        Work(
            model=model,
            optimizers=[
                *make_optimizers(_Without(model, own), config.encoder_optimizer),
                *make_optimizers(nn.ModuleList(own), config.optimizer),
            ],
            batches=functools.partial(draw, prepared.train, config),
            judge=judge_rows,
            evaluate=lambda model: offer(
                best, model, mean_of(judge_part(model, prepared.valid), valid_labels)
            ),
            num_epochs=config.epochs,
            steps_per_epoch=num_steps(config, len(prepared.train)),
            warmup_fraction=config.encoder_optimizer.warmup_fraction,
            precision=precision,
            device=device,
        ),
        folder.checkpoint,
        Reporter(config, prepared),
        SECONDS_BETWEEN_CHECKPOINTS,
    )
    if config.keep == "best":
        best.restore(model)
    logits = judge_part(
        model.eval(),
        prepared.test,
        keep=folder.path / "test.safetensors",
        report=Ticker("judging the test reviews"),
    )
    return Trained(
        model=model,
        history=history,
        test_logits=logits,
        num_params=count(model),
        num_trainable_params=count(model),
        encode_s=0.0,
        train_s=sum(epoch.train_s for epoch in history),
    )


class _Without(nn.Module):
    """A model's parameters but for those of some modules, as a module of its own."""

    def __init__(self, model: nn.Module, left_out: Sequence[nn.Module]):
        super().__init__()
        ids = {id(p) for module in left_out for p in module.parameters()}
        self.kept = nn.ParameterList(p for p in model.parameters() if id(p) not in ids)


class Ticker:
    """Says how far a long pass over reviews is, now and then."""

    def __init__(self, what: str):
        self.what = what
        self.started = self.said = time.perf_counter()
        self.num_before: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Take note of progress."""
        now = time.perf_counter()
        if self.num_before is None:
            # A pass that goes on from where another was stopped is not that fast.
            self.num_before, self.started = done, now
        elif now - self.said > SECONDS_BETWEEN_LINES or done == total:
            self.said = now
            rate = (done - self.num_before) / (now - self.started)
            terminal.log(f"{self.what}: {done:,} of {total:,} ({rate:.0f}/s)")


class Reporter:
    """Says how the training goes."""

    def __init__(self, config: Config, prepared: Prepared):
        self.epochs = config.epochs
        self.steps = num_steps(config, len(prepared.train))
        self.said = time.perf_counter()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take note of what the training loop tells."""
        epoch = f"epoch {event['epoch'] + 1} of {self.epochs}"
        now = time.perf_counter()
        if "valid_loss" in event:
            self.said = now
            terminal.log(
                f"{epoch}: loss {event['train_loss']:.4f}, accuracy "
                f"{event['train_accuracy']:.2%}; validation {event['valid_loss']:.4f}, "
                f"{event['valid_accuracy']:.2%}; {event['train_s'] / 60:.1f} min"
            )
        elif now - self.said > SECONDS_BETWEEN_LINES:
            self.said = now
            left = (self.epochs * self.steps - event["step"]) / self.steps
            terminal.log(
                f"{epoch}: step {event['step'] - event['epoch'] * self.steps} of {self.steps}, "
                f"loss {event['loss']:.4f}, {event['examples_per_s']:.0f} reviews/s, "
                f"{left:.2f} epochs left"
            )


# --------------------------------------------------------------------------------------
# The run


def run(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Train one classifier and show what it came to."""
    started = time.perf_counter()
    folder.check_writable()
    prepared = prepare(config)
    split = prepared.split
    environment = runtime.fingerprint(device=prepared.device.type, dtype=_name(prepared.precision))
    trial = identify(config, prepared)
    work = TrialStore(folder.trials_path).folder(trial)
    work.prepare(trial)
    folder.claim(config, environment)
    with work.lock:
        way = finetune if config.finetune else train_on_frozen
        try:
            trained = way(config, prepared, work)
        except NonFiniteLossError as error:
            raise ConfigError(f"{error}; take a lower optimizer.learning_rate") from None
        (work.path / "test.safetensors").unlink(missing_ok=True)
    for epoch in trained.history:
        folder.log(**asdict(epoch))
    save_classifier(
        folder.path / "model",
        trained.model,
        prepared.tokenizer,
        head=config.head,
        text=config.text,
        finetuned=config.finetune,
    )
    classifier = TextClassifier(trained.model, prepared.tokenizer, config.text, prepared.device)
    predictions = classifier.predict([*HOMEWORK_SENTENCES, *config.texts])
    probes = classifier.predict([text for _, text, _ in PROBES])

    labels = torch.tensor(split.test.labels)
    logits = trained.test_logits.cpu()
    test = mean_of(logits, labels)
    hits = {config.name: ((logits > 0) == labels.bool()).numpy()}
    for name, baseline in BASELINES.items() if config.baselines else ():
        terminal.log(f"{name}: training on the same {len(split.train):,} reviews")
        hits[name] = baseline(split.train, split.test) == labels.numpy()

    tables = [
        facts_table(config, prepared, trained),
        epochs_table(trained.history),
        models_table(config, prepared, test, hits),
        predictions_table(predictions),
        probes_table(probes),
        confusion_table(logits > 0, labels, split.test_name),
        mistakes_table(split.test, logits),
    ]
    folder.write("table.csv", tables[2].to_csv())
    folder.write("table.md", "\n".join(table.to_markdown() for table in tables))
    folder.write("table.tex", "\n".join(table.to_latex() for table in tables[:6]))
    folder.save_figure("calibration", draw_calibration(logits.sigmoid(), labels))
    folder.save_figure("length", draw_lengths(split.test, hits))
    if len(trained.history) > 1:
        folder.save_figure("curves", draw_curves(trained.history))
    for table in tables:
        terminal.show(table)
    return {
        "status": "complete",
        "dataset": split.dataset,
        "test_name": split.test_name,
        "official_test": split.official_test,
        "encoder": prepared.encoder_name,
        "split_sizes": {
            "train": len(split.train),
            "valid": len(split.valid),
            "test": len(split.test),
        },
        "num_test_texts_in_train": split.num_in_both,
        "vocab_size": len(prepared.tokenizer),
        "num_params": trained.num_params,
        "num_trainable_params": trained.num_trainable_params,
        "epochs": [
            {
                "epoch": epoch.epoch + 1,
                "train_loss": epoch.train_loss,
                "train_accuracy": epoch.train_accuracy,
                "valid_loss": epoch.valid_loss,
                "valid_accuracy": epoch.valid_accuracy,
                "minutes": epoch.train_s / 60,
            }
            for epoch in trained.history
        ],
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "test_accuracy_se": standard_error(test.accuracy, test.num_examples),
        "baselines": {name: float(h.mean()) for name, h in hits.items() if name in BASELINES},
        "predictions": [asdict(prediction) for prediction in predictions],
        "probes": [asdict(prediction) for prediction in probes],
        "confusion": confusion(logits > 0, labels),
        "encode_s": trained.encode_s,
        "train_s": trained.train_s,
        "total_s": time.perf_counter() - started,
        "precision": _name(prepared.precision),
        "recipe_version": RECIPE_VERSION,
    }


def plan(config: Config, folder: RunFolder) -> None:
    """Show what would be trained on what, with an estimate from a few timed batches."""
    prepared = prepare(config)
    encoder = encoders.load_encoder(prepared.encoder_folder, num_layers=config.num_encoder_layers)
    head = make_head(config.head, encoder, finetuned=config.finetune)
    num_reviews = [len(prepared.train), len(prepared.valid), len(prepared.test)]
    seconds = _time_encoder(prepared, encoder)
    # Backward costs about twice the forward pass.
    passes = num_reviews[0] * 3 * config.epochs if config.finetune else num_reviews[0]
    rows = [
        {"what": "test reviews", "value": prepared.split.test_name},
        {"what": "training, validation, test", "value": " / ".join(f"{n:,}" for n in num_reviews)},
        {"what": "parameters", "value": f"{count(encoder) + count(head):,}"},
        {
            "what": "trainable",
            "value": f"{count(head) + (count(encoder) if config.finetune else 0):,}",
        },
        {"what": "epochs", "value": f"{config.epochs}"},
        {
            "what": "time in the encoder, if nothing is cached",
            "value": f"about {(passes + sum(num_reviews[1:])) * seconds / 60:.1f} min",
        },
    ]
    columns = [Column("what", "what"), Column("value", "value")]
    notes = ["Nothing was trained or written."]
    terminal.show(Table(f"{COMMAND} {config.name}", columns, rows, notes))


def _time_encoder(prepared: Prepared, encoder: nn.Module) -> float:
    """Return the seconds one review takes the encoder, from reviews of the middle length."""
    encoder.to(prepared.device, prepared.precision)
    rows = np.argsort(prepared.train.lengths)[len(prepared.train) // 2 :][:32]
    ids, lengths = prepared.train.pad(rows)
    with torch.inference_mode():
        for _ in range(2):
            started = time.perf_counter()
            states = encoders.states(encoder, ids.to(prepared.device), lengths.to(prepared.device))
            states.sum().item()  # waits for a GPU
    return (time.perf_counter() - started) / len(rows)


# --------------------------------------------------------------------------------------
# What it shows


def facts_table(config: Config, prepared: Prepared, trained: Trained) -> Table:
    """Return the blanks of the homework's notebook, by name."""
    split = prepared.split
    facts = {
        "reviews": split.dataset,
        "encoder": prepared.encoder_name,
        "vocabulary size": f"{len(prepared.tokenizer):,}",
        "training reviews": f"{len(split.train):,}",
        "validation reviews": f"{len(split.valid):,}",
        "test reviews": f"{len(split.test):,} ({split.test_name})",
        "test texts that stand in training or validation too": f"{split.num_in_both:,}",
        "parameters": f"{trained.num_params:,}",
        "trainable before freezing": f"{trained.num_params:,}",
        "trainable": f"{trained.num_trainable_params:,}"
        + ("" if config.finetune else " (encoder frozen)"),
        "encoding": f"{trained.encode_s / 60:.1f} min",
        "training": f"{trained.train_s / 60:.1f} min",
    }
    return Table(
        title="Sentiment of film reviews: what is trained on what",
        columns=[Column("what", "what"), Column("value", "value")],
        rows=[{"what": name, "value": value} for name, value in facts.items()],
    )


def epochs_table(history: Sequence[Epoch]) -> Table:
    """Return loss and accuracy of every epoch."""
    percent = "{:.2%}"
    return Table(
        title="Epochs",
        columns=[
            Column("epoch", "epoch"),
            Column("train_loss", "training loss", "{:.4f}"),
            Column("train_accuracy", "training accuracy", percent),
            Column("valid_loss", "validation loss", "{:.4f}"),
            Column("valid_accuracy", "validation accuracy", percent),
            Column("minutes", "minutes", "{:.2f}"),
        ],
        rows=[{**asdict(e), "epoch": e.epoch + 1, "minutes": e.train_s / 60} for e in history],
    )


def models_table(
    config: Config, prepared: Prepared, test: Mean, hits: dict[str, NDArray[np.bool_]]
) -> Table:
    """Return the test accuracy of the classifier and of the bags of words beside it."""
    way = "fine-tuned" if config.finetune else "frozen"
    ours = hits[config.name]
    rows = []
    for name, right in hits.items():
        own = name == config.name
        shown = f"{prepared.encoder_name}, {way}, {config.head.kind} head" if own else name
        accuracy = float(right.mean())
        gain = ours.astype(int) - right.astype(int)
        rows.append(
            {
                "model": shown,
                "test_accuracy": accuracy,
                "test_accuracy_se": standard_error(accuracy, len(right)),
                "test_loss": test.loss if own else None,
                "num_test": len(right),
                "gain": None if own else float(gain.mean()),
                "gain_se": None if own else float(gain.std() / math.sqrt(len(gain))),
            }
        )
    return Table(
        title=f"Test accuracy on {prepared.split.test_name}",
        columns=[
            Column("model", "model"),
            Column("test_accuracy", "accuracy", "{:.2%}"),
            Column("test_accuracy_se", "standard error", "{:.2%}"),
            Column("test_loss", "loss", "{:.4f}"),
            Column("num_test", "n", "{:,}"),
            Column("gain", "ours minus this", "{:+.2%}"),
            Column("gain_se", "its standard error", "{:.2%}"),
        ],
        rows=rows,
        notes=[
            f"All trained on the same {len(prepared.split.train):,} reviews; differences are "
            "paired, over the same test reviews. Below two standard errors: not told apart."
        ],
    )


def probes_table(predictions: Sequence[Prediction]) -> Table:
    """Return the fixed probes with what a reader would say."""
    return Table(
        title="Probes",
        columns=[
            Column("kind", "kind"),
            Column("text", "text", shorten),
            Column("expected", "a reader says"),
            Column("label", "label"),
            Column("probability_positive", "probability of positive", "{:.4f}"),
        ],
        rows=[
            {"kind": kind, "expected": expected or "neither", **asdict(prediction)}
            for (kind, _, expected), prediction in zip(PROBES, predictions, strict=True)
        ],
    )


def confusion_table(predicted: Tensor, labels: Tensor, test_name: str) -> Table:
    """Return how many reviews of each label were called what."""
    counts = confusion(predicted, labels)
    return Table(
        title=f"Confusion on {test_name}",
        columns=[
            Column("label", "label"),
            *(Column(name, f"called {name}", "{:,}") for name in LABELS),
        ],
        rows=[
            {"label": label, **dict(zip(LABELS, line, strict=True))}
            for label, line in zip(LABELS, counts, strict=True)
        ],
    )


def mistakes_table(test: Reviews, logits: Tensor) -> Table:
    """Return the mistakes the classifier was surest of."""
    labels = torch.tensor(test.labels).bool()
    wrong = ((logits > 0) != labels).nonzero()[:, 0]
    surest = wrong[logits[wrong].abs().argsort(descending=True)[:MISTAKES_SHOWN]].tolist()
    return Table(
        title="The most confident mistakes",
        columns=[
            Column("label", "label"),
            Column("probability", "probability of positive", "{:.4f}"),
            Column("text", "text", shorten),
        ],
        rows=[
            {
                "label": LABELS[test.labels[row]],
                "probability": logits[row].sigmoid().item(),
                "text": test.texts[row],
            }
            for row in surest
        ],
    )


def draw_calibration(probabilities: Tensor, labels: Tensor) -> Figure:
    """Draw the share of positive reviews over the probability they were given, in tenths."""
    figure, (axes,) = plots.figure(width=4.2, height=4.0)
    tenth = (probabilities * 10).long().clamp(max=9)
    points = []
    for bin_ in range(10):
        chosen = tenth == bin_
        if chosen.any():
            share = labels[chosen].float().mean().item()
            n = int(chosen.sum())
            points.append((probabilities[chosen].mean().item(), share, standard_error(share, n), n))
    x, y, error, sizes = zip(*points, strict=True)
    expected = sum(n * abs(a - b) for a, b, _, n in points) / sum(sizes)
    axes.plot([0, 1], [0, 1], color=plots.COLOURS[7], linewidth=1, label="perfect")
    axes.errorbar(x, y, yerr=error, color=plots.COLOURS[0], marker="o", label="classifier")
    axes.set(
        xlabel="probability of positive",
        ylabel="share that is positive",
        title=f"Calibration (expected error {expected:.3f})",
    )
    axes.legend()
    return figure


def draw_lengths(test: Reviews, hits: dict[str, NDArray[np.bool_]]) -> Figure:
    """Draw accuracy by review length, in fifths of the reviews."""
    figure, (axes,) = plots.figure(width=5.6, height=3.6)
    words = np.array([len(text.split()) for text in test.texts])
    fifths = [part for part in np.array_split(np.argsort(words, kind="stable"), 5) if len(part)]
    for colour, (name, right) in zip(plots.COLOURS, hits.items(), strict=False):
        accuracy = [float(right[part].mean()) for part in fifths]
        axes.errorbar(
            [float(words[part].mean()) for part in fifths],
            [100 * a for a in accuracy],
            yerr=[100 * standard_error(a, len(p)) for a, p in zip(accuracy, fifths, strict=True)],
            color=colour,
            marker="o",
            label=name,
        )
    axes.set(xlabel="words", ylabel="test accuracy, %", title="Accuracy by review length")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.legend()
    return figure


def draw_curves(history: Sequence[Epoch]) -> Figure:
    """Draw loss and accuracy over epochs."""
    figure, (losses, accuracies) = plots.figure(columns=2, width=6.4, height=3.0)
    epochs = [epoch.epoch + 1 for epoch in history]
    for colour, part in zip(plots.COLOURS, ("train", "valid"), strict=False):
        name = "training" if part == "train" else "validation"
        loss = [getattr(epoch, f"{part}_loss") for epoch in history]
        accuracy = [100 * getattr(epoch, f"{part}_accuracy") for epoch in history]
        losses.plot(epochs, loss, color=colour, marker=".", label=name)
        accuracies.plot(epochs, accuracy, color=colour, marker=".", label=name)
    losses.set(xlabel="epoch", title="Loss, nats")
    accuracies.set(xlabel="epoch", title="Accuracy, %")
    accuracies.legend()
    return figure

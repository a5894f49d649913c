"""What a training starts from: reviews, encoder, tokens, device and precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hwcli import runtime
from hwcli.data import catalogue
from hwcli.errors import ConfigError
from hwcli.output import terminal
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.columns import DataConfig
from hwcli.sentiment.recipe import Recipe
from hwcli.sentiment.split import Split, load
from hwcli.sentiment.tokens import MANY_UNKNOWN_IN_TRAINING, Tokens, tokenize

Precision = Literal["auto", "float32", "bfloat16"]
PartName = Literal["train", "valid", "test"]
PARTS: Mapping[PartName, str] = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class SentimentData:
    """What a training starts from.

    Attributes:
        split: the reviews.
        tokenizer: of the encoder.
        encoder_folder: the checkpoint.
        encoder_name: what tables call it.
        encoder_digest: of weights, config and tokenizer.
        train, valid, test: the tokens of each part.
        device: where models live.
        precision: the type that matrix products run in.
    """

    split: Split
    tokenizer: Any
    encoder_folder: Path
    encoder_name: str
    encoder_digest: str
    train: Tokens
    valid: Tokens
    test: Tokens
    device: torch.device
    precision: torch.dtype

    @property
    def precision_name(self) -> str:
        """``float32`` or ``bfloat16``."""
        return str(self.precision).removeprefix("torch.")


def prepare(
    data: DataConfig, encoder: str, recipe: Recipe, device_name: str, precision: Precision
) -> SentimentData:
    """Find reviews and encoder, split and tokenise.

    Raises:
        SourceError: one of them is missing or cannot be used.
        ConfigError: the device is not on this machine, or the encoder reads fewer tokens.
    """
    device = runtime.resolve_device(device_name)
    if precision == "auto":
        precision = "bfloat16" if runtime.has_fast_bf16(device) else "float32"
    located = catalogue.find("imdb", data.source)
    found = catalogue.find_encoder(encoder)
    terminal.log(
        f"reviews {located.name} ({located.origin}), encoder {found.name} ({found.origin})"
    )
    longest = encoders.max_positions(found.path)
    if recipe.text.max_length > longest:
        raise ConfigError(
            f"text.max_length = {recipe.text.max_length}: {found.name} reads at most "
            f"{longest} tokens"
        )
    tokenizer = encoders.load_tokenizer(found.path)
    split = load(located, recipe.split, data, terminal.log)
    terminal.log(
        f"{len(split.train):,} training, {len(split.valid):,} validation and "
        f"{len(split.test):,} test reviews ({split.test_name}); "
        f"{split.num_in_both} test texts also occur in training or validation, "
        f"{split.num_valid_in_train} validation texts in training"
    )
    train, valid, test = (
        tokenize(part.texts, tokenizer, recipe.text)
        for part in (split.train, split.valid, split.test)
    )
    if train.unknown_share > MANY_UNKNOWN_IN_TRAINING:
        terminal.log(
            f"warning: {train.unknown_share:.0%} of the tokens are unknown to {found.name}; are "
            "the reviews in its language?"
        )
    return SentimentData(
        split=split,
        tokenizer=tokenizer,
        encoder_folder=found.path,
        encoder_name=found.name,
        encoder_digest=encoders.checkpoint_digest(found.path),
        train=train,
        valid=valid,
        test=test,
        device=device,
        precision=getattr(torch, precision),
    )

"""Encoder and head as one classifier: judged on texts, saved to a folder, loaded from it.

A folder holds ``hw2.json`` (what the classifier is made of), ``encoder/`` (a checkpoint of
transformers, tokenizer included), ``head.safetensors`` and ``known_texts.npy`` (digests of
the texts that it was trained or validated on). A plain fine-tuned classifier is a
checkpoint of transformers with ``hw2.json`` next to it, which their own classes can load.

Shapes: B reviews, T tokens, L layers, D width.
"""

import hashlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_model, save, save_model
from torch import Tensor, nn

from hwcli.config import Section
from hwcli.errors import OutputError, SourceError, first_line, reason_of
from hwcli.output.files import read_json, write_atomic, write_json
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.columns import LabelNames
from hwcli.sentiment.heads import FrozenPooledHead, GRUHead, HeadConfig, PooledHead
from hwcli.sentiment.reviews import LABELS, clean
from hwcli.sentiment.self_test import pooled_reader, self_test
from hwcli.sentiment.summary import Label, Prediction
from hwcli.sentiment.tokens import (
    TOKENS_PER_BATCH,
    TextConfig,
    Tokens,
    sorted_batches,
    tokenize,
    valid_tokens,
)
from hwcli.training.metrics import Mean
from hwcli.training.step import autocast

FORMAT = "hw2 sentiment 2"
SECONDS_BETWEEN_MARKS = 60.0


class StatesClassifier(nn.Module):
    """A head on the encoder's last token states."""

    def __init__(self, encoder: nn.Module, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Judge reviews: (B, T), (B,) -> (B,) logits of being positive."""
        logits: Tensor = self.head(encoders.states(self.encoder, ids, lengths), lengths)
        return logits


class LayersClassifier(nn.Module):
    """A head on the pooled states of all layers of a frozen encoder."""

    def __init__(self, encoder: nn.Module, head: nn.Module, how: encoders.Pooling):
        super().__init__()
        self.encoder, self.head, self.how = encoder, head, how

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Judge reviews: (B, T), (B,) -> (B,) logits of being positive."""
        pooled = encoders.pooled_layers(self.encoder, ids, lengths, self.how)  # (B, L + 1, D)
        logits: Tensor = self.head(pooled.float())
        return logits


class PlainClassifier(nn.Module):
    """Transformers' own classifier of two classes, seen as one logit."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encoder = model

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Judge reviews: (B, T), (B,) -> (B,) logits of being positive.

        The softmax over two logits is the logistic function of their difference.
        """
        both = self.logits(ids, lengths)
        return both[:, 1] - both[:, 0]

    def logits(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return both classes' logits: (B, T), (B,) -> (B, 2)."""
        mask = valid_tokens(lengths, ids.shape[1]).long()
        both: Tensor = self.encoder(input_ids=ids, attention_mask=mask).logits
        return both


def make_head(config: HeadConfig, encoder: nn.Module, *, finetuned: bool) -> nn.Module:
    """Make a head for an encoder; its weights are drawn from torch's generator."""
    width = encoders.width(encoder)
    if config.kind == "gru":
        return GRUHead(width, config)
    if finetuned:
        return PooledHead(width, config)
    num_layers = int(encoder.config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
    return FrozenPooledHead(width, num_layers + 1, config)


def assemble(
    encoder: nn.Module, head: nn.Module | None, config: HeadConfig, *, finetuned: bool
) -> nn.Module:
    """Put encoder and head together; without a head the encoder is a whole classifier."""
    if head is None:
        return PlainClassifier(encoder)
    if config.kind == "gru" or finetuned:
        return StatesClassifier(encoder, head)
    return LayersClassifier(encoder, head, "cls" if config.kind == "cls" else "mean")


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


# --------------------------------------------------------------------------------------
# Predicting many reviews


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    tokens: Tokens,
    *,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    resume_file: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the logits (N,) of reviews, in float32 on the CPU.

    Args:
        model: a classifier, in eval mode, on the device.
        tokens: of the reviews.
        device: where the model lives.
        precision: the type that products run in.
        resume_file: holds the logits of an earlier process, finished or stopped, which count if
            they are of the same weights; the caller removes it.
        on_progress: gets reviews done and reviews in all after every batch.
    """
    logits = torch.zeros(len(tokens))
    batches = sorted_batches(tokens.lengths, TOKENS_PER_BATCH)
    weights = weights_digest(model) if resume_file else ""
    done = _restore_logits(resume_file, logits, weights)
    marked = time.perf_counter()
    for index, numbers in enumerate(batches[done:], done):
        ids, lengths = tokens.pad(numbers)
        with autocast(device, precision):
            batch = model(ids.to(device), lengths.to(device))
        logits[torch.from_numpy(numbers)] = batch.float().cpu()
        is_due = time.perf_counter() - marked > SECONDS_BETWEEN_MARKS or index == len(batches) - 1
        if resume_file and is_due:
            marked = time.perf_counter()
            position = {"batches": str(index + 1), "weights": weights}
            write_atomic(resume_file, save({"logits": logits}, position))
        if on_progress:
            on_progress(int(sum(map(len, batches[: index + 1]))), len(tokens))
    return logits


def weights_digest(model: nn.Module) -> str:
    """Return the digest of a model's weights and buffers, whatever its device."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _restore_logits(path: Path | None, logits: Tensor, weights: str) -> int:
    """Take over what the same weights judged earlier, and return its number of batches."""
    from safetensors import safe_open

    if path is None:
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            position = file.metadata()
            if position["weights"] != weights:
                return 0
            logits.copy_(file.get_tensor("logits"))
            return int(position["batches"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        return 0


def mean_of(logits: Tensor, labels: Tensor) -> Mean:
    """Return loss and accuracy over reviews: (N,), (N,) of 0 and 1."""
    loss = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
    num_correct = ((logits > 0) == labels.bool()).sum()
    return Mean(loss.item(), int(num_correct.item()), len(labels))


# --------------------------------------------------------------------------------------
# Folders


@dataclass(frozen=True)
class TextClassifier:
    """A classifier with all it takes to judge texts."""

    model: nn.Module
    tokenizer: Any
    text: TextConfig
    device: torch.device

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Turn texts into the tokens that the model reads."""
        return tokenize(texts, self.tokenizer, self.text)

    def predict(
        self,
        texts: Sequence[str],
        tokens: Tokens | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Prediction]:
        """Judge texts in float32, in their order.

        Args:
            texts: as in the file.
            tokens: of the texts, from :meth:`tokenize`; None: they are made here.
            on_progress: gets texts done and texts in all after every batch.
        """
        if not texts:
            return []
        if tokens is None:
            tokens = self.tokenize(texts)
        logits = predict_logits(self.model, tokens, device=self.device, on_progress=on_progress)
        probabilities = logits.sigmoid()
        return [
            Prediction(text=text, label=LABELS[int(p > 0.5)], probability_positive=p)
            for text, p in zip(texts, probabilities.tolist(), strict=True)
        ]


def save_classifier(
    folder: Path,
    model: nn.Module,
    tokenizer: Any,
    *,
    head: HeadConfig,
    text: TextConfig,
    finetuned: bool,
    encoder_name: str,
    card: str = "",
    trained_on: Sequence[str] = (),
    label_names: LabelNames | None = None,
) -> None:
    """Write a classifier to a folder; ``hw2.json`` comes last, so that a torn one is refused.

    Of the texts that it was trained or validated on, digests are kept: see :func:`known_texts`.

    Raises:
        OutputError: a file cannot be written.
    """
    plain = head.is_plain(finetuned=finetuned)
    checkpoint = folder if plain else folder / "encoder"
    # What transformers' own pipeline cuts a text to, when it is asked to cut.
    tokenizer.model_max_length = text.max_length
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hw2.json").unlink(missing_ok=True)
        model.encoder.save_pretrained(checkpoint)  # type: ignore[union-attr,operator]
        tokenizer.save_pretrained(checkpoint)
        if not plain:
            save_model(model.head, str(folder / "head.safetensors"))  # type: ignore[arg-type]
    except Exception as error:
        # What tokenizers raises where a disk is full is no kind of exception, but Exception itself.
        if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
            raise
        raise OutputError(
            f"{folder}: the model cannot be saved ({reason_of(error)}); its training is "
            "kept: solve that and run the command again"
        ) from None
    write_atomic(folder / "README.md", card)
    buffer = io.BytesIO()
    np.save(buffer, np.unique([text_digest(text) for text in trained_on]).astype(np.int64))
    write_atomic(folder / KNOWN_TEXTS, buffer.getvalue())
    facts = ClassifierFacts(
        format=FORMAT,
        labels=LABELS,
        finetuned=finetuned,
        head=head,
        text=text,
        encoder=encoder_name,
        encoder_digest=encoders.checkpoint_digest(checkpoint),
        head_digest=None if plain else _digest(folder / "head.safetensors"),
        label_names=label_names,
    )
    write_json(folder / "hw2.json", facts.model_dump(mode="json"))


KNOWN_TEXTS = "known_texts.npy"


def text_digest(text: str) -> int:
    """Return 63 bits of a text's SHA-256, spaces at its ends and HTML's line breaks aside."""
    digest = hashlib.sha256(clean(text).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def known_texts(folder: Path, texts: Sequence[str]) -> list[bool]:
    """Tell which texts a saved classifier was trained or validated on; none if it does not say.

    Its accuracy on these may be too high.
    """
    try:
        digests = set(np.load(folder / KNOWN_TEXTS, allow_pickle=False).tolist())
    except (OSError, ValueError, EOFError):
        digests = set()
    return [text_digest(text) in digests for text in texts]


class ClassifierFacts(Section):
    """``hw2.json``: what a saved classifier is made of, and the digests of its files.

    Attributes:
        label_names: what labels meant in its training, where ``data.labels`` said it.
    """

    format: str
    labels: tuple[Label, Label]
    finetuned: bool
    head: HeadConfig
    text: TextConfig
    encoder: str
    encoder_digest: str
    head_digest: str | None
    label_names: LabelNames | None = Field(None, exclude_if=lambda value: value is None)


def load_saved(folder: Path, device: torch.device) -> TextClassifier:
    """Load what :func:`save_classifier` wrote.

    Raises:
        SourceError: it is missing, half-written or damaged, or files were exchanged.
    """
    facts = read_facts(folder)
    plain = facts.head.is_plain(finetuned=facts.finetuned)
    checkpoint = folder if plain else folder / "encoder"
    tokenizer = encoders.load_tokenizer(checkpoint)
    if encoders.checkpoint_digest(checkpoint) != facts.encoder_digest:
        raise SourceError(
            f"{checkpoint}: weights, config or tokenizer are damaged, or are not those that were "
            "saved with this classifier"
        )
    attention = encoders.attention_for(device, torch.float32)
    if plain:
        encoder, head = encoders.load_classifier(checkpoint, attention=attention), None
    else:
        encoder = encoders.load_encoder(checkpoint, attention=attention)
        head = make_head(facts.head, encoder, finetuned=facts.finetuned)
        try:
            if _digest(folder / "head.safetensors") != facts.head_digest:
                raise ValueError("not the file that was saved")
            load_model(head, str(folder / "head.safetensors"))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise SourceError(
                f"{folder / 'head.safetensors'}: damaged ({first_line(error)})"
            ) from None
    classifier = assemble(encoder, head, facts.head, finetuned=facts.finetuned)
    classifier = classifier.eval().to(device)
    self_test(
        reader_of(classifier),
        encoder,
        tokenizer,
        name=facts.encoder,
        precision=torch.float32,
        max_length=facts.text.max_length,
    )
    return TextClassifier(classifier, tokenizer, facts.text, device)


def reader_of(classifier: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what :func:`hwcli.sentiment.self_test.self_test` asks of a classifier."""
    if isinstance(classifier, PlainClassifier):
        return classifier.logits
    encoder: nn.Module = classifier.encoder  # type: ignore[assignment]
    return pooled_reader(encoder)


def read_facts(folder: Path) -> ClassifierFacts:
    """Read ``hw2.json``.

    Raises:
        SourceError: it is missing or damaged, or another version's.
    """
    try:
        facts = read_json(folder / "hw2.json")
        if facts["format"] != FORMAT or facts["labels"] != list(LABELS):
            raise SourceError(
                f"{folder}: written by another version of this program; train it again"
            )
        return ClassifierFacts.model_validate(facts)
    except FileNotFoundError:
        raise SourceError(
            f"{folder}: no trained model there; name the folder of a finished sentiment-train run"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{folder / 'hw2.json'}: damaged ({type(error).__name__})") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def confusion(predicted: Tensor, labels: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Count reviews by label (down) and prediction (across), both negative first."""
    (a, b), (c, d) = np.bincount(2 * labels.long() + predicted.long(), minlength=4).reshape(2, 2)
    return (int(a), int(b)), (int(c), int(d))

"""What a trained classifier gets right: the numbers of a run's summary from its test logits."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwcli.sentiment.assignment import assignment_parameters
from hwcli.sentiment.classifier import TextClassifier, confusion, mean_of
from hwcli.sentiment.heads import HeadConfig
from hwcli.sentiment.prepare import SentimentData
from hwcli.sentiment.probes import HOMEWORK_SENTENCES, PROBES
from hwcli.sentiment.recipe import RECIPE_VERSION, Recipe
from hwcli.sentiment.reviews import LABELS, Reviews
from hwcli.sentiment.summary import (
    CalibrationBin,
    EpochResult,
    Gain,
    LengthBin,
    Mistake,
    Probe,
    Reading,
    SentimentSummary,
    SplitSizes,
)
from hwcli.sentiment.training import TrainingResult
from hwcli.training.metrics import standard_error
from hwcli.training.progress import Epoch
from hwcli.training.significance import mcnemar

MISTAKES_SHOWN = 5
NUM_LENGTH_BINS = 5


def summarize(
    name: str,
    command: str,
    recipe: Recipe,
    data: SentimentData,
    result: TrainingResult,
    *,
    baselines: Mapping[str, NDArray[np.int64]],
    texts: Sequence[str],
    total_s: float,
) -> SentimentSummary:
    """Judge a trained classifier on the test reviews and on single sentences.

    Args:
        name: of the run.
        command: that makes it.
        recipe: it was trained by.
        data: it was trained on.
        result: the trained classifier and its test logits.
        baselines: the classes that other models predict for the test reviews.
        texts: of the user's, to be classified after the homework's.
        total_s: seconds of the whole process.
    """
    split, logits = data.split, result.test_logits
    labels = torch.tensor(split.test.labels)
    test = mean_of(logits, labels)
    correct = {name: ((logits > 0) == labels.bool()).numpy()}
    for baseline, classes in baselines.items():
        correct[baseline] = classes == labels.numpy()
    counts = confusion(logits > 0, labels)
    classifier = TextClassifier(result.model, data.tokenizer, recipe.text, data.device)
    probes = classifier.predict([text for _, text, _ in PROBES])
    return SentimentSummary(
        command=command,
        name=name,
        status="complete",
        dataset=split.dataset,
        test_name=split.test_name,
        official_test=split.official_test,
        encoder=data.encoder_name,
        encoder_digest=data.encoder_digest,
        finetuned=recipe.finetune,
        head=describe_head(recipe.head, solved=recipe.is_solved, plain=recipe.is_plain),
        plain=recipe.is_plain,
        batch_size=None if recipe.is_solved else recipe.batch_size,
        kept_epoch=recipe.keep,
        split_sizes=SplitSizes(train=len(split.train), valid=len(split.valid), test=len(labels)),
        num_test_texts_in_train=split.num_in_both,
        num_contradictions=split.num_contradictions,
        reading=Reading(
            max_length=recipe.text.max_length,
            cut_share=data.test.cut_share,
            unknown_share=data.test.unknown_share,
        ),
        vocab_size=len(data.tokenizer),
        num_params=result.num_params,
        num_trainable_params=result.num_trainable_params,
        assignment=assignment_parameters(),
        epochs=tuple(map(_epoch, result.history)),
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        test_accuracy_se=standard_error(test.accuracy, test.num_examples),
        accuracy_without_duplicates=unseen_accuracy(correct[name], split.test_seen),
        balanced_accuracy=balanced_accuracy(counts),
        f1=f1_score(counts),
        majority_accuracy=majority_accuracy(split.train, split.test),
        baselines={key: float(correct[key].mean()) for key in baselines},
        gains={key: paired_gain(correct[name], correct[key]) for key in baselines},
        predictions=tuple(classifier.predict([*HOMEWORK_SENTENCES, *texts])),
        probes=tuple(
            Probe(**prediction.model_dump(), kind=kind, expected=expected)
            for (kind, _, expected), prediction in zip(PROBES, probes, strict=True)
        ),
        mistakes=tuple(confident_mistakes(split.test, logits)),
        confusion=counts,
        calibration=tuple(calibration_bins(logits.sigmoid(), labels)),
        lengths=tuple(length_bins(split.test, correct)),
        encode_s=result.encode_s,
        train_s=result.train_s,
        total_s=total_s,
        precision=data.precision_name,
        recipe_version=RECIPE_VERSION,
    )


def describe_head(head: HeadConfig, *, solved: bool = False, plain: bool = False) -> str:
    """Name a head in words."""
    if plain:
        return "transformers' own classification head"
    if head.kind == "gru":
        layers = f"{head.layers}-layer bidirectional GRU of {head.hidden}"
        return f"{layers}, dropout {head.dropout:g}"
    states = "[CLS] state" if head.kind == "cls" else "mean of the token states"
    every = " of every layer" if head.all_layers else ""
    what = "logistic regression" if solved else "one linear layer"
    return f"{what} on the {states}{every}"


def _epoch(epoch: Epoch) -> EpochResult:
    return EpochResult(
        epoch=epoch.epoch + 1,
        train_loss=epoch.train_loss,
        train_accuracy=epoch.train_accuracy,
        valid_loss=epoch.valid_loss,
        valid_accuracy=epoch.valid_accuracy,
        minutes=epoch.train_s / 60,
    )


Confusion = tuple[tuple[int, int], tuple[int, int]]


def balanced_accuracy(counts: Confusion) -> float:
    """Return the mean of both classes' accuracies; of one class, where the other is absent."""
    shares = [line[c] / sum(line) for c, line in enumerate(counts) if sum(line)]
    return sum(shares) / len(shares)


def f1_score(counts: Confusion) -> float:
    """Return 2 TP / (2 TP + FP + FN) of the positive class, 0 where nothing is positive."""
    (_, false_positive), (false_negative, true_positive) = counts
    whole = 2 * true_positive + false_positive + false_negative
    return 2 * true_positive / whole if whole else 0.0


def majority_accuracy(train: Reviews, test: Reviews) -> float:
    """Return the test accuracy of always predicting the more frequent training label."""
    majority = int(2 * sum(train.labels) > len(train))
    return sum(label == majority for label in test.labels) / len(test)


def unseen_accuracy(correct: NDArray[np.bool_], seen: Sequence[bool]) -> float | None:
    """Return the accuracy on texts that occur in no other part; None where all or none do."""
    unseen = ~np.array(seen, bool)
    return float(correct[unseen].mean()) if 0 < unseen.sum() < len(unseen) else None


def paired_gain(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Gain:
    """Compare two models by which reviews each got right: the gain, its error, its p-value."""
    difference = ours.astype(int) - theirs.astype(int)
    return Gain(
        gain=float(difference.mean()),
        standard_error=float(difference.std() / np.sqrt(len(difference))),
        p_value=mcnemar(ours, theirs),
    )


def confident_mistakes(
    test: Reviews, logits: Tensor, number: int = MISTAKES_SHOWN
) -> list[Mistake]:
    """Return the wrong predictions whose probability is furthest from one half."""
    labels = torch.tensor(test.labels).bool()
    wrong = ((logits > 0) != labels).nonzero()[:, 0]
    surest = wrong[logits[wrong].abs().argsort(descending=True)[:number]].tolist()
    return [
        Mistake(
            text=test.texts[row],
            label=LABELS[int(logits[row] > 0)],
            probability_positive=logits[row].sigmoid().item(),
            expected=LABELS[test.labels[row]],
        )
        for row in surest
    ]


def calibration_bins(probabilities: Tensor, labels: Tensor) -> list[CalibrationBin]:
    """Return the share of positive reviews in every tenth of the predicted probability."""
    tenth = (probabilities * 10).long().clamp(max=9)
    bins = []
    for index in range(10):
        chosen = tenth == index
        if chosen.any():
            share, number = labels[chosen].float().mean().item(), int(chosen.sum())
            bins.append(
                CalibrationBin(
                    num_reviews=number,
                    mean_probability=probabilities[chosen].mean().item(),
                    share_positive=share,
                    share_se=standard_error(share, number),
                )
            )
    return bins


def length_bins(test: Reviews, correct: Mapping[str, NDArray[np.bool_]]) -> list[LengthBin]:
    """Return every model's accuracy in fifths of the test reviews by number of words."""
    words = np.array([len(text.split()) for text in test.texts])
    fifths = np.array_split(np.argsort(words, kind="stable"), NUM_LENGTH_BINS)
    return [
        LengthBin(
            num_reviews=len(part),
            mean_words=float(words[part].mean()),
            accuracy={name: float(own[part].mean()) for name, own in correct.items()},
        )
        for part in fifths
        if len(part)
    ]

"""From texts and run folders to labels: what ``hw2 sentiment-predict`` does."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwcli import runtime
from hwcli.data.cache import Log
from hwcli.errors import SourceError
from hwcli.output.files import read_json
from hwcli.output.tables import Column, Table
from hwcli.output.units import p_text
from hwcli.paths import named_path
from hwcli.sentiment import tables
from hwcli.sentiment.classifier import confusion, known_texts, load_saved, read_facts
from hwcli.sentiment.columns import (
    DataConfig,
    LabelNames,
    classes_of,
    find_columns,
    meaning_of_labels,
    spell,
    texts_of,
)
from hwcli.sentiment.evaluation import (
    balanced_accuracy,
    confident_mistakes,
    f1_score,
    paired_gain,
)
from hwcli.sentiment.files import decode_text, split_lines
from hwcli.sentiment.layouts import open_file
from hwcli.sentiment.progress import ProgressPrinter
from hwcli.sentiment.reviews import LABELS, Reviews
from hwcli.sentiment.summary import Mistake, Prediction
from hwcli.sentiment.tokens import MANY_UNKNOWN_IN_TEXTS, Tokens
from hwcli.training.metrics import standard_error

MISTAKES_PER_MODEL = 10


@dataclass(frozen=True)
class Texts:
    """What is to be classified, in order, and the label of each where the input has labels.

    Classes are 0, 1, or None for a text without either label.
    """

    texts: Sequence[str]
    classes: Sequence[int | None] | None = None


@dataclass(frozen=True)
class ModelPredictions:
    """What one run's model says about all texts.

    Attributes:
        name: of the run.
        predictions: one for each text, in order.
        known: whether the model was trained or validated on the text.
    """

    name: str
    predictions: Sequence[Prediction]
    known: Sequence[bool]


def gather_texts(
    arguments: Sequence[str],
    file: Path | None,
    data: DataConfig,
    log: Log,
    trained: Callable[[], LabelNames | None] = lambda: None,
) -> Texts:
    """Return the texts of the arguments and the file; without either those of standard input.

    Args:
        arguments: texts themselves.
        file: any file that sentiment-train reads, with labels or without, or one text per line.
        data: how the file is to be read.
        log: is told what was guessed.
        trained: returns what labels meant in the training of the model; asked for a file with
            labels whose meaning ``data`` does not say.

    Raises:
        SourceError: the file cannot be read, or there is nothing to classify.
    """
    if not arguments and file is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise SourceError("no text given; name some, a --file, or pipe them in, one per line")
        content = sys.stdin.buffer.read()
        texts = Texts(split_lines(decode_text(content, "standard input", data.encoding)))
    elif file is None:
        texts = Texts(list(arguments))
    else:
        found = _read_file(file, data, log, trained)
        # What is typed has no label.
        classes = None if found.classes is None else [*(None for _ in arguments), *found.classes]
        texts = Texts([*arguments, *found.texts], classes)
    if not texts.texts:
        raise SourceError("no text given: the input is empty")
    return texts


def _read_file(
    file: Path, data: DataConfig, log: Log, trained: Callable[[], LabelNames | None]
) -> Texts:
    rows = open_file(named_path(file), data)
    if not rows.values and not rows.header_in_doubt:
        return Texts([])
    columns = find_columns(rows, data, log, label_needed=False)
    texts = texts_of(rows, columns.text)
    if columns.label is None:
        return Texts(texts)

    def told(line: str) -> None:
        log(f"accuracy: {line}")

    refusal: SourceError | None = None
    for labels in _meanings(set(map(spell, rows.column(columns.label))), data, trained):
        try:
            chosen = data.model_copy(update={"labels": labels})
            meaning = meaning_of_labels([(rows, columns.label)], chosen, told, both=False)
            classes = classes_of(rows, columns.label, meaning, told)
        except SourceError as error:
            refusal = refusal or error
            continue
        if labels is not None and data.labels is None:
            told(f"labels as in training: {_spelled(labels)}")
        return Texts(texts, classes)
    log(f"accuracy is not computed: {refusal}")
    return Texts(texts)


def _meanings(
    found: set[str], data: DataConfig, trained: Callable[[], LabelNames | None]
) -> list[LabelNames | None]:
    """Return what the labels of a file may mean, in the order in which it is tried.

    What the user says counts alone. The labels of training come first where the file has no other:
    one more may be of another scale, such as 10 stars in place of 5.
    """
    if data.labels is not None or (names := trained()) is None:
        return [data.labels]
    known = names.classes().keys()
    if found and found <= known:
        return [names]
    return [None, names] if found & known else [None]


def _spelled(names: LabelNames) -> str:
    return "; ".join(
        f"{', '.join(map(str, labels))} for {name}"
        for name, labels in zip(LABELS, (names.negative, names.positive), strict=True)
    )


# --------------------------------------------------------------------------------------
# Models


def find_runs(runs: Sequence[Path], out: Path) -> list[Path]:
    """Return the folders of the runs named, else of the newest run that has weights.

    Raises:
        SourceError: one has no weights, or there is none; the line says what makes one.
    """
    if not runs:
        saved = sorted(
            out.glob("sentiment-train/*/model/hw2.json"), key=lambda path: path.stat().st_mtime
        )
        if saved:
            return [saved[-1].parents[1]]
        raise SourceError(
            f"no trained model in {out}; train one by: hw2 sentiment-train "
            "(minutes), or name a run by --model"
        )
    named = [named_path(run) for run in runs]
    for run in named:
        if not run.is_dir():
            raise SourceError(f"model = {str(run)!r}: no such run folder")
        if not (run / "model").is_dir() and (run / "summary.json").is_file():
            raise SourceError(
                f"{run}: the run is finished, but its weights are not here; {_cure(run)}"
            )
    return named


def _cure(run: Path) -> str:
    """Say what trains a run's model again, and how long that took."""
    try:
        summary = read_json(run / "summary.json")
        minutes = (summary["encode_s"] + summary["train_s"]) / 60
        config = shlex.quote(str(run / "config.yaml"))
        took = f"hw2 sentiment-train --config {config} (took {minutes:.0f} minutes)"
    except (OSError, ValueError, KeyError, TypeError):
        took = "its command again"
    return f"train it by: {took}, or a smaller one by: hw2 sentiment-train (minutes)"


def predict(
    texts: Sequence[str], runs: Sequence[Path], device: str, log: Log
) -> list[ModelPredictions]:
    """Classify texts by the models of some runs.

    Raises:
        SourceError: a run holds no model, or a damaged one.
        ConfigError: the device is not on this machine.
    """
    place = runtime.resolve_device(device)
    names = _names(runs)
    found = []
    for name, run in zip(names, runs, strict=True):
        folder = _model_folder(run)
        classifier = load_saved(folder, place)
        tokens = classifier.tokenize(texts)
        _warn(tokens, classifier.text.max_length, name, log)
        known = known_texts(folder, texts)
        predictions = classifier.predict(texts, tokens, ProgressPrinter(f"texts judged by {name}"))
        found.append(ModelPredictions(name, predictions, known))
    return found


def _model_folder(run: Path) -> Path:
    return run / "model" if (run / "model").is_dir() else run


def trained_labels(runs: Sequence[Path], out: Path) -> LabelNames | None:
    """Return what labels meant in the training of the models; None where nothing said it.

    Where several models disagree, none of them counts.

    Args:
        runs: named by the user; none: the newest run counts.
        out: where runs are.

    Raises:
        SourceError: a run holds no model, or a damaged one.
    """
    folders = map(_model_folder, find_runs(runs, out))
    first, *others = (read_facts(folder).label_names for folder in folders)
    return first if all(names == first for names in others) else None


def _names(runs: Sequence[Path]) -> list[str]:
    """Name runs by their folders; by the whole path where two folders have one name."""
    short = [run.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run) for run in runs]


def _warn(tokens: Tokens, max_length: int, name: str, log: Log) -> None:
    if tokens.unknown_share > MANY_UNKNOWN_IN_TEXTS:
        log(
            f"warning: {tokens.unknown_share:.0%} of the tokens are unknown to {name}; its labels "
            "mean little"
        )
    if (num_cut := int(tokens.cut.sum())) > 0:
        log(
            f"{num_cut:,} of {len(tokens):,} texts are longer than the {max_length} tokens that "
            f"{name} reads"
        )


# --------------------------------------------------------------------------------------
# What is shown


def to_json_lines(texts: Texts, models: Sequence[ModelPredictions]) -> str:
    """Spell predictions as JSON, one line per text, in order."""
    lines = []
    for index in range(len(texts.texts)):
        said = {model.name: model.predictions[index] for model in models}
        line: dict[str, Any]
        if len(models) == 1:
            line = models[0].predictions[index].model_dump()
        else:
            line = {
                "text": models[0].predictions[index].text,
                "models": {name: p.model_dump(exclude={"text"}) for name, p in said.items()},
            }
        if texts.classes is not None:
            class_ = texts.classes[index]
            line["expected"] = None if class_ is None else LABELS[class_]
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)


def to_tables(texts: Texts, models: Sequence[ModelPredictions]) -> list[Table]:
    """Return the predictions and, for labelled texts, accuracy and mistakes of every model."""
    if len(models) == 1:
        shown = [tables.predictions_table(models[0].predictions)]
    else:
        shown = [_side_by_side(models)]
    if texts.classes is not None and any(class_ is not None for class_ in texts.classes):
        shown.append(accuracy_table(texts.classes, models))
        shown += [
            tables.mistakes_table(
                _mistakes(texts.classes, model), f"The most confident mistakes of {model.name}"
            )
            for model in models
        ]
    return shown


def _side_by_side(models: Sequence[ModelPredictions]) -> Table:
    rows: list[Mapping[str, object]] = []
    agreed = 0
    for said in zip(*(model.predictions for model in models), strict=True):
        named = zip((model.name for model in models), said, strict=True)
        agreed += len({p.label for p in said}) == 1
        rows.append(
            {"text": said[0].text}
            | {name: f"{p.label} ({p.probability_positive:.4f})" for name, p in named}
        )
    columns = [Column("text", "text", tables.shorten)]
    columns += [Column(model.name, model.name) for model in models]
    notes = [
        f"The models agree on {agreed:,} of {len(rows):,} texts. In brackets: the probability of "
        "positive."
    ]
    return Table("Predictions", columns, rows, notes)


def accuracy_table(classes: Sequence[int | None], models: Sequence[ModelPredictions]) -> Table:
    """Return how often every model's label is the expected one."""
    chosen = [index for index, class_ in enumerate(classes) if class_ is not None]
    expected = np.array([classes[index] for index in chosen])
    rows: list[Mapping[str, object]] = []
    correct: list[Any] = []
    notes: list[str] = []
    for model in models:
        said = np.array([LABELS.index(model.predictions[index].label) for index in chosen])
        counts = confusion(torch.from_numpy(said), torch.from_numpy(expected))
        correct.append(said == expected)
        gain = paired_gain(correct[0], correct[-1]) if len(correct) > 1 else None
        accuracy = float(correct[-1].mean())
        rows.append(
            {
                "model": model.name,
                "accuracy": accuracy,
                "accuracy_se": standard_error(accuracy, len(chosen)),
                "difference": gain and 0 - gain.gain,
                "difference_se": gain and gain.standard_error,
                "p_value": gain and gain.p_value,
                "balanced_accuracy": balanced_accuracy(counts),
                "f1": f1_score(counts),
                "num_texts": len(chosen),
            }
        )
        known = np.array([model.known[index] for index in chosen])
        if known.any():
            others = "There are no others."
            if not known.all():
                others = f"On the others: {float(correct[-1][~known].mean()):.2%}."
            notes.append(
                f"{model.name} was trained or validated on {int(known.sum()):,} of these "
                f"{len(chosen):,} texts, so its accuracy may be too high. {others}"
            )
    share = float(max(expected.mean(), 1 - expected.mean()))
    rows.append(
        {"model": "always the more frequent label", "accuracy": share, "num_texts": len(chosen)}
    )
    columns = [
        Column("model", "model", priority=0),
        Column("accuracy", "accuracy", "{:.2%}", priority=0),
        Column("accuracy_se", "standard error", "{:.2%}"),
        Column("balanced_accuracy", "balanced accuracy", "{:.2%}", priority=3),
        Column("f1", "F1", "{:.4f}", priority=3),
        Column("num_texts", "n", "{:,}", priority=2),
    ]
    if len(models) > 1:
        columns[3:3] = [
            Column("difference", f"difference to {models[0].name}", "{:+.2%}"),
            Column("difference_se", "its standard error", "{:.2%}", priority=2),
            Column("p_value", "p-value", p_text),
        ]
        notes.append(
            "Differences are significant if McNemar's exact test gives a p-value below 0.05."
        )
    return Table("Accuracy on the labels of the file", columns, rows, notes)


def _mistakes(classes: Sequence[int | None], model: ModelPredictions) -> list[Mistake]:
    chosen = [index for index, class_ in enumerate(classes) if class_ is not None]
    texts = [model.predictions[index].text for index in chosen]
    reviews = Reviews(texts, [classes[index] or 0 for index in chosen])
    probabilities = [model.predictions[index].probability_positive for index in chosen]
    logits = torch.tensor(probabilities, dtype=torch.float64).logit(eps=1e-9)
    return confident_mistakes(reviews, logits, MISTAKES_PER_MODEL)

"""The tables of sentiment runs, made from their summaries: shown by the run and by the report."""

from collections.abc import Collection, Sequence

from hwcli.output.tables import Column, Table
from hwcli.output.units import p_text
from hwcli.sentiment.summary import Mistake, Prediction, SentimentSummary
from hwcli.sentiment.tokens import TextConfig
from hwcli.training.metrics import standard_error

PERCENT = "{:.2%}"
FEW_REVIEWS = 200
WHAT_AND_VALUE = (Column("what", "what"), Column("value", "value"))


def shorten(text: str, length: int = 240) -> str:
    """Return a text's two ends on one line, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) <= length:
        return line or "(empty)"
    return f"{line[: length // 2]} … {line[-length // 2 :]}"


TEXT = Column("text", "text", shorten)
PROBABILITY = Column("probability_positive", "probability of positive", "{:.4f}")


def all_tables(summary: SentimentSummary) -> list[Table]:
    """Return every table of one run, in the order in which they are shown."""
    return [
        setup_table(summary),
        *([] if summary.is_solved else [epochs_table(summary)]),
        models_table(summary),
        predictions_table(summary.predictions),
        probes_table(summary),
        confusion_table(summary),
        mistakes_table(summary.mistakes),
    ]


def setup_table(summary: SentimentSummary) -> Table:
    """Return what was trained on what: the first blanks of the homework's notebook."""
    sizes, assignment = summary.split_sizes, summary.assignment
    frozen = "" if summary.finetuned else " (encoder frozen)"
    facts = {
        "reviews": summary.dataset,
        "encoder": summary.encoder,
        "head": summary.head,
        "vocabulary size": f"{summary.vocab_size:,}",
        "training reviews": f"{sizes.train:,}",
        "validation reviews": f"{sizes.valid:,}",
        "test reviews": f"{sizes.test:,} ({summary.test_name})",
        "test texts that also occur in training or validation": (
            f"{summary.num_test_texts_in_train:,}"
        ),
        "parameters": f"{summary.num_params:,}",
        "trainable parameters": f"{summary.num_trainable_params:,}{frozen}",
        "the assignment's model: parameters": f"{assignment.total:,}",
        "the assignment's model: trainable": f"{assignment.trainable:,} (encoder frozen)",
        "time of encoding": f"{summary.encode_s / 60:.1f} min",
        "time of training": f"{summary.train_s / 60:.1f} min",
    }
    if summary.reading is not None:
        facts["tokens read per review"] = f"at most {summary.reading.max_length:,}"
        facts["test reviews cut to that"] = f"{summary.reading.cut_share:.1%}"
        facts["tokens unknown to the encoder"] = f"{summary.reading.unknown_share:.2%}"
    if summary.num_contradictions is not None:
        facts["texts that occur with both labels"] = f"{summary.num_contradictions:,}"
    rows = [{"what": name, "value": value} for name, value in facts.items()]
    return Table("Setup", WHAT_AND_VALUE, rows)


def epochs_table(summary: SentimentSummary) -> Table:
    """Return loss and accuracy of every epoch."""
    return Table(
        title="Epochs",
        columns=[
            Column("epoch", "epoch"),
            Column("train_loss", "training loss", "{:.4f}"),
            Column("train_accuracy", "training accuracy", PERCENT),
            Column("valid_loss", "validation loss", "{:.4f}"),
            Column("valid_accuracy", "validation accuracy", PERCENT),
            Column("minutes", "minutes", "{:.2f}"),
        ],
        rows=[epoch.model_dump() for epoch in summary.epochs],
    )


def models_table(summary: SentimentSummary) -> Table:
    """Return the test accuracy of the classifier and of the baselines on the same reviews."""
    number = summary.split_sizes.test
    rows: list[dict[str, object]] = [
        {
            "model": f"{summary.encoder}, {summary.way}",
            "test_accuracy": summary.test_accuracy,
            "test_accuracy_se": summary.test_accuracy_se,
            "balanced_accuracy": summary.balanced_accuracy,
            "f1": summary.f1,
            "test_loss": summary.test_loss,
            "num_test": number,
        }
    ]
    if summary.accuracy_without_duplicates is not None:
        rest = number - summary.num_test_texts_in_train
        rows.append(
            {
                "model": "the same, without test texts that occur elsewhere",
                "test_accuracy": summary.accuracy_without_duplicates,
                "test_accuracy_se": standard_error(summary.accuracy_without_duplicates, rest),
                "num_test": rest,
            }
        )
    others = {**summary.baselines, "always the majority label": summary.majority_accuracy}
    for name, accuracy in others.items():
        gain = summary.gains.get(name)
        rows.append(
            {
                "model": name,
                "test_accuracy": accuracy,
                "test_accuracy_se": standard_error(accuracy, number),
                "num_test": number,
                "difference": gain and 0 - gain.gain,
                "difference_se": gain and gain.standard_error,
                "p_value": gain and gain.p_value,
            }
        )
    return Table(
        title=f"Test accuracy on {summary.test_name}",
        columns=[
            Column("model", "model", priority=0),
            Column("test_accuracy", "accuracy", PERCENT, priority=0),
            Column("test_accuracy_se", "standard error", PERCENT, priority=0),
            Column("difference", "difference to ours", "{:+.2%}", priority=1),
            Column("difference_se", "its standard error", PERCENT, priority=2),
            Column("p_value", "p-value", p_text, priority=1),
            Column("balanced_accuracy", "balanced accuracy", PERCENT, priority=3),
            Column("f1", "F1", "{:.4f}", priority=3),
            Column("test_loss", "loss", "{:.4f}", priority=4),
            Column("num_test", "n", "{:,}", priority=2),
        ],
        rows=rows,
        notes=[
            f"All models are trained on the same {summary.split_sizes.train:,} reviews. "
            "Differences are paired over the same test reviews. They are significant if McNemar's "
            "exact test gives a p-value below 0.05.",
            *_verdict(summary),
            *_too_few(number),
        ],
    )


def _verdict(summary: SentimentSummary) -> list[str]:
    """Name the baseline that is significantly better, if there is one."""
    worst = min(summary.gains.items(), key=lambda item: item[1].gain, default=None)
    if worst is None or worst[1].gain >= 0 or not worst[1].is_significant:
        return []
    return [f"{worst[0]} is significantly better than this classifier."]


def _too_few(num_reviews: int) -> list[str]:
    """Say what one review is worth where there are few."""
    if num_reviews >= FEW_REVIEWS:
        return []
    return [
        f"There are few test reviews ({num_reviews:,}): each is worth {1 / num_reviews:.1%} of the "
        "accuracy, and the standard error is a rough guess."
    ]


def predictions_table(predictions: Sequence[Prediction], title: str = "Predictions") -> Table:
    """Return texts with the label and the probability that the classifier gives them."""
    return Table(
        title=title,
        columns=[
            TEXT,
            Column("label", "label"),
            PROBABILITY,
        ],
        rows=[prediction.model_dump() for prediction in predictions],
    )


def probes_table(summary: SentimentSummary) -> Table:
    """Return the fixed probes with the label a reader would give."""
    return Table(
        title="Probes",
        columns=[
            Column("kind", "kind"),
            TEXT,
            Column("expected", "reader"),
            Column("label", "label"),
            PROBABILITY,
        ],
        rows=[
            {**probe.model_dump(), "expected": probe.expected or "neither"}
            for probe in summary.probes
        ],
    )


def confusion_table(summary: SentimentSummary) -> Table:
    """Return how many test reviews of each label were predicted to have which."""
    labels = ("negative", "positive")
    return Table(
        title=f"Confusion on {summary.test_name}",
        columns=[
            Column("label", "label"),
            *(Column(name, f"predicted {name}", "{:,}") for name in labels),
        ],
        rows=[
            {"label": label, **dict(zip(labels, line, strict=True))}
            for label, line in zip(labels, summary.confusion, strict=True)
        ],
    )


def mistakes_table(
    mistakes: Sequence[Mistake], title: str = "The most confident mistakes"
) -> Table:
    """Return the wrong predictions with the most confidence."""
    return Table(
        title=title,
        columns=[
            Column("expected", "label"),
            PROBABILITY,
            TEXT,
        ],
        rows=[mistake.model_dump() for mistake in mistakes],
    )


def model_card(summary: SentimentSummary, text: TextConfig) -> str:
    """Return the README of a saved classifier: what it is, how good, and how it reads a text."""
    kept = "beginning" if text.truncation == "head" else "beginning and end"
    plain = (
        "`transformers.pipeline` loads this folder as it is. It reads a text differently: HTML "
        "line breaks stay, and a long text is cut at its end (`truncation=True`), or refused."
        if summary.plain
        else "`transformers.pipeline` cannot load it: the head is hw2's own."
    )
    return f"""---
tags: [text-classification, sentiment]
---
# {summary.name}

{summary.model}. It gives the probability that a text like those of {summary.dataset} is
positive; labels are `negative` (0) and `positive` (1).

- Trained on {summary.split_sizes.train:,} texts of {summary.dataset}.
- {summary.test_name}: {accuracy_text(summary)} accuracy (n = {summary.split_sizes.test:,}),
  F1 {summary.f1:.4f}, balanced accuracy {100 * summary.balanced_accuracy:.2f} %.
- Before it is read, HTML line breaks become spaces; of more than {text.max_length} tokens the
  {kept} are kept.

Use it by `hw2 sentiment-predict --model FOLDER "a text"`. {plain}
"""


# --------------------------------------------------------------------------------------
# Several runs side by side


def accuracy_text(summary: SentimentSummary) -> str:
    """Return test accuracy and standard error as ``93.47 ± 0.16 %``."""
    return f"{100 * summary.test_accuracy:.2f} ± {100 * summary.test_accuracy_se:.2f} %"


def answers_table(
    summaries: Sequence[SentimentSummary], *, with_own_reviews: Collection[str] = ()
) -> Table:
    """Return the blanks of the homework's notebook, one column per run.

    Args:
        summaries: of the runs.
        with_own_reviews: names of the runs whose further texts the author of the table wrote; those
            of other runs came with a preset, and are no answer to Q4b.
    """
    answers = {
        summary.name: _answers(summary, has_own=summary.name in with_own_reviews)
        for summary in summaries
    }
    questions = list(next(iter(answers.values())))
    return Table(
        title="The questions of the notebook",
        columns=[Column("question", "question"), *(Column(name, name) for name in answers)],
        rows=[{"question": q, **{name: a[q] for name, a in answers.items()}} for q in questions],
    )


def _answers(summary: SentimentSummary, *, has_own: bool) -> dict[str, str]:
    sizes = summary.split_sizes
    trainable = f"{summary.num_trainable_params:,}"
    minutes = ", ".join(f"{epoch.minutes:.2f}" for epoch in summary.epochs)
    how = f"batches of {summary.batch_size}, BCE with logits"
    sentences = [
        f"“{p.text}”: {p.label} ({p.probability_positive:.4f})" for p in summary.predictions
    ]
    own = "\n".join(sentences[2:]) if has_own else ""
    return {
        "Q1a vocabulary size": f"{summary.vocab_size:,}",
        "Q1b train / valid / test": f"{sizes.train:,} / {sizes.valid:,} / {sizes.test:,}",
        "Q2a the model": summary.model,
        "Q2b parameters": f"{summary.num_params:,}",
        "Q2c trainable after freezing": (
            f"{trainable} (nothing is frozen)" if summary.finetuned else trainable
        ),
        "Q2b, Q2c of the assignment's own model": (
            f"{summary.assignment.total:,}; {summary.assignment.trainable:,}"
        ),
        "Q3a accuracy": (
            "a review counts as correct if the sign of its logit matches its label; sums over "
            "reviews, divided once"
        ),
        "Q3b, Q3c training, evaluation": (
            "logistic regression: BCE with logits, solved to the end"
            if summary.is_solved
            else f"{how}; the {summary.kept_epoch} epoch is kept"
        ),
        "Q3d epochs; minutes of each": (
            f"none; {minutes}" if summary.is_solved else f"{len(summary.epochs)}; {minutes}"
        ),
        "Q3d test loss": f"{summary.test_loss:.4f}",
        "Q3d test accuracy": accuracy_text(summary),
        "Q4a given sentences": "\n".join(sentences[:2]),
        "Q4b own two reviews": own or "none were given to this run",
    }

"""Question 4: the notebook's questions by name, answered from the runs of sentiment-train."""

import hashlib
import re
from collections.abc import Sequence

from hwcli.output.units import counted
from hwcli.report.cells import Cell
from hwcli.report.runs import Run, Runs, mark_of, named, newest
from hwcli.report.templates import render
from hwcli.sentiment.recipe import shipped_texts
from hwcli.sentiment.summary import Parameters, SentimentSummary
from hwcli.sentiment.tables import accuracy_text

COMMAND = "sentiment-train"
# Of an id of a cell, which nbformat wants short.
LONGEST_ID = 32
SHOWN = ("bert", "homework", "strong")
# The encoder of the assignment, by the names that the hub has for it.
ASSIGNED = ("bert-base-uncased", "google-bert/bert-base-uncased")


def choose(runs: Runs) -> list[Run]:
    """Return the runs that are shown: those with a preset's name, else the newest.

    A run with reviews of the author's own is always among them: they answer a question.
    """
    own = runs.of(COMMAND)
    found = [named(name, own) for name in SHOWN]
    chosen = [run for run in (found if any(found) else [newest(own)]) if run is not None]
    return chosen + [run for run in own if _has_own_reviews(run) and run not in chosen]


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 4."""
    chosen = choose(runs)
    found = [run.read(SentimentSummary) for run in chosen]
    return render(
        "q4",
        chosen=found,
        mark=mark_of(chosen),
        folders=[run.folder for run in chosen],
        ids=[_id(run.name) for run in chosen],
        accuracy=accuracy_text,
        baselines=" ".join(_baseline(each) for each in found),
        conditions=_conditions(found) if found else "",
        difference=_difference(found),
        other_heads=_other_heads(found),
        inputs="; ".join(map(_input, chosen)),
        lines=[_line(each) for each in found],
        texts_titles=[_texts_title(run) for run in chosen],
        solved=[f"`{each.name}`" for each in found if each.is_solved],
        stepped=[f"`{each.name}`" for each in found if not each.is_solved],
        own=[run.name for run in chosen if _has_own_reviews(run)],
        own_reviews=_own_reviews(chosen),
    )


def _id(name: str) -> str:
    """Return what a run's cells are found again by: its name, spelled as an id of a cell."""
    spelled = re.sub(r"[^a-z0-9-]", "-", name.lower())[:LONGEST_ID]
    if spelled == name:
        return name
    return f"{spelled}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _baseline(found: SentimentSummary) -> str:
    """Compare a run with the better bag of words, in the words of a paired test."""
    if not found.baselines:
        return ""
    name, best = max(found.baselines.items(), key=lambda item: item[1])
    gain = found.gains.get(name)
    points = 100 * (found.test_accuracy - best)
    side = "above" if points >= 0 else "below"
    note = ""
    if gain is not None:
        which = "a" if gain.is_significant else "no"
        note = f", {which} significant difference by McNemar's exact test"
    return (
        f"`{found.name}` is {abs(points):.2f} points {side} the better bag of words "
        f"that was trained on the same reviews ({name}, {100 * best:.2f} %){note}."
    )


def _conditions(found: Sequence[SentimentSummary]) -> str:
    """Say what the accuracies are over: one seed, and test texts of which some were trained on."""
    seen = [each.num_test_texts_in_train for each in found]
    known = " to ".join(f"{number:,}" for number in sorted({min(seen), max(seen)}))
    return (
        "Each is one training run; ± is the standard error over the test reviews. "
        f"Of the test texts, {known} also occur in training or validation."
    )


def _difference(found: Sequence[SentimentSummary]) -> str:
    if not found:
        return ""
    first = found[0]
    counts = Parameters(total=first.num_params, trainable=first.num_trainable_params)
    if counts == first.assignment:
        is_it = first.encoder.partition("@")[0] in ASSIGNED
        return f"The counts of `{first.name}` in the table below are the same" + (
            ": it is that model." if is_it else f"; its encoder is {first.encoder}."
        )
    return (
        f"The counts in the table below differ from these, because `{first.name}` is another model "
        f"({first.model}). `hw2 sentiment-train --preset bert` trains the assignment's own model "
        "where its weights can be downloaded."
    )


def _input(run: Run) -> str:
    """Say how much of a review, and of the encoder, a run uses."""
    layers, tokens = run.config["num_encoder_layers"], run.config["text"]["max_length"]
    which = "all encoder layers" if layers is None else f"the first {layers} encoder layers"
    return f"`{run.name}` uses {which} and at most {tokens} tokens of a review"


def _other_heads(found: Sequence[SentimentSummary]) -> str:
    """Name the runs that are not the frozen encoder and the GRU that the text describes."""
    others = [
        f"`{each.name}` {' and '.join(differs)}" for each in found if (differs := _differs(each))
    ]
    return f" ({'; '.join(others)})" if others else ""


def _differs(found: SentimentSummary) -> list[str]:
    is_gru = "GRU" in found.head
    said = []
    if not is_gru:
        said.append(f"has another head, {found.head}")
    elif not found.head.startswith("2-layer bidirectional GRU"):
        said.append(f"has a {found.head}")
    if found.finetuned:
        said.append("trains the encoder, too")
    return said


def _line(found: SentimentSummary) -> str:
    """Say how training went: the epoch that is kept, and what the confusion shows."""
    of = f"{len(found.epochs)} epochs"
    kept = found.epochs[-1]
    if found.is_solved:
        which = "The head was fitted by logistic regression, without epochs."
    elif len(found.epochs) == 1:
        which = "One epoch."
    elif found.kept_epoch == "best":
        kept = min(found.epochs, key=lambda epoch: epoch.valid_loss)
        which = f"Of {of}, epoch {kept.epoch} is kept: it has the lowest validation loss."
    else:
        which = f"Of {of}, the last one is kept."
    gap = 100 * (kept.train_accuracy - kept.valid_accuracy)
    (_, false_positive), (false_negative, _) = found.confusion
    more = "positive" if false_positive > false_negative else "negative"
    fitted = "Its training and validation accuracy are close together."
    if gap > 1:
        fitted = (
            f"It fits the training reviews {gap:.1f} points better than the validation reviews."
        )
    elif gap < -1:
        fitted = f"Its training accuracy is {-gap:.1f} points below its validation accuracy"
        while_training = ": it is taken during the epoch, while the weights still change."
        fitted += "." if found.is_solved else while_training
    wrong, most = false_positive + false_negative, max(false_positive, false_negative)
    mistakes = (
        f"Of {counted(wrong, 'wrong test review')}, "
        f"{most:,} {'was' if most == 1 else 'were'} called {more}."
    )
    return f"{which} {fitted} {mistakes if wrong else 'No test review is classified wrongly.'}"


def _has_own_reviews(run: Run) -> bool:
    """Tell whether the author gave a run texts: none of the project's, and none of a preset."""
    texts = set(run.config["texts"])
    return bool(texts - shipped_texts()) and not run.is_reference


def _texts_title(run: Run) -> str:
    """Title the table of single texts by whose texts it shows."""
    title = f"Q4a: what {run.name} says of the given sentences"
    if not run.config["texts"]:
        return title
    if _has_own_reviews(run):
        return f"Q4a, Q4b: what {run.name} says of the given sentences and of the author's reviews"
    return f"{title}, and of texts that came with its preset"


def _own_reviews(chosen: Sequence[Run]) -> str:
    """Say whose the further texts are: those of a preset are not the author's reviews."""
    own = [f"`{run.name}`" for run in chosen if _has_own_reviews(run)]
    if own:
        return (
            "The author's own reviews were given to the training by `--text`; they stand in the "
            f"table of {' and '.join(own)}."
        )
    if any(run.config["texts"] for run in chosen):
        return (
            "The further texts in the tables above came with the presets of the runs. They are not "
            "reviews by the author of this hand-in, and do not answer Q4b."
        )
    return "The box below is for two reviews by the author."

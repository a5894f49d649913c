"""Question 4: is a film review positive? A pretrained transformer, and what is trained on top.

A frozen encoder's states go through the homework's bidirectional GRU, or are pooled into one
linear layer; or the encoder itself is fine-tuned. Bags of words are trained on the same reviews.
A part of the training reviews is set aside for validation; the test reviews are read once, after
training. The work is in ``hwcli/sentiment/``; here are the config, the run and its plan.
"""

import json
import time
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hwcli import runtime
from hwcli.config import RunConfig
from hwcli.experiment import Plan
from hwcli.fingerprint import fingerprint
from hwcli.output import terminal
from hwcli.output.files import write_json
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Table
from hwcli.sentiment import tables
from hwcli.sentiment.assignment import assignment_parameters
from hwcli.sentiment.baselines import BASELINES
from hwcli.sentiment.classifier import save_classifier
from hwcli.sentiment.columns import DataConfig
from hwcli.sentiment.estimate import estimate
from hwcli.sentiment.evaluation import summarize
from hwcli.sentiment.finetuned import TEST_LOGITS
from hwcli.sentiment.pictures import figures
from hwcli.sentiment.prepare import SentimentData, prepare
from hwcli.sentiment.recipe import RECIPE_VERSION, Identity, Recipe, shipped_texts
from hwcli.sentiment.summary import SentimentSummary
from hwcli.sentiment.training import TrainingResult, train_classifier
from hwcli.sweep.store import TrialFolder, TrialStore
from hwcli.sweep.trial import Trial

COMMAND = "sentiment-train"
RunSummary = SentimentSummary

WHEN_STOPPED = "stopped; run the same command again to continue"
BYTES_PER_NUMBER = 4
PICTURES = ("calibration.png", "length.png", "curves.png")


class Config(RunConfig, Recipe):
    """A run: the reviews, the encoder, the recipe, and the sentences to classify."""

    data: DataConfig = Field(description="Where the reviews are, and how to read them.")
    encoder: str = Field(description="Folder or hub name of a BERT-like checkpoint.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="Type of matrix products: auto, float32 or bfloat16."
    )
    baselines: bool = Field(description="Train bags of words on the same reviews too.")
    texts: tuple[str, ...] = Field(
        description="Sentences of your own to classify after training, next to built-in ones."
    )

    def contains(self, earlier: RunConfig) -> bool:
        """Tell whether this is the same training, and no sentence of the user's own is lost."""
        if not isinstance(earlier, Config):
            return False
        lost = set(earlier.texts) - set(self.texts) - shipped_texts()
        return not lost and self.model_copy(update={"texts": earlier.texts}) == earlier


def run(config: Config, folder: RunFolder) -> SentimentSummary:
    """Train one classifier, test it and show the result."""
    started = time.perf_counter()
    folder.check_writable()
    data = prepare(config.data, config.encoder, config, config.device, config.precision)
    trial = identify(config, data)
    store = TrialStore(folder.trials_path)
    work = store.folder(trial)
    work.prepare(trial)
    environment = fingerprint(device=data.device.type, dtype=data.precision_name)
    folder.claim(config, environment)
    if note := note_on_unfinished(trial, store):
        terminal.log(note)
    result = train(config, data, work, environment)
    for epoch in result.history:
        folder.append_metrics(**asdict(epoch))
    # Give freed memory back, or it adds to the peak of the bags of words.
    runtime.return_freed_memory()
    baselines = predict_baselines(config, data)
    summary = summarize(
        config.name,
        COMMAND,
        config,
        data,
        result,
        baselines=baselines,
        texts=config.texts,
        total_s=time.perf_counter() - started,
    )
    save_classifier(
        folder.subfolder("model"),
        result.model,
        data.tokenizer,
        head=config.head,
        text=config.text,
        finetuned=config.finetune,
        encoder_name=data.encoder_name,
        card=tables.model_card(summary, config.text),
        trained_on=[*data.split.train.texts, *data.split.valid.texts],
        label_names=config.data.labels,
    )
    write_and_show(summary, folder)
    # Whatever stops the run before here leaves them to the next one.
    (work.path / TEST_LOGITS).unlink(missing_ok=True)
    return summary


def train(
    config: Config, data: SentimentData, work: TrialFolder, environment: dict[str, Any]
) -> TrainingResult:
    """Train in a folder that one process owns at a time, or go on where another one stopped.

    Args:
        config: of the run.
        data: what it is trained on.
        work: the training's own folder, which runs share.
        environment: in which it is trained.
    """
    if work.is_owned():
        terminal.log("another process is training this classifier; waiting")
    with work.own(timeout_s=None):
        # A training that was finished earlier, maybe elsewhere, is only tested again.
        if work.result() is None or not work.checkpoint.exists():
            write_json(work.environment, environment)
        result = train_classifier(config, data, work.path)
        # What hw2 status tells a finished training by.
        work.finish({"num_epochs": len(result.history), "train_s": result.train_s})
    return result


def predict_baselines(config: Config, data: SentimentData) -> dict[str, NDArray[np.int64]]:
    """Train the bags of words that the config asks for; return their classes of the test reviews.

    One that cannot be trained is left out.
    """
    baselines = {}
    for name, baseline in BASELINES.items() if config.baselines else ():
        terminal.log(f"training {name} on the same {len(data.train):,} reviews")
        try:
            baselines[name] = baseline(data.split.train, data.split.test)
        except ValueError as error:  # reviews of emoji alone have no words to count
            terminal.log(f"{name} is left out: {error}")
    return baselines


def write_and_show(summary: SentimentSummary, folder: RunFolder) -> None:
    """Write tables and figures, and show the tables."""
    shown = tables.all_tables(summary)
    folder.write("table.csv", tables.models_table(summary).to_csv())
    folder.write("table.md", "\n".join(table.to_markdown() for table in shown))
    folder.discard(*PICTURES)
    for name, draw in figures(summary).items():
        folder.save_figure(name, draw(summary))
    for table in shown:
        terminal.show(table)


def identify(config: Config, data: SentimentData) -> Trial:
    """Name the training by everything that decides its numbers."""
    recipe = {name: getattr(config, name) for name in Recipe.model_fields}
    identity = Identity(device=data.device.type, precision=data.precision_name, **recipe)
    split = data.split
    facts = {
        "command": COMMAND,
        "recipe": RECIPE_VERSION,
        "encoder": data.encoder_digest,
        "data": [part.digest_in_order for part in (split.train, split.valid, split.test)],
    }
    return Trial(identity, {"seed": config.seed}, facts, cost=1.0)


def note_on_unfinished(trial: Trial, store: TrialStore) -> str | None:
    """Say what goes on with an unfinished training that differs only in device or precision.

    With ``auto``, another machine may choose another of either, and so begins a training of its
    own. None where there is no such training, or where this one has been begun too.
    """
    if store.folder(trial).state() != "missing":
        return None
    here = json.loads(json.dumps(trial.identity))
    for folder in store.folders():
        there = folder.identity()
        if there is None or folder.state() != "interrupted":
            continue
        differing = {
            key: value
            for key in ("device", "precision")
            if (value := there.get("config", {}).get(key)) != here["config"][key]
        }
        if {**here, "config": {**here["config"], **differing}} == there:
            settings = " ".join(f"--set {key}={value}" for key, value in differing.items())
            where = f", on a machine with {differing['device']}" if "device" in differing else ""
            return (
                "this training starts from zero; to go on with an unfinished one, which differs "
                f"only in that: {settings}{where}"
            )
    return None


def plan(config: Config, folder: RunFolder) -> Plan:
    """Return what would be trained on what, and what that takes by a few timed batches."""
    data = prepare(config.data, config.encoder, config, config.device, config.precision)
    assignment = assignment_parameters()
    needed = estimate(config, data, baselines=config.baselines)
    facts = {
        "test reviews": data.split.test_name,
        "training / validation / test": " / ".join(
            f"{len(part):,}" for part in (data.train, data.valid, data.test)
        ),
        "vocabulary size": f"{len(data.tokenizer):,}",
        "training reviews cut": f"{data.train.cut_share:.1%} at {config.text.max_length} tokens",
        "unknown tokens": f"{data.train.unknown_share:.2%}",
        "epochs": "none: logistic regression" if config.is_solved else f"{config.epochs}",
        **needed.facts(),
        "the assignment's model: parameters": f"{assignment.total:,}",
        "the assignment's model: trainable": f"{assignment.trainable:,}",
    }
    rows = [{"what": name, "value": value} for name, value in facts.items()]
    return Plan(
        Table(f"{COMMAND} {config.name}", tables.WHAT_AND_VALUE, rows),
        seconds=needed.seconds,
        memory_bytes=needed.memory_bytes,
        # The model; weights and Adam's two averages in the checkpoint; the best epoch's weights.
        disk_bytes=needed.disk_bytes
        + BYTES_PER_NUMBER * needed.num_params
        + (3 + (config.keep == "best")) * BYTES_PER_NUMBER * needed.num_trainable_params,
    )

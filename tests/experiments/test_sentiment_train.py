"""Whole runs on a small real encoder and made-up reviews whose words tell."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from hwcli.config import dump_yaml, load
from hwcli.errors import ConfigError, OutputError, SourceError
from hwcli.experiments import sentiment_train
from hwcli.experiments.sentiment_train import (
    COMMAND,
    Config,
    identify,
    note_on_unfinished,
    plan,
    run,
)
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Table
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment import features, finetuned, frozen, training
from hwcli.sentiment.baselines import BASELINES, NBSVM
from hwcli.sentiment.classifier import load_saved, mean_of
from hwcli.sentiment.columns import DataConfig, LabelNames
from hwcli.sentiment.frozen import FrozenEncoder
from hwcli.sentiment.predict import accuracy_table, gather_texts, predict, trained_labels
from hwcli.sentiment.prepare import PartName, SentimentData, prepare
from hwcli.sentiment.probes import HOMEWORK_SENTENCES
from hwcli.sentiment.recipe import RECIPE_VERSION
from hwcli.sentiment.summary import SentimentSummary
from hwcli.sentiment.tokens import Tokens
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from hwcli.training.loop import NonFiniteLossError
from hwcli.training.metrics import Mean
from tests.sentiment.tiny import make_encoder, make_reviews, write_csv

GRU = ("head.kind=gru", "head.all_layers=false", "head.hidden=7", "head.dropout=0.5")
MEAN = ("head.kind=mean", "head.all_layers=true")
TUNED = (
    "finetune=true",
    "head.kind=mean",
    "head.all_layers=false",
    "encoder_optimizer.learning_rate=1e-3",
)
PLAIN = (*TUNED[:1], "head.kind=cls", *TUNED[2:])
SMALL = (
    "device=cpu",
    "text.max_length=31",
    "batch_size=13",
    "precision=float32",
    "baselines=false",
)
WAYS = {"gru": GRU, "mean": MEAN, "tuned": TUNED, "plain": PLAIN}


@pytest.fixture(scope="module")
def sources_(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return make_encoder(folder / "tiny"), write_csv(folder / "words.csv", make_reviews(211, seed=1))


@pytest.fixture
def configure(
    sources_: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> Callable[..., Config]:
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))

    def make(*overrides: str, epochs: int = 2) -> Config:
        encoder, data = sources_
        return load(
            Config,
            COMMAND,
            flags={
                "encoder": str(encoder),
                "data.source": str(data),
                "epochs": epochs,
                "name": "tiny",
            },
            overrides=[*SMALL, *overrides],
        )

    return make


def prepare_for(config: Config) -> SentimentData:
    return prepare(config.data, config.encoder, config, config.device, config.precision)


def train(config: Config, out: Path) -> dict[str, Any]:
    with RunFolder(out, COMMAND, config.name, lambda text: None) as folder:
        return json.loads(folder.finish(run(config, folder)).read_text())  # type: ignore[no-any-return]


def test_a_run_learns_shows_and_stores_everything(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    config = configure(*MEAN, "baselines=true", "texts=[a superb film]")
    summary = train(config, tmp_path)
    assert summary["test_accuracy"] > 0.9
    assert (summary["status"], summary["dataset"]) == ("complete", "words")
    assert (summary["official_test"], summary["test_name"]) == (False, "held-out part of words")
    sizes = summary["split_sizes"]
    assert sizes == {"train": 152, "valid": 17, "test": 42}
    assert summary["vocab_size"] == 24
    assert summary["num_trainable_params"] == 4 * 22 + 1
    assert summary["num_params"] > summary["num_trainable_params"]
    assert [epoch["epoch"] for epoch in summary["epochs"]] == [1]
    assert set(summary["epochs"][0]) == {
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "minutes",
    }
    assert set(summary["baselines"]) == {"TF-IDF + logistic regression", "NB-SVM bigrams"}
    texts = [prediction["text"] for prediction in summary["predictions"]]
    assert texts == [*HOMEWORK_SENTENCES, "a superb film"]
    assert set(summary["predictions"][0]) == {"text", "label", "probability_positive"}
    assert np.trace(summary["confusion"]) == round(42 * summary["test_accuracy"])

    folder = tmp_path / COMMAND / "tiny"
    for name in ("config.yaml", "env.json", "metrics.jsonl", "table.csv", "table.md"):
        assert (folder / name).stat().st_size
    assert not (folder / "curves.png").exists()  # logistic regression has no epochs
    for name in ("calibration", "length"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    shown = (folder / "table.md").read_text()
    assert "held-out part of words" in shown
    assert "IMDB test" not in shown
    assert str(tmp_path) not in shown + (folder / "summary.json").read_text()
    card = (folder / "model" / "README.md").read_text()
    assert "the probability that a text like those of words is\npositive" in card
    assert "film" not in card
    again = load_saved(folder / "model", torch.device("cpu")).predict(["a superb film"])
    assert again[0].probability_positive == pytest.approx(
        summary["predictions"][-1]["probability_positive"], abs=1e-6
    )
    assert again[0].label == summary["predictions"][-1]["label"]


@pytest.mark.parametrize("way", ["gru", "tuned", "plain"])
def test_every_way_trains_and_its_model_can_be_loaded(
    way: str, configure: Callable[..., Config], tmp_path: Path
) -> None:
    summary = train(configure(*WAYS[way]), tmp_path)
    everything = summary["num_params"] == summary["num_trainable_params"]
    assert everything == (way != "gru")
    model = tmp_path / COMMAND / "tiny" / "model"
    predictions = load_saved(model, torch.device("cpu")).predict(["it was awful"])
    assert 0 < predictions[0].probability_positive < 1


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("way", ["gru", "tuned"])
def test_an_interrupted_run_goes_on_bit_for_bit(
    way: str,
    configure: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configure(*WAYS[way])
    whole = train(config, tmp_path / "whole")

    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    original = training.batch_loss
    steps = 0

    def stopping(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 17:  # inside the second epoch
            raise StoppedError
        return original(*arguments)

    monkeypatch.setattr(training, "batch_loss", stopping)
    with pytest.raises(StoppedError):
        train(config, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / COMMAND / "tiny" / "summary.json").exists()
    resumed = train(config, tmp_path / "stopped")
    assert steps == 17 + 24 - 16

    assert numbers(resumed) == numbers(whole)
    if way != "tuned":
        assert_same_tensors(head_of(tmp_path / "whole"), head_of(tmp_path / "stopped"))


def numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what a run computed; no times."""
    epochs = [{**epoch, "minutes": None} for epoch in summary["epochs"]]
    kept = ("test_loss", "test_accuracy", "predictions", "probes")
    return {"epochs": epochs, **{key: summary[key] for key in kept}}


def head_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / COMMAND / "tiny" / "model" / "head.safetensors")


def assert_same_tensors(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys() != set()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# The command with a checkpoint after every step, and a pause before it; last it tells its steps.
PROGRAM = """
import os, sys, time
from hwcli import cli
from hwcli.sentiment import training

training.SECONDS_BETWEEN_CHECKPOINTS = 0.0
original, steps = training.batch_loss, 0

def counted(*arguments):
    global steps
    steps += 1
    time.sleep(float(os.environ["PAUSE_S"]))
    return original(*arguments)

training.batch_loss = counted
try:
    cli.main()
finally:
    print(steps, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(sources_: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, data = sources_

    def start(out: Path, pause_s: float = 0.0) -> "subprocess.Popen[str]":
        settings = [text for setting in (*SMALL, *GRU) for text in ("--set", setting)]
        command = [*("--encoder", str(encoder)), *("--data", str(data)), *("--epochs", "2")]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, COMMAND, *command, *settings, "--name", "tiny",
             "--out", str(out)],
            env={
                **os.environ,
                "HW2_CACHE": str(tmp_path / "cache"),
                "OMP_NUM_THREADS": "1",
                "PAUSE_S": str(pause_s),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def finish(out: Path) -> tuple[dict[str, Any], int]:
        with start(out) as program:
            _, told = program.communicate(timeout=300)
        assert program.returncode == 0, told
        path = out / COMMAND / "tiny" / "summary.json"
        return numbers(json.loads(path.read_text())), int(told.splitlines()[-1])

    whole, num_steps = finish(tmp_path / "whole")
    with start(tmp_path / "killed", pause_s=0.3) as program:
        while steps_kept(tmp_path / "killed") < num_steps // 2 + 3:  # inside the second epoch
            assert program.poll() is None
            time.sleep(0.05)
        program.kill()
        program.communicate()
    assert program.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / COMMAND / "tiny" / "summary.json").exists()
    resumed, num_steps_left = finish(tmp_path / "killed")
    assert num_steps_left <= num_steps - num_steps // 2 - 3
    assert resumed == whole
    assert_same_tensors(head_of(tmp_path / "whole"), head_of(tmp_path / "killed"))


def steps_kept(out: Path) -> int:
    """Return the steps that the checkpoint of a run's training stands at; 0 before the first."""
    for path in out.glob(f"{COMMAND}/trials/*/checkpoint.safetensors"):
        with safe_open(path, framework="pt") as file:
            step: int = json.loads(file.metadata()["position"])["step"]
            return step
    return 0


@pytest.mark.parametrize("keep", ["best", "last"])
def test_where_the_loss_rises_the_best_epoch_is_the_first_and_the_last_is_the_last(
    keep: str,
    configure: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after_epoch: list[dict[str, torch.Tensor]] = []

    def rising(logits: torch.Tensor, labels: torch.Tensor) -> Mean:
        return Mean(loss_sum=float(len(after_epoch)), num_correct=1, num_examples=1)

    original = FrozenEncoder.predict

    def watched(self: FrozenEncoder, part: PartName) -> torch.Tensor:
        if part == "valid":
            after_epoch.append({name: t.clone() for name, t in self.model.state_dict().items()})
        return original(self, part)

    monkeypatch.setattr(training, "mean_of", rising)
    monkeypatch.setattr(FrozenEncoder, "predict", watched)
    summary = train(configure(*GRU, f"keep={keep}"), tmp_path)
    assert [epoch["valid_loss"] for epoch in summary["epochs"]] == [1.0, 2.0]
    first, last = after_epoch
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert_same_tensors(head_of(tmp_path), first if keep == "best" else last)
    # The weights of the best epoch are kept beside the checkpoint only if they are asked for.
    kept = list(tmp_path.glob(f"{COMMAND}/trials/*/best.safetensors"))
    assert len(kept) == (keep == "best")


def test_a_training_that_starts_over_ends_with_weights_of_its_own(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    config = configure(*GRU, "keep=best")
    train(config, tmp_path)
    own = head_of(tmp_path)
    (kept,) = tmp_path.glob(f"{COMMAND}/trials/*/best.safetensors")
    kept.with_name("checkpoint.safetensors").unlink()
    # Of an earlier training, whose numbers were better: another processor's or version's.
    others = {name: torch.full_like(tensor, 7.0) for name, tensor in load_file(kept).items()}
    kept.write_bytes(save(others, {"valid_loss": "0.0"}))
    train(config, tmp_path)
    assert_same_tensors(head_of(tmp_path), own)


def test_the_first_losses_change_only_with_the_recipe_version(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raise RECIPE_VERSION when this fails, or half-trained models of the old one go on."""
    losses = []
    original = training.batch_loss

    def watched(*arguments: Any) -> Any:
        outcome = original(*arguments)
        losses.append(outcome.loss.item())
        return outcome

    monkeypatch.setattr(training, "batch_loss", watched)
    train(configure(*GRU, epochs=1), tmp_path)
    assert RECIPE_VERSION == 3
    assert losses[:10] == pytest.approx(GOLDEN_LOSSES, abs=2e-4)


GOLDEN_LOSSES = [
    0.75634,
    0.73856,
    0.62699,
    0.71716,
    0.69727,
    0.70460,
    0.72706,
    0.70933,
    0.67370,
    0.69130,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_plan_trains_and_writes_nothing(
    way: str, configure: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(*WAYS[way])
    planned = plan(config, RunFolder(tmp_path / "out", COMMAND, config.name))
    assert isinstance(planned.shown, Table)
    shown = planned.shown.to_markdown()
    assert "152 / 17 / 42" in shown
    assert "112,241,409" in shown
    assert planned.seconds is not None
    assert planned.seconds > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("head.kind=gru", "head.all_layers=true"), "head.all_layers = True: only a pooled head"),
        ((*TUNED, "head.all_layers=true"), "head.all_layers = True: only a pooled head"),
        ((*PLAIN, "num_encoder_layers=2"), "num_encoder_layers = 2: a fine-tuned cls head"),
        (("optimizer.kind=muon",), "optimizer.kind = 'muon': only adamw trains here"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    overrides: tuple[str, ...], line: str, configure: Callable[..., Config]
) -> None:
    with pytest.raises(ConfigError, match=line.replace("(", r"\(").replace("*", r"\*")):
        configure(*overrides)


def test_a_text_longer_than_the_encoder_reads_is_refused(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"text.max_length = 64: tiny reads at most 37 tokens"):
        train(configure("text.max_length=64"), tmp_path)


@pytest.mark.parametrize(("num_known", "warned"), [(9, True), (24, False)])
def test_reviews_in_another_language_than_the_encoders_are_told(
    num_known: int,
    warned: bool,
    configure: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = "film " * num_known
    rows = [f"{i} {known},{label}" for i in range(11) for label in ("neg", "pos")]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    monkeypatch.setenv("HOME", str(tmp_path))
    config = configure("data.source=~/a.csv")
    prepare_for(config)
    line = "warning: 10% of the tokens are unknown to tiny; are the reviews in its language?"
    assert (line in capsys.readouterr().err) == warned  # 1 of 10, and 1 of 25


def test_texts_of_training_in_the_other_parts_are_told(
    configure: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, texts in (("train", ("good", "bad")), ("validation", ("good",)), ("test", ("fine",))):
        rows = [f"{text},{int(text != 'bad')}" for text in texts]
        (tmp_path / f"{part}.csv").write_text("\n".join(["text,label", *rows]))
    config = configure(f"data.source={tmp_path}")
    prepare_for(config)
    line = "0 test texts also occur in training or validation, 1 validation texts in training"
    assert line in capsys.readouterr().err


def test_a_mistake_in_the_data_leaves_an_earlier_result_alone(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    train(configure(*MEAN), tmp_path)
    path = tmp_path / COMMAND / "tiny" / "summary.json"
    before = path.read_bytes()
    (tmp_path / "bad.csv").write_text("text,mark\nx,5\n")
    with pytest.raises(SourceError, match="which column is the label"):
        train(configure(*MEAN, f"data.source={tmp_path / 'bad.csv'}"), tmp_path)
    assert path.read_bytes() == before


def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(*TUNED, "encoder_dropout=0", "head.dropout=0")
    data = prepare_for(config)
    rows, labels = np.arange(13), training.labels_of(data.split.train)[:13]
    found = []
    for at_once in (10_000, 64):
        monkeypatch.setattr(finetuned, "TOKENS_AT_ONCE", at_once)
        source = finetuned.FinetunedEncoder(config, data, tmp_path)
        outcome = training.batch_outcome(source, rows, labels)
        outcome.loss.backward()
        gradients = [p.grad for p in source.model.parameters() if p.grad is not None]
        found.append((outcome, gradients))
        assert (len(source.parts_of(rows)) == 1) == (at_once > 64)
    (whole, whole_gradients), (parts, part_gradients) = found
    assert parts.loss.item() == pytest.approx(whole.loss.item(), abs=1e-5)
    assert (parts.num_correct, parts.num_examples) == (whole.num_correct, 13)
    for ours, theirs in zip(part_gradients, whole_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_a_training_that_another_machine_left_unfinished_is_named(
    configure: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = TrialStore(tmp_path / COMMAND / "trials")
    data = prepare_for(configure(*GRU))

    def named(precision: str, **other: int) -> Trial:
        config = configure(*GRU, epochs=1).model_copy(update=other)
        return identify(config, replace(data, precision=getattr(torch, precision)))

    def begin(trial: Trial) -> None:
        store.folder(trial).prepare(trial)
        store.folder(trial).checkpoint.write_bytes(b"half of it")

    assert note_on_unfinished(named("float32"), store) is None
    begin(named("bfloat16", seed=1))  # another training
    assert note_on_unfinished(named("float32"), store) is None
    begin(named("bfloat16"))
    note = note_on_unfinished(named("float32"), store)
    assert note is not None
    assert note.endswith("which differs only in that: --set precision=bfloat16")
    assert note_on_unfinished(named("bfloat16"), store) is None  # it goes on by itself
    capsys.readouterr()
    train(configure(*GRU, epochs=1), tmp_path)
    assert note in capsys.readouterr().err
    assert note_on_unfinished(named("float32"), store) is None


def test_where_a_training_was_made_is_kept_with_it(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentiment_train, "figures", lambda summary: {})
    config = configure(*GRU, epochs=1)
    train(config, tmp_path)
    (trained,) = TrialStore(tmp_path / COMMAND / "trials").folders()
    kept = json.loads(trained.environment.read_text())
    assert (kept["device"], kept["dtype"]) == ("cpu", "float32")
    trained.environment.write_text(json.dumps({**kept, "cpu": "another"}))
    train(config, tmp_path)  # which only tests it again
    assert json.loads(trained.environment.read_text())["cpu"] == "another"


def test_a_run_that_stops_after_its_test_does_not_test_again(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = []
    original = Tokens.pad

    def counted(self: Tokens, *arguments: Any, **named: Any) -> Any:
        tested.append(len(self) == 42)
        return original(self, *arguments, **named)

    def stop(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr(Tokens, "pad", counted)
    monkeypatch.setattr(sentiment_train, "figures", lambda summary: {})
    config = configure(*TUNED, "baselines=true", epochs=1)
    with monkeypatch.context() as patch:
        patch.setitem(BASELINES, NBSVM, stop)
        with pytest.raises(StoppedError):
            train(config, tmp_path)
    (kept,) = tmp_path.glob(f"{COMMAND}/trials/*/{finetuned.TEST_LOGITS}")
    assert any(tested)
    tested.clear()
    first = load_file(kept)["logits"]
    summary = train(config, tmp_path)
    assert not any(tested)
    assert not kept.exists()
    labels = prepare_for(config).split.test.labels
    assert summary["test_accuracy"] == pytest.approx(mean_of(first, torch.tensor(labels)).accuracy)


def test_a_file_is_judged_by_what_its_labels_meant_in_training(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentiment_train, "figures", lambda summary: {})
    reviews = make_reviews(101, seed=3)
    path = tmp_path / "flipped.csv"
    pairs = zip(reviews.texts, reviews.labels, strict=True)
    path.write_text("\n".join(["text,label", *(f"{text},{1 - label}" for text, label in pairs)]))
    labels = "data.labels={negative: [1], positive: [0]}"
    summary = train(configure(*MEAN, f"data.source={path}", labels), tmp_path)
    assert summary["test_accuracy"] > 0.9
    runs, told = [tmp_path / COMMAND / "tiny"], list[str]()

    def meaning() -> LabelNames | None:
        return trained_labels(runs, tmp_path)

    texts = gather_texts([], path, DataConfig(), told.append, meaning)
    assert told == ["accuracy: labels as in training: 1 for negative; 0 for positive"]
    assert texts.classes is not None
    models = predict(texts.texts, runs, "cpu", told.append)
    assert accuracy_table(texts.classes, models).rows[0]["accuracy"] > 0.9


@pytest.mark.parametrize(("way", "section"), [("gru", "optimizer"), ("tuned", "encoder_optimizer")])
def test_a_loss_that_is_no_number_names_the_learning_rate_of_what_is_trained(
    way: str,
    section: str,
    configure: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise NonFiniteLossError("the loss is nan at step 1")

    monkeypatch.setattr(training, "train", fail)
    line = rf"^the loss is nan at step 1; take a lower {section}\.learning_rate$"
    with pytest.raises(ConfigError, match=line):
        train(configure(*WAYS[way]), tmp_path)


def test_a_disk_that_does_not_hold_all_parts_is_told_before_the_first_is_encoded(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(*GRU)
    data = prepare_for(config)
    largest = 2 * 22 * int(data.train.lengths.sum())
    usage = shutil.disk_usage(tmp_path)._replace(free=features.SPARE_BYTES + largest)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="features need"):
        FrozenEncoder(config, data)
    assert not list(tmp_path.rglob("states.f16"))


def test_kept_states_are_described_by_device_and_attention(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    described = []

    def describe(*arguments: Any, **named: Any) -> Any:
        described.append((named["device"], named["attention"]))
        return features.manifest(*arguments, **named)

    monkeypatch.setattr(encoders, "attention_for", lambda device, precision: "eager")
    monkeypatch.setattr(frozen, "manifest", describe)
    config = configure(*MEAN)
    data = prepare_for(config)
    FrozenEncoder(config, data)
    assert described == [("cpu", "eager")] * 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nA hint"), 2),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"), 2),
        (RuntimeError("shapes do not fit"), None),
    ],
)
def test_a_gpu_without_memory_says_so_in_one_line(
    error: RuntimeError,
    code: int | None,
    configure: Callable[..., Config],
    hw2: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(configure(*MEAN)))
    monkeypatch.setattr(sentiment_train, "prepare", fail)
    arguments = (COMMAND, "--config", str(path), "--out", str(tmp_path))
    if code is None:
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            hw2(*arguments)
        return
    assert hw2(*arguments) == code
    said = capsys.readouterr().err
    assert said.startswith("error: the GPU is out of memory: take smaller batches")
    assert "--device cpu" in said
    assert said.count("\n") == 1


def test_the_command_keeps_its_summary_before_it_shows_anything(
    configure: Callable[..., Config],
    hw2: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NobodyReadsError(Exception):
        pass

    def closed(*_: object, **__: object) -> None:
        raise NobodyReadsError

    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(configure(*MEAN)))
    monkeypatch.setattr(terminal.output, "print", closed)
    with pytest.raises(NobodyReadsError):
        hw2(COMMAND, "--config", str(path), "--out", str(tmp_path))
    assert (tmp_path / COMMAND / "tiny" / "summary.json").exists()


def test_reference_summaries_are_read_and_written_as_they_are() -> None:
    reference = Path(__file__).parents[2] / "results/reference" / COMMAND
    paths = sorted(reference.glob("*/summary.json"))
    assert paths
    for path in paths:
        stored = json.loads(path.read_text())
        summary = SentimentSummary.model_validate(stored)
        assert {**summary.model_dump(mode="json"), **stored} == summary.model_dump(mode="json")
        assert summary.assignment.total == 112_241_409
        assert summary.assignment.trainable == 2_759_169


@pytest.mark.slow
def test_the_assignments_model_trains_a_few_steps_from_random_weights(
    tmp_path: Path, sources_: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset as it is, but for the weights and the number of reviews."""
    from transformers import BertConfig, BertModel

    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))
    tiny, data = sources_
    folder = tmp_path / "bert-base-uncased"
    shutil.copytree(tiny, folder)
    vocabulary = [f"word{i}" for i in range(30_522 - 24)]
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    known = tokenizer["model"]["vocab"]
    known.update({word: len(known) + i for i, word in enumerate(vocabulary)})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    BertModel(BertConfig()).save_pretrained(folder)
    config = load(
        Config,
        COMMAND,
        preset="bert",
        flags={"data.source": str(data), "encoder": str(folder)},
        overrides=["batch_size=13", "split.train_limit=26", "device=cpu", "baselines=false"],
    )
    summary = train(config, tmp_path / "out")
    assert summary["num_params"] == 112_241_409
    assert summary["num_trainable_params"] == 2_759_169
    assert summary["vocab_size"] == 30_522
    assert len(summary["epochs"]) == 2


def test_sentences_of_your_own_extend_a_finished_run_and_are_not_lost() -> None:
    def config(*texts: str, **more: Any) -> Config:
        flags = {"texts": list(texts) or None, **more}
        return load(Config, COMMAND, preset="strong", flags=flags)

    shipped, mine = config(), config("My own review.")
    assert mine.contains(shipped)
    assert config("My own review.", "Another.").contains(mine)
    assert not shipped.contains(mine)
    assert not config("My own review.", seed=1).contains(shipped)

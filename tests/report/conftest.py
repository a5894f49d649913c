"""Run folders as the experiments write them, with made-up numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hwcli.config import dump_yaml, load

COMMITTED = Path(__file__).parents[2] / "results/reference"

ENVIRONMENT = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "command_line": ["hw2", "made-up"],
    "hw2": "0.1.0",
    "python": "3.11.7",
    "versions": {"torch": "2.15.0"},
    "platform": "Linux x86_64",
    "cpu": "a processor",
    "cores": 2,
    "memory_bytes": 2**34,
    "device": "cpu",
    "threads": 1,
    "dtype": "bfloat16",
}


def write_run(
    root: Path, command: str, name: str, config: object, summary: dict[str, Any], records: list[Any]
) -> Path:
    folder = root / command / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_yaml(config))  # type: ignore[arg-type]
    environment = {**ENVIRONMENT, "command_line": ["hw2", command, "--preset", name]}
    (folder / "env.json").write_text(json.dumps(environment))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines)
    full = {"command": command, "name": name, "status": "complete", **summary}
    (folder / "summary.json").write_text(json.dumps(full))
    return folder


def write_sweep(root: Path, name: str, *, attention: str = "softmax", **more: Any) -> Path:
    """A grid of 15 cells whose accuracies are all different."""
    from hwcli.experiments import vit_sweep
    from hwcli.output.files import write_atomic
    from hwcli.vision.record import record_files
    from hwcli.vision.summary import summarize
    from tests.vision import made_up

    config = load(
        vit_sweep.Config,
        "vit-sweep",
        preset="quick",
        flags={"name": name, "model.attention": attention, "epochs": 2},
    )
    accuracies = {
        (n, h): [9017 - 13 * i]
        for i, (n, h) in enumerate((n, h) for n in config.layers for h in config.heads)
    }
    record = made_up.record(
        accuracies, num_images=10_000, num_epochs=2, model=config.model.model_dump()
    )
    summary = summarize(
        name, config, record, None, num_run=15, precision="bfloat16", kernels="torch"
    )
    values = {**summary.model_dump(mode="json"), **more}
    folder = write_run(root, "vit-sweep", name, config, values, [])
    for file, content in record_files(record).items():
        write_atomic(folder / file, content)
    return folder


def write_sentiment(root: Path, name: str) -> Path:
    from hwcli.experiments import sentiment_train
    from hwcli.sentiment.probes import HOMEWORK_SENTENCES

    config = load(sentiment_train.Config, "sentiment-train", preset=name)
    texts = [*HOMEWORK_SENTENCES, *config.texts]
    said = [
        {
            "text": text,
            "label": ("negative", "positive")[i % 2],
            "probability_positive": i % 2 * 0.9,
        }
        for i, text in enumerate(texts)
    ]
    summary = {
        "dataset": "imdb",
        "test_name": "IMDB's test reviews",
        "encoder": "all-MiniLM-L6-v2",
        "split_sizes": {"train": 17500, "valid": 7500, "test": 25000},
        "vocab_size": 30522,
        "num_params": 23456789,
        "num_trainable_params": 2345678,
        "epochs": [
            {
                "epoch": e,
                "train_loss": 0.5 / e,
                "train_accuracy": 0.8,
                "valid_loss": 0.4 / e,
                "valid_accuracy": 0.85,
                "minutes": 1.25,
            }
            for e in (1, 2)
        ],
        "test_loss": 0.2345,
        "test_accuracy": 0.9123,
        "test_accuracy_se": 0.0018,
        "baselines": {"TF-IDF + logistic regression": 0.9056, "NB-SVM bigrams": 0.9157},
        "predictions": said,
        "probes": [
            {"text": "It cost $5, then $6.", "label": "negative", "probability_positive": 0}
        ],
        "confusion": [[11000, 1500], [693, 11807]],
    }
    return write_run(root, "sentiment-train", name, config, summary, [])


def link_committed(root: Path, *names: str) -> None:
    """Copy runs that the repository holds."""
    for name in names:
        shutil.copytree(COMMITTED / name, root / name)


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """Every run that the report can show."""
    root = tmp_path / "runs"
    link_committed(root, "rnn-trace/alternating-sum", "attention-bench/default")
    write_sweep(root, "standard")
    write_sentiment(root, "homework")
    write_sentiment(root, "strong")
    return root

"""Train on a frozen encoder: the notebook's way against hw2's, epoch by epoch in turns.

The notebook's way: reviews in random order, padded to their batch, through the encoder again in
every epoch, all in float32; ``torch.nn.GRU``, or the mean over tokens and one linear layer. hw2's:
encoded once, sorted by length, in bfloat16 where the CPU has it; then the head alone. Both read
the same reviews, train the same number of weights with the same optimiser and batch size, and
are judged on the same validation reviews after every epoch. The time of hw2's first epoch
includes all encoding.

    python tests/benchmarks/sentiment_speed.py [--train 512] [--valid 256] [--epochs 5]
        [--isa native|avx512|avx2] [--save]

``--isa`` holds both to a processor's instructions, as in vit_speed.py. The last line is one JSON
object; ``--save`` puts it into sentiment_speed.json under the name of the instructions.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from instructions import ISAS, hold_to, restart_with
from torch import Tensor, nn

from hwcli import resources, runtime
from hwcli.config import load
from hwcli.data.cache import cache_folder
from hwcli.experiments.sentiment_train import COMMAND, Config
from hwcli.fingerprint import fingerprint
from hwcli.output import terminal
from hwcli.output.tables import Column, Table
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.classifier import make_head, mean_of
from hwcli.sentiment.features import cached_features, manifest
from hwcli.sentiment.frozen import FeaturePart
from hwcli.sentiment.heads import FrozenPooledHead
from hwcli.sentiment.prepare import SentimentData, prepare
from hwcli.sentiment.tokens import Tokens, valid_tokens
from hwcli.sentiment.training import batch_loss, epoch_batches, labels_of
from hwcli.training.metrics import standard_error
from hwcli.training.optimizers import make_optimizers
from hwcli.training.step import autocast

CPU = torch.device("cpu")
FIGURES = Path(__file__).with_suffix(".json")
# Seconds since its start, and validation accuracy.
Epoch = tuple[float, float]


class NotebookGRU(nn.Module):
    """The homework's head as its notebook has it: padding is read like everything else."""

    def __init__(self, width: int):
        super().__init__()
        self.rnn = nn.GRU(
            width, 256, num_layers=2, bidirectional=True, batch_first=True, dropout=0.25
        )
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(512, 1)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        _, hidden = self.rnn(states)
        return self.out(self.dropout(torch.cat([hidden[-2], hidden[-1]], dim=1))).squeeze(1)


class NotebookMean(nn.Module):
    """The mean over a review's tokens and one linear layer."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.out = nn.Linear(width, 1)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        mask = valid_tokens(lengths, states.shape[1])[:, :, None]
        return self.out(self.norm((states * mask).sum(1) / lengths[:, None])).squeeze(1)


def notebook_way(config: Config, data: SentimentData) -> Iterator[Epoch]:
    """Run the frozen encoder again for every batch of every epoch."""
    from transformers import AutoModel

    torch.manual_seed(config.seed)
    # Transformers' own choice of attention, as the notebook gets it.
    encoder = AutoModel.from_pretrained(data.encoder_folder, dtype=torch.float32).eval()
    if config.num_encoder_layers is not None:
        encoder.encoder.layer = encoder.encoder.layer[: config.num_encoder_layers]
    width = encoders.width(encoder)
    head = NotebookGRU(width) if config.head.kind == "gru" else NotebookMean(width)
    (optimizer,) = make_optimizers(head, config.optimizer)
    labels = labels_of(data.split.train)
    valid_labels = labels_of(data.split.valid)
    generator = torch.Generator().manual_seed(config.seed)
    spent = 0.0
    for _ in range(config.epochs):
        started = time.perf_counter()
        head.train()
        order = torch.randperm(len(labels), generator=generator)
        for rows in order.split(config.batch_size):
            ids, lengths = padded_to_longest(data.train, rows)
            with torch.no_grad():
                states = encoder(ids, valid_tokens(lengths, ids.shape[1]).long())[0]
            batch_loss(head(states, lengths), labels[rows]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        head.eval()
        logits = []
        with torch.no_grad():
            for rows in torch.arange(len(valid_labels)).split(config.batch_size):
                ids, lengths = padded_to_longest(data.valid, rows)
                states = encoder(ids, valid_tokens(lengths, ids.shape[1]).long())[0]
                logits.append(head(states, lengths))
        spent += time.perf_counter() - started
        yield spent, mean_of(torch.cat(logits), valid_labels).accuracy


def padded_to_longest(tokens: Tokens, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch as the notebook pads it, to its longest review: ids (B, T), lengths (B,)."""
    ids, lengths = tokens.pad(rows.numpy())
    return ids[:, : lengths.max()], lengths


def our_way(config: Config, data: SentimentData, cache: Path) -> Iterator[Epoch]:
    """Encode once, then train the head alone."""
    precision = data.precision
    started = time.perf_counter()
    encoder = encoders.load_encoder(
        data.encoder_folder,
        num_layers=config.num_encoder_layers,
        attention=encoders.attention_for(CPU, precision),
    ).to(precision)
    torch.manual_seed(config.seed)
    head = make_head(config.head, encoder, finetuned=False)
    parts = []
    for tokens in (data.train, data.valid):
        description = manifest(
            tokens,
            kind="tokens" if config.head.kind == "gru" else config.head.kind,
            encoder_digest="benchmark",
            num_layers=config.num_encoder_layers,
            precision=str(precision),
        )
        known = cached_features(cache, tokens, encoder, description, device=CPU)
        pooled = None if config.head.kind == "gru" else known.whole()
        parts.append(FeaturePart(known, pooled, CPU))
    training, valid = parts
    if isinstance(head, FrozenPooledHead):
        assert training.pooled is not None
        head.standardize_by(training.pooled)
    (optimizer,) = make_optimizers(head, config.optimizer)
    labels, valid_labels = labels_of(data.split.train), labels_of(data.split.valid)
    spent = time.perf_counter() - started
    for epoch in range(config.epochs):
        started = time.perf_counter()
        head.train()
        for rows in epoch_batches(data.train, config, epoch):
            with autocast(CPU, precision):
                logits = training.logits(head, rows)
            batch_loss(logits, labels[rows]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        logits = valid.predict(head, precision)
        spent += time.perf_counter() - started
        yield spent, mean_of(logits, valid_labels).accuracy


def compare(kind: str, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Run both ways, an epoch of each in turns."""
    config = load(
        Config,
        COMMAND,
        preset="homework",
        flags={"data.source": arguments.data, "head.kind": kind, "epochs": arguments.epochs},
        overrides=[
            f"split.train_limit={arguments.train}",
            f"split.valid_limit={arguments.valid}",
            "split.test_limit=1",
            "batch_size=32",
            "num_encoder_layers=null",
            "head.dropout=0.25" if kind == "gru" else "head.dropout=0.0",
        ],
    )
    data = prepare(config.data, config.encoder, config, config.device, config.precision)
    rows = []
    with tempfile.TemporaryDirectory(dir=_scratch()) as cache:
        turns = zip(notebook_way(config, data), our_way(config, data, Path(cache)), strict=True)
        for epoch, ((theirs_s, theirs), (ours_s, ours)) in enumerate(turns, start=1):
            rows.append(
                {
                    "head": kind,
                    "epoch": epoch,
                    "notebook_s": theirs_s,
                    "hw2_s": ours_s,
                    "ratio": theirs_s / ours_s,
                    "notebook_accuracy": theirs,
                    "hw2_accuracy": ours,
                    "se": standard_error(ours, arguments.valid),
                }
            )
            terminal.log(f"{kind}, epoch {epoch}: {theirs_s:.1f} s against {ours_s:.1f} s")
    return rows


def _scratch() -> Path:
    """Return where features go: the disk that the program itself would use."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Compare both heads and print the table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=512)
    parser.add_argument("--valid", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", default=None)
    isas = [name for name, isa in ISAS.items() if isa.compiler]
    parser.add_argument("--isa", choices=isas, default="native")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    restart_with(arguments.isa)
    hold_to(arguments.isa)
    torch.set_num_threads(resources.num_cores())
    rows = [row for kind in ("gru", "mean") for row in compare(kind, arguments)]
    terminal.show(
        Table(
            title=(
                f"A frozen encoder, {arguments.train} reviews, "
                f"{resources.num_cores()} threads: seconds up to and with each epoch"
            ),
            columns=[
                Column("head", "head"),
                Column("epoch", "epoch"),
                Column("notebook_s", "notebook's way", "{:.1f} s"),
                Column("hw2_s", "hw2", "{:.1f} s"),
                Column("ratio", "ratio", "{:.2f}"),
                Column("notebook_accuracy", "its validation accuracy", "{:.1%}"),
                Column("hw2_accuracy", "ours", "{:.1%}"),
                Column("se", "standard error", "{:.1%}"),
            ],
            rows=rows,
        )
    )
    machine = fingerprint()
    figures: dict[str, object] = {
        "benchmark": "sentiment_speed",
        "isa": arguments.isa,
        "train": arguments.train,
        "valid": arguments.valid,
    }
    for kind, suffix in (("gru", ""), ("mean", "_mean")):
        own = [row for row in rows if row["head"] == kind]
        figures[f"ratio_one_epoch{suffix}"] = own[0]["ratio"]
        figures[f"ratio_{_spelled(arguments.epochs)}_epochs{suffix}"] = own[-1]["ratio"]
        gap = np.subtract(own[-1]["notebook_accuracy"], own[-1]["hw2_accuracy"])
        figures[f"accuracy_gap{suffix}"] = float(gap)
        figures[f"accuracy_gap_se{suffix}"] = float(own[-1]["se"]) * 2**0.5  # type: ignore[arg-type]
    figures |= {
        "rows": rows,
        "precision": "bfloat16" if runtime.has_fast_bf16(CPU) else "float32",
        "threads": resources.num_cores(),
        "cpu": machine["cpu"],
        "commit": machine["commit"],
        "torch": torch.__version__,
    }
    if arguments.save:
        known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        FIGURES.write_text(json.dumps({**known, arguments.isa: figures}, indent=4) + "\n")
    print(json.dumps(figures))


def _spelled(number: int) -> str:
    return {2: "two", 3: "three", 5: "five"}.get(number, str(number))


if __name__ == "__main__":
    main()

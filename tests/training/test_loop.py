import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwcli.errors import OutputError
from hwcli.training.checkpoint import restore_checkpoint, save_checkpoint
from hwcli.training.loop import NonFiniteLossError, TrainingClock, TrainingJob, train
from hwcli.training.metrics import Mean
from hwcli.training.optimizers import OptimizerConfig, make_optimizers
from hwcli.training.progress import Progress
from hwcli.training.step import STEPS_BEFORE_RECORDING, BatchOutcome, Recording

INPUTS = torch.randn(23, 5, generator=torch.Generator().manual_seed(1))
TARGETS = (INPUTS.sum(dim=1) > 0).long()


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")


class Network(nn.Module):
    """Has dropout, so that the random generator's state matters."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.dropout, self.last = nn.Linear(5, 7), nn.Dropout(0.3), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.dropout(F.relu(self.hidden(x))))
        return y

    def hidden_matrices(self) -> list[nn.Parameter]:
        return [self.hidden.weight]


class StoppedError(Exception):
    pass


def work(
    *,
    stop_at: int | None = None,
    spoil_at: int | None = None,
    device: str = "cpu",
    recorded: bool = False,
) -> TrainingJob[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = Network().to(device)
    inputs, targets = INPUTS.to(device), TARGETS.to(device)
    num_seen = 0

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal num_seen
        order = torch.randperm(23, generator=torch.Generator().manual_seed(epoch)).to(device)
        for rows in order.split(5):
            num_seen += 1
            if num_seen == stop_at:
                raise StoppedError
            yield inputs[rows] * (math.nan if num_seen == spoil_at else 1), targets[rows]

    def batch_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> BatchOutcome:
        logits = model(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        return BatchOutcome(loss, (logits.argmax(1) == batch[1]).sum(), len(batch[1]))

    def evaluate(model: nn.Module) -> Mean:
        assert not model.training
        with torch.no_grad():
            logits = model(inputs)
        loss = F.cross_entropy(logits, targets, reduction="sum").item()
        return Mean(loss, int((logits.argmax(1) == targets).sum()), 23)

    config = OptimizerConfig(kind="muon", learning_rate=0.02)
    return TrainingJob(
        model=model,
        optimizers=make_optimizers(model, config),
        batches=batches,
        batch_loss=batch_loss,
        evaluate=evaluate,
        epoch_costs=[1.0] * 4,
        steps_per_epoch=5,
        warmup_fraction=0.1,
        precision=torch.float32,
        device=torch.device(device),
        recorded=recorded,
    )


def numbers(history: list[Any]) -> list[tuple[float, ...]]:
    return [(e.train_loss, e.train_accuracy, e.valid_loss, e.valid_accuracy) for e in history]


def test_what_is_done_is_told_as_work_where_epochs_are_not_alike() -> None:
    job, shares = replace(work(), epoch_costs=[1.0, 1.0, 3.0, 3.0]), list[float]()
    assert [job.work_done(step) for step in (0, 5, 10, 15, 20)] == [0, 1 / 8, 2 / 8, 5 / 8, 1]
    assert job.work_done(12) == pytest.approx((2 + 3 * 2 / 5) / 8)
    train(job, on_progress=lambda progress: shares.append(progress.share))
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_training_learns_and_counts_every_example() -> None:
    events: list[Progress] = []
    history = train(work(), on_progress=events.append)
    assert [epoch.epoch for epoch in history] == [0, 1, 2, 3]
    assert history[-1].valid_loss < history[0].valid_loss
    assert history[0].train_accuracy * 23 == pytest.approx(round(history[0].train_accuracy * 23))
    assert [e.finished for e in events if e.finished] == history
    assert [e.share for e in events if e.finished] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("stop_at", [1, 4, 6, 13, 20])
@pytest.mark.parametrize("checkpoint_every_s", [math.inf, 0.0])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, stop_at: int, checkpoint_every_s: float, device: str
) -> None:
    whole = work(device=device, recorded=True)
    expected = train(whole)
    checkpoint = tmp_path / "c.safetensors"
    stopped = work(stop_at=stop_at, device=device, recorded=True)
    with pytest.raises(StoppedError):
        train(stopped, checkpoint, checkpoint_every_s=checkpoint_every_s)
    again = work(device=device, recorded=True)
    history = train(again, checkpoint, checkpoint_every_s=checkpoint_every_s)
    assert numbers(history) == numbers(expected)
    for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("checkpoint_every_s", [math.inf, 0.0])
@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_run_stopped_while_it_evaluates_loses_no_epoch(
    tmp_path: Path, stop_at: int, checkpoint_every_s: float
) -> None:
    expected, checkpoint = train(work()), tmp_path / "c.safetensors"
    stopped, evaluated = work(), list[int]()

    def evaluate(model: nn.Module) -> Mean:
        evaluated.append(1)
        if len(evaluated) == stop_at:
            raise StoppedError
        return stopped.evaluate(model)

    with pytest.raises(StoppedError):
        train(
            replace(stopped, evaluate=evaluate), checkpoint, checkpoint_every_s=checkpoint_every_s
        )
    history = train(work(), checkpoint, checkpoint_every_s=checkpoint_every_s)
    assert numbers(history) == numbers(expected)


@needs_cuda
def test_a_recorded_step_trains_as_an_unrecorded_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(work(device="cuda"))
    replayed: list[tuple[Tensor, ...]] = []
    replay = Recording.replay

    def watched(self: Recording, batch: tuple[Tensor, ...]) -> BatchOutcome:
        replayed.append(batch)
        return replay(self, batch)

    monkeypatch.setattr(Recording, "replay", watched)
    history = train(work(device="cuda", recorded=True))
    assert len(replayed) == 4 * 4 - STEPS_BEFORE_RECORDING
    torch.testing.assert_close(torch.tensor(numbers(history)), torch.tensor(numbers(expected)))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step() -> None:
    with pytest.raises(NonFiniteLossError, match="the loss is nan at step 8"):
        train(work(spoil_at=8))


def test_a_finished_run_is_returned_from_its_checkpoint_without_training(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.safetensors"
    expected = train(work(), checkpoint)
    assert train(work(stop_at=1), checkpoint) == expected


def flip_a_bit(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 4]) + content[-4:]


DAMAGE = {
    "truncate": lambda content: content[:-9],
    "garbage": lambda content: bytes(99),
    "empty": lambda content: b"",
    "one bit": flip_a_bit,
    "edited": lambda content: content.replace(b'\\"step\\": 5', b'\\"step\\": 9'),
}


@pytest.mark.parametrize("damage", [*DAMAGE, "other model", "a folder"])
def test_a_damaged_checkpoint_is_told_and_never_loaded(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    job = work(stop_at=6)
    with pytest.raises(StoppedError):
        train(job, path)
    assert b'\\"step\\": 5' in path.read_bytes()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "other model":
        save_checkpoint(path, nn.Linear(2, 2), [], {"step": 1})
    else:
        content = path.read_bytes()
        assert DAMAGE[damage](content) != content
        path.write_bytes(DAMAGE[damage](content))
    model = Network()
    before = [p.clone() for p in model.parameters()]
    assert restore_checkpoint(path, model, []) is None
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    events: list[Progress] = []
    if damage == "a folder":
        with pytest.raises(OutputError, match=r"c\.safetensors: cannot be written"):
            train(work(), path)
    else:
        assert numbers(train(work(), path, events.append)) == numbers(train(work()))
        assert events[0].note == "c.safetensors is damaged; training starts over"


def test_a_validation_loss_that_is_not_finite_stops_the_run_too() -> None:
    job = replace(work(), evaluate=lambda model: Mean(math.nan, 1, 23))
    with pytest.raises(NonFiniteLossError, match="the validation loss is nan after step 5"):
        train(job)


def test_a_pause_does_not_count_as_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"wall": 100.0, "processor": 7.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "process_time", lambda: now["processor"])

    def passes(wall: float, processor: float) -> float:
        now["wall"] += wall
        now["processor"] += processor
        return clock.read()

    clock = TrainingClock(3.0)
    assert passes(0.5, 0.5) == pytest.approx(3.5)
    assert passes(1.5, 0.0) == pytest.approx(5.0)  # a GPU works
    assert passes(900.0, 0.25) == pytest.approx(5.25)  # a closed lid
    assert passes(3.0, 2.0) == pytest.approx(8.25)  # a long step on a busy machine
    now["wall"] += 50.0
    clock.skip()
    assert clock.read() == pytest.approx(8.25)
    clock = TrainingClock(finds_pauses=False)
    assert passes(3.0, 0.1) == pytest.approx(3.0)  # fifty steps of a GPU

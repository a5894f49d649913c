"""Question 3: how does a Vision Transformer's accuracy depend on its layers and heads?

One plain ViT on 4x4 patches of Fashion-MNIST is trained for every point of a grid of layers,
heads and seeds, all by the same recipe. A part of the training images is set aside for
validation and decides which cell is best; the official test images are read once per trial,
after its training. From top to bottom: the config, one trial, the sweep, what it
shows, and what it shows beside another run.
"""

import functools
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hwcli import runtime
from hwcli.config import IntRange, RunConfig, Section
from hwcli.data import catalogue
from hwcli.data.cache import Found
from hwcli.errors import ConfigError, KernelError
from hwcli.native import compiler
from hwcli.output import terminal
from hwcli.output.files import read_json, write_atomic, write_json
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table
from hwcli.sweep.launcher import LauncherConfig
from hwcli.sweep.live import duration
from hwcli.sweep.runner import Outcome, run_trials
from hwcli.sweep.store import TrialFolder, TrialStore
from hwcli.sweep.trial import Trial
from hwcli.training.checkpoint import restore_checkpoint
from hwcli.training.loop import TrainingJob, train
from hwcli.training.metrics import Mean, mean_and_std, standard_error
from hwcli.training.optimizers import OptimizerConfig, make_optimizers
from hwcli.training.progress import Progress
from hwcli.training.step import BatchOutcome, Step, autocast
from hwcli.vision import pictures
from hwcli.vision.attention_maps import attention_maps, looked_at, position_similarity, rollout
from hwcli.vision.augmentation import AugmentationConfig, batches
from hwcli.vision.compare_runs import Beside, compare_runs, find_differences
from hwcli.vision.fashion_mnist import IMAGE_SIDE, NUM_TRAINING_IMAGES, FashionMNIST, Part, load
from hwcli.vision.grid_statistics import (
    Place,
    conclude,
    fit_effects,
    mark_against_best,
    mean_difference,
)
from hwcli.vision.tables import cells_table, grid_table
from hwcli.vision.vit import ViT, ViTConfig, training_flops

COMMAND = "vit-sweep"

# Raised whenever the same config would give other numbers, beyond the rounding of sums in another
# order: trials of another version are not reused. tests/experiments/test_vit_sweep.py holds the
# losses that must then change too.
RECIPE_VERSION = 1

EVALUATION_BATCH = 500
TIMED_STEPS = 5  # of a dry run, after as many to warm up
BEST_PICTURES = ("confusion", "mistakes", "rollout", "positions")


# --------------------------------------------------------------------------------------
# Config


class DataConfig(Section):
    """Which images are trained on, and which are set aside for validation."""

    valid_size: int = Field(
        5000,
        ge=10,
        le=NUM_TRAINING_IMAGES // 2,
        multiple_of=10,
        description="Training images set aside for validation, equally many of each class.",
    )
    split_seed: int = Field(0, ge=0, description="Seed of the choice of validation images.")
    train_limit: int | None = Field(
        None, ge=1, description="Train on the first N images after the seeded shuffle; null: all."
    )


class Recipe(Section):
    """Settings that all trials of a sweep share and that decide their numbers."""

    epochs: int = Field(ge=1, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(ge=1, description="Images per training step.")
    label_smoothing: float = Field(
        ge=0, lt=1, description="Share of each target spread evenly over the ten classes."
    )
    model: ViTConfig = Field(description="The network, except for its layers and heads.")
    optimizer: OptimizerConfig = Field(description="How the weights are updated.")
    augmentation: AugmentationConfig = Field(description="Random changes to training images.")
    data: DataConfig = Field(description="The split into training and validation images.")


def _positive(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if min(numbers) < 1:
        raise ValueError(f"{min(numbers)} is below 1")
    return numbers


def _not_negative(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if min(numbers) < 0:
        raise ValueError(f"{min(numbers)} is below 0")
    return numbers


def _jobs(value: object) -> object:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if number != "auto" and not (type(number) is int and number >= 1):
        raise ValueError("expected auto, or a number of workers from 1")
    return number


class Config(RunConfig, Recipe):
    """A sweep: the grid, the recipe, and how it is run."""

    layers: Annotated[IntRange, AfterValidator(_positive)] = Field(
        description="Numbers of layers in the grid, a range such as 4..8 or a list."
    )
    heads: Annotated[IntRange, AfterValidator(_positive)] = Field(
        description="Numbers of attention heads in the grid, a range such as 2..4 or a list."
    )
    seeds: Annotated[IntRange, AfterValidator(_not_negative)] = Field(
        description="Seeds of weights, batch order and augmentation; each trains every cell once."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="Number format of matrix products: float32, bfloat16, "
        "or auto (bfloat16 where the device is fast at it)."
    )
    kernels: Literal["auto", "compiled", "torch"] = Field(
        description="compiled (C++ kernels for the CPU, built on first use), torch, "
        "or auto (compiled where possible)."
    )
    jobs: Annotated[int | Literal["auto"], BeforeValidator(_jobs)] = Field(
        description="Trials that train at the same time; auto: one per core, or one per GPU."
    )
    retry_failed: bool = Field(description="Train trials again that failed earlier.")
    fail_fast: bool = Field(description="Stop at the first failed trial.")
    data_path: Path | None = Field(
        description="Folder with the Fashion-MNIST files; null: find or download them."
    )
    compare_with: str | None = Field(
        description="Name of a finished run to compare this run with; null: none."
    )
    launcher: LauncherConfig = Field(description="Where trials train and what each gets there.")

    def contains(self, earlier: "Config") -> bool:
        """Tell whether a run of this config has every trial that a run of another one has."""
        grid = ("layers", "heads", "seeds")
        how = ("jobs", "retry_failed", "fail_fast", "data_path", "compare_with", "launcher")
        return all(set(getattr(self, g)) >= set(getattr(earlier, g)) for g in grid) and (
            self.model_dump(exclude={*grid, *how}) == earlier.model_dump(exclude={*grid, *how})
        )

    @model_validator(mode="after")
    def _every_cell_exists(self) -> "Config":
        if IMAGE_SIDE % self.model.patch_size:
            sides = [side for side in range(1, IMAGE_SIDE + 1) if IMAGE_SIDE % side == 0]
            raise ValueError(
                f"model.patch_size = {self.model.patch_size} does not divide images of "
                f"{IMAGE_SIDE} x {IMAGE_SIDE}; choices: {', '.join(map(str, sides))}"
            )
        for heads in self.heads:
            self.model.head_width_for(heads)
        return self


class TrialConfig(Recipe):
    """One cell and seed of the grid, everything resolved."""

    layers: int
    heads: int
    seed: int
    device: str
    precision: str
    kernels: Literal["compiled", "torch"]
    # Where the files lie does not decide any number: their digest does.
    data_path: Path = Field(exclude=True)


# --------------------------------------------------------------------------------------
# One trial


def run_trial(
    config: TrialConfig, folder: TrialFolder, on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """Train one network, look at the test set once, and return what it came to."""
    with compiler.kernels(config.kernels == "compiled"):
        return _train_and_test(config, folder, on_progress)


def _train_and_test(
    config: TrialConfig, folder: TrialFolder, on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    device, precision = torch.device(config.device), getattr(torch, config.precision)
    data = _load(config.data_path, config.data)
    training = data.train.to(device)
    judge = functools.partial(_judge, data=data, label_smoothing=config.label_smoothing)

    if config.kernels == "compiled" and (reason := compiler.reason_against()):
        raise KernelError(f"kernels = 'compiled': {reason}")
    # The trials of a run may come from several machines, and from earlier commits.
    write_json(folder.environment, describe_environment(config))
    torch.manual_seed(config.seed)
    model = ViT(layers=config.layers, heads=config.heads, config=config.model).to(device)
    steps_per_epoch = -(-len(training) // config.batch_size)

    history = train(
        TrainingJob(
            model=model,
            optimizers=make_optimizers(model, config.optimizer),
            batches=lambda epoch: batches(
                training,
                config.augmentation,
                batch_size=config.batch_size,
                seed=config.seed,
                epoch=epoch,
            ),
            batch_loss=judge,
            evaluate=lambda model: classify(model, data.valid, data, device, precision)[0],
            num_epochs=config.epochs,
            steps_per_epoch=steps_per_epoch,
            warmup_fraction=config.optimizer.warmup_fraction,
            precision=precision,
            device=device,
            recorded=True,
        ),
        folder.checkpoint,
        on_progress,
    )
    test, probabilities = classify(model, data.test, data, device, precision)
    confidence, predicted = probabilities.max(dim=1)
    predictions = {"label": predicted.to(torch.uint8), "probability": confidence.half()}
    write_atomic(folder.predictions, save(predictions))
    folder.write_epochs([vars(epoch) for epoch in history])
    return {
        "layers": config.layers,
        "heads": config.heads,
        "seed": config.seed,
        "epochs": config.epochs,
        "num_params": num_params(config.layers, config.heads, config.model),
        "train_s": sum(epoch.train_s for epoch in history),
        "valid_accuracy": history[-1].valid_accuracy,
        "valid_loss": history[-1].valid_loss,
        "num_valid": len(data.valid),
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "num_test": len(data.test),
    }


def describe_environment(config: TrialConfig) -> dict[str, Any]:
    """Return what a trial's numbers depend on besides its config: code, versions, machine."""
    return runtime.fingerprint(
        device=config.device,
        dtype=config.precision,
        num_threads=1 if config.device == "cpu" else None,
    )


@functools.lru_cache(maxsize=1)
def _load(path: Path, config: DataConfig) -> FashionMNIST:
    """Load the images once for all trials of a worker."""
    if not path.is_dir():
        # Another machine than the one that made the trial: the same files lie elsewhere on it.
        path = catalogue.find("fashion-mnist").path
    return load(
        path,
        valid_size=config.valid_size,
        split_seed=config.split_seed,
        train_limit=config.train_limit,
    )


def _judge(
    model: nn.Module, batch: tuple[Tensor, Tensor], *, data: FashionMNIST, label_smoothing: float
) -> BatchOutcome:
    images, labels = batch
    logits = model(data.normalize(images)).float()
    return BatchOutcome(
        loss=F.cross_entropy(logits, labels, label_smoothing=label_smoothing),
        num_correct=(logits.detach().argmax(dim=1) == labels).sum(),
        num_examples=len(labels),
    )


@torch.no_grad()
def classify(
    model: nn.Module,
    part: Part,
    data: FashionMNIST,
    device: torch.device,
    precision: torch.dtype,
) -> tuple[Mean, Tensor]:
    """Return loss and accuracy on a part, and the class probabilities (N, 10) on the CPU."""
    mean = Mean()
    probabilities = []
    for images, labels in zip(
        part.images.split(EVALUATION_BATCH), part.labels.split(EVALUATION_BATCH), strict=True
    ):
        images, labels = images.to(device), labels.to(device)
        with autocast(device, precision):
            logits = model(data.normalize(images)).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(dim=1) == labels).sum()
        mean.add(loss.item(), int(correct.item()), len(labels))
        probabilities.append(logits.softmax(dim=1).cpu())
    return mean, torch.cat(probabilities)


# --------------------------------------------------------------------------------------
# The sweep


def make_trials(config: Config, files: Found) -> list[Trial]:
    """Return every point of the grid, validated, in the order of the table."""
    device = resolve_device(config)
    precision = config.precision
    if precision == "auto":
        # A cluster's GPUs cannot be asked from here; those of the last years all have bfloat16.
        fast = device.type == "cuda" and config.launcher.gpus > 0
        precision = "bfloat16" if fast or runtime.has_fast_bf16(device) else "float32"
    kernels = resolve_kernels(config, device)
    recipe = {name: getattr(config, name) for name in Recipe.model_fields}
    trials = []
    for layers, heads, seed in itertools.product(config.layers, config.heads, config.seeds):
        trial_config = TrialConfig(
            layers=layers,
            heads=heads,
            seed=seed,
            device=device.type,
            precision=precision,
            kernels=kernels,
            data_path=files.path,
            **recipe,
        )
        flops = training_flops(layers=layers, heads=heads, config=config.model)
        trials.append(
            Trial(
                config=trial_config,
                label={"layers": layers, "heads": heads, "seed": seed},
                facts={"command": COMMAND, "recipe": RECIPE_VERSION, "data": files.digest},
                cost=flops * config.epochs * num_training_images(config.data),
            )
        )
    return trials


def resolve_device(config: Config) -> torch.device:
    """Return what trials train on: on a cluster the GPU they are given, here what is present.

    Raises:
        ConfigError: the named device is not on this machine, or no trial is given one.
    """
    launcher = config.launcher
    if launcher.kind == "local":
        return runtime.resolve_device(config.device)
    if config.device == "auto":
        return torch.device("cuda" if launcher.gpus else "cpu")
    if config.device == "cuda" and not launcher.gpus:
        raise ConfigError(
            "device = 'cuda': launcher.gpus = 0; give each trial one by --set launcher.gpus=1"
        )
    return torch.device(config.device)


def resolve_kernels(config: Config, device: torch.device) -> Literal["compiled", "torch"]:
    """Return whether trials compute by compiled kernels: on a CPU, where a compiler is at hand.

    Raises:
        ConfigError: they were asked for, and cannot be had.
    """
    if config.kernels == "torch" or (config.kernels == "auto" and device.type != "cpu"):
        return "torch"
    reason = "they are for a CPU" if device.type != "cpu" else compiler.reason_against()
    if reason is None:
        return "compiled"
    if config.kernels == "compiled":
        raise ConfigError(f"kernels = 'compiled': {reason}; choices here: auto, torch")
    terminal.log(f"kernels: torch's own, which take about twice as long ({reason})")
    return "torch"


def num_training_images(data: DataConfig) -> int:
    """Return how many images one epoch shows."""
    available = NUM_TRAINING_IMAGES - data.valid_size
    return available if data.train_limit is None else min(available, data.train_limit)


def num_params(layers: int, heads: int, config: ViTConfig) -> int:
    """Count the parameters of one cell, none of which is allocated."""
    with torch.device("meta"):
        model = ViT(layers=layers, heads=heads, config=config)
    return sum(parameter.numel() for parameter in model.parameters())


def num_workers(config: Config) -> int:
    """Return how many trials train at a time: one a core, or one on a GPU, unless told.

    On a cluster as many as it has room for.
    """
    if config.jobs != "auto":
        return config.jobs
    if config.launcher.kind != "local":
        return len(config.layers) * len(config.heads) * len(config.seeds)
    return runtime.num_cores() if runtime.resolve_device(config.device).type == "cpu" else 1


def run(config: Config, folder: RunFolder) -> dict[str, Any] | None:
    """Train what is missing of the grid and show what all of it came to.

    Returns None, and shows nothing, where trials were left to a cluster's queue.
    """
    other = None if config.compare_with is None else read_other_run(config, folder)
    files = catalogue.find("fashion-mnist", config.data_path, terminal.log)
    trials = make_trials(config, files)
    first = trials[0].config
    assert isinstance(first, TrialConfig)
    store = TrialStore(folder.trials_path)
    num_done = sum(store.folder(trial).result() is not None for trial in trials)
    earlier = folder.summary()
    claim = functools.partial(
        folder.claim,
        config,
        describe_environment(first),
        keep_environment=num_done == len(trials),
    )
    # A sweep of the same name that is under way keeps the folder; its trials are shared anyway.
    if not claim(wait=False):
        terminal.log(f"{COMMAND} {config.name}: another sweep writes this name; sharing its trials")
    else:
        folder.write("trials.json", _list_trials(trials))
    if num_done:
        terminal.log(f"{num_done} of {len(trials)} trials are done already, and used as they are")
    try:
        outcomes = run_trials(
            trials,
            run_trial,
            store,
            num_workers=num_workers(config),
            retry_failed=config.retry_failed,
            fail_fast=config.fail_fast,
            launcher=config.launcher,
        )
    except KeyboardInterrupt:
        num_done = sum(store.folder(trial).result() is not None for trial in trials)
        terminal.log(
            f"stopped: {num_done} of {len(trials)} trials are done and kept, the others up to "
            "their last finished epoch; run the same command again to go on"
        )
        raise
    if config.launcher.detach and any(outcome.status == "missing" for outcome in outcomes):
        num_done = sum(outcome.status == "done" for outcome in outcomes)
        terminal.log(f"detached: {num_done} of {len(trials)} trials are done")
        return None
    claim()
    folder.write("trials.json", _list_trials(trials))
    for outcome in outcomes:
        for epoch in store.folder(outcome.trial).epochs():
            folder.append_metrics(**outcome.trial.label, **epoch)

    cells = summarize(outcomes)
    best = max(
        (cell for cell in cells if cell["valid_accuracy_mean"] is not None),
        key=lambda cell: cell["valid_accuracy_mean"],
        default=None,
    )
    data = _load(files.path, config.data)
    done = [(o.trial.id, o.trial.label) for o in outcomes if o.status == "done"]
    hits = read_hits(done, store, data.test.labels)
    effects = fit_effects(cells)
    mark_against_best(cells, best, hits)
    grid = grid_table(
        cells,
        best,
        num_epochs=config.epochs,
        num_seeds=len(config.seeds),
        effects=effects if best is not None else None,
    )
    details = cells_table(cells, num_epochs=config.epochs)
    folder.write("table.csv", details.to_csv())
    folder.write("table.md", grid.to_markdown() + "\n" + details.to_markdown())
    if best is not None:
        folder.save_figure("heatmap", pictures.draw_heatmap(cells, best))
        histories = [(o.trial.label, store.folder(o.trial).epochs()) for o in outcomes]
        folder.save_figure("curves", pictures.draw_curves(histories))
        done_cells = [cell for cell in cells if cell["test_accuracy_mean"] is not None]
        folder.save_figure("costs", pictures.draw_costs(done_cells, best))
        drawn = dict(draw_best(best, outcomes, store, data))
        for name, figure in drawn.items():
            folder.save_figure(name, figure)
        # Without its checkpoint the same network's pictures stay as they are, another's do not.
        if earlier is None or earlier.get("best") != describe_best(best):
            folder.discard(*(f"{name}.png" for name in BEST_PICTURES if name not in drawn))
    terminal.show(details)
    terminal.show(grid)
    comparison = other and show_beside(other, config, cells, hits, folder, trials, data)
    if comparison is None:
        folder.discard("compare.md", "compare.csv", "compare.png")
    _tell_failures(outcomes, folder)
    failures = [
        {**o.trial.label, "trial": o.trial.id, "reason": o.reason}
        for o in outcomes
        if o.status == "failed"
    ]
    return {
        "status": "complete" if all(o.status == "done" for o in outcomes) else "partial",
        "cells": cells,
        "best": best and describe_best(best),
        "effects": {key: effect and asdict(effect) for key, effect in effects.items()},
        "conclusion": conclude(cells, effects) if best is not None else None,
        "comparison": comparison,
        "num_trials": len(outcomes),
        "num_run": sum(not o.reused and o.status != "missing" for o in outcomes),
        "num_reused": sum(o.reused for o in outcomes),
        "num_failed": len(failures),
        "failures": failures,
        "precision": first.precision,
        "kernels": first.kernels,
        "recipe_version": RECIPE_VERSION,
    }


def plan(config: Config, folder: RunFolder) -> None:
    """Show the trials, which are done, what each takes, and an estimate from a few timed steps."""
    files = catalogue.find("fashion-mnist", config.data_path, terminal.log)
    trials = make_trials(config, files)
    store = TrialStore(folder.trials_path)
    states = {trial.id: store.folder(trial).state() for trial in trials}
    # Of a cluster's GPU nothing can be known here.
    timed = config.launcher.kind == "local" or resolve_device(config).type == "cpu"
    middle = sorted(trials, key=lambda trial: trial.cost)[len(trials) // 2]
    seconds_per_flop = _time_steps(middle) if timed else None
    rows = [
        {
            **trial.label,
            "state": states[trial.id],
            "num_params": num_params(trial.label["layers"], trial.label["heads"], config.model),
            "flops": trial.cost,
            "estimate_s": seconds_per_flop and trial.cost * seconds_per_flop,
        }
        for trial in trials
    ]
    settled = {"done"} if config.retry_failed else {"done", "failed"}
    todo = [trial.cost for trial in trials if states[trial.id] not in settled]
    num_done = sum(state == "done" for state in states.values())
    note = "No estimate: it trains on a cluster's GPU."
    if seconds_per_flop is not None:
        workers = num_workers(config)
        total = seconds_per_flop * max(sum(todo) / workers, max(todo, default=0.0))
        note = (
            f"About {duration(total)} of training with {workers} workers, from timed steps of "
            f"{middle.label['layers']} layers, {middle.label['heads']} heads."
        )
    terminal.show(
        Table(
            title=f"{COMMAND} {config.name}: {len(trials)} trials, {num_done} done",
            columns=[
                Column("layers", "layers"),
                Column("heads", "heads"),
                Column("seed", "seed"),
                Column("state", "state"),
                Column("num_params", "parameters", "{:,}"),
                Column("flops", "training FLOPs", "{:.2e}"),
                Column("estimate_s", "estimated time", duration),
            ],
            rows=rows,
            notes=[f"{note} Nothing was trained, no result was written."],
        )
    )


def _time_steps(trial: Trial) -> float:
    """Return the seconds that one floating-point operation of training takes one worker."""
    config = trial.config
    assert isinstance(config, TrialConfig)
    device = torch.device(config.device)
    data = _load(config.data_path, config.data)
    model = ViT(layers=config.layers, heads=config.heads, config=config.model).to(device)
    step = Step(
        model,
        make_optimizers(model, config.optimizer),
        functools.partial(_judge, data=data, label_smoothing=config.label_smoothing),
        device,
        getattr(torch, config.precision),
        recorded=True,
    )
    images, labels = data.train.images, data.train.labels
    batch = images[: config.batch_size].to(device), labels[: config.batch_size].to(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else threads)
    times = []
    with compiler.kernels(config.kernels == "compiled"):
        for _ in range(2 * TIMED_STEPS):
            started = time.perf_counter()
            step(batch, 1.0).loss.item()  # waits for a GPU
            times.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    flops = training_flops(layers=config.layers, heads=config.heads, config=config.model)
    return statistics.median(times[TIMED_STEPS:]) / (flops * len(batch[1]))


# --------------------------------------------------------------------------------------
# What it shows


def summarize(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Gather trials into cells: means over the seeds that are done, and what is missing."""
    cells = []
    for _, group in itertools.groupby(
        outcomes, key=lambda o: (o.trial.label["layers"], o.trial.label["heads"])
    ):
        members = list(group)
        first = members[0].trial
        assert isinstance(first.config, TrialConfig)
        results = [member.result for member in members if member.result is not None]
        cell: dict[str, Any] = {
            "layers": first.label["layers"],
            "heads": first.label["heads"],
            "num_seeds": len(results),
            "valid_accuracy_mean": None,
            "test_accuracy_mean": None,
            "test_accuracy_std": None,
            "test_accuracy_se": None,
            "num_params": num_params(
                first.label["layers"], first.label["heads"], first.config.model
            ),
            "train_s": None,
            "p_value": None,
            "p_value_holm": None,
            "indistinguishable_from_best": None,
            "status": next(
                (s for s in ("failed", "missing") if any(m.status == s for m in members)), "done"
            ),
        }
        if results:
            test, std = mean_and_std([result["test_accuracy"] for result in results])
            cell["valid_accuracy_mean"], _ = mean_and_std([r["valid_accuracy"] for r in results])
            cell["test_accuracy_mean"], cell["test_accuracy_std"] = test, std
            cell["test_accuracy_se"] = standard_error(test, results[0]["num_test"])
            cell["train_s"] = statistics.fmean(result["train_s"] for result in results)
        cells.append(cell)
    return cells


def describe_best(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the summary says of the best cell."""
    keys = ("layers", "heads", "valid_accuracy_mean", "test_accuracy_mean")
    return {key: cell[key] for key in keys}


def read_hits(
    trials: Iterable[tuple[str, Mapping[str, Any]]], store: TrialStore, labels: Tensor
) -> dict[Place, dict[int, Any]]:
    """Read which test images each trial got right: for each cell and seed booleans (N,).

    Trials whose predictions are not there, or are damaged, are told and left out.

    Args:
        trials: ids and labels (layers, heads, seed).
        store: where their predictions lie.
        labels: (N,) of the test images.
    """
    hits: dict[Place, dict[int, Any]] = {}
    for trial_id, label in trials:
        folder = store.folder(trial_id)
        predictions = read_predictions(folder, len(labels))
        if predictions is None:
            shown = ", ".join(f"{name} {label[name]}" for name in ("layers", "heads", "seed"))
            terminal.log(
                f"{shown}: no predictions to compare; delete {folder.path} to train it anew"
            )
            continue
        correct = predictions["label"].long() == labels
        hits.setdefault((label["layers"], label["heads"]), {})[label["seed"]] = correct.numpy()
    return hits


def read_predictions(folder: TrialFolder, num_images: int) -> dict[str, Tensor] | None:
    """Read the classes a trial predicted and their probabilities, both (N,), if they are there."""
    try:
        predictions = load_file(folder.predictions)
    except (OSError, SafetensorError):
        return None
    whole = predictions.keys() >= {"label", "probability"}
    return predictions if whole and len(predictions["label"]) == num_images else None


def draw_best(
    best: dict[str, Any], outcomes: Sequence[Outcome], store: TrialStore, data: FashionMNIST
) -> Iterator[tuple[str, Figure]]:
    """Draw what the best cell gets right and wrong and, from its weights, what it looks at.

    Of several seeds the first is shown.
    """
    outcome = next(
        o
        for o in outcomes
        if o.status == "done"
        and all(o.trial.label[key] == best[key] for key in ("layers", "heads"))
    )
    config = outcome.trial.config
    assert isinstance(config, TrialConfig)
    folder, test = store.folder(outcome.trial), data.test
    who = f"{config.layers} layers, {config.heads} heads, seed {config.seed}"
    predictions = read_predictions(folder, len(test))
    if predictions is None:
        return
    predicted = predictions["label"].long()
    yield "confusion", pictures.draw_confusion(test.labels, predicted, f"Test images: {who}")
    mistakes = pictures.draw_mistakes(
        test.images, test.labels, predicted, predictions["probability"], f"Surest mistakes: {who}"
    )
    if mistakes is not None:
        yield "mistakes", mistakes
    model = trained_model(config, folder)
    if model is None:
        terminal.log(
            f"{who}: {folder.checkpoint.name} of {folder.path.name} is not here; "
            "rollout.png and positions.png are not drawn anew"
        )
        return
    one_of_each = [int((test.labels == k).nonzero()[0]) for k in test.labels.unique()]
    shares = looked_at(
        rollout(attention_maps(model, data.normalize(test.images[one_of_each]))),
        config.model.pooling,
    )
    yield (
        "rollout",
        pictures.draw_rollout(
            test.images[one_of_each],
            shares,
            test.labels[one_of_each],
            predicted[one_of_each],
            f"Attention rollout: {who}",
        ),
    )
    yield (
        "positions",
        pictures.draw_positions(position_similarity(model), f"Position embeddings: {who}"),
    )


def trained_model(config: TrialConfig, folder: TrialFolder) -> ViT | None:
    """Return a trial's network as it was tested, or None where its checkpoint is not kept."""
    # A checkpoint also puts the random numbers back to where they stood, which none here needs.
    with torch.random.fork_rng(devices=[]):
        model = ViT(layers=config.layers, heads=config.heads, config=config.model)
        restored = restore_checkpoint(folder.checkpoint, model, ())
    return None if restored is None else model.eval()


# --------------------------------------------------------------------------------------
# Beside another run


@dataclass(frozen=True)
class OtherRun:
    """A finished run of this command in the same folder of results."""

    name: str
    cells: list[dict[str, Any]]
    trials: list[dict[str, Any]]


def read_other_run(config: Config, folder: RunFolder) -> OtherRun:
    """Read the run that ``compare_with`` names.

    Raises:
        ConfigError: there is no such finished run, or it has no cell of this grid.
    """
    name, runs = config.compare_with, folder.path.parent
    assert name is not None
    finished = sorted(p.parent.name for p in runs.glob("*/summary.json") if p.parent != folder.path)
    if name == config.name:
        raise ConfigError(
            f"compare_with = {name!r}: this run's own name; give it another by --name"
        )
    if name not in finished:
        choices = ", ".join(finished) or f"none in {runs}"
        raise ConfigError(f"compare_with = {name!r}: no finished run; choices: {choices}")
    try:
        cells = read_json(runs / name / "summary.json")["cells"]
        trials = read_json(runs / name / "trials.json")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"compare_with = {name!r}: damaged run ({error})") from None
    if not any(cell["layers"] in config.layers and cell["heads"] in config.heads for cell in cells):
        raise ConfigError(f"compare_with = {name!r}: it has no cell of this grid")
    return OtherRun(name, cells, trials)


def show_beside(
    other: OtherRun,
    config: Config,
    cells: Sequence[dict[str, Any]],
    hits: Mapping[Place, Mapping[int, Any]],
    folder: RunFolder,
    trials: Sequence[Trial],
    data: FashionMNIST,
) -> dict[str, Any] | None:
    """Show this run beside another: ``compare.md``, ``compare.csv``, ``compare.png``.

    Returns what the summary says of it, or None where no cell is done in both.
    """
    store = TrialStore(folder.trials_path)
    done = [t for t in other.trials if store.folder(t["id"]).result() is not None]
    other_hits = read_hits(
        [(t["id"], t) for t in done if (t["layers"], t["heads"]) in hits], store, data.test.labels
    )
    pairs = {place: (hits[place], other_hits[place]) for place in other_hits}
    rows = compare_runs(cells, other.cells, pairs)
    if not rows:
        terminal.log(f"compare_with = {other.name!r}: no cell is done in both runs")
        return None
    identity = read_json(store.folder(done[0]["id"]).path / "identity.json") if done else {}
    place = ("config.layers", "config.heads", "config.seed")
    settings = {
        key: values
        for key, values in find_differences(identity, trials[0].identity).items()
        if done and key not in place
    }
    beside = Beside(
        name=config.name,
        other=other.name,
        epochs=config.epochs,
        rows=rows,
        settings=settings,
        mean=mean_difference(pairs),
    )
    table = beside.table()
    folder.write_table(table, "compare")
    folder.save_figure("compare", pictures.draw_comparison(rows, config.name, other.name))
    terminal.show(table)
    return beside.summary()


def _list_trials(trials: Sequence[Trial]) -> str:
    return json.dumps([{"id": trial.id, **trial.label} for trial in trials], indent=1) + "\n"


def _tell_failures(outcomes: Sequence[Outcome], folder: RunFolder) -> None:
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        terminal.log(f"failed: {outcome.trial}: {outcome.reason} (log: {outcome.log})")
    if failed:
        out = folder.path.parent.parent
        terminal.log(
            f"try them again: hw2 {COMMAND} --config {folder.path / 'config.yaml'} "
            f"--out {out} --retry-failed"
        )

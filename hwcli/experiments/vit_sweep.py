"""Question 3: how does a Vision Transformer's accuracy depend on its layers and heads?

One plain ViT on 4x4 patches of Fashion-MNIST is trained for each point of a grid and each seed,
all by the same recipe. Part of the training images is set aside for validation and selects the
best cell; each network is evaluated on the official test images once, after its training. From
top to bottom: the config, the trials, the sweep, the dry run.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field

from hwcli import resources, runtime
from hwcli.config import RunConfig
from hwcli.data import catalogue
from hwcli.data.cache import Found
from hwcli.errors import ConfigError, OutputError
from hwcli.experiment import Plan
from hwcli.output import terminal
from hwcli.output.files import read_mapping
from hwcli.output.run_folder import RunFolder, with_start
from hwcli.output.units import counted, duration
from hwcli.ranges import auto_or_number
from hwcli.sweep.forecast import makespan
from hwcli.sweep.launcher import LauncherConfig
from hwcli.sweep.parallel import Parallel
from hwcli.sweep.runner import Outcome, run_trials
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from hwcli.vision import run_files, tables, training
from hwcli.vision.cells import TrialRecord, places_of
from hwcli.vision.closeup import TrainedNetwork
from hwcli.vision.compare_runs import read_other_run
from hwcli.vision.grid import points
from hwcli.vision.known_trials import KnownTrials
from hwcli.vision.places import notes_on_software
from hwcli.vision.recipe import RECIPE_VERSION, SweepRecipe, TrialConfig, with_point
from hwcli.vision.record import TRIALS, SweepRecord, trials_csv
from hwcli.vision.summary import VitSweepSummary, read_earlier, summarize
from hwcli.vision.vit import num_params
from hwcli.vision.worker import run_trial

COMMAND = "vit-sweep"
RunSummary = VitSweepSummary

FIXED_S = 45.0  # reading images, starting workers, tables and pictures
DISK_BYTES = 2_000_000  # a run folder of 15 cells and 3 seeds
CHECKPOINT_BYTES_PER_PARAMETER = 12  # a weight and AdamW's two averages


# --------------------------------------------------------------------------------------
# Config


# Fields that only say how a sweep is run.
DECIDES_NO_RESULT = ("jobs", "retry_failed", "fail_fast", "data_path", "compare_with", "launcher")


class Config(RunConfig, SweepRecipe):
    """A sweep: the grid, the recipe, and how it is run."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="Number format of matrix products: float32, bfloat16 (compiled kernels need "
        "widths in multiples of 32), or auto (bfloat16 where the device is fast at it)."
    )
    kernels: Literal["auto", "compiled", "torch"] = Field(
        description="compiled (C++ kernels for the CPU, built on first use), torch, "
        "or auto (compiled where possible)."
    )
    jobs: Annotated[int | Literal["auto"], BeforeValidator(auto_or_number)] = Field(
        description="Trials that train at the same time; auto: one per core (or per launcher.cpus "
        "cores), fewer if memory is short; one on a GPU."
    )
    retry_failed: bool = Field(description="Train trials again that failed earlier.")
    fail_fast: bool = Field(description="Stop at the first failed trial.")
    data_path: Path | None = Field(
        description="Folder with the Fashion-MNIST files; null: find or download them."
    )
    compare_with: str | None = Field(
        description="Name or folder of a finished run to compare this run with; null: none."
    )
    launcher: LauncherConfig = Field(description="Where trials train and what each gets there.")

    def contains(self, earlier: RunConfig) -> bool:
        """Tell whether this sweep has every trial of an earlier one: the same recipe and more.

        What ``auto`` means for device, precision and kernels depends on the machine:
        :meth:`Sweep.refuse_other_networks` looks at what it means here.
        """
        return isinstance(earlier, Config) and earlier.trial_keys() <= self.trial_keys()

    def differences_from(self, earlier: RunConfig) -> dict[str, tuple[Any, Any]]:
        """Leave out what only says how a sweep is run."""
        found = super().differences_from(earlier)
        return {
            key: both
            for key, both in found.items()
            if key.partition(".")[0] not in DECIDES_NO_RESULT
        }


# --------------------------------------------------------------------------------------
# The trials


def make_trials(config: Config, files: Found) -> list[Trial]:
    """Return a trial for each point of the grid and each seed, in the order of the table."""
    device = trial_device(config)
    is_gpu_elsewhere = device.type == "cuda" and config.launcher.gpus > 0
    kernels = training.choose_kernels(config.kernels, device)
    if config.launcher.kind == "local":
        training.tell_of_float32(config.precision, kernels, device)
    shared = {
        "device": device.type,
        "precision": training.choose_precision(
            config.precision, device, is_gpu_elsewhere=is_gpu_elsewhere
        ),
        "kernels": kernels,
        "data_path": files.path.absolute(),  # a worker may be in another folder
    }
    values = config.recipe_values()
    trials = []
    for point in points(config.axes):
        for seed in config.seeds:
            trial = TrialConfig.model_validate(
                {**with_point(values, point), **shared, "seed": seed}
            )
            trials.append(
                Trial(
                    config=trial,
                    label={**{axis.name: point[axis.field] for axis in config.axes}, "seed": seed},
                    facts={"command": COMMAND, "recipe": RECIPE_VERSION, "data": files.digest},
                    cost=training.flops_from(trial, 0),
                )
            )
    return trials


def trial_device(config: Config) -> torch.device:
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


# --------------------------------------------------------------------------------------
# The sweep


def run(config: Config, folder: RunFolder) -> VitSweepSummary | None:
    """Train what is missing of the grid, and show all of it.

    Returns None, and shows nothing, where trials were left to a cluster's queue.
    """
    sweep = Sweep(config, folder)
    earlier = read_earlier(folder.summary())
    environment = begin(sweep, folder)
    try:
        outcomes = sweep.train()
    except KeyboardInterrupt:
        terminal.log(
            f"stopped: {len(sweep.record().done())} of {len(sweep)} trials are done; of the others "
            "each finished epoch is kept; run the same command again to continue"
        )
        raise
    if config.launcher.detach and any(outcome.status == "missing" for outcome in outcomes):
        terminal.log(f"detached: {len(sweep.record().done())} of {len(sweep)} trials are done")
        return None
    return finish(sweep, folder, outcomes, environment, earlier)


def begin(sweep: "Sweep", folder: RunFolder) -> dict[str, Any]:
    """Claim the folder, tell what is reused, and return what the run's numbers depend on.

    Raises:
        OutputError: a finished run, or its networks, would be lost.
    """
    config, before = sweep.config, sweep.record()
    num_done = len(before.done())
    environment = sweep.environment(is_done=num_done == len(sweep))
    folder.refuse_to_lose(config)
    sweep.refuse_other_networks()
    if note := sweep.note_on_machine_settings():
        terminal.log(note)
    # A sweep of the same name that is running keeps the folder; its trials are shared anyway.
    if folder.claim(config, environment, wait=False):
        folder.write(TRIALS, trials_csv(before.trials))
    else:
        folder.refuse_another_run(config)
        terminal.log(f"{COMMAND} {config.name}: another process is writing it; sharing its trials")
    if num_done:
        terminal.log(f"{num_done} of {len(sweep)} trials are already done; reusing them")
    here = training.describe_environment(sweep.configs[0])
    begun = sweep.known.begun_by(before.trials)
    for note in notes_on_software(places_of(before.trials), begun, here):
        terminal.log(note)
    return environment


def finish(
    sweep: "Sweep",
    folder: RunFolder,
    outcomes: Sequence[Outcome],
    environment: dict[str, Any],
    earlier: VitSweepSummary | None,
) -> VitSweepSummary:
    """Write and show what the trials came to; ``earlier`` is what the folder held before."""
    config, record = sweep.config, sweep.record()
    folder.claim(config, environment)
    sweep.known.read_folder()
    sweep.refuse_other_networks()
    first = sweep.configs[0]
    summary = summarize(
        config.name,
        config,
        record,
        sweep.other,
        num_run=sum(not o.reused and o.status != "missing" for o in outcomes),
        precision=first.precision,
        kernels=first.kernels,
        note_on_precision=training.note_on_precision(sweep.configs),
    )
    if sweep.other is not None and summary.comparison is None:
        terminal.log(f"compare_with = {sweep.other.name!r}: no cell is done in both runs")
    run_files.write(summary, record, folder, environment)
    run_files.draw(summary, record, sweep.best_network(summary, record), folder, earlier)
    run_files.show_summary(summary, outcomes, folder)
    return summary


class Sweep:
    """A run's trials, the store and the run folder that hold them, and the run to compare with."""

    def __init__(self, config: Config, folder: RunFolder):
        self.other = None
        if config.compare_with is not None:
            self.other = read_other_run(
                config.compare_with, folder.path, config.axes, config.recipe_values()
            )
        self.config = config
        self.files = catalogue.find("fashion-mnist", config.data_path, terminal.log)
        self.trials = make_trials(config, self.files)
        self.configs = [TrialConfig.model_validate(trial.config) for trial in self.trials]
        self.worker_bytes = max(map(training.worker_bytes, self.configs))
        self.identities = {trial.id: trial.identity for trial in self.trials}
        self.points = [point for point in points(config.axes) for _ in config.seeds]
        self.store = TrialStore(folder.trials_path)
        self.known = KnownTrials(folder, self.store)
        self._folder = folder

    def __len__(self) -> int:
        return len(self.trials)

    @functools.cached_property
    def parallel(self) -> Parallel:
        """How many trials train at a time, and on how many threads each."""
        config = self.config
        return Parallel.of_sweep(
            config.jobs,
            config.launcher,
            num_in_sweep=len(self),
            most_threads=max(map(training.most_threads, self.configs)),
            worker_bytes=self.worker_bytes,
            on_gpu=trial_device(config).type != "cpu",
        )

    def environment(self, *, is_done: bool) -> dict[str, Any]:
        """Return what the run's numbers depend on: if nothing is trained now, as it was then."""
        if is_done and (earlier := read_mapping(self._folder.path / "env.json")):
            return earlier
        threads = self.parallel.num_threads
        return with_start(training.describe_environment(self.configs[0], num_threads=threads))

    def refuse_other_networks(self) -> None:
        """Make sure that the folder's run keeps its networks; see :mod:`hwcli.vision.run_files`."""
        run_files.refuse_other_networks(self._folder, self.known.in_folder, self.identities)

    def note_on_machine_settings(self) -> str | None:
        """Say that the run was begun with another device; see :mod:`hwcli.vision.run_files`."""
        return run_files.note_on_machine_settings(
            self.known.in_folder, self.identities, self.known.has_begun
        )

    def record(self) -> SweepRecord:
        """Return every trial as it is now; what does not fit its files is told and not used."""
        first = self.configs[0]  # the test images are the same for all
        images = training.load_images(first.data_path, first.data)
        labels = images.test.labels.numpy().astype(np.uint8)
        trials, predictions, epochs = [], {}, {}
        for trial, point in zip(self.trials, self.points, strict=True):
            blank = TrialRecord(trial.id, point, trial.label["seed"], trial.identity, "missing")
            found, its_predictions, its_epochs = self.known.read(blank, str(trial), labels)
            trials.append(found)
            epochs[trial.id] = its_epochs
            if its_predictions is not None and found.state == "done":
                predictions[trial.id] = its_predictions
        return SweepRecord(trials, predictions, labels, epochs)

    def best_network(self, summary: VitSweepSummary, record: SweepRecord) -> TrainedNetwork | None:
        """Return the first network of the best cell that is done; None where no cell is."""
        best = summary.best
        for index, trial in enumerate(record.trials):
            if best is not None and trial.key == best.key and trial.state == "done":
                config = self.configs[index]
                return TrainedNetwork(
                    config=config,
                    predictions=record.predictions.get(trial.id),
                    checkpoint=self.known.checkpoint(trial),
                    # Its own: the images of an axis of data.* are normalised each in their way.
                    data=training.load_images(config.data_path, config.data),
                    who=f"{summary.describe(trial.point)}, seed {trial.seed}",
                )
        return None

    def middle(self) -> TrialConfig:
        """Return the trial of middle cost, which a dry run times."""
        middle = sorted(self.trials, key=lambda trial: trial.cost)[len(self) // 2]
        return self.configs[self.trials.index(middle)]

    def flops_left(self) -> dict[str, int]:
        """Count what each trial still takes, by its id, if it goes on from its last checkpoint."""
        folders = {trial.id: self.store.folder(trial) for trial in self.trials}
        done = {i: len(f.epochs()) if f.checkpoint.is_file() else 0 for i, f in folders.items()}
        return {
            trial.id: training.flops_from(config, done[trial.id])
            for trial, config in zip(self.trials, self.configs, strict=True)
        }

    def train(self) -> list[Outcome]:
        """Train what is missing; return how each trial of it ended."""
        found = self.record().trials
        self.known.forget_what_lost_its_predictions(found)
        states = {trial.id: trial.state for trial in found}
        return run_trials(
            [trial for trial in self.trials if states[trial.id] in ("missing", "failed")],
            functools.partial(run_trial, num_threads=self.parallel.num_threads),
            self.store,
            num_workers=self.parallel.num_trials,
            retry_failed=self.config.retry_failed,
            fail_fast=self.config.fail_fast,
            launcher=self.config.launcher,
        )


# --------------------------------------------------------------------------------------
# The dry run


def plan(config: Config, folder: RunFolder) -> Plan:
    """Return the trials, which are done, and what the others take by a few timed steps."""
    sweep = Sweep(config, folder)
    states = {found.id: sweep.known.state(found) for found in sweep.record().trials}
    settled = {"done"} if config.retry_failed else {"done", "failed"}
    left = sweep.flops_left()
    todo = [left[trial.id] for trial in sweep.trials if states[trial.id] not in settled]
    num_trials = min(sweep.parallel.num_trials, max(len(todo), 1))
    parallel = replace(sweep.parallel, num_trials=num_trials)
    per_flop = seconds_per_flop(config, sweep, parallel)

    def estimate(trial: Trial) -> str | None:
        is_over = states[trial.id] in settled
        return None if per_flop is None or is_over else duration(left[trial.id] * per_flop)

    rows = [
        {
            **trial.label,
            "state": states[trial.id],
            "num_params": num_params(c.layers, c.heads, c.model),
            "flops": trial.cost,
            "estimate": estimate(trial),
        }
        for trial, c in zip(sweep.trials, sweep.configs, strict=True)
    ]
    note, seconds = "No time estimate for a cluster GPU.", None
    if per_flop is not None:
        seconds = FIXED_S + per_flop * makespan([], todo, num_trials)
        timed = sweep.middle()
        note = (
            f"{parallel} Times are estimated from timed steps of the network with "
            f"{counted(timed.layers, 'layer')} and {counted(timed.heads, 'head')}."
        )
    more = (sweep.note_on_machine_settings(), training.note_on_precision(sweep.configs))
    notes = [note, *(text for text in more if text is not None)]
    num_params_left = sum(row["num_params"] for row in rows if row["state"] not in settled)
    return Plan(
        tables.plan_table(plan_title(config, states), config.axes, rows, notes),
        seconds=seconds,
        memory_bytes=resources.DRIVER_BYTES + num_trials * sweep.worker_bytes,
        disk_bytes=DISK_BYTES + CHECKPOINT_BYTES_PER_PARAMETER * num_params_left,
        refused=refusal(config, folder, sweep),
    )


def seconds_per_flop(config: Config, sweep: Sweep, parallel: Parallel) -> float | None:
    """Return the seconds that an operation takes a trial where so many train at a time.

    None for a cluster's GPU, which cannot be timed from here.
    """
    is_local = config.launcher.kind == "local"
    if not is_local and trial_device(config).type != "cpu":
        return None
    threads = min(parallel.num_threads, resources.num_cores())  # a cluster's node may have more
    alone = training.seconds_per_flop(sweep.middle(), num_threads=threads)
    return alone * parallel.slowdown() if is_local else alone


def refusal(config: Config, folder: RunFolder, sweep: Sweep) -> str:
    """Return why the run would be refused; empty where it would not."""
    try:
        folder.refuse_to_lose(config)
        sweep.refuse_other_networks()
    except OutputError as error:
        return str(error)
    return ""


def plan_title(config: Config, states: Mapping[str, str]) -> str:
    """Return a line on the trials, whose states are given by their ids."""
    recipe = [] if "epochs" in config.grid else [f"{counted(config.epochs, 'epoch')} each"]
    if config.data.train_limit is not None:
        recipe.append(f"on {counted(config.data.num_train, 'image')}")
    num_done, num_failed = (list(states.values()).count(state) for state in ("done", "failed"))
    parts = [counted(len(states), "trial"), *recipe, f"{num_done} done"]
    parts += [f"{num_failed} failed"] if num_failed else []
    return f"{COMMAND} {config.name}: {', '.join(parts)}"

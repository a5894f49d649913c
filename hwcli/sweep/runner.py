"""Train what is missing of a sweep, and return the outcome of every trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hwcli.output import terminal
from hwcli.sweep.events import Event, TrialFunction
from hwcli.sweep.launcher import Launcher, LauncherConfig
from hwcli.sweep.live import LiveView
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from hwcli.sweep.workers import Workers


@dataclass(frozen=True)
class Outcome:
    """The outcome of a trial.

    Attributes:
        trial: which.
        status: ``missing`` only where the sweep was told to stop at the first failure, or not to
            wait for a cluster.
        result: of a trial that is done.
        reused: whether it was done before this sweep asked for it.
        reason: why it failed.
        log: the file with what it printed, its traceback included.
    """

    trial: Trial
    status: Literal["done", "failed", "missing"]
    result: dict[str, Any] | None = None
    reused: bool = False
    reason: str | None = None
    log: str | None = None


def run_trials(
    trials: Sequence[Trial],
    function: TrialFunction,
    store: TrialStore,
    *,
    num_workers: int,
    retry_failed: bool = False,
    fail_fast: bool = False,
    launcher: LauncherConfig | None = None,
) -> list[Outcome]:
    """Train the trials that are not done, the longest first, and return all in their order.

    Args:
        trials: all of the sweep.
        function: trains one of them.
        store: where they live; what is done there is used as it is.
        num_workers: trained at a time.
        retry_failed: try again what failed in an earlier sweep.
        fail_fast: stop at the first failure.
        launcher: where they train; None is this machine.

    Raises:
        LauncherError: a cluster cannot be used as it was asked to be.
        OutputError: the results folder cannot be written.
        KeyboardInterrupt: Ctrl-C; workers have stopped, finished epochs are kept.
    """
    outcomes = _known_outcomes(trials, store, retry_failed=retry_failed)
    # The longest first: a long trial started last would leave the other workers idle.
    todo = sorted((t for t in trials if t.id not in outcomes), key=lambda t: -t.cost)
    if todo:
        config = launcher or LauncherConfig()
        outcomes |= _train(
            todo, function, store, config, num_workers=num_workers, fail_fast=fail_fast
        )
        if len(outcomes) == len(trials):
            terminal.log("all trials have ended; drawing the tables and pictures")
    return [outcomes.get(trial.id, Outcome(trial, "missing")) for trial in trials]


def _known_outcomes(
    trials: Sequence[Trial], store: TrialStore, *, retry_failed: bool
) -> dict[str, Outcome]:
    """Return what the store has of trials that have ended, by id; forget what is tried again."""
    outcomes: dict[str, Outcome] = {}
    for trial in trials:
        folder = store.folder(trial)
        result, failure = folder.result(), folder.failure()
        for name in folder.damaged_files():
            terminal.log(f"{trial}: {folder.path / name} is damaged; it counts as missing")
        if result is not None:
            outcomes[trial.id] = Outcome(trial, "done", result, reused=True)
        elif failure is not None and not retry_failed:
            outcomes[trial.id] = Outcome(
                trial, "failed", reused=True, reason=str(failure["reason"]), log=str(folder.log)
            )
        elif failure is not None:
            folder.forget_failure()
    return outcomes


def _train(
    todo: Sequence[Trial],
    function: TrialFunction,
    store: TrialStore,
    config: LauncherConfig,
    *,
    num_workers: int,
    fail_fast: bool,
) -> dict[str, Outcome]:
    """Train trials in this order; return the outcomes of those that have ended, by id."""
    outcomes: dict[str, Outcome] = {}
    with LiveView(todo) as view, open_launcher(config, function, store, num_workers) as launcher:
        for trial in todo:
            launcher.submit(trial)
        for event in launcher.events():
            view.show(event)
            if event.kind in ("done", "failed"):
                outcomes[event.trial.id] = _outcome_of(event)
            if event.kind == "failed" and fail_fast:
                break
    return outcomes


def _outcome_of(event: Event) -> Outcome:
    """Return the outcome that the last event of a trial tells."""
    if event.kind == "done":
        return Outcome(event.trial, "done", event.result)
    return Outcome(event.trial, "failed", reason=event.reason, log=event.log)


def open_launcher(
    config: LauncherConfig, function: TrialFunction, store: TrialStore, num_workers: int
) -> Launcher:
    """Return the launcher asked for; the packages of the others need not be installed."""
    if config.kind == "slurm":
        from hwcli.sweep.clusters.slurm import SlurmJobs

        return SlurmJobs(function, store, config, num_workers=num_workers)
    if config.kind == "ray":
        from hwcli.sweep.clusters.ray import RayTasks

        return RayTasks(function, store, config, num_workers=num_workers)
    return Workers(function, store, num_workers=num_workers)

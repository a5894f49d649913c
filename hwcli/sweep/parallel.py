"""How many trials train at the same time, and on how many CPU threads each of them."""

from dataclasses import dataclass
from typing import Literal

from hwcli import resources
from hwcli.output import terminal
from hwcli.output.units import counted
from hwcli.sweep.launcher import LauncherConfig


@dataclass(frozen=True)
class Parallel:
    """How a sweep uses a machine or a cluster; it changes none of its numbers.

    Attributes:
        trials: that train at the same time, at the most.
        threads: of each, on a CPU.
    """

    trials: int
    threads: int

    @classmethod
    def of_sweep(
        cls,
        jobs: int | Literal["auto"],
        launcher: LauncherConfig,
        *,
        num_trials: int,
        most_threads: int,
        worker_bytes: int,
        on_gpu: bool,
    ) -> "Parallel":
        """Choose what is ``auto``.

        On a CPU a trial trains on each core, or as many as free memory holds; where that leaves
        cores free, trials get more threads. On a GPU one trains at a time; on a cluster all do.

        Args:
            jobs: trials at the same time.
            launcher: where they train, and with how many CPUs.
            num_trials: of the whole sweep, those that are done included: a sweep that goes on
                trains by as many threads as before, and the times of its trials compare.
            most_threads: that a trial can use.
            worker_bytes: memory that a trial needs.
            on_gpu: whether they train on this machine's GPU.
        """
        is_local = launcher.kind == "local"
        if jobs != "auto":
            most = jobs
        elif not is_local:
            most = num_trials
        else:
            most = 1 if on_gpu else _trials_at_once(launcher, num_trials, worker_bytes)
        trials = min(most, num_trials)
        if is_local and launcher.cpus == "auto":
            threads = max(resources.num_cores() // trials, 1)
        else:
            threads = launcher.least_cpus
        return cls(trials, min(threads, most_threads))

    def slowdown(self) -> float:
        """Return how many times as long a trial takes beside the others as alone, at least 1."""
        together = resources.slowdown_of_sharing(self.trials * self.threads)
        return together / resources.slowdown_of_sharing(self.threads)

    def __str__(self) -> str:
        verb = "trains" if self.trials == 1 else "train"
        each = "" if self.trials == 1 else " each"
        threads = f", on {counted(self.threads, 'thread')}{each}" if self.threads > 1 else ""
        return f"{counted(self.trials, 'trial')} {verb} at a time{threads}."


def _trials_at_once(launcher: LauncherConfig, num_trials: int, worker_bytes: int) -> int:
    """Return how many trials this machine's cores and free memory hold."""
    limit = resources.worker_limit(worker_bytes, resources.DRIVER_BYTES)
    most = min(max(resources.num_cores() // launcher.least_cpus, 1), num_trials)
    if limit.number < most:
        terminal.log(
            f"jobs: {limit.number} in parallel instead of {most}: free memory "
            "holds no more (set jobs to change that)"
        )
    return min(limit.number, most)

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
        num_trials: that train at the same time, at the most.
        num_threads: of each, on a CPU.
    """

    num_trials: int
    num_threads: int

    @classmethod
    def of_sweep(
        cls,
        jobs: int | Literal["auto"],
        launcher: LauncherConfig,
        *,
        num_in_sweep: int,
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
            num_in_sweep: all trials, those that are done included. So a sweep that goes on trains
                with as many threads as before, unless free memory decides, and times compare.
            most_threads: that a trial can use.
            worker_bytes: memory that a trial needs.
            on_gpu: whether they train on this machine's GPU.
        """
        is_local = launcher.kind == "local"
        cpus = min(launcher.cpus_or_one, most_threads)
        if jobs != "auto":
            most = jobs
        elif not is_local:
            most = num_in_sweep
        else:
            most = 1 if on_gpu else _most_that_fit(num_in_sweep, cpus, worker_bytes)
        num_trials = min(most, num_in_sweep)
        if is_local and launcher.cpus == "auto":
            cpus = min(max(resources.num_cores() // num_trials, 1), most_threads)
        return cls(num_trials, min(cpus, resources.num_cores()) if is_local else cpus)

    def slowdown(self) -> float:
        """Return how many times as long a trial takes beside the others as alone, at least 1."""
        together = resources.slowdown_of_sharing(self.num_trials * self.num_threads)
        return together / resources.slowdown_of_sharing(self.num_threads)

    def __str__(self) -> str:
        verb = "trains" if self.num_trials == 1 else "train"
        each = "" if self.num_trials == 1 else " each"
        number = self.num_threads
        threads = f", on {counted(number, 'thread')}{each}" if number > 1 else ""
        return f"{counted(self.num_trials, 'trial')} {verb} at a time{threads}."


def _most_that_fit(num_in_sweep: int, cpus: int, worker_bytes: int) -> int:
    """Return how many trials of so many CPUs this machine's cores and free memory hold."""
    limit = resources.worker_limit(worker_bytes, resources.DRIVER_BYTES)
    most = min(max(resources.num_cores() // cpus, 1), num_in_sweep)
    if limit.number < most:
        terminal.log(
            f"jobs: {limit.number} in parallel instead of {most}: free memory "
            "holds no more (set jobs to change that)"
        )
    return min(limit.number, most)

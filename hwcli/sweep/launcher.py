"""What a launcher is: it brings trials to processes that train them, and reports what happens.

Three are here: :mod:`hwcli.sweep.workers` on this machine (the default, which needs no package),
:mod:`hwcli.sweep.clusters.slurm` through a university's queue, :mod:`hwcli.sweep.clusters.ray` on
a Ray cluster.
None of them decides a number: on processors of one kind the same trial gives the same bits
wherever it is trained.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hwcli.config import Section
from hwcli.locks import Closing
from hwcli.ranges import auto_or_number
from hwcli.sweep.events import Event
from hwcli.sweep.queue import TrialQueue
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial


class Launcher(Closing):
    """Trains what is submitted to it; a context manager, since it owns processes or jobs.

    Args:
        store: where trials live.
    """

    def __init__(self, store: TrialStore):
        self._store = store
        self._queue = TrialQueue(store)

    def submit(self, trial: Trial) -> None:
        """Queue a trial."""
        self._queue.waiting.append(trial)

    def events(self) -> Iterator[Event]:
        """Yield what happens, until every submitted trial is done or has failed.

        Raises:
            LauncherError: the cluster cannot be used as it was asked to be.
            OutputError: the results folder cannot be written.
        """
        raise NotImplementedError


class LauncherConfig(Section):
    """Where trials train, and what each of them is given there; decides none of their numbers."""

    kind: Literal["local", "slurm", "ray"] = Field(
        "local", description="local (this machine), slurm or ray (each an extra to install)."
    )
    cpus: Annotated[int | Literal["auto"], BeforeValidator(auto_or_number)] = Field(
        "auto",
        description="CPUs of each trial, used by compiled kernels; auto: here the cores shared out "
        "among the trials, on a cluster 1.",
    )
    gpus: float = Field(
        0, ge=0, description="Cluster: GPUs per trial; on Ray a fraction shares one GPU."
    )
    memory_gb: float | None = Field(
        None, gt=0, description="Cluster: memory per trial in GB; null: the cluster's default."
    )
    partition: str | None = Field(
        None, description="SLURM: partition; null: the cluster's default."
    )
    time_limit_min: int = Field(
        60,
        ge=1,
        description="SLURM: minutes per job; a longer trial is queued again and resumes.",
    )
    sbatch: tuple[str, ...] = Field(
        (), description="SLURM: further options of sbatch, such as [--account=vision]."
    )
    setup: tuple[str, ...] = Field(
        (), description="SLURM: shell lines that a job runs first, such as [module load cuda]."
    )
    detach: bool = Field(False, description="SLURM: submit the jobs and return at once.")
    address: str | None = Field(
        None, description="Ray: HOST:PORT of a running cluster, or auto; null: start Ray here."
    )

    @property
    def cpus_or_one(self) -> int:
        """Return the CPUs that a cluster is asked for; ``auto`` is one."""
        return 1 if self.cpus == "auto" else self.cpus

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "LauncherConfig":
        if self.detach and self.kind != "slurm":
            raise ValueError(
                f"launcher.detach = True: only SLURM keeps a queue to come back to, and "
                f"launcher.kind = {self.kind!r}"
            )
        if self.kind == "slurm" and self.gpus != int(self.gpus):
            raise ValueError(f"launcher.gpus = {self.gpus}: SLURM gives whole GPUs only")
        for option in self.sbatch:
            if not option.startswith("--"):
                raise ValueError(f"launcher.sbatch = {option!r}: write --option or --option=value")
        return self

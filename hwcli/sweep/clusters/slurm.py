"""The launcher of a SLURM cluster: job arrays, a task of them for each trial, through submitit.

SLURM keeps the queue, gives the resources, and queues a job again after a lost node or a
preemption. submitit writes the scripts, and queues a job again after its time limit. This module
submits the trials that have no job yet, polls the queue, and submits a trial again whose job left
the queue without a result. A trial's job is noted in its folder (``job.json``), so the driver can
be closed and run again; jobs continue without it.
"""

import io
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import redirect_stderr, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from hwcli.errors import LauncherError
from hwcli.output import terminal
from hwcli.output.files import unwritable, write_json
from hwcli.output.units import counted
from hwcli.runtime import worker_variables
from hwcli.sweep.attempt import UNWRITABLE
from hwcli.sweep.clusters.remote import RemoteTrials, attempt_here
from hwcli.sweep.events import Event, TrialFunction
from hwcli.sweep.launcher import Launcher, LauncherConfig
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial

SECONDS_BETWEEN_MESSAGES = 1.0
# Asking for the queue costs the controller, which everybody shares.
SECONDS_BETWEEN_QUEUES = 5.0
# Per job; after that an epoch evidently does not fit into its time.
MAX_TIMEOUTS = 20
# A name that neither a run nor a trial can have.
FOLDER = ".slurm"

# States of a job that has ended; in any other state it waits or runs.
OVER = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY"),
    *("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", "SPECIAL_EXIT"),
    "",  # the queue does not know it any more
}
# State and reason of such a job.
GONE = ("", "")


class _TrialJob:
    """What a job runs; submitit calls ``checkpoint`` when its time is up or it is preempted."""

    def __init__(self, function: TrialFunction, store_path: Path):
        self.function = function
        self.store_path = store_path

    def __call__(self, trial: Trial) -> str:
        return attempt_here(trial, self.function, self.store_path)[0]

    def checkpoint(self, trial: Trial) -> Any:
        """Ask to be queued again: the trial's own checkpoint is on disk."""
        from submitit.helpers import DelayedSubmission

        # submitit now runs scontrol inside of this job. SLURM ends the job with SIGTERM, perhaps
        # before scontrol has its answer, and a killed scontrol would look like a failed trial.
        # Programs inherit that a signal is ignored; this process survives SIGTERM anyway.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return DelayedSubmission(self, trial)


class SlurmJobs(Launcher):
    """Trains what is submitted as jobs of a SLURM cluster.

    Args:
        function: trains one trial.
        store: where trials live; on a folder that all nodes share.
        options: what each job is given.
        num_workers: trained at a time at the most.

    Raises:
        LauncherError: the extra is not installed, or this machine has no SLURM.
    """

    def __init__(
        self,
        function: TrialFunction,
        store: TrialStore,
        options: LauncherConfig,
        *,
        num_workers: int,
    ):
        try:
            import submitit
        except ImportError:
            raise LauncherError(
                "launcher.kind = 'slurm': submitit is not installed; "
                "in the checkout: pip install -e '.[slurm]'"
            ) from None
        for program in ("sbatch", "srun", "squeue"):
            if shutil.which(program) is None:
                raise LauncherError(
                    f"launcher.kind = 'slurm': there is no {program} on this machine; run it on a "
                    "login node of the cluster"
                )
        # Nodes know neither this process's working folder nor, perhaps, a link to it.
        super().__init__(TrialStore(store.path.resolve()))
        self._job = _TrialJob(function, self._store.path)
        self._options = options
        self._num_workers = num_workers
        self._trials = RemoteTrials(self._store)
        self._open: dict[str, Trial] = {}
        self._jobs: dict[str, str] = {}
        self._executor = submitit.SlurmExecutor(
            self._store.path.with_name(FOLDER), max_num_timeout=MAX_TIMEOUTS
        )
        variables = [f"export {name}={value}" for name, value in worker_variables(1).items()]
        parameters = {
            "job_name": "hw2",
            "partition": options.partition,
            "time": options.time_limit_min,
            "cpus_per_task": options.cpus_or_one,
            "gpus_per_node": int(options.gpus) or None,
            "mem": options.memory_gb and f"{round(1024 * options.memory_gb)}M",
            "array_parallelism": num_workers,
            # Since version 22.05, srun does not take over what sbatch was asked for.
            "srun_args": [f"--cpus-per-task={options.cpus_or_one}"],
            "setup": [*variables, *options.setup],
            "stderr_to_stdout": True,
        }
        self._executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})

    def close(self, error: BaseException | None) -> None:
        """Leave jobs in the queue if the user stopped or detached the driver, else end them."""
        names = [name for name in self._open if name in self._jobs]
        jobs = [self._jobs[name] for name in names]
        if not jobs:
            return
        if self._options.detach or isinstance(error, KeyboardInterrupt):
            arrays = " ".join(sorted({job.partition("_")[0] for job in jobs}))
            terminal.log(
                f"{counted(len(jobs), 'trial')} in SLURM's queue (job {arrays}); run the same "
                f"command again to collect the results, or scancel {arrays} to end them"
            )
        elif subprocess.run(["scancel", *jobs], check=False, capture_output=True).returncode == 0:
            for name in names:  # hw2 status would call them queued
                with suppress(OSError):
                    self._store.folder(name).job.unlink(missing_ok=True)

    def events(self) -> Iterator[Event]:
        """Yield what happens, until every trial is done or has failed; or nothing, if detached.

        Raises:
            LauncherError: SLURM refuses the jobs.
            OutputError: the disk is full, here or where a trial trains.
        """
        states = self._poll_queue()
        if states is None:
            raise LauncherError(
                "launcher.kind = 'slurm': the cluster's controller does not answer squeue; try "
                "again when sinfo shows its nodes"
            )
        self._adopt(states)
        self._submit_jobs()
        gone: set[str] = set()
        looked = time.monotonic()
        while (self._open or self._queue.waiting) and not self._options.detach:
            for trial in list(self._open.values()):
                job = self._jobs.get(trial.id, "")
                if states.get(job, GONE)[0] == "PENDING":  # no news, and many of them
                    continue
                yield from self._trials.new_events(trial)
                if self._trials.unwritable:
                    self._queue.settle(trial, "unwritable", {"reason": self._trials.unwritable})
                if self._trials.last_status.get(trial.id) in ("done", "failed"):
                    yield from self._finish(trial)
            is_due = time.monotonic() - looked > SECONDS_BETWEEN_QUEUES
            if self._open and is_due:
                answer, looked = self._poll_queue(), time.monotonic()
                # A queue that does not answer says nothing of its jobs.
                if answer is not None:
                    states = answer
                    gone = yield from self._check_jobs(states, gone)
            if self._queue.waiting and (is_due or not self._open):
                # Another driver of the same sweep may have submitted them meanwhile.
                self._adopt(states)
                self._submit_jobs()
            if self._open:
                time.sleep(SECONDS_BETWEEN_MESSAGES)

    def _finish(self, trial: Trial) -> Iterator[Event]:
        event = self._queue.final_event(trial)
        if event is not None:
            del self._open[trial.id]
            yield event

    def _check_jobs(
        self, states: dict[str, tuple[str, str]], gone: set[str]
    ) -> Generator[Event, None, set[str]]:
        """See which jobs have left the queue; return those whose trial is not settled yet.

        Their files may be on the way: only when a job is gone at two looks has it died.
        """
        still_gone = set()
        for trial in list(self._open.values()):
            state, reason = states.get(self._jobs.get(trial.id, ""), GONE)
            if state == "PENDING" and "requeued held" in reason.lower().replace("_", " "):
                # SLURM holds what it could not start; nobody would release it.
                subprocess.run(["scancel", self._jobs[trial.id]], check=False, capture_output=True)
            elif state not in OVER:
                continue
            yield from self._finish(trial)
            if trial.id not in self._open:
                continue
            still_gone.add(trial.id)
            if trial.id not in gone:
                continue
            if self._store.folder(trial).is_owned():
                # The same trial once more: of another driver, or of a node that SLURM has lost
                # sight of.
                if self._trials.last_status.get(trial.id) != "busy":
                    self._trials.last_status[trial.id] = "busy"
                    yield Event("busy", trial)
                continue
            still_gone.discard(trial.id)
            job = self._jobs.pop(trial.id, None)
            if self._trials.last_status.get(trial.id) == "busy":
                self._resubmit(trial)
                continue
            what = f"ended as {state}" if state else "has left the queue"
            event = self._queue.handle_death(trial, f"its job {job} {what}")
            if event.kind == "failed":
                del self._open[trial.id]
            else:
                self._resubmit(trial)
            yield event
        return still_gone

    def _resubmit(self, trial: Trial) -> None:
        del self._open[trial.id]
        self._queue.waiting.append(trial)

    def _adopt(self, states: dict[str, tuple[str, str]]) -> None:
        """Take over the jobs that another driver has submitted."""
        adopted = 0
        for trial in list(self._queue.waiting):
            job, heard_bytes = self._store.folder(trial).submitted_job() or ("", 0)
            if states.get(job, GONE)[0] not in OVER:
                self._trials.adopt(trial, heard_bytes)
                self._queue.waiting.remove(trial)
                self._jobs[trial.id] = job
                self._open[trial.id] = trial
                adopted += 1
        if adopted:
            terminal.log(f"{counted(adopted, 'trial')} in SLURM's queue already")

    def _submit_jobs(self) -> None:
        """Submit what waits and may run, as few arrays as the cluster allows.

        Raises:
            LauncherError: SLURM refuses; the line says why.
            OutputError: the disk is full.
        """
        waiting = self._queue.waiting
        while waiting and (room := self._room()):
            trials = list(itertools.islice(waiting, min(room, self._max_array_size)))
            for trial in trials:
                self._trials.prepare(trial)
            self._executor.update_parameters(additional_parameters=self._sbatch_options())
            try:
                # What sbatch says is told below, in one line.
                with redirect_stderr(io.StringIO()):
                    jobs = self._executor.map_array(self._job, trials)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in UNWRITABLE:
                    raise unwritable(self._store.path, error) from None
                raise self._refused(error) from None
            for trial, job in zip(trials, jobs, strict=True):
                note = {"job": job.job_id, "heard_bytes": self._trials.position(trial)}
                write_json(self._store.folder(trial).job, note)
                self._jobs[trial.id] = job.job_id
                self._open[trial.id] = trial
            for _ in trials:
                waiting.popleft()
            array = jobs[0].job_id.partition("_")[0]
            terminal.log(f"submitted {counted(len(jobs), 'trial')} to SLURM as job {array}")

    def _room(self) -> int:
        """Return how many trials may be submitted now.

        SLURM limits how many tasks of one array run at a time, not of several. So a first array may
        be long, and what comes after it waits here until it may run. A driver that detaches does
        not come back; there SLURM keeps the later arrays waiting.
        """
        # Those that another driver trains wait here, too, without a job.
        num_open = sum(self._trials.last_status.get(name) != "busy" for name in self._open)
        if self._options.detach or not num_open:
            return len(self._queue.waiting)
        return max(0, self._num_workers - num_open)

    def _sbatch_options(self) -> dict[str, Any]:
        options = {"requeue": True, **_parse(self._options.sbatch)}
        is_limited = self._num_workers < len(self._open) + len(self._queue.waiting)
        arrays = sorted({job.partition("_")[0] for n, job in self._jobs.items() if n in self._open})
        if self._options.detach and is_limited and arrays:
            wishes = [options["dependency"]] if "dependency" in options else []
            options["dependency"] = ",".join([*wishes, ":".join(["afterany", *arrays])])
        return options

    @cached_property
    def _max_array_size(self) -> int:
        """How many tasks an array of this cluster may have."""
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "")
        return max(1, int(found.group(1)) - 1) if found else 1000

    def _refused(self, error: Exception) -> LauncherError:
        said = "; ".join(re.findall(r"error: (.*)", str(error))) or " ".join(str(error).split())
        if "partition" in said.lower():
            done = _ask("sinfo", "--noheader", "--format=%R")
            choices = ", ".join(sorted(set((done or "").split()))) or "sinfo lists none"
            return LauncherError(
                f"launcher.partition = {self._options.partition!r}: {said}; choices: {choices}"
            )
        return LauncherError(f"launcher: SLURM refuses the jobs: {said}")

    def _poll_queue(self) -> dict[str, tuple[str, str]] | None:
        """Return state and reason of this user's jobs by id; None where nobody answers."""
        answer = _ask(
            "squeue",
            *("--noheader", "--array", "--states=all"),
            *(f"--user={os.getuid()}", "--format=%i|%T|%r"),
        )
        if answer is None:
            return None
        lines = (line.split("|", 2) for line in answer.splitlines())
        return {job: (state, reason) for job, state, reason in lines}


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _parse(options: Sequence[str]) -> dict[str, Any]:
    """Split ``--option=value`` and ``--option``, as submitit wants them."""
    parts = (option.removeprefix("--").partition("=") for option in options)
    return {name: value if equals else True for name, equals, value in parts}

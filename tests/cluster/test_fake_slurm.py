"""What the SLURM launcher asks of a cluster, and what it makes of the answers, with none here."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwcli.errors import LauncherError
from hwcli.output.files import append_jsonl
from hwcli.sweep.clusters import slurm
from hwcli.sweep.clusters.slurm import SlurmJobs
from hwcli.sweep.events import Event
from hwcli.sweep.launcher import LauncherConfig
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from tests.sweep.toy_trials import toy, toy_trial

pytest.importorskip("submitit", reason="the extra is not installed: pip install -e '.[slurm]'")

PROGRAMS = Path(__file__).with_name("fake_slurm.sh")
TRIALS = [toy(number) for number in (2, 3, 5)]


class FakeSlurm:
    """The queue of a cluster, which changes as a test says.

    Args:
        folder: where the programs keep it.

    Attributes:
        at_each_look: is called whenever the driver would wait.
        looks: how often it has.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.store = TrialStore(folder / "trials")
        self.at_each_look: Callable[[], None] = lambda: None
        self._now = 0.0
        self.looks = 0
        for name in ("queue", "cancelled"):
            (folder / name).write_text("")
        (folder / "max_array_size").write_text("1001")

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += slurm.SECONDS_BETWEEN_QUEUES + seconds  # every look is at the queue, too
        self.looks += 1
        self.at_each_look()

    def open(self, num_workers: int = 3, **options: Any) -> SlurmJobs:
        launcher = LauncherConfig.model_validate({"kind": "slurm", **options})
        return SlurmJobs(toy_trial, self.store, launcher, num_workers=num_workers)

    def script(self, job: int) -> str:
        return (self.folder / f"{job}.sh").read_text()

    def num_jobs(self) -> int:
        return len(list(self.folder.glob("[0-9]*.sh")))

    def queue(self) -> dict[str, str]:
        """Return the state of each task that waits or runs."""
        lines = (self.folder / "queue").read_text().splitlines()
        return {task: state for task, state, _ in (line.split("|") for line in lines)}

    def change(self, **states: str | None) -> None:
        """Give tasks other states; None takes them out of the queue."""
        changed: dict[str, str | None] = {**self.queue(), **states}
        lines = [f"{task}|{state}|None\n" for task, state in changed.items() if state]
        (self.folder / "queue").write_text("".join(lines))

    def finish(self, trial: Trial) -> None:
        """Let a trial's job do its work, and leave."""
        folder = self.store.folder(trial)
        (task,) = (task for task in self.queue() if task == folder.queued_job())
        folder.finish({"square": trial.config.model_dump()["number"] ** 2})
        for kind in ("started", "done"):
            append_jsonl(folder.messages, {"kind": kind})
        self.change(**{task: None})


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    for name in ("sbatch", "squeue", "scancel", "scontrol", "srun"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(PROGRAMS)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    fake = FakeSlurm(tmp_path)
    monkeypatch.setattr(slurm, "time", fake)
    return fake


def submit(jobs: SlurmJobs, trials: list[Trial]) -> None:
    for trial in trials:
        jobs.submit(trial)


def train(jobs: SlurmJobs, trials: list[Trial] = TRIALS) -> list[Event]:
    """Train trials to the end; return what happened but for their starts."""
    with jobs:
        submit(jobs, trials)
        return [event for event in jobs.events() if event.kind != "started"]


def test_the_script_asks_for_what_a_trial_is_given(cluster: FakeSlurm) -> None:
    options = {"gpus": 2, "cpus": 5, "memory_gb": 1.5, "time_limit_min": 90, "partition": "gpu"}
    more = {"sbatch": ["--account=vision", "--exclusive"], "setup": ["module load cuda"]}
    assert train(cluster.open(2, detach=True, **options, **more)) == []
    lines = cluster.script(1).splitlines()
    asked = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert asked >= {
        *("--account=vision", "--exclusive", "--requeue", "--partition=gpu", "--array=0-2%2"),
        *("--gpus-per-node=2", "--cpus-per-task=5", "--mem=1536M", "--time=90"),
    }
    (run,) = (number for number, line in enumerate(lines) if line.startswith("srun "))
    assert "--cpus-per-task=5" in lines[run]
    assert lines.index("module load cuda") < run
    assert lines.index("export OMP_NUM_THREADS=1") < run
    assert cluster.num_jobs() == 1
    assert [cluster.store.folder(trial).queued_job() for trial in TRIALS] == ["1_0", "1_1", "1_2"]


def test_what_the_script_runs_trains_the_trial(cluster: FakeSlurm) -> None:
    train(cluster.open(detach=True), TRIALS[:1])
    environment = {**os.environ, "SLURM_JOB_ID": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", str(cluster.folder / "1.sh")], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert cluster.store.folder(TRIALS[0]).result() == {"square": 4, "threads": "1"}
    assert cluster.store.folder(TRIALS[0]).queued_job() is None


def test_a_trial_whose_job_has_left_the_queue_is_submitted_again(cluster: FakeSlurm) -> None:
    lost = TRIALS[1]

    def look() -> None:
        if cluster.num_jobs() == 1:
            cluster.change(**{"1_1": None})
        else:
            for trial in TRIALS:
                if not cluster.store.folder(trial).result():
                    cluster.finish(trial)

    cluster.at_each_look = look
    events = train(cluster.open())
    assert Counter(event.kind for event in events) == {"restarted": 1, "done": 3}
    assert (events[0].trial, events[0].reason) == (lost, "its job 1_1 has left the queue")
    assert cluster.num_jobs() == 2
    assert (cluster.folder / "cancelled").read_text() == ""


def test_a_queue_that_does_not_answer_says_nothing_of_its_jobs(cluster: FakeSlurm) -> None:
    silent = cluster.folder / "silent"
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        silent.touch()
        if looks == 4:
            silent.unlink()
            for trial in TRIALS:
                cluster.finish(trial)

    cluster.at_each_look = look
    assert {event.kind for event in train(cluster.open())} == {"done"}
    assert cluster.num_jobs() == 1
    silent.touch()
    with pytest.raises(LauncherError, match="controller does not answer squeue"):
        train(cluster.open(), [toy(7)])


def test_after_ctrl_c_jobs_stay_and_after_an_error_they_are_cancelled(
    cluster: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(error: BaseException) -> Callable[[], None]:
        def look() -> None:
            raise error

        return look

    cluster.at_each_look = stop(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(cluster.open())
    assert "3 trials in SLURM's queue (job 1)" in capsys.readouterr().err
    assert (cluster.folder / "cancelled").read_text() == ""
    cluster.at_each_look = stop(RuntimeError())
    with pytest.raises(RuntimeError):
        train(cluster.open())
    assert "3 trials in SLURM's queue already" in capsys.readouterr().err
    assert cluster.num_jobs() == 1
    assert (cluster.folder / "cancelled").read_text() == "1_0 1_1 1_2\n"
    assert [cluster.store.folder(trial).queued_job() for trial in TRIALS] == [None] * 3


def test_no_more_trials_than_jobs_says_train_at_a_time_in_all_arrays_together(
    cluster: FakeSlurm,
) -> None:
    (cluster.folder / "max_array_size").write_text("4")  # of three tasks, that is
    trials = [toy(number) for number in (2, 3, 5, 7, 11, 13, 17)]
    most = 0

    def look() -> None:
        nonlocal most
        for trial in trials:
            if cluster.queue().get(cluster.store.folder(trial).queued_job() or "") == "RUNNING":
                cluster.finish(trial)
                break
        running = Counter(
            task.partition("_")[0] for task, state in cluster.queue().items() if state == "RUNNING"
        )
        for task, state in cluster.queue().items():
            job = task.partition("_")[0]
            found = re.search(r"--array=\S*%(\d+)", cluster.script(int(job)))
            if state == "PENDING" and running[job] < (int(found[1]) if found else 1):
                running[job] += 1
                cluster.change(**{task: "RUNNING"})
        most = max(most, running.total())

    cluster.at_each_look = look
    events = train(cluster.open(2), trials)
    assert Counter(event.kind for event in events) == {"done": 7}
    assert most == 2
    assert "--array=0-2%2" in cluster.script(1)


def test_a_trial_that_waits_for_room_is_submitted_when_the_others_have_ended(
    cluster: FakeSlurm,
) -> None:
    def look() -> None:
        if cluster.num_jobs() == 1 and "1_1" in cluster.queue():
            # One is lost; there is no room for it before the others have ended.
            cluster.change(**{"1_0": "RUNNING", "1_1": None, "1_2": "RUNNING"})
            return
        if cluster.num_jobs() == 1 and cluster.looks < 4:
            return
        for trial in TRIALS:
            if cluster.store.folder(trial).queued_job() in cluster.queue():
                cluster.finish(trial)

    cluster.at_each_look = look
    events = train(cluster.open(1))
    assert Counter(event.kind for event in events) == {"restarted": 1, "done": 3}
    assert cluster.num_jobs() == 2


def test_a_driver_that_does_not_wait_leaves_it_to_slurm_to_keep_to_jobs(cluster: FakeSlurm) -> None:
    (cluster.folder / "max_array_size").write_text("3")
    trials = [toy(number) for number in (2, 3, 5, 7)]
    train(cluster.open(2, detach=True), trials)
    assert cluster.num_jobs() == 2
    assert "--dependency" not in cluster.script(1)
    assert "#SBATCH --dependency=afterany:1\n" in cluster.script(2)
    train(cluster.open(5, detach=True), [toy(11)])  # no limit
    assert "--dependency" not in cluster.script(3)


def test_a_job_that_is_adopted_is_not_blamed_for_an_earlier_attempt(cluster: FakeSlurm) -> None:
    """The disk was full, has room again, and the job that was left in the queue has just begun."""
    trial = TRIALS[0]
    folder = cluster.store.folder(trial)
    folder.prepare(trial)
    for message in ({"kind": "started"}, {"kind": "unwritable", "reason": "No space left"}):
        append_jsonl(folder.messages, message)
    train(cluster.open(detach=True), [trial])
    cluster.change(**{"1_0": "RUNNING"})
    cluster.at_each_look = lambda: cluster.finish(trial) if cluster.looks == 3 else None
    (event,) = train(cluster.open(), [trial])
    assert event.kind == "done"
    assert (cluster.folder / "cancelled").read_text() == ""

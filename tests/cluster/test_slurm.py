"""The sweep on a SLURM of two nodes, started here for real: jobs and nodes are lost midway."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.trials import GRID, NUM_EPOCHS, NUM_TRIALS, finished_epochs, wait_until
from tests.real_sweeps import command, numbers, summary_of

pytest.importorskip("submitit", reason="the extra is not installed: pip install -e '.[slurm]'")
pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("slurm.sh")
SMALL = ["--layers", "1", "--heads", "2..3", "--epochs", "2", "--train-limit", "500"]


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("starting a SLURM cluster takes root")
    missing = [name for name in ("slurmctld", "munged") if shutil.which(name) is None]
    if missing and not os.environ.get("HW2_INSTALL_SLURM"):
        told = "HW2_INSTALL_SLURM=1 lets this test install Debian's slurm-wlm and munge"
        pytest.skip(f"no {' and no '.join(missing)} here; {told}")
    installed = script("install")
    if installed.returncode:
        last = (installed.stderr.strip() or "no reason given").splitlines()[-1]
        pytest.skip(f"slurm-wlm and munge cannot be installed: {last}")
    folder = tmp_path_factory.mktemp("slurm")
    try:
        started = script("start", folder)
        assert started.returncode == 0, started.stderr
        yield folder
    finally:
        script("stop", folder)


@pytest.fixture
def environment(cluster: Path) -> dict[str, str]:
    return {**os.environ, "SLURM_CONF": str(cluster / "slurm.conf")}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("local")
    summary_of(
        subprocess.run(
            command(out, grid=GRID), capture_output=True, text=True, check=False, timeout=600
        )
    )
    return out


def ask(environment: dict[str, str], *command: str) -> list[str]:
    """Return the words that a command of SLURM prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def running(environment: dict[str, str]) -> list[str]:
    """Return the jobs that run."""
    return ask(environment, "squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i")


def folders_by_job(out: Path) -> dict[str, Path]:
    files = (out / "vit-sweep" / "trials").glob("*/job.json")
    return {json.loads(file.read_text())["job"]: file.parent for file in files}


@pytest.mark.parametrize("loss", ["kill-node", "kill-daemon"])
def test_with_a_job_and_a_node_lost_midway_the_table_is_the_local_one(
    cluster: Path, environment: dict[str, str], local: Path, tmp_path: Path, loss: str
) -> None:
    with start(tmp_path, environment, GRID) as program:

        def both_have_a_checkpoint() -> bool:
            folders = folders_by_job(tmp_path)
            kept = [
                (folders[job] / "checkpoint.safetensors").exists()
                for job in running(environment)
                if job in folders
            ]
            return kept == [True, True]

        wait_until(both_have_a_checkpoint)
        # scancel would leave it seconds, in which it may end by itself.
        assert script("kill-job", cluster, "n1").returncode == 0
        assert script(loss, cluster, "n2").returncode == 0
        shown, told = program.communicate(timeout=400)
    try:
        summary = summary_of(subprocess.CompletedProcess([], program.returncode, shown, told))
        assert (summary["status"], summary["num_run"]) == ("complete", NUM_TRIALS)
        assert "restarted: its job " in told
        assert numbers(tmp_path) == numbers(local)
        # What was lost is at most the epoch that was running.
        for folder in folders_by_job(tmp_path).values():
            assert finished_epochs(folder) == list(range(NUM_EPOCHS))
    finally:
        assert script("start-node", cluster, "n2").returncode == 0
        wait_until(lambda: nodes_that_are_up(environment) == 2)


def nodes_that_are_up(environment: dict[str, str]) -> int:
    states = ask(environment, "sinfo", "--noheader", "--Node", "--format=%T")
    return sum(state in ("idle", "mixed", "allocated") for state in states)


def start(out: Path, environment: dict[str, str], grid: list[str]) -> "subprocess.Popen[str]":
    """Start a driver, to be stopped or watched."""
    return subprocess.Popen(
        command(out, "--launcher", "slurm", grid=grid),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started the tests may have it ignored, as a shell does in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(out: Path, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, "--launcher", "slurm", *more, grid=SMALL),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def test_detached_it_returns_and_the_same_command_collects(
    environment: dict[str, str], tmp_path: Path
) -> None:
    submitted = run(tmp_path, environment, "--detach", "--set", "launcher.sbatch=[--hold]")
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stdout == ""
    assert "submitted 2 trials to SLURM" in submitted.stderr
    assert not (tmp_path / "vit-sweep" / "standard" / "summary.json").exists()
    again = run(tmp_path, environment, "--detach")
    assert "2 trials in SLURM's queue already" in again.stderr
    assert "submitted" not in again.stderr
    jobs = folders_by_job(tmp_path)
    subprocess.run(["scontrol", "release", *jobs], env=environment, check=True)
    wait_until(lambda: all((f / "result.json").exists() for f in jobs.values()))
    collected = summary_of(run(tmp_path, environment, "--detach"))
    assert (collected["status"], collected["num_reused"]) == ("complete", 2)


def test_a_driver_that_was_stopped_finds_its_jobs_again(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with start(tmp_path, environment, SMALL) as program:
        wait_until(lambda: len(folders_by_job(tmp_path)) == 2)
        time.sleep(1)
        program.send_signal(signal.SIGINT)
        _, told = program.communicate(timeout=30)
    assert program.returncode == 130
    assert "trials in SLURM's queue" in told
    before = set(folders_by_job(tmp_path))
    assert summary_of(run(tmp_path, environment))["status"] == "complete"
    assert set(folders_by_job(tmp_path)) == before


def test_a_job_whose_time_is_up_is_queued_again_and_goes_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # SLURM often ends the job before scontrol, which asks for that from inside, has its answer.
    slow = tmp_path / "bin" / "scontrol"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\n{shutil.which("scontrol")} "$@"\nstatus=$?\nsleep 3\nexit $status\n'
    )
    slow.chmod(0o755)
    grid = ["--layers", "1", "--heads", "2", "--epochs", "4", "--train-limit", "5000"]
    grid += ["--set", f"launcher.setup=['export PATH={slow.parent}:$PATH']"]
    with start(tmp_path, environment, grid) as program:
        trials = tmp_path / "vit-sweep" / "trials"
        wait_until(lambda: list(trials.glob("*/checkpoint.safetensors")))
        ((job, folder),) = folders_by_job(tmp_path).items()
        # SLURM sends this signal before a time limit ends a job.
        subprocess.run(["scancel", "--signal=USR2", job], env=environment, check=True)
        shown, told = program.communicate(timeout=300)
    summary_of(subprocess.CompletedProcess([], program.returncode, shown, told))
    assert finished_epochs(folder) == [0, 1, 2, 3]
    kinds = [
        json.loads(x)["kind"] for x in (folder / "messages.jsonl").read_text().split("\n") if x
    ]
    assert kinds.count("started") == 2
    assert list(folders_by_job(tmp_path)) == [job]
    assert "restarted" not in told


def test_a_node_without_the_data_says_so_in_the_row(
    environment: dict[str, str], tmp_path: Path
) -> None:
    from hwcli.data import catalogue

    # The folder is there when the trials are made, and gone where they are trained.
    here = tmp_path / "here"
    here.symlink_to(catalogue.find("fashion-mnist").path)
    out = tmp_path / "out"
    more = ["--data", str(here)]
    run(out, environment, *more, "--detach", "--set", "launcher.sbatch=[--hold]",
        "--set", f"launcher.setup=['export HW2_DATA={tmp_path}/nowhere']")  # fmt: skip
    here.rename(tmp_path / "elsewhere")
    jobs = folders_by_job(out)
    subprocess.run(["scontrol", "release", *jobs], env=environment, check=True)
    wait_until(lambda: all((f / "failure.json").exists() for f in jobs.values()))
    (tmp_path / "elsewhere").rename(here)
    collected = run(out, environment, *more)
    assert collected.returncode == 1
    assert f"{tmp_path}/nowhere/train-images" in collected.stderr
    assert "is missing (HW2_DATA) (on " in collected.stderr


def test_what_slurm_refuses_is_one_line_and_exit_code_2(
    environment: dict[str, str], tmp_path: Path
) -> None:
    refused = run(tmp_path, environment, "--quiet", "--set", "launcher.partition=nope")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: launcher.partition = 'nope': ")
    assert line.endswith("; choices: main")

"""The sweep as people run it: the real program on real images, stopped in every way."""

import functools
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hwcli.resources import num_cores
from tests.real_sweeps import children_of, numbers, summary_of, wait_until_gone
from tests.real_sweeps import command as sweep_command

pytestmark = pytest.mark.slow

GRID = ["--layers", "1..2", "--heads", "2..3", "--epochs", "3", "--train-limit", "3000"]
NUM_TRIALS = 4
command = functools.partial(sweep_command, grid=GRID)


def run(out: Path, *more: str, grid: list[str] = GRID) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, *more, grid=grid), capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    summary = summary_of(run(out))
    assert summary["status"] == "complete"
    assert (summary["num_run"], summary["num_reused"]) == (NUM_TRIALS, 0)
    return out


def test_every_file_a_person_expects_is_there(uninterrupted: Path) -> None:
    run_folder = uninterrupted / "vit-sweep" / "standard"
    names = {path.name for path in run_folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("config.yaml", "env.json", "metrics.jsonl", "trials.csv", "summary.json"),
        *("predictions.safetensors", "table.csv", "table.md"),
        *("heatmap.png", "curves.png", "costs.png"),
        *("confusion.png", "mistakes.png", "rollout.png", "positions.png"),
    }
    assert len((run_folder / "metrics.jsonl").read_text().splitlines()) == NUM_TRIALS * 3


def test_the_same_command_again_trains_nothing(uninterrupted: Path) -> None:
    before = numbers(uninterrupted)
    summary = summary_of(run(uninterrupted, "--jobs", "1", "--quiet"))
    assert (summary["num_run"], summary["num_reused"]) == (0, NUM_TRIALS)
    assert numbers(uninterrupted) == before


def test_a_wider_grid_and_one_more_seed_train_only_what_is_new(
    uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(uninterrupted, out)
    grid = ["--layers", "1..2", "--heads", "2..4", *GRID[4:]]
    summary = summary_of(run(out, "--name", "wider", grid=grid))
    assert (summary["num_run"], summary["num_reused"]) == (2, 4)
    summary = summary_of(run(out, "--name", "seeds", "--seeds", "0..1"))
    assert (summary["num_run"], summary["num_reused"]) == (4, 4)
    assert all(cell["test_accuracy_std"] is not None for cell in summary["cells"])


@pytest.mark.parametrize(("workers", "threads"), [(3, 1), (1, 2)])
def test_results_do_not_depend_on_the_numbers_of_workers_and_threads(
    workers: int, threads: int, uninterrupted: Path, tmp_path: Path
) -> None:
    more = ["--jobs", str(workers), "--set", f"launcher.cpus={threads}"]
    summary = summary_of(run(tmp_path, *more))
    assert numbers(tmp_path) == numbers(uninterrupted)
    expected = min(threads, num_cores()) if summary["kernels"] == "compiled" else 1
    trained_on = [
        json.loads(path.read_text())["trained_on"]
        for path in tmp_path.glob("vit-sweep/trials/*/result.json")
    ]
    assert [place["threads"] for place in trained_on] == NUM_TRIALS * [expected]


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds workers through /proc")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_random_moments_it_ends_with_the_numbers_of_an_uninterrupted_run(
    uninterrupted: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    num_interrupted = 0
    for _ in range(3):
        before = checkpoints(tmp_path)
        with subprocess.Popen(
            command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as program:
            while checkpoints(tmp_path) == before and program.poll() is None:
                time.sleep(0.05)
            time.sleep(chance.uniform(0, 1))
            workers = children_of(program.pid)
            if workers and chance.random() < 0.5:
                os.kill(chance.choice(workers), signal.SIGKILL)
                time.sleep(chance.uniform(0.5, 3))
            program.kill()
            program.wait()
        finished = (tmp_path / "vit-sweep" / "standard" / "summary.json").exists()
        wait_until_gone(workers)
        if finished:
            break
        assert program.returncode == -signal.SIGKILL
        num_interrupted += 1
    assert num_interrupted > 0
    summary = summary_of(run(tmp_path, "--retry-failed"))
    assert summary["status"] == "complete"
    assert numbers(tmp_path) == numbers(uninterrupted)


def checkpoints(out: Path) -> dict[Path, int]:
    """Return the checkpoints of a sweep's trials, and when each was written."""
    found = out.glob("vit-sweep/trials/*/checkpoint.safetensors")
    return {path: path.stat().st_mtime_ns for path in found}


def test_ctrl_c_stops_soon_and_says_how_to_go_on(uninterrupted: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever started the tests may have it ignored, as a shell does in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:
        while not checkpoints(tmp_path):
            assert program.poll() is None
            time.sleep(0.05)
        os.killpg(program.pid, signal.SIGINT)  # the terminal signals every process at once
        _, shown = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "run the same command again to continue" in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "vit-sweep" / "standard" / "summary.json").exists()
    summary_of(run(tmp_path))
    assert numbers(tmp_path) == numbers(uninterrupted)


def test_two_sweeps_at_once_share_the_trials(uninterrupted: Path, tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            command(tmp_path, "--jobs", "1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    shown = [program.communicate(timeout=600) for program in both]
    assert [program.returncode for program in both] == [0, 0]
    assert any("another process is writing it" in errors for _, errors in shown)
    epochs = [re.findall(r"^(layers .*): epoch", errors, re.MULTILINE) for _, errors in shown]
    assert epochs[0]
    assert epochs[1]
    assert not set(epochs[0]) & set(epochs[1])
    assert numbers(tmp_path) == numbers(uninterrupted)


def test_a_trial_that_cannot_train_is_a_row_and_exit_code_1(tmp_path: Path) -> None:
    # A learning rate at which the loss soon is no number any more.
    done = run(tmp_path, "--set", "optimizer.learning_rate=1e30", "--layers", "1", "--heads", "2")
    assert done.returncode == 1
    summary = json.loads(Path(done.stdout.splitlines()[-1]).read_text())
    assert (summary["status"], len(summary["failures"])) == ("partial", 1)
    assert re.search(r"failed: layers 1, heads 2, seed 0: .*the loss is \w+ at step", done.stderr)
    assert "--retry-failed" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system to fill up: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_fills_up_is_one_line_and_what_is_done_stays(small_disk: Path) -> None:
    grid = ["--layers", "1", "--heads", "2", "--epochs", "2", "--train-limit", "1000"]
    out = small_disk / "out"
    before = summary_of(run(out, grid=grid))
    (result,) = out.glob("vit-sweep/trials/*/result.json")
    content = result.read_bytes()

    # Full from the start: nothing is touched.
    filler = small_disk / "filler"
    filler.write_bytes(bytes(30 * 2**20))
    refused = run(out, "--seeds", "0..1", grid=grid)
    assert refused.returncode == 2
    assert "cannot be written (No space left on device)" in refused.stderr.splitlines()[-1]

    # Full on the way: a sweep stops, and goes on when there is room again.
    filler.unlink()
    long = [*grid[:4], "--epochs", "200", "--train-limit", "1000", "--name", "long"]
    sweep = subprocess.Popen(command(out, grid=long), stderr=subprocess.PIPE, text=True)
    while not len(checkpoints(out)) > 1:
        assert sweep.poll() is None
        time.sleep(0.05)
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 2, errors
    last = errors.splitlines()[-1]
    assert "cannot be written (No space left on device)" in last
    assert last.endswith("and run the command again")

    filler.unlink()
    assert result.read_bytes() == content
    assert summary_of(run(out, grid=grid))["cells"] == before["cells"]


def test_a_wheel_in_an_environment_elsewhere_has_its_configs(tmp_path: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        pytest.skip("making a wheel takes pip")
    root = Path(__file__).parents[2]
    made = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", str(root), "-w", "wheel"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution found for hatchling" in made.stderr:
        pytest.skip("making a wheel takes hatchling, which pip gets from the network")
    assert made.returncode == 0, made.stderr
    (wheel,) = (tmp_path / "wheel").iterdir()
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    # The dependencies, gigabytes of them, are lent by this environment, which has an editable
    # installation of the program: it comes last, so that the wheel's own files are found.
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    shutil.unpack_archive(wheel, site, "zip")
    import torch

    (site / "lent.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    code = "import hwcli, sys; print(hwcli.__file__); from hwcli.cli import main; main()"
    for arguments in (
        ["--help"],
        ["vit-sweep", "--layers", "1", "--heads", "2", "--dry-run"],
        ["attention-bench", "--T", "64..128*2", "--dry-run"],
        ["rnn-trace", "--length", "10"],
    ):
        done = subprocess.run(
            [str(python), "-I", "-c", code, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(site))
    assert (site / "hwcli" / "configs" / "vit_sweep.yaml").exists()

"""The sweep on a Ray cluster of two nodes, started here for real: one is lost midway."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.trials import GRID, NUM_EPOCHS, NUM_TRIALS, finished_epochs, wait_until
from tests.real_sweeps import command, numbers, summary_of

pytest.importorskip("ray", reason="the extra is not installed: pip install -e '.[ray]'")
# Ray leaves sockets and processes of its own to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def test_with_a_node_lost_midway_the_table_is_the_local_one(cluster: Any, tmp_path: Path) -> None:
    local, far = tmp_path / "local", tmp_path / "far"
    summary_of(
        subprocess.run(
            command(local, grid=GRID), capture_output=True, text=True, check=False, timeout=600
        )
    )
    node = cluster.add_node(**NODE)
    trials = far / "vit-sweep" / "trials"
    with subprocess.Popen(
        command(
            far, "--launcher", "ray", "--set", f"launcher.address={cluster.address}", grid=GRID
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        wait_until(lambda: len(list(trials.glob("*/checkpoint.safetensors"))) >= 2)
        cluster.remove_node(node, allow_graceful=False)
        shown, told = program.communicate(timeout=400)
    summary = summary_of(subprocess.CompletedProcess([], program.returncode, shown, told))
    assert (summary["status"], summary["num_run"]) == ("complete", NUM_TRIALS)
    assert "restarted: its worker died" in told
    assert numbers(far) == numbers(local)
    # What was lost is at most the epoch that was running.
    for folder in trials.iterdir():
        assert finished_epochs(folder) == list(range(NUM_EPOCHS))


def test_kill_stops_a_sweep_on_ray_as_any_other(tmp_path: Path) -> None:
    trials = tmp_path / "vit-sweep" / "trials"
    with subprocess.Popen(
        command(tmp_path, "--launcher", "ray", grid=GRID),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started the tests may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    ) as program:
        wait_until(lambda: list(trials.glob("*/messages.jsonl")))
        program.terminate()
        _, told = program.communicate(timeout=120)
    assert program.returncode == 143
    assert f"stopped: 0 of {NUM_TRIALS} trials are done" in told


def test_a_cluster_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    refused = subprocess.run(
        command(
            tmp_path,
            *("--quiet", "--launcher", "ray", "--set", "launcher.address=localhost:9"),
            grid=GRID,
        ),
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: launcher.address = 'localhost:9': nobody answers there")

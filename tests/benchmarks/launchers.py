"""What a launcher costs: trials that do nothing, through each, and the time of one.

    python tests/benchmarks/launchers.py [--num-trials 1000] [--launchers local,slurm,ray]

Workers are warm when the clock starts: they have done trials before. SLURM starts a process for
every trial, so there its queue is all that is warm; it needs a cluster (tests/cluster/slurm.sh
starts one) and is left out, with the reason, where there is none. Last, ``hw2 status`` on the
store of all those trials. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The workers of every launcher import this file's function by its module's name.
ROOT = Path(__file__).parents[2]
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)
sys.path.insert(0, str(ROOT))

from hwcli import resources  # noqa: E402
from hwcli.config import Section  # noqa: E402
from hwcli.errors import LauncherError  # noqa: E402
from hwcli.output import terminal  # noqa: E402
from hwcli.output.tables import Column, Table  # noqa: E402
from hwcli.sweep.launcher import LauncherConfig  # noqa: E402
from hwcli.sweep.runner import open_launcher  # noqa: E402
from hwcli.sweep.store import TrialFolder, TrialStore  # noqa: E402
from hwcli.sweep.trial import Trial  # noqa: E402
from hwcli.training.progress import Progress  # noqa: E402

GOAL_LOCAL_MS = 50
GOAL_STATUS_S = 2


class NoConfig(Section):
    """A trial's number."""

    number: int


def nothing(
    config: NoConfig, folder: TrialFolder, on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """Do nothing."""
    return {"number": config.number}


def make_trials(first: int, num: int) -> list[Trial]:
    return [
        Trial(NoConfig(number=n), {"number": n}, facts={}, cost=1.0)
        for n in range(first, first + num)
    ]


def measure(kind: str, num_trials: int, store: TrialStore) -> float:
    """Return the seconds of one trial."""
    from tests.benchmarks.launchers import nothing  # not __main__'s, which workers lack

    num_workers = resources.num_cores() if kind == "local" else num_trials
    launcher = LauncherConfig.model_validate({"kind": kind, "time_limit_min": 5})
    with open_launcher(launcher, nothing, store, num_workers) as opened:
        started = 0.0
        # Numbers below zero: trials that warm the workers up.
        for trials in (make_trials(-8, 8), make_trials(0, num_trials)):
            started = time.perf_counter()
            for trial in trials:
                opened.submit(trial)
            kinds = [event.kind for event in opened.events()]
            assert kinds.count("done") == len(trials), kinds
    return (time.perf_counter() - started) / num_trials


def time_status(out: Path, trials: list[Trial]) -> float:
    """Return the seconds that ``hw2 status`` takes on a run of these trials."""
    run = out / "nothing" / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}\n")
    rows = "".join(f"{trial.id},missing\n" for trial in trials)
    (run / "trials.csv").write_text(f"id,state\n{rows}")
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "hwcli", "status", "--out", str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(len(trials)) in done.stdout, done.stdout
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-trials", type=int, default=1000)
    parser.add_argument("--launchers", default="local,slurm,ray")
    arguments = parser.parse_args()
    rows, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="launchers-") as folder:
        for kind in arguments.launchers.split(","):
            out = Path(folder) / kind
            store = TrialStore(out / "nothing" / "trials")
            try:
                per_trial_s = measure(kind, arguments.num_trials, store)
            except LauncherError as error:
                terminal.log(f"{kind} is left out: {error}")
                continue
            status_s = time_status(out, make_trials(0, arguments.num_trials))
            figures[f"{kind}_ms_per_trial"] = round(1e3 * per_trial_s, 1)
            figures[f"status_s_after_{kind}"] = round(status_s, 2)
            rows.append({"kind": kind, "ms": 1e3 * per_trial_s, "status_s": status_s})
    terminal.show(
        Table(
            title=f"{arguments.num_trials:,} trials that do nothing, {resources.num_cores()} cores",
            columns=[
                Column("kind", "launcher"),
                Column("ms", "time of a trial", "{:.1f} ms"),
                Column("status_s", "hw2 status afterwards", "{:.2f} s"),
            ],
            rows=rows,
            notes=[f"Goals: {GOAL_LOCAL_MS} ms locally, {GOAL_STATUS_S} s for hw2 status."],
        )
    )
    print(json.dumps({"num_trials": arguments.num_trials, **figures}))


if __name__ == "__main__":
    main()

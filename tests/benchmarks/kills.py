"""Kill a sweep at random moments, go on each time, and compare it with one that nobody disturbed.

    python tests/benchmarks/kills.py [--times 20] [--every 20] [--seed 0] [--save LOG] -- OPTIONS

Trains the sweep of these options of ``hw2 vit-sweep`` twice: once undisturbed, once with SIGKILL at
random moments (on average ``--every`` seconds apart) to the driver, to a worker or to all of them.
Then results, predictions, epochs and every tensor of the checkpoints must be equal, bit for bit.
``--save`` writes the log, as in the files ``kills*.json`` beside this one. Exit code 1: not equal,
or the sweep ended before all kills.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.real_sweeps import children_of, command, numbers, wait_until_gone  # noqa: E402


def files(out: Path) -> set[str]:
    """Return the names of all files in a folder, to find what a kill left behind or lost."""
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def _tensors_that_differ(first: Path, second: Path) -> tuple[int, list[str]]:
    """Compare all checkpoints of two folders; return how many tensors, and which differ."""
    import torch
    from safetensors.torch import load_file

    compared, unlike = 0, []
    for path in sorted(first.glob("vit-sweep/trials/*/checkpoint.safetensors")):
        ours, theirs = (load_file(p / path.relative_to(first)) for p in (first, second))
        unlike += [f"{path.parent.name}: {key}" for key in ours.keys() ^ theirs.keys()]
        for key in ours.keys() & theirs.keys():
            compared += 1
            one, two = (t[key].flatten().view(torch.uint8) for t in (ours, theirs))
            unlike += [] if torch.equal(one, two) else [f"{path.parent.name}: {key}"]
    return compared, unlike


def _epochs_done(out: Path) -> int:
    return sum(
        len(path.read_text().splitlines()) for path in out.glob("vit-sweep/trials/*/metrics.jsonl")
    )


def _killed(
    options: list[str], out: Path, times: int, every: float, seed: int
) -> list[dict[str, Any]]:
    """Train with ``times`` kills, then to the end; return what was killed and when."""
    chance = random.Random(seed)
    start, log = time.monotonic(), []
    program = None
    while len(log) < times:
        if program is None:
            program = subprocess.Popen(
                command(out, grid=options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        wait = chance.uniform(0.2, 1.8) * every
        with suppress(subprocess.TimeoutExpired):
            program.wait(wait)
            print(f"finished after {len(log)} kills", file=sys.stderr)
            break
        workers = children_of(program.pid)
        victim = chance.choice(["driver", "all"] + ["worker"] * bool(workers))
        targets = {"driver": [program.pid], "all": [program.pid, *workers]}
        for pid in targets.get(victim) or [chance.choice(workers)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if victim != "worker":
            program.wait()
            wait_until_gone(workers)
            program = None
        event = {
            "at_s": round(time.monotonic() - start, 1),
            "killed": victim,
            "epochs_done": _epochs_done(out),
        }
        log.append(event)
        print(json.dumps(event), file=sys.stderr)
    if program is not None:
        program.wait()
    subprocess.run([*command(out, grid=options), "--retry-failed"], check=True)
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--every", type=float, default=20, help="seconds between kills, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--undisturbed", type=Path, help="folder of such a sweep, already trained")
    parser.add_argument("--save", type=Path, metavar="LOG", help="a JSON file")
    parser.add_argument("options", nargs="*", help="of hw2 vit-sweep, after --")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        calm, killed = given.undisturbed or Path(folder) / "calm", Path(folder) / "killed"
        if given.undisturbed is None:
            subprocess.run(command(calm, grid=given.options), check=True)
        log = _killed(given.options, killed, given.times, given.every, given.seed)
        compared, unlike = _tensors_that_differ(calm, killed)
        ours, theirs = numbers(calm), numbers(killed)
        unlike += [n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)]
        unlike += sorted(files(calm) ^ files(killed))
        environment = json.loads(next(calm.glob("vit-sweep/*/env.json")).read_text())
    report = {
        "options": given.options,
        "seed": given.seed,
        "cpu": environment["cpu"],
        "commit": environment["commit"],
        "kills": log,
        "trials": sum(isinstance(entry, tuple) for entry in ours.values()),
        "epochs": sum(len(entry[1]) for entry in ours.values() if isinstance(entry, tuple)),
        "tensors_compared": compared,
        "unlike": unlike,
    }
    if given.save:
        given.save.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    sys.exit(bool(unlike) or len(log) < given.times or compared == 0)


if __name__ == "__main__":
    main()

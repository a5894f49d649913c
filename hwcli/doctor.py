"""What ``hw2 doctor`` tells: what this machine has, what hw2 makes of it, and what is wrong.

One screen, made to be pasted into a question: no host name and no folder of the user's.
"""

import fcntl
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from hwcli import processor, resources, runtime
from hwcli.config import load
from hwcli.data.cache import cache_folder
from hwcli.data.catalogue import CATALOGUE
from hwcli.errors import HwError, KernelError, SourceError
from hwcli.experiments import vit_sweep
from hwcli.fingerprint import fingerprint
from hwcli.native import compiler
from hwcli.output.tables import Column, Table
from hwcli.output.units import counted, size
from hwcli.paths import nearest_folder
from hwcli.training.optimizers import make_optimizers
from hwcli.training.step import autocast
from hwcli.vision.fashion_mnist import IMAGE_SIDE
from hwcli.vision.vit import ViT

# The kinds of machine that docs/speed.md has times for, by what a processor has, fastest first.
SPEED_ROWS = ("AMX-BF16", "AVX512-BF16", "AVX2")

# Below this a run of the standard grid may not find room for its data, checkpoints and pictures.
LEAST_FREE_DISK = 500 * 10**6

# The timing: two layers of the sweep's network, so that it takes a second and no more.
TIMED_LAYERS, TIMED_HEADS, TIMED_IMAGES = 2, 4, 64
TIMING_S = 1.0

# Slower by less than this is the noise of a machine at work.
NOISE = 1.05

# Under WSL it names Microsoft.
KERNEL_VERSION = Path("/proc/version")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: in one word.
        text: what was found, and what to do about it if it is a fault.
        fault: whether it slows or stops a run that could do better.
        facts: the same as numbers and names, for programs.
    """

    topic: str
    text: str
    fault: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def examine(out: Path) -> list[Finding]:
    """Look at everything that decides how a run in ``out`` will go; takes a few seconds."""
    config = load(vit_sweep.Config, vit_sweep.COMMAND)
    device = runtime.resolve_device("auto")
    fast = runtime.has_fast_bf16(device)
    return [
        look_at_versions(),
        look_at_device(device),
        look_at_processor(),
        look_at_precision(device, fast=fast),
        *look_at_kernels(config, device),
        look_at_memory(device),
        look_at_locks(out),
        look_at_disk(out),
        *look_at_data(),
    ]


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """Return findings by topic; ``healthy`` says that none is a fault."""
    by_topic = {finding.topic: asdict(finding) for finding in findings}
    return {"healthy": not any(finding.fault for finding in findings), "findings": by_topic}


def to_table(findings: list[Finding]) -> Table:
    """Return findings as a table, in which an exclamation mark is a fault."""
    rows = [{"topic": ("! " if f.fault else "  ") + f.topic, "text": f.text} for f in findings]
    faults = any(f.fault for f in findings)
    note = "What is marked ! slows or stops a run." if faults else "Nothing slows or stops a run."
    return Table("hw2 doctor", [Column("topic", ""), Column("text", "")], rows, notes=[note])


# --------------------------------------------------------------------------------------
# The machine


def look_at_versions() -> Finding:
    """Return which hw2, Python and torch these are."""
    facts = fingerprint()
    commit = str(facts["commit"] or "")[:7]
    of = f" at {commit}{', changed' if facts['dirty'] else ''}" if commit else ""
    text = (
        f"hw2 {facts['hw2']}{of}; Python {facts['python']}, torch {torch.__version__}, "
        f"{facts['platform']}"
    )
    names = ("hw2", "commit", "dirty", "python", "platform", "versions")
    return Finding("versions", text, facts={name: facts[name] for name in names})


def look_at_device(device: torch.device) -> Finding:
    """Return what ``--device auto`` means here."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else None
    return Finding(
        "device",
        f"{device.type} for --device auto" + (f": {name}" if name else ""),
        facts={"auto": device.type, "gpu": name},
    )


def look_at_processor() -> Finding:
    """Return the processor, and the vectors it computes with."""
    facts, flags = fingerprint(), processor.cpu_flags()
    if platform.machine() == "arm64":  # macOS lists no flags, and every processor of Apple's has it
        flags |= {compiler.EXTENSIONS["NEON"][1]}
    has = [name for name, (_, flag) in compiler.EXTENSIONS.items() if flag in flags]
    cores = resources.num_cores()
    name = facts["cpu"].partition(" (")[0]
    row = next((name for name in SPEED_ROWS if name in has), None)
    return Finding(
        "processor",
        f"{name}, {counted(cores, 'core')}"
        + (f", {', '.join(has)}" if has else "")
        + (f"; its times are in docs/speed.md, row {row}" if row else ""),
        facts={"name": name, "cores": cores, "extensions": has, "speed_row": row},
    )


def look_at_precision(device: torch.device, *, fast: bool) -> Finding:
    """Return what ``precision: auto`` means here."""
    what = "GPU" if device.type == "cuda" else "device" if device.type == "mps" else "processor"
    text = (
        f"bfloat16: this {what} multiplies it fast"
        if fast
        else f"float32: this {what} does not multiply bfloat16 fast"
    )
    return Finding("precision", text, facts={"auto": text.partition(":")[0]})


def look_at_memory(device: torch.device) -> Finding:
    """Return how much memory is free, and how many trials train at a time therefore."""
    free = resources.free_memory_bytes()
    whole = fingerprint()["memory_bytes"]
    limit = resources.worker_limit(resources.WORKER_BYTES, resources.DRIVER_BYTES)
    jobs, decided_by = (limit.number, limit.decided_by) if device.type == "cpu" else (1, "device")
    reason = {
        "cores": "one per core",
        "memory": f"memory allows no more at {size(resources.WORKER_BYTES)} each",
        "device": "they share one device",
    }[decided_by]
    amounts = ["an unknown amount" if number is None else size(number) for number in (free, whole)]
    return Finding(
        "memory",
        f"{amounts[0]} free of {amounts[1]}; jobs: auto is {jobs} ({reason})",
        fault=free is not None and free < resources.WORKER_BYTES + resources.DRIVER_BYTES,
        facts={
            "free_bytes": free,
            "whole_bytes": whole,
            "jobs": jobs,
            "decided_by": decided_by,
            "worker_bytes": resources.WORKER_BYTES,
        },
    )


# --------------------------------------------------------------------------------------
# Kernels


def look_at_kernels(config: vit_sweep.Config, device: torch.device) -> list[Finding]:
    """Return the compiler, and a timing of the kernels it makes against torch's own.

    Compiled kernels are for the CPU. Where ``--device auto`` is a GPU they are timed as well, and
    nothing about them is a fault.
    """
    on_cpu = device.type == "cpu"
    torchs = "torch's own" if on_cpu else f"torch's own on {device.type}, and with --device cpu"

    def without(reason: str, *, fault: bool = on_cpu) -> Finding:
        return Finding("kernels", f"{torchs}: {reason}", fault=fault, facts={"auto": "torch"})

    try:
        found = compiler.find_compiler()
    except KernelError as error:
        use = "" if on_cpu else " (only --device cpu uses it)"
        return [
            Finding("compiler", f"{error}{use}", fault=on_cpu),
            without("kernels: auto needs a compiler", fault=False),
        ]
    target = ", ".join(found.extensions) or "the plainest processor of its kind"
    asked = f"; {' '.join(found.machine_flags)}" if found.machine_flags else ""
    findings = [
        Finding(
            "compiler",
            f"{found.version}, for {target}{asked}",
            facts={"version": found.version, "flags": found.machine_flags},
        )
    ]
    if (reason := compiler.reason_against()) is not None:
        return [*findings, without(reason)]
    low = runtime.has_fast_bf16(torch.device("cpu"))
    try:
        seconds = time_kernels(config, torch.bfloat16 if low else torch.float32)
    except HwError as error:
        return [*findings, without(str(error))]
    ratio = seconds["compiled"] / seconds["torch"]
    times = f"{1e3 * seconds['compiled']:.1f} ms a step for {1e3 * seconds['torch']:.1f} by torch's"
    # On macOS other programs at work may slow either way.
    is_defect = ratio > NOISE and on_cpu and sys.platform != "darwin"
    advice = "; this is a defect, please report it, and train with --set kernels=torch"
    used = (
        "compiled for kernels: auto"
        if on_cpu
        else f"torch's own on {device.type}; compiled with --device cpu"
    )
    return [
        *findings,
        Finding(
            "kernels",
            f"{used}, {times} ({ratio:.2f} of the time{advice if is_defect else ''})",
            fault=is_defect,
            facts={
                "auto": "compiled" if on_cpu else "torch",
                **{f"{way}_s": value for way, value in seconds.items()},
            },
        ),
    ]


def time_kernels(config: vit_sweep.Config, precision: torch.dtype) -> dict[str, float]:
    """Return the seconds of a training step by compiled kernels and by torch's own, in turns.

    As a worker of a grid trains, by one thread: the recipe's network (two layers of it) and its
    optimisers. A way's figure is the processor time of its fastest step; on macOS the time, as
    Apple's library multiplies on threads that a thread's own clock does not count.

    Raises:
        KernelError: a kernel cannot be compiled.
    """
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(TIMED_IMAGES, 1, IMAGE_SIDE, IMAGE_SIDE, generator=generator)
    labels = torch.arange(TIMED_IMAGES) % 10

    def make_step(compiled: bool) -> Callable[[], None]:
        with torch.random.fork_rng(devices=[]):
            model = ViT(layers=TIMED_LAYERS, heads=TIMED_HEADS, config=config.model)
        optimizers = make_optimizers(model, config.optimizer)

        def step() -> None:
            with compiler.kernels(compiled):
                with autocast(cpu, precision):
                    logits = model(images)
                F.cross_entropy(logits.float(), labels).backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()

        return step

    # Of a thread's own clock other programs at work are no part.
    clock = time.perf_counter if sys.platform == "darwin" else time.thread_time
    steps = {"compiled": make_step(True), "torch": make_step(False)}
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    torch.set_num_threads(1)
    try:
        for step in steps.values():  # compiles, and warms up
            step()
            step()
        until = time.perf_counter() + TIMING_S
        while time.perf_counter() < until or not seconds["torch"]:
            for way, step in steps.items():
                started = clock()
                step()
                seconds[way].append(clock() - started)
    finally:
        torch.set_num_threads(threads)
    return {way: min(taken) for way, taken in seconds.items()}


# --------------------------------------------------------------------------------------
# Disks and data


def look_at_locks(out: Path) -> Finding:
    """Return whether the disk that ``out`` is on lets one process at a time own a trial."""
    folder = nearest_folder(out)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".hw2-doctor-") as temporary:
            path = Path(temporary) / "lock"
            with path.open("w") as first, path.open("w") as second:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return Finding("locks", f"work in {out}", facts={"work": True})
        text = f"{out} lets two processes hold one lock; train into another folder with --out"
    except PermissionError:
        text = f"{out} cannot be written; train into another folder with --out"
    except OSError as error:
        text = f"{out} has none ({error.strerror}); train into another folder with --out"
    return Finding("locks", text, fault=True, facts={"work": False})


def look_at_disk(out: Path) -> Finding:
    """Return what is free where runs are written, and where data is kept."""
    places = {str(out): out}
    try:
        places["the cache"] = cache_folder()
    except SourceError as error:
        return Finding("disk", str(error), fault=True)
    free = {name: shutil.disk_usage(nearest_folder(path)).free for name, path in places.items()}
    scarce, of_windows = min(free.values()) < LEAST_FREE_DISK, _is_windows_disk(out)
    text = ", ".join(f"{size(number)} free for {name}" for name, number in free.items())
    if scarce:
        text += f"; a grid with its data wants {size(LEAST_FREE_DISK)}"
    if of_windows:
        text += (
            f"; {out} is on a disk of Windows, which WSL reads many times more slowly and locks in "
            "another way: clone hw2 below ~ and work there"
        )
    return Finding(
        "disk",
        text,
        fault=scarce or of_windows,
        facts={
            "out_free_bytes": free[str(out)],
            "cache_free_bytes": free["the cache"],
            "out_on_windows_disk": of_windows,
        },
    )


def _is_windows_disk(path: Path) -> bool:
    """Tell whether a folder lies where WSL shows a disk of Windows, such as /mnt/c."""
    try:
        version = KERNEL_VERSION.read_text()
    except OSError:
        return False
    is_drive = re.match(r"/mnt/[a-z](/|$)", str(path.resolve())) is not None
    return is_drive and "microsoft" in version.lower()


def look_at_data() -> list[Finding]:
    """Return which data sets and weights are at hand, and how to get the others."""
    findings = []
    for entry in CATALOGUE.values():
        try:
            present = entry.source.present(entry.name)
        except SourceError as error:
            findings.append(Finding(entry.name, str(error), fault=True))
            continue
        missing = f"not here; hw2 data fetch {entry.name} gets it ({size(entry.num_bytes)})"
        findings.append(
            Finding(entry.name, "; ".join(present) or missing, facts={"present": present})
        )
    return findings

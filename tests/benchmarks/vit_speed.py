"""Training images a second of the whole machine: hw2's ViT beside four libraries' ViTs.

    python tests/benchmarks/vit_speed.py [--isa native|avx512|avx2|none|none-avx2] [--save]
    python tests/benchmarks/vit_speed.py --device cuda

All at one size (6 layers, 4 heads, width 64, MLP 128, 49 or 50 tokens, parameters within 3 %) and
batch 128, on the same shuffled and flipped Fashion-MNIST images: forward, backward and optimiser
step, data included. Peers train with fused AdamW, hw2 with its recipe's Muon. Two comparisons:

- as people run them: float32, one process with all threads; eager, and torch.compile;
- as an expert tunes them: hw2's precision, one single-threaded process a core, hw2's settings of
  the allocator; eager, and torch.compile.

hw2 runs as its sweep does, one process a core. On a GPU (``--device cuda``) everybody has one
process; as people run them is float32, eager and torch.compile, and as an expert tunes them is
hw2's precision, eager and torch.compile's "reduce-overhead", which records the model's passes as
CUDA graphs, where hw2 records its whole step.

``--isa`` holds everybody to a processor's instructions: hw2's kernels are compiled for them, and
torch, oneDNN and MKL are told to use no others, so that a server shows what a laptop would (what
torch.compile makes is held to their vectors, its compiler still to ``-march=native``). With
``none`` and ``none-avx2`` nobody has a compiler: hw2 trains by torch's own kernels, and peers are
eager. Everybody computes in bfloat16 where the instructions have it, else in float32.

Every group is interleaved: each contestant in turn for a few seconds, over and over; a ratio is
the median over the rounds. Before anything is timed, hw2's fast path must follow a plain float32
run of the same model over 50 steps. The last line is one JSON object; ``--save`` puts it into
vit_speed.json under the name of the instructions. With ``--isa avx2`` it takes 8 to 10 minutes on
two cores; ``native`` also measures the grid and the sweep's overhead, which takes 5 more.
"""

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from instructions import ISAS, hold_to

from hwcli import resources, runtime
from hwcli.data import catalogue
from hwcli.fingerprint import fingerprint
from hwcli.output import terminal
from hwcli.output.tables import Column, Table

LAYERS, HEADS, WIDTH, MLP_WIDTH, BATCH = 6, 4, 64, 128, 128
PEERS = ("vit-pytorch", "timm", "torchvision", "transformers")
OURS = "hw2"
GATE_STEPS = 50
LAYERS_ALONE = "layers"
FIGURES = Path(__file__).with_suffix(".json")
FIGURES_OF_GPU = FIGURES.with_stem("vit_speed_gpu")


# Of a loss, at any of the gate's steps: what bfloat16 moves it by while both learn the same.
GATE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Entry:
    """One way to train, in one process or several side by side."""

    name: str
    precision: str = "float32"
    processes: int = 1
    threads: int = 1
    compiled: bool = False
    tuned: bool = False
    layers: int = LAYERS
    heads: int = HEADS
    attention: Literal["softmax", "linear"] = "softmax"
    kernels: bool = True
    device: str = "cpu"
    isa: str = "native"

    def __str__(self) -> str:
        way = "compiled" if self.compiled else "eager"
        layout = f"{self.processes} x {self.threads} threads"
        if self.device == "cuda":
            way += " with CUDA graphs" if self.compiled and self.tuned else ""
            layout = "GPU"
        return f"{self.name}, {self.precision}, {layout}" + (
            "" if self.name in (OURS, LAYERS_ALONE, "peak") else f", {way}"
        )


# --------------------------------------------------------------------------------------
# Inside a contestant's process


def peer_model(name: str) -> Any:
    """Build a library's ViT of the common size; called as its users call it, it gives logits."""
    import torch

    if name == "vit-pytorch":
        from vit_pytorch import ViT

        return ViT(
            image_size=28, patch_size=4, num_classes=10, dim=WIDTH, depth=LAYERS, heads=HEADS,
            dim_head=WIDTH // HEADS, mlp_dim=MLP_WIDTH, channels=1,
        )  # fmt: skip
    if name == "timm":
        from timm.models.vision_transformer import VisionTransformer

        return VisionTransformer(
            img_size=28, patch_size=4, in_chans=1, num_classes=10, embed_dim=WIDTH, depth=LAYERS,
            num_heads=HEADS, mlp_ratio=MLP_WIDTH / WIDTH,
        )  # fmt: skip
    if name == "torchvision":
        from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT

        model = TorchvisionViT(
            image_size=28, patch_size=4, num_layers=LAYERS, num_heads=HEADS, hidden_dim=WIDTH,
            mlp_dim=MLP_WIDTH, num_classes=10,
        )  # fmt: skip
        model.conv_proj = torch.nn.Conv2d(1, WIDTH, kernel_size=4, stride=4)
        return model
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=MLP_WIDTH, image_size=28, patch_size=4, num_channels=1, num_labels=10,
        )
    )  # fmt: skip


def make_step(entry: Entry, seed: int = 0) -> tuple[Callable[[], Any], int]:
    """Return a function that trains on the next batch and gives its loss; and the parameters."""
    import torch
    import torch.nn.functional as F

    from hwcli.native import compiler
    from hwcli.training.optimizers import OptimizerConfig, make_optimizers
    from hwcli.training.step import BatchOutcome, Step
    from hwcli.vision.augmentation import AugmentationConfig, batches
    from hwcli.vision.recipe import DataConfig
    from hwcli.vision.training import load_images
    from hwcli.vision.vit import ViT, ViTConfig

    torch.manual_seed(seed)
    device, precision = torch.device(entry.device), getattr(torch, entry.precision)
    data = load_images(catalogue.find("fashion-mnist").path, DataConfig())
    ours = entry.name == OURS
    if ours:
        config = ViTConfig(
            width=WIDTH, mlp_width=MLP_WIDTH, head_width=WIDTH // HEADS, attention=entry.attention
        )
        model: Any = ViT(layers=entry.layers, heads=entry.heads, config=config).to(device)
        optimizers = make_optimizers(model, OptimizerConfig(kind="muon", muon_learning_rate=7e-3))
    else:
        model = peer_model(entry.name).to(device)
        optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)]
        for group in optimizers[0].param_groups:
            group["initial_lr"] = group["lr"]
    num_params = sum(p.numel() for p in model.parameters())
    mode = "reduce-overhead" if entry.device == "cuda" and entry.tuned else None
    called = torch.compile(model, mode=mode) if entry.compiled else model

    def batch_loss(_: Any, batch: tuple[Any, Any]) -> BatchOutcome:
        images, labels = batch
        out = called(data.normalize(images))
        logits = (out.logits if hasattr(out, "logits") else out).float()
        return BatchOutcome(F.cross_entropy(logits, labels), labels.sum(), len(labels))

    take_step = Step(model, optimizers, batch_loss, device, precision, recorded=ours)
    training = data.train.to(device)

    def stream() -> Iterator[tuple[Any, Any]]:
        for epoch in count():
            for images, labels in batches(
                training, AugmentationConfig(), batch_size=BATCH, seed=seed, epoch=epoch
            ):
                if len(labels) == BATCH:
                    yield images, labels

    source = stream()

    def step() -> Any:
        with compiler.kernels(ours and entry.kernels):
            return take_step(next(source), 1.0).loss

    return step, num_params


def peak_side(device: str) -> int:
    """Return the side of matrices that are large for a device."""
    from hwcli.attention.bench import measure

    return measure.PEAK_SIDE if device == "cpu" else measure.PEAK_SIDE_ON_GPU


def make_product(entry: Entry) -> tuple[Callable[[], Any], int]:
    """Return a function that multiplies two large matrices: what the processor can do at most."""
    import torch

    side = peak_side(entry.device)
    a = torch.randn(side, side).to(entry.device, getattr(torch, entry.precision))
    return lambda: torch.mm(a, a), 0


def make_layers(entry: Entry) -> tuple[Callable[[], Any], int]:
    """Return the passes forward and backward of hw2's layers alone."""
    import torch

    from hwcli.native import compiler
    from hwcli.training.step import autocast
    from hwcli.vision.vit import ViT, ViTConfig

    config = ViTConfig(width=WIDTH, mlp_width=MLP_WIDTH, head_width=WIDTH // HEADS)
    blocks = ViT(layers=entry.layers, heads=entry.heads, config=config).blocks
    tokens = torch.randn(BATCH, 49, WIDTH, requires_grad=True)
    upstream = torch.randn(BATCH, 49, WIDTH)

    def step() -> None:
        with (
            compiler.kernels(entry.kernels),
            autocast(torch.device("cpu"), getattr(torch, entry.precision)),
        ):
            y = blocks(tokens)
        y.backward(upstream)
        blocks.zero_grad()

    return step, 0


def contestant(pipe: Connection, entry: Entry) -> None:
    """Warm up; then run an entry of as many threads for as long as is asked: steps, seconds."""
    warnings.simplefilter("ignore")
    hold_to(entry.isa)
    import torch

    from hwcli.training.loop import STEPS_BETWEEN_READS_ON_GPU

    torch.set_num_threads(entry.threads)

    wait = torch.cuda.synchronize if entry.device == "cuda" else lambda: None

    @functools.cache
    def warm(entry: Entry) -> tuple[Callable[[], Any], int]:
        make = {"peak": make_product, LAYERS_ALONE: make_layers}.get(entry.name, make_step)
        step, num_params = make(entry)
        for _ in range(5):
            step()
        wait()
        return step, num_params

    pipe.send(warm(entry)[1])
    while True:
        try:
            asked, seconds = pipe.recv()
        except EOFError:
            return
        step, _ = warm(asked)
        started = time.perf_counter()
        steps = 0
        while time.perf_counter() - started < seconds:
            step()
            steps += 1
            if steps % STEPS_BETWEEN_READS_ON_GPU == 0:
                wait()
        wait()
        pipe.send((steps, time.perf_counter() - started))


# --------------------------------------------------------------------------------------
# The races


@dataclass
class Running:
    """A contestant's processes, warm."""

    entry: Entry
    num_params: int = 0
    pipes: list[Connection] = field(default_factory=list)
    processes: list[BaseProcess] = field(default_factory=list)

    def start(self, *, wait: bool = True) -> None:
        """Start and warm up, one process after the other (the second finds what was compiled)."""
        context = multiprocessing.get_context("spawn")
        variables = runtime.worker_variables(self.entry.threads)
        if not (self.entry.tuned or self.entry.name in (OURS, LAYERS_ALONE, "peak")):
            variables = {k: v for k, v in variables.items() if k.endswith("THREADS")}
        for _ in range(self.entry.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=contestant, args=(theirs, self.entry), daemon=True)
            with environment(variables):
                process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
            if wait:
                self.wait()

    def wait(self) -> None:
        """Wait for the process started last to be warm."""
        self.num_params = self.pipes[-1].recv()

    def rate(
        self, seconds: float, processes: int | None = None, entry: Entry | None = None
    ) -> float:
        """Return the steps a second of all processes together: of their entry, or another."""
        pipes = self.pipes[:processes]
        for pipe in pipes:
            pipe.send((entry or self.entry, seconds))
        return sum(steps / taken for steps, taken in (pipe.recv() for pipe in pipes))

    def stop(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.close()
            process.join()


def race(entries: list[Entry], *, seconds: float, rounds: int) -> dict[Entry, list[float]]:
    """Return the steps a second of every entry in every round, in turns."""
    running = [Running(entry) for entry in entries]
    try:
        for each in running:
            terminal.log(f"warming up: {each.entry}")
            each.start(wait=each.entry.device == "cpu")
        for each in running:
            if each.entry.device != "cpu":  # they share no core: all at once
                each.wait()
        sizes = [r.num_params for r in running if r.num_params]
        assert max(sizes) < 1.03 * min(sizes), f"not of one size: {sizes}"
        rates: dict[Entry, list[float]] = {entry: [] for entry in entries}
        for turn in range(rounds):
            shift = turn % len(running)
            for each in running[shift:] + running[:shift]:
                rates[each.entry].append(each.rate(seconds))
    finally:
        for each in running:
            each.stop()
    return rates


def check_ours(ours: Entry) -> float:
    """Return how far the fast path's loss strays from a plain float32 run; both learn the same.

    Raises:
        AssertionError: too far.
    """
    fast, _ = make_step(ours)
    plain, _ = make_step(Entry(OURS, "float32", kernels=False))
    gaps, losses = [], []
    for _ in range(GATE_STEPS):
        losses.append(plain().item())
        gaps.append(abs(fast().item() - losses[-1]))
    assert statistics.fmean(losses[-10:]) < 0.6 * losses[0], "nothing was learned"
    assert max(gaps) < GATE_TOLERANCE, f"the loss strays by {max(gaps):.3f}"
    terminal.log(
        f"gate: over {GATE_STEPS} steps the loss falls from {losses[0]:.3f} to {losses[-1]:.3f}, "
        f"and {ours.precision} strays from plain float32 by {max(gaps):.4f} at most"
    )
    return max(gaps)


def show(title: str, rates: dict[Entry, list[float]], ours: Entry) -> dict[str, float]:
    """Print images a second, and return each peer's ratio: ours over it, median over rounds."""
    ratios = {}
    rows = []
    for entry, steps in rates.items():
        if entry.name in (LAYERS_ALONE, "peak"):
            continue
        paired = [a / b for a, b in zip(rates[ours], steps, strict=True)]
        if entry != ours:
            ratios[str(entry)] = statistics.median(paired)
        rows.append(
            {
                "entry": str(entry),
                "images_per_s": BATCH * statistics.median(steps),
                "least": BATCH * min(steps),
                "most": BATCH * max(steps),
                "ratio": None if entry == ours else statistics.median(paired),
            }
        )
    columns = [
        Column("entry", "contestant"),
        Column("images_per_s", "images/s", "{:,.0f}"),
        Column("least", "least", "{:,.0f}"),
        Column("most", "most", "{:,.0f}"),
        Column("ratio", "hw2 is", "{:.2f} times as fast"),
    ]
    terminal.show(Table(title, columns, rows))
    return ratios


def grid(ours: Running, seconds: float, peak_flops: float) -> tuple[dict[str, float], float]:
    """Print images a second over the sweep's grid, of softmax and of linear attention in turns.

    Returns:
        The share of the peak in every cell, by softmax; and the time linear attention takes for
        every cell once, over that of softmax.
    """
    from hwcli.vision.vit import ViTConfig, training_flops

    shares = {}
    rows = []
    spent = {"softmax": 0.0, "linear": 0.0}
    config = ViTConfig(width=WIDTH, mlp_width=MLP_WIDTH, head_width=WIDTH // HEADS)
    for layers in range(4, 9):
        row: dict[str, object] = {"layers": layers}
        for heads in range(2, 5):
            cells = {
                kind: replace(ours.entry, layers=layers, heads=heads, attention=kind)
                for kind in ("softmax", "linear")
            }
            for entry in cells.values():
                ours.rate(0.0, entry=entry)
            turns = [{k: ours.rate(seconds, entry=e) for k, e in cells.items()} for _ in range(3)]
            rates = {kind: BATCH * statistics.median(t[kind] for t in turns) for kind in cells}
            for kind, rate in rates.items():
                spent[kind] += 1 / rate
            flops = training_flops(layers=layers, heads=heads, config=config)
            share = rates["softmax"] * flops / peak_flops
            shares[f"{layers} layers, {heads} heads"] = share
            row[str(heads)] = (
                f"{rates['softmax']:,.0f} images/s, {share:.1%}; linear {rates['linear']:,.0f}"
            )
        rows.append(row)
    columns = [Column("layers", "layers"), *(Column(str(h), f"{h} heads") for h in range(2, 5))]
    terminal.show(
        Table("Over the grid: images a second, share of the peak; linear attention", columns, rows)
    )
    return shares, spent["linear"] / spent["softmax"]


def overhead(precision: str, device: str, rounds: int) -> float:
    """Return the sweep's own share of a trial: an epoch of run_trial against its bare steps.

    Both run in turns in one process that was started as the sweep starts its workers.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=overhead_process, args=(theirs, precision, device, rounds))
    with environment(runtime.worker_variables(1)):
        process.start()
    theirs.close()
    share: float = ours.recv()
    process.join()
    return share


def overhead_process(pipe: Connection, precision: str, device: str, rounds: int) -> None:
    """Time trials and bare steps in turns, after a turn that only warms up."""
    import torch

    from hwcli.sweep.store import TrialFolder
    from hwcli.training.optimizers import OptimizerConfig
    from hwcli.vision.augmentation import AugmentationConfig
    from hwcli.vision.recipe import DataConfig, TrialConfig
    from hwcli.vision.vit import ViTConfig
    from hwcli.vision.worker import run_trial

    torch.set_num_threads(1)
    steps = 80 if device == "cpu" else 400
    config = TrialConfig(
        layers=LAYERS, heads=HEADS, seed=0, device=device, precision=precision,
        kernels="compiled" if device == "cpu" else "torch",
        data_path=catalogue.find("fashion-mnist").path, epochs=1, batch_size=BATCH,
        label_smoothing=0.1, data=DataConfig(train_limit=steps * BATCH),
        model=ViTConfig(width=WIDTH, mlp_width=MLP_WIDTH, head_width=WIDTH // HEADS),
        optimizer=OptimizerConfig(kind="muon"),
        augmentation=AugmentationConfig(max_shift=1),
    )  # fmt: skip
    bare = make_bare_step(precision, device)

    def bare_s(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            bare()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    shares = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds + 1):
            place = Path(folder) / str(turn)
            place.mkdir()
            before = bare_s(steps // 2)
            result = run_trial(config, TrialFolder(place), lambda event: None)
            shares.append(1 - (before + bare_s(steps // 2)) / result["train_s"])
    pipe.send(statistics.median(shares[1:]))


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started inside."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def make_bare_step(precision: str, device: str) -> Callable[[], object]:
    """Return a step on one batch that is there already: nothing but the model and its optimiser."""
    import torch
    import torch.nn.functional as F

    from hwcli.native import compiler
    from hwcli.training.optimizers import OptimizerConfig, make_optimizers
    from hwcli.training.step import BatchOutcome, Step
    from hwcli.vision.vit import ViT, ViTConfig

    config = ViTConfig(width=WIDTH, mlp_width=MLP_WIDTH, head_width=WIDTH // HEADS)
    model = ViT(layers=LAYERS, heads=HEADS, config=config).to(device)
    optimizers = make_optimizers(model, OptimizerConfig(kind="muon"))
    images = torch.randn(BATCH, 1, 28, 28, device=device)
    labels = torch.arange(BATCH, device=device) % 10

    def batch_loss(model: Any, batch: tuple[Any, Any]) -> BatchOutcome:
        loss = F.cross_entropy(model(batch[0]).float(), batch[1], label_smoothing=0.1)
        return BatchOutcome(loss, batch[1].sum(), BATCH)

    take_step = Step(
        model,
        optimizers,
        batch_loss,
        torch.device(device),
        getattr(torch, precision),
        recorded=True,
    )

    def step() -> None:
        with compiler.kernels(device == "cpu"):
            take_step((images, labels), 1.0)

    return step


def instructions(isa: str) -> str:
    """Return the name of the instructions that the kernels were compiled for."""
    from hwcli.native import compiler

    if isa != "native":
        return isa
    return compiler.find_compiler().extensions[0].lower()


def save(figures: dict[str, Any]) -> None:
    """Put figures in the place of those of the same instructions; a GPU's have a file of theirs."""
    if figures["device"] != "cpu":
        FIGURES_OF_GPU.write_text(json.dumps(figures, indent=4) + "\n")
        return
    figures_by_isa = json.loads(FIGURES.read_text())
    figures_by_isa[figures["isa"]] = figures
    FIGURES.write_text(json.dumps(figures_by_isa, indent=4) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--isa", choices=list(ISAS), default="native")
    parser.add_argument("--save", action="store_true", help=f"in {FIGURES.name}")
    arguments = parser.parse_args()
    seconds, rounds, device = arguments.seconds, arguments.rounds, arguments.device
    isa: str = arguments.isa
    warnings.simplefilter("ignore")
    os.environ.update(ISAS[isa].variables)  # torch reads them when it is imported
    # torch.compile takes what it has compiled for other vectors, and then writes past its arrays.
    cache = Path(tempfile.gettempdir()) / f"hw2-vit-speed-{os.getuid()}-{isa}"
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    hold_to(isa)
    import torch

    from hwcli.vision.vit import ViTConfig, training_flops

    torch.set_num_threads(1)
    started = time.perf_counter()
    on_gpu = device == "cuda"
    cores = resources.num_cores()
    fast = runtime.has_fast_bf16(torch.device(device))
    precision = "bfloat16" if fast else "float32"
    processes = 1 if on_gpu else cores
    kernels = ISAS[isa].compiler
    ours = Entry(OURS, precision, processes, device=device, isa=isa, kernels=kernels)
    strayed = check_ours(replace(ours, processes=1))
    peak, layers = replace(ours, name="peak"), replace(ours, name=LAYERS_ALONE)

    plain_ratios: dict[str, float] = {}
    tuned_ratios: dict[str, float] = {}
    images_per_s: dict[str, list[float]] = {}
    shares_in_layers: list[float] = []
    peak_flops = 0.0
    as_people: dict[str, Any] = {"device": device, "isa": isa, "threads": 1 if on_gpu else cores}
    as_experts: dict[str, Any] = {
        "device": device, "isa": isa, "precision": precision, "processes": processes,
        "tuned": True,
    }  # fmt: skip
    groups = [
        ("as people run them, eager", plain_ratios, as_people),
        ("as people run them, compiled", plain_ratios, {**as_people, "compiled": True}),
        ("tuned, eager", tuned_ratios, as_experts),
        ("tuned, compiled", tuned_ratios, {**as_experts, "compiled": True}),
    ]
    config = ViTConfig(width=WIDTH, mlp_width=MLP_WIDTH, head_width=WIDTH // HEADS)
    flops = training_flops(layers=LAYERS, heads=HEADS, config=config)
    flops_of_layers = flops - training_flops(layers=0, heads=HEADS, config=config)
    product_flops = 2 * peak_side(device) ** 3
    for title, ratios, more in groups if kernels else groups[::2]:
        entries = [ours, *(Entry(name, **more) for name in PEERS), peak]
        if not on_gpu:
            entries.append(layers)
        rates = race(entries, seconds=seconds, rounds=rounds)
        held = f"everybody by {instructions(isa)} instructions" if kernels else "without a compiler"
        ratios |= show(f"{title}; {held}", rates, ours)
        for entry, steps_per_s in rates.items():
            if entry.name != "peak":  # hw2 takes part in every race: its rate is that of all
                images_per_s.setdefault(str(entry), []).extend(BATCH * r for r in steps_per_s)
        peak_flops = max(peak_flops, product_flops * statistics.median(rates[peak]))
        if not on_gpu:
            shares_in_layers += [
                BATCH * flops_of_layers * steps / (product_flops * products)
                for steps, products in zip(rates[layers], rates[peak], strict=True)
            ]

    figures = {
        "isa": instructions(isa),
        "variables": ISAS[isa].variables,
        "ratio_to_best_peer": min(plain_ratios.values()),
        "ratio_to_tuned_peer": min(tuned_ratios.values()),
        "share_of_peak": statistics.median(images_per_s[str(ours)]) * flops / peak_flops,
        "share_of_peak_in_layers": statistics.median(shares_in_layers) if not on_gpu else None,
        "images_per_s": {name: statistics.median(r) for name, r in images_per_s.items()},
        "ratios": plain_ratios | tuned_ratios,
        "peak_gflops": peak_flops / 1e9,
        "flops_per_image": flops,
        "gate_largest_gap": strayed,
        "precision": precision,
        "processes": ours.processes,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "cpu": fingerprint()["cpu"],
        "commit": fingerprint()["commit"],
        "torch": torch.__version__,
    }
    if isa == "native":
        both = Running(ours)
        both.start()
        pairs = [(both.rate(seconds, 1), both.rate(seconds)) for _ in range(rounds)]
        figures["all_workers_over_one"] = (
            None if on_gpu else statistics.median(b / a for a, b in pairs)
        )
        figures["shares_over_grid"], figures["time_of_linear_over_softmax"] = grid(
            both, 1.0, peak_flops
        )
        both.stop()
        figures["overhead_share"] = overhead(precision, device, rounds)
    figures["minutes"] = (time.perf_counter() - started) / 60
    if arguments.save:
        save(figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

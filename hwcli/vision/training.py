"""Train one network of the grid and test it; nothing here knows a run folder or other trials."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hwcli
from hwcli import resources, runtime
from hwcli.data import catalogue
from hwcli.errors import KernelError
from hwcli.fingerprint import fingerprint
from hwcli.native import compiler
from hwcli.native.encoder_layer import (
    MOST_TOKENS,
    PARTS,
    WIDEST_HEAD,
    LayerShape,
    reason_against_bfloat16,
)
from hwcli.output import terminal
from hwcli.output.files import short_digest
from hwcli.training.checkpoint import restore_checkpoint
from hwcli.training.loop import TrainingJob, train
from hwcli.training.metrics import Mean
from hwcli.training.optimizers import make_optimizers
from hwcli.training.progress import Epoch, Progress
from hwcli.training.step import BatchOutcome, Step, autocast
from hwcli.vision.augmentation import batches
from hwcli.vision.cells import Predictions, TrialResult
from hwcli.vision.fashion_mnist import FashionMNIST, Part, load
from hwcli.vision.recipe import DataConfig, TrialConfig
from hwcli.vision.vit import ViT, num_params, num_patches, num_tokens, training_flops

EVALUATION_BATCH = 500
# Whose code decides a trial's numbers, as seen from the package.
CODE = (
    *(f"vision/{name}.py" for name in ("augmentation", "fashion_mnist", "training", "vit")),
    *(f"training/{name}.py" for name in ("loop", "optimizers", "step")),
    *("attention/*.py", "native/*.py", "native/*.cpp", "native/*.h"),
)
BYTES_BESIDE_LAYERS = 420 * 10**6  # of a worker's own
TIMED_STEPS = 5  # of a dry run, after as many to warm up


def choose_precision(asked: str, device: torch.device, *, is_gpu_elsewhere: bool) -> str:
    """Return the number format that trials use: ``auto`` is bfloat16 where it is fast.

    Args:
        asked: float32, bfloat16 or auto.
        device: what trials train on.
        is_gpu_elsewhere: whether that is a cluster's GPU, which cannot be asked from here; those of
            the last years all have bfloat16.
    """
    if asked != "auto":
        return asked
    return "bfloat16" if is_gpu_elsewhere or runtime.has_fast_bf16(device) else "float32"


def choose_kernels(asked: str, device: torch.device) -> Literal["compiled", "torch"]:
    """Return whether trials use compiled kernels: on a CPU, where there is a compiler.

    Raises:
        ConfigError: they were asked for, and there are none.
    """
    kernels, note = compiler.choose(asked, device.type, compiler.reason_against)
    if note:
        terminal.log(note)
    return kernels


def kernels_of(config: TrialConfig, num_threads: int) -> AbstractContextManager[None]:
    """Return the context in which a trial's layers are computed, by so many threads.

    Raises:
        KernelError: by compiled kernels, which cannot be compiled here.
    """
    is_compiled = config.kernels == "compiled"
    if is_compiled and (reason := compiler.reason_against()) is not None:
        raise KernelError(f"kernels = 'compiled': {reason}")
    return compiler.kernels(is_compiled, num_threads=num_threads)


def tell_of_float32(asked: str, kernels: str, device: torch.device) -> None:
    """Tell the user of a precision that compiled kernels do not have on this processor."""
    if (asked, kernels) == ("bfloat16", "compiled") and not runtime.has_fast_bf16(device):
        terminal.log(
            "precision: layers are computed in float32, as this processor does not multiply "
            "bfloat16; --set kernels=torch computes them in bfloat16, slowly"
        )


def note_on_precision(trials: Sequence[TrialConfig]) -> str | None:
    """Say which trials in bfloat16 have layers that compiled kernels compute in float32.

    Returns:
        A sentence for a table's notes; None if there are none.
    """
    found = [reason for trial in trials if (reason := _reason_against_bfloat16(trial)) is not None]
    if not found:
        return None
    who = (
        "All layers"
        if len(found) == len(trials)
        else f"The layers of {len(found)} of {len(trials)} trials"
    )
    return (
        f"{who} are computed in float32, not in bfloat16: the compiled kernel for bfloat16 "
        f"does not take {', '.join(dict.fromkeys(found))}."
    )


def _reason_against_bfloat16(trial: TrialConfig) -> str | None:
    if trial.precision != "bfloat16" or trial.kernels != "compiled":
        return None
    whole = num_patches(trial.model.patch_size)
    epochs = range(trial.epochs)
    # The last epochs, which see all patches, come first.
    kept = dict.fromkeys(
        trial.augmentation.num_kept(whole, epoch, trial.epochs) for epoch in reversed(epochs)
    )
    for patches in kept:
        shape = _layer_shape(trial, patches)
        reason = reason_against_bfloat16(shape)
        # Torch's own operations, which take any layer, compute longer sequences.
        if reason is not None and shape.tokens <= MOST_TOKENS:
            return reason if patches == whole else f"{reason}, in the first epochs only"
    return None


def _layer_shape(trial: TrialConfig, patches: int) -> LayerShape:
    """Return the sizes of a trial's layers where they see so many patches."""
    model = trial.model
    return LayerShape(
        tokens=num_tokens(model, patches=patches),
        width=model.width,
        heads=trial.heads,
        head_width=model.head_width_for(trial.heads),
        mlp_width=model.mlp_width,
        linear=model.attention == "linear",
    )


@dataclass(frozen=True)
class TrialOutput:
    """What a trial leaves: its figures, its test predictions and its epochs."""

    result: TrialResult
    predictions: Predictions
    history: list[Epoch]


def train_and_test(
    config: TrialConfig,
    checkpoint: Path | None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    *,
    num_threads: int = 1,
) -> TrialOutput:
    """Train one network, from its checkpoint if there is one, and evaluate it on the test set once.

    The result is equal bit for bit on machines with the same processor, versions and device, by any
    number of threads. On another processor it differs as much as another seed's does.

    Args:
        config: the network, the recipe and the seed.
        checkpoint: the file to continue from and to write after each epoch.
        on_progress: is called now and then, and after each epoch.
        num_threads: of compiled kernels. Torch's own operations are the caller's to limit: their
            results depend on their threads.

    Raises:
        KernelError: the config asks for compiled kernels and there are none.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    device, precision = torch.device(config.device), getattr(torch, config.precision)
    data = load_images(config.data_path, config.data)
    training = data.train.to(device)
    torch.manual_seed(config.seed)
    model = ViT(layers=config.layers, heads=config.heads, config=config.model).to(device)
    job = TrainingJob(
        model=model,
        optimizers=make_optimizers(model, config.optimizer),
        batches=lambda epoch: batches(
            training,
            config.augmentation,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=epoch,
            num_epochs=config.epochs,
            num_patches=num_patches(config.model.patch_size),
        ),
        batch_loss=functools.partial(batch_loss, data=data, label_smoothing=config.label_smoothing),
        evaluate=lambda model: classify(model, data.valid, data, device, precision)[0],
        epoch_costs=[epoch_flops(config, epoch) for epoch in range(config.epochs)],
        steps_per_epoch=-(-len(training) // config.batch_size),
        warmup_fraction=config.optimizer.warmup_fraction,
        precision=precision,
        device=device,
        recorded=True,
    )
    with kernels_of(config, num_threads):
        history = train(job, checkpoint, on_progress)
        test, probabilities = classify(model, data.test, data, device, precision)
    confidence, predicted = probabilities.max(dim=1)
    result = TrialResult(
        num_params=num_params(config.layers, config.heads, config.model),
        train_s=sum(epoch.train_s for epoch in history),
        valid_accuracy=history[-1].valid_accuracy,
        valid_loss=history[-1].valid_loss,
        num_valid=len(data.valid),
        test_accuracy=test.accuracy,
        test_loss=test.loss,
        num_test=len(data.test),
    )
    predictions = Predictions(predicted.to(torch.uint8).numpy(), confidence.half().numpy())
    return TrialOutput(result, predictions, history)


def describe_environment(config: TrialConfig, *, num_threads: int = 1) -> dict[str, Any]:
    """Return what a trial's numbers and times depend on besides its config.

    That is code, versions and machine, and the threads of compiled kernels.
    """
    environment = fingerprint(
        device=config.device,
        dtype=config.precision,
        num_threads=num_threads if config.device == "cpu" else None,
    )
    return {**environment, "code": code_digest()}


@functools.cache
def code_digest() -> str:
    """Digest the files whose code a trial's numbers come from."""
    package = Path(hwcli.__file__).parent
    files = {str(path.relative_to(package)): path for name in CODE for path in package.glob(name)}
    return short_digest({name: path.read_text(encoding="utf-8") for name, path in files.items()})


@functools.lru_cache(maxsize=1)
def load_images(path: Path, config: DataConfig) -> FashionMNIST:
    """Load the images once for all trials of a process."""
    if not path.is_dir():
        # Another machine than the one that made the trial: the same files lie elsewhere on it.
        path = catalogue.find("fashion-mnist").path
    return load(
        path,
        valid_size=config.valid_size,
        split_seed=config.split_seed,
        train_limit=config.train_limit,
    )


def batch_loss(
    model: nn.Module, batch: tuple[Tensor, ...], *, data: FashionMNIST, label_smoothing: float
) -> BatchOutcome:
    """Return a training batch's loss and how many of its images are classified correctly."""
    images, labels, *kept = batch
    logits = model(data.normalize(images), *kept).float()
    classes = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return BatchOutcome(
        loss=F.cross_entropy(logits, labels, label_smoothing=label_smoothing),
        num_correct=(logits.detach().argmax(dim=1) == classes).sum(),
        num_examples=len(labels),
    )


@torch.no_grad()
def classify(
    model: nn.Module,
    part: Part,
    data: FashionMNIST,
    device: torch.device,
    precision: torch.dtype,
) -> tuple[Mean, Tensor]:
    """Return loss and accuracy on a part, and the class probabilities (N, 10) on the CPU."""
    mean = Mean()
    probabilities = []
    for images, labels in zip(
        part.images.split(EVALUATION_BATCH), part.labels.split(EVALUATION_BATCH), strict=True
    ):
        images, labels = images.to(device), labels.to(device)
        with autocast(device, precision):
            logits = model(data.normalize(images)).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        correct = (logits.argmax(dim=1) == labels).sum()
        mean.add(loss.item(), int(correct.item()), len(labels))
        probabilities.append(logits.softmax(dim=1).cpu())
    return mean, torch.cat(probabilities)


def epoch_flops(config: TrialConfig, epoch: int) -> int:
    """Count the floating-point operations of training on one image in an epoch."""
    whole = num_patches(config.model.patch_size)
    return training_flops(
        layers=config.layers,
        heads=config.heads,
        config=config.model,
        patches=config.augmentation.num_kept(whole, epoch, config.epochs),
    )


def flops_from(config: TrialConfig, epoch: int) -> int:
    """Count the floating-point operations of a training from an epoch to its end."""
    left = sum(epoch_flops(config, later) for later in range(epoch, config.epochs))
    return left * config.data.num_train


def worker_bytes(config: TrialConfig) -> int:
    """Estimate the memory of its own that a process needs to train a network on a CPU.

    Layers keep what the backward pass needs: for each token about 8 D + 4 H d + 3 M numbers (width
    D, H heads of width d, MLP width M). PyTorch keeps 0.84 to 0.93 of that, the kernel in
    float32 0.57, the one in bfloat16 0.10 to 0.20 (tests/benchmarks/LOG.md). In bfloat16, PyTorch's
    operations also keep the weights of all pairs of tokens.
    """
    if config.device != "cpu":
        return resources.WORKER_BYTES
    shape = _layer_shape(config, num_patches(config.model.patch_size))
    B, T, H = config.batch_size, shape.tokens, shape.heads
    layer_bytes = 4 * B * T * (8 * shape.width + 4 * H * shape.head_width + 3 * shape.mlp_width)
    by_kernel = _has_kernel(config, shape)
    if config.precision == "bfloat16":
        if by_kernel and reason_against_bfloat16(shape) is None:
            layer_bytes //= 4
        elif not by_kernel and not shape.linear:
            layer_bytes += 2 * B * H * T * T
    weights = 16 * num_params(config.layers, H, config.model)  # with gradients and momenta
    if by_kernel:  # one layer's gradients, part by part, with rows filled up
        weights += 4 * PARTS * num_params(1, H, config.model)
    return max(resources.WORKER_BYTES, BYTES_BESIDE_LAYERS + weights + config.layers * layer_bytes)


def most_threads(config: TrialConfig) -> int:
    """Return how many threads can train a network on a CPU: those of its layers' kernel.

    Torch's own operations get one, because their results depend on the number.
    """
    shape = _layer_shape(config, num_patches(config.model.patch_size))
    return PARTS if _has_kernel(config, shape) else 1


def _has_kernel(config: TrialConfig, shape: LayerShape) -> bool:
    """Tell whether compiled kernels train whole layers of this shape."""
    return (
        config.kernels == "compiled"
        and shape.tokens <= MOST_TOKENS
        and shape.head_width <= WIDEST_HEAD
        and not config.model.dropout
    )


def trained_model(config: TrialConfig, checkpoint: Path) -> ViT | None:
    """Return a trial's network as it was tested, or None where no such checkpoint is kept."""
    model, num_finished = restored_network(config, checkpoint) or (None, 0)
    return model.eval() if model is not None and num_finished == config.epochs else None


def restored_network(config: TrialConfig, checkpoint: Path) -> tuple[ViT, int] | None:
    """Return a trial's network and its number of finished epochs, as its checkpoint has them.

    None where training starts over without it.
    """
    # A checkpoint also restores the random generator's state, which nothing here needs.
    with torch.random.fork_rng(devices=[]):
        model = ViT(layers=config.layers, heads=config.heads, config=config.model)
        restored = restore_checkpoint(checkpoint, model, ())
    return None if restored is None else (model, len(restored["history"]))


def seconds_per_flop(config: TrialConfig, *, num_threads: int) -> float:
    """Time a few training steps: the seconds that one floating-point operation takes a worker."""
    device = torch.device(config.device)
    data = load_images(config.data_path, config.data)
    model = ViT(layers=config.layers, heads=config.heads, config=config.model).to(device)
    step = Step(
        model,
        make_optimizers(model, config.optimizer),
        functools.partial(batch_loss, data=data, label_smoothing=config.label_smoothing),
        device,
        getattr(torch, config.precision),
        recorded=True,
    )
    images, labels = data.train.images, data.train.labels
    batch = images[: config.batch_size].to(device), labels[: config.batch_size].to(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else threads)
    times = []
    with kernels_of(config, num_threads):
        for _ in range(2 * TIMED_STEPS):
            started = time.perf_counter()
            step(batch, 1.0).loss.item()  # waits for a GPU
            times.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    flops = training_flops(layers=config.layers, heads=config.heads, config=config.model)
    return statistics.median(times[TIMED_STEPS:]) / (flops * len(batch[1]))

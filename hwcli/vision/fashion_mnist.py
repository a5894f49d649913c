"""Fashion-MNIST (Xiao et al. 2017) in memory: 60,000 training and 10,000 test images.

The official split is kept. A stratified part of the training images is set aside for
validation, where every choice is made; a trained network sees the test images once.

torchvision reads the files, once on a machine: it costs a process 2.7 s and 165 MB to import, which
every worker would pay. Its tensors are kept in the cache, where all workers map the same pages.
"""

import gzip
import hashlib
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hwcli.data import catalogue
from hwcli.data.cache import cache_folder
from hwcli.data.verified_files import DataFile, VerifiedFiles
from hwcli.errors import OutputError, reason_of
from hwcli.output.files import write_atomic

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SIDE = 28
NUM_TRAINING_IMAGES = 60_000


@dataclass(frozen=True)
class Part:
    """Some images with their labels: (N, 28, 28) uint8 and (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Part":
        """Return the part on a device: it fits there whole, so no batch has to travel."""
        return Part(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class FashionMNIST:
    """The three parts, and the pixel statistics of the training images (of the range 0..1)."""

    train: Part
    valid: Part
    test: Part
    mean: float
    std: float

    def normalize(self, images: Tensor) -> Tensor:
        """Scale pixels as the training images' statistics say: (B, 28, 28) -> (B, 1, 28, 28)."""
        return images.unsqueeze(1).float().div_(255).sub_(self.mean).div_(self.std)


def load(
    path: Path | None, *, valid_size: int, split_seed: int, train_limit: int | None = None
) -> FashionMNIST:
    """Read the four files and split them.

    Args:
        path: a folder that holds them; None lets the resolver find them.
        valid_size: images set aside for validation, as many of each class as of any other.
        split_seed: decides which.
        train_limit: keeps the first so many training images after the seeded shuffle.

    Raises:
        SourceError: the files cannot be had, or are damaged.
        OutputError: the folder for temporary files is full.
    """
    images, labels, test_images, test_labels = read(path)
    labels, test_labels = labels.long(), test_labels.long()
    train, valid = split(labels, valid_size=valid_size, seed=split_seed)
    train = train[:train_limit]
    shown = images[train]
    mean, std = pixel_statistics(shown)
    return FashionMNIST(
        train=Part(shown, labels[train]),
        valid=Part(images[valid], labels[valid]),
        test=Part(test_images, test_labels),
        mean=mean,
        std=std,
    )


def pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of uint8 pixels, of the range 0..1.

    They are exact, from how often each of the 256 values occurs: floating-point copies of all
    images would take more memory than the training itself.
    """
    counts = torch.zeros(256, dtype=torch.int64)
    for some in images.split(1000):
        counts += torch.bincount(some.flatten(), minlength=256)
    number, values = counts.sum().item(), torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum().item() / number
    variance = (counts * (values - mean) ** 2).sum().item() / max(number - 1, 1)
    return mean, variance**0.5


def read(path: Path | None) -> list[Tensor]:
    """Return images and labels of training and test: (N, 28, 28) and (N,), all uint8.

    Raises:
        SourceError: the files cannot be had, or are damaged.
        OutputError: the folder for temporary files is full.
    """
    source = catalogue.FASHION_MNIST.source
    assert isinstance(source, VerifiedFiles)
    kept = cache_folder() / catalogue.FASHION_MNIST.name / f"{source.digest}.safetensors"
    try:
        tensors = load_file(kept)
        if all(_is_content_of(file, tensors.get(file.name)) for file in source.files):
            return [tensors[file.name] for file in source.files]
    except (OSError, SafetensorError):
        pass
    files = catalogue.find(catalogue.FASHION_MNIST, path).files
    tensors = {file.name: _read_with_torchvision(files[file.name]) for file in source.files}
    # Without a cache every process reads the files itself.
    with suppress(OSError, OutputError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, save(tensors))
    return [tensors[file.name] for file in source.files]


def _read_with_torchvision(path: Path) -> Tensor:
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    content = gzip.decompress(path.read_bytes())
    try:
        with tempfile.NamedTemporaryFile() as unpacked:
            unpacked.write(content)
            unpacked.flush()
            values: Tensor = read_sn3_pascalvincent_tensor(unpacked.name)
    except OSError as error:
        raise OutputError(
            f"{tempfile.tempdir or '/tmp'}: {path.stem} cannot be unpacked there "
            f"({reason_of(error)}); set TMPDIR to another folder"
        ) from None
    return values


def _is_content_of(file: DataFile, values: Tensor | None) -> bool:
    """Tell whether a kept tensor is what a file holds after its header, by the file's digest."""
    if values is None or values.dtype != torch.uint8:
        return False
    header = [0x0800 + values.dim(), *values.shape]
    digest = hashlib.sha256(b"".join(number.to_bytes(4, "big") for number in header))
    digest.update(values.numpy().data)
    return digest.hexdigest() == file.sha256


def split(labels: Tensor, *, valid_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Shuffle example numbers and set a stratified part aside.

    Args:
        labels: (N,).
        valid_size: a multiple of the number of classes.
        seed: of the shuffle.

    Returns:
        The shuffled numbers of the training and of the validation examples.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    classes = labels.unique()
    per_class = valid_size // len(classes)
    shuffled = labels[order]
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in classes:
        chosen[(shuffled == label).nonzero()[:per_class, 0]] = True
    return order[~chosen], order[chosen]

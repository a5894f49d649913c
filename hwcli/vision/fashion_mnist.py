"""Fashion-MNIST (Xiao et al. 2017) in memory: 60,000 training and 10,000 test images.

The official split is kept. A stratified part of the training images is set aside for
validation, where every choice is made; the test images are for one last look.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hwcli import sources

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
IMAGE_SIZE = 28


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
    """
    files = sources.resolve("fashion-mnist", path).files
    images, labels, test_images, test_labels = (
        torch.from_numpy(sources.read_idx(files[file.name])) for file in sources.FASHION_MNIST.files
    )
    labels, test_labels = labels.long(), test_labels.long()
    train, valid = split(labels, valid_size=valid_size, seed=split_seed)
    train = train[:train_limit]
    pixels = images[train].float() / 255
    return FashionMNIST(
        train=Part(images[train], labels[train]),
        valid=Part(images[valid], labels[valid]),
        test=Part(test_images, test_labels),
        mean=pixels.mean().item(),
        std=pixels.std().item(),
    )


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

import errno
import gzip
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hwcli.errors import OutputError
from hwcli.vision import fashion_mnist
from hwcli.vision.augmentation import AugmentationConfig, batches, cutmix, erase, shift
from hwcli.vision.fashion_mnist import FashionMNIST, Part, pixel_statistics, split
from hwcli.vision.training import batch_loss
from tests.vision.made_up import made_up_images

PART = Part(
    images=torch.randint(
        1, 256, (23, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ),
    labels=torch.arange(23),
)


def test_validation_holds_as_many_of_each_class_and_nothing_of_training() -> None:
    labels = torch.tensor([0, 1, 2, 3, 4] * 13 + [0] * 7)
    train, valid = split(labels, valid_size=15, seed=3)
    assert torch.bincount(labels[valid]).tolist() == [3] * 5
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(72))
    again, _ = split(labels, valid_size=15, seed=3)
    other, _ = split(labels, valid_size=15, seed=4)
    assert torch.equal(train, again)
    assert not torch.equal(train, other)


def test_an_epoch_shows_every_image_once_and_is_the_same_again() -> None:
    def epoch(number: int) -> list[tuple[torch.Tensor, ...]]:
        config = AugmentationConfig(flip=True, max_shift=2, erase_probability=0.5)
        return list(batches(PART, config, batch_size=5, seed=7, epoch=number))

    first = epoch(0)
    assert [len(labels) for _, labels in first] == [5, 5, 5, 5, 3]
    assert sorted(torch.cat([labels for _, labels in first]).tolist()) == list(range(23))
    for (a, x), (b, y) in zip(first, epoch(0), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)
    assert not torch.equal(first[0][1], epoch(1)[0][1])


def test_two_epochs_show_both_sides_of_every_image() -> None:
    config = AugmentationConfig(flip=True, max_shift=0)
    seen: dict[int, list[bool]] = {n: [] for n in range(23)}
    for epoch in (0, 1):
        for images, labels in batches(PART, config, batch_size=5, seed=7, epoch=epoch):
            for image, label in zip(images, labels.tolist(), strict=True):
                mirrored = torch.equal(image, PART.images[label].flip(-1))
                assert mirrored or torch.equal(image, PART.images[label])
                seen[label].append(mirrored)
    assert all(sorted(sides) == [False, True] for sides in seen.values())


def test_the_first_half_of_the_epochs_trains_on_other_patches_each_time() -> None:
    config = AugmentationConfig(early_tokens=0.5)

    def kept(epoch: int, num_epochs: int = 5) -> list[torch.Tensor]:
        sizes = {"batch_size": 23, "num_epochs": num_epochs, "num_patches": 49}
        ((images, _, *kept),) = batches(PART, config, seed=7, epoch=epoch, **sizes)
        assert images.shape == (23, 28, 28)
        return kept

    assert [len(kept(epoch)) for epoch in range(5)] == [1, 1, 0, 0, 0]
    assert [config.num_kept(49, epoch, 1) for epoch in range(1)] == [49]
    (first,), (second,), (again,) = kept(0), kept(1), kept(0)
    assert first.shape == (23, 24)
    assert (first.diff(dim=1) > 0).all()
    assert first.unique().tolist() == list(range(49))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_a_shift_moves_the_picture_and_fills_with_black() -> None:
    images = PART.images[:7]
    moved = shift(images, 3, torch.Generator().manual_seed(0))
    distances = set()
    for before, after in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(before, (3, 3, 3, 3))
        matches = [
            (y - 3, x - 3)
            for y in range(7)
            for x in range(7)
            if torch.equal(padded[y : y + 28, x : x + 28], after)
        ]
        assert len(matches) == 1
        distances.add(matches[0])
    assert len(distances) > 3


def test_erasing_puts_noise_into_a_rectangle_of_some_images() -> None:
    images = torch.zeros(400, 28, 28, dtype=torch.uint8)
    erased = erase(images, 0.5, torch.Generator().manual_seed(0)) > 0
    touched = erased.flatten(1).any(dim=1)
    assert 150 < touched.sum() < 250
    shares, ratios = [], []
    for inside in erased[touched]:
        rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
        height, width = (int(x.max() - x.min()) + 1 for x in (rows, columns))
        # A random pixel is black once in 256 times, and a thin rectangle may look smaller for it.
        assert inside.sum() > 0.8 * height * width
        shares.append(height * width / 28**2)
        ratios.append(height / width)
    assert 0.01 < min(shares) < 0.04
    assert 0.2 < max(shares) < 0.27
    assert min(ratios) < 0.5 < 2 < max(ratios)
    assert erased.any(dim=0).float().mean() > 0.95  # a corner is seldom hit


def test_cutmix_gives_a_label_the_share_of_the_image_that_it_has() -> None:
    # Each image is of one colour, which tells where a pixel came from.
    B = 200
    images = torch.arange(B, dtype=torch.uint8)[:, None, None].expand(B, 28, 28)
    labels = torch.arange(B) % 10
    mixed, shares = cutmix(images, labels, 0.5, torch.Generator().manual_seed(0))
    assert (mixed.dtype, shares.shape) == (torch.uint8, (B, 10))
    own = mixed == images
    assert 0.4 < (~own).flatten(1).any(dim=1).float().mean() < 0.6
    for image in range(B):
        inside = ~own[image]
        assert len(mixed[image][inside].unique()) <= 1  # of one other image
        rows, columns = inside.any(dim=1), inside.any(dim=0)
        assert torch.equal(inside, rows[:, None] & columns)  # a rectangle
        expected = torch.zeros(10)
        expected.index_add_(0, labels[mixed[image].long()].flatten(), torch.full((784,), 1 / 784))
        torch.testing.assert_close(shares[image], expected)
    areas = (~own).float().mean(dim=(1, 2))
    assert 0.4 < areas[areas > 0].mean() < 0.6


def test_a_batch_of_mixed_images_is_trained_on_shares_and_judged_by_the_larger_one() -> None:
    data = made_up_images(40)
    config = AugmentationConfig(flip=False, cutmix_probability=1.0)
    (batch,) = batches(data.train, config, batch_size=40, seed=0, epoch=0)
    images, shares = batch
    logits = torch.randn(len(images), 10, generator=torch.Generator().manual_seed(0))
    found = batch_loss(_Says(logits), batch, data=data, label_smoothing=0.0)
    torch.testing.assert_close(found.loss, -(shares * logits.log_softmax(1)).sum(1).mean())
    assert found.num_correct == (logits.argmax(1) == shares.argmax(1)).sum()
    assert "cutmix_probability" not in AugmentationConfig().model_dump()


class _Says(nn.Module):
    """A network that says what it is told."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self._logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._logits


def test_what_erases_nothing_is_the_trial_it_was_before_there_was_erasing() -> None:
    assert "erase_probability" not in AugmentationConfig().model_dump()
    assert AugmentationConfig(erase_probability=0.5).model_dump()["erase_probability"] == 0.5


def test_pixels_are_scaled_by_the_training_images_statistics() -> None:
    data = FashionMNIST(PART, PART, PART, mean=0.5, std=0.25)
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 28, 3)
    assert data.normalize(image)[0, 0, 0].tolist() == pytest.approx([-2.0, -1.2, 2.0])
    assert data.normalize(image).shape == (1, 1, 28, 3)


def test_pixel_statistics_are_those_of_a_floating_point_copy() -> None:
    images = torch.randint(0, 256, (1009, 5, 7), generator=torch.Generator().manual_seed(0))
    exact = images.double() / 255
    mean, std = pixel_statistics(images.to(torch.uint8))
    assert (mean, std) == pytest.approx((exact.mean().item(), exact.std().item()), rel=1e-12)


def test_a_full_folder_for_temporary_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    reader = ModuleType("mnist")  # in place of torchvision's, which takes seconds to import
    reader.read_sn3_pascalvincent_tensor = full  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision.datasets.mnist", reader)
    there = SimpleNamespace(NamedTemporaryFile=full, tempdir="/small")
    monkeypatch.setattr(fashion_mnist, "tempfile", there)
    (tmp_path / "labels.gz").write_bytes(gzip.compress(b"1"))
    with pytest.raises(OutputError) as refused:
        fashion_mnist._read_with_torchvision(tmp_path / "labels.gz")
    assert str(refused.value) == (
        "/small: labels cannot be unpacked there (No space left on device); set TMPDIR to another "
        "folder"
    )

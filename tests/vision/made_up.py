"""Made-up images, trials and records for the tests of vision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwcli.output.files import short_digest
from hwcli.training.progress import Epoch
from hwcli.vision.cells import Predictions, TrialRecord, TrialResult
from hwcli.vision.fashion_mnist import FashionMNIST, Part
from hwcli.vision.places import TrainedOn
from hwcli.vision.recipe import TrialConfig
from hwcli.vision.record import SweepRecord

INTEL, AMD = (TrainedOn(processor=name, commit="c0ffee") for name in ("Intel X", "AMD Y"))

TINY: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 13,
    "label_smoothing": 0.1,
    "model": {"width": 24, "mlp_width": 17},
    "optimizer": {"kind": "muon", "muon_learning_rate": 2e-2},
    "augmentation": {"flip": True, "max_shift": 1},
    "data": {},
}


def made_up_part(num_images: int, seed: int) -> Part:
    """Images whose class is the row that is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (num_images,), generator=generator)
    images = torch.randint(0, 60, (num_images, 28, 28), dtype=torch.uint8, generator=generator)
    images[torch.arange(num_images), 2 * labels + 4] = 255
    return Part(images, labels)


def made_up_images(num_train: int) -> FashionMNIST:
    train, valid, test = (made_up_part(n, seed) for n, seed in ((num_train, 1), (53, 2), (71, 3)))
    return FashionMNIST(train, valid, test, mean=0.2, std=0.3)


def trial_config(**more: Any) -> TrialConfig:
    values = {
        "layers": 2,
        "heads": 3,
        "seed": 0,
        "device": "cpu",
        "precision": "float32",
        "kernels": "torch",
    }
    return TrialConfig.model_validate({**TINY, **values, "data_path": Path("unused"), **more})


def hits(num_right: int, num_images: int = 101) -> Any:
    return np.arange(num_images) < num_right


def record(
    accuracies: dict[tuple[int, int], Sequence[int | None]],
    *,
    num_images: int = 1009,
    validation: dict[tuple[int, int], float] | None = None,
    trained_on: TrainedOn | None = INTEL,
    train_s: float = 30.0,
    axes: Sequence[str] = ("layers", "heads"),
    num_epochs: int = 5,
    **recipe: Any,
) -> SweepRecord:
    """Return a record from how many test images each seed of a cell got right; None failed.

    Every network of a cell is right on the first images, so that seeds differ by a few.
    """
    labels = np.arange(num_images, dtype=np.uint8) % 10
    trials, predictions = [], {}
    for place, numbers in accuracies.items():
        for seed, number in enumerate(numbers):
            point = dict(zip(axes, place, strict=True))
            nested = {key: value for key, value in point.items() if "." not in key}
            config = trial_config(**{"heads": 2, **nested, "seed": seed, **recipe})
            identity = {"config": config.model_dump(mode="json"), "recipe": 1}
            trial_id = short_digest(identity)
            trial = TrialRecord(trial_id, point, seed, identity, "failed", "no")
            if number is not None:
                result = TrialResult(
                    num_params=1000 * place[0],
                    train_s=train_s * place[0],
                    valid_accuracy=(validation or {}).get(place, number / num_images),
                    valid_loss=0.3,
                    num_valid=53,
                    test_accuracy=number / num_images,
                    test_loss=0.3,
                    num_test=num_images,
                    trained_on=trained_on,
                )
                trial = TrialRecord(trial_id, point, seed, identity, "done", None, result)
                label = np.where(np.arange(num_images) < number, labels, (labels + 1) % 10)
                predictions[trial_id] = Predictions(
                    label.astype(np.uint8), np.full(num_images, 0.5, np.float16)
                )
            trials.append(trial)
    epochs = {
        trial.id: [Epoch(e, 0.5, 0.8, 0.5, 0.8 + 0.01 * e, 1.0, 100.0) for e in range(num_epochs)]
        for trial in trials
        if trial.result is not None
    }
    return SweepRecord(trials, predictions, labels, epochs)

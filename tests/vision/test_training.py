"""One network in this process, on made-up images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hwcli.training.step import BatchOutcome
from hwcli.vision import training
from hwcli.vision.fashion_mnist import FashionMNIST
from hwcli.vision.recipe import RECIPE_VERSION
from hwcli.vision.training import TrialOutput, classify, run_trial, trained_model
from tests.vision.made_up import made_up_images, trial_config

GOLDEN_LOSSES = [
    2.46718,
    2.62466,
    2.30897,
    2.35507,
    2.41287,
    2.44759,
    2.36553,
    2.2533,
    2.52279,
    2.32338,
]


@pytest.fixture(autouse=True)
def images(monkeypatch: pytest.MonkeyPatch) -> FashionMNIST:
    data = made_up_images(301)
    monkeypatch.setattr(training, "load_images", lambda path, config: data)
    torch.set_num_threads(1)
    return data


def numbers(output: TrialOutput) -> dict[str, Any]:
    return output.result.model_dump(exclude={"train_s", "trained_on"})


def test_a_network_learns_and_its_predictions_have_its_accuracy(images: FashionMNIST) -> None:
    output = run_trial(trial_config(epochs=10, augmentation={"max_shift": 0}), None)
    result = output.result
    assert result.test_accuracy > 0.5
    assert (result.num_valid, result.num_test, len(output.history)) == (53, 71, 10)
    right = (output.predictions.label == images.test.labels.numpy()).mean()
    assert right == pytest.approx(result.test_accuracy)
    assert result.trained_on is not None
    assert result.trained_on.threads == 1
    assert "torch" in result.trained_on.versions


def test_the_same_trial_gives_the_same_numbers_and_another_seed_others() -> None:
    first = numbers(run_trial(trial_config(epochs=1), None))
    assert numbers(run_trial(trial_config(epochs=1), None)) == first
    assert numbers(run_trial(trial_config(epochs=1, seed=1), None)) != first


def test_the_first_ten_losses_change_only_with_the_recipe_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Raise RECIPE_VERSION when this fails, or trials of the old recipe are reused."""
    losses = []
    batch_loss = training.batch_loss

    def watched(model: nn.Module, batch: Any, **more: Any) -> BatchOutcome:
        outcome = batch_loss(model, batch, **more)
        losses.append(outcome.loss.item())
        return outcome

    monkeypatch.setattr(training, "batch_loss", watched)
    run_trial(trial_config(), None)
    assert RECIPE_VERSION == 1
    # Muon's bfloat16 products differ by processor, which moves a loss by up to 4e-4.
    assert losses[:10] == pytest.approx(GOLDEN_LOSSES, abs=1e-3)


def test_the_network_read_from_a_checkpoint_is_the_one_that_was_tested(
    images: FashionMNIST, tmp_path: Path
) -> None:
    config = trial_config(epochs=1)
    output = run_trial(config, tmp_path / "checkpoint.safetensors")
    model = trained_model(config, tmp_path / "checkpoint.safetensors")
    assert model is not None
    _, probabilities = classify(model, images.test, images, torch.device("cpu"), torch.float32)
    assert probabilities.argmax(dim=1).tolist() == output.predictions.label.tolist()
    assert trained_model(config, tmp_path / "gone.safetensors") is None

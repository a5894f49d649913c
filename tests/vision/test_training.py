"""One network in this process, on made-up images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hwcli import resources
from hwcli.config import load
from hwcli.data.cache import Found
from hwcli.experiments import vit_sweep
from hwcli.native import compiler
from hwcli.training.step import BatchOutcome
from hwcli.vision import training
from hwcli.vision.fashion_mnist import FashionMNIST
from hwcli.vision.recipe import RECIPE_VERSION, TrialConfig
from hwcli.vision.training import (
    TrialOutput,
    classify,
    note_on_precision,
    train_and_test,
    trained_model,
    worker_bytes,
)
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
def images(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> FashionMNIST:
    data = made_up_images(301)
    monkeypatch.setattr(training, "load_images", lambda path, config: data)
    return data


def numbers(output: TrialOutput) -> dict[str, Any]:
    return output.result.model_dump(exclude={"train_s"})


def test_a_network_learns_and_its_predictions_have_its_accuracy(images: FashionMNIST) -> None:
    output = train_and_test(trial_config(epochs=10, augmentation={"max_shift": 0}), None)
    result = output.result
    assert result.test_accuracy > 0.5
    assert (result.num_valid, result.num_test, len(output.history)) == (53, 71, 10)
    right = (output.predictions.label == images.test.labels.numpy()).mean()
    assert right == pytest.approx(result.test_accuracy)


def test_the_same_trial_gives_the_same_numbers_and_another_seed_others() -> None:
    first = numbers(train_and_test(trial_config(epochs=1), None))
    assert numbers(train_and_test(trial_config(epochs=1), None)) == first
    assert numbers(train_and_test(trial_config(epochs=1, seed=1), None)) != first


@pytest.mark.skipif(compiler.reason_against() is not None, reason="no compiler here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_number_of_threads_changes_nothing(precision: str) -> None:
    """Widths are those that the kernel for bfloat16 takes, where the processor has it."""
    model = {"width": 32, "mlp_width": 64, "head_width": 16, "attention": "linear"}
    config = trial_config(epochs=2, kernels="compiled", precision=precision, model=model)
    one = train_and_test(config, None)
    for num_threads in (2, 5):
        other = train_and_test(config, None, num_threads=num_threads)
        assert numbers(other) == numbers(one)
        losses = [[epoch.train_loss for epoch in output.history] for output in (one, other)]
        assert losses[0] == losses[1]
        assert (other.predictions.probability == one.predictions.probability).all()


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
    train_and_test(trial_config(), None)
    assert RECIPE_VERSION == 1
    # Muon's bfloat16 products differ by processor, which moves a loss by up to 4e-4.
    assert losses[:10] == pytest.approx(GOLDEN_LOSSES, abs=1e-3)


def test_the_network_read_from_a_checkpoint_is_the_one_that_was_tested(
    images: FashionMNIST, tmp_path: Path
) -> None:
    config = trial_config(epochs=1)
    output = train_and_test(config, tmp_path / "checkpoint.safetensors")
    model = trained_model(config, tmp_path / "checkpoint.safetensors")
    assert model is not None
    _, probabilities = classify(model, images.test, images, torch.device("cpu"), torch.float32)
    assert probabilities.argmax(dim=1).tolist() == output.predictions.label.tolist()
    assert trained_model(config, tmp_path / "gone.safetensors") is None
    # One that is not at its last epoch is another network.
    longer = trial_config(epochs=2)
    assert trained_model(longer, tmp_path / "checkpoint.safetensors") is None


TAKEN = {"width": 32, "mlp_width": 64, "head_width": 16}


def bfloat16(model: dict[str, Any], **more: Any) -> TrialConfig:
    model = {**TAKEN, **model}
    return trial_config(model=model, precision="bfloat16", **{"kernels": "compiled", **more})


@pytest.mark.parametrize(
    ("model", "more", "reason"),
    [
        ({"width": 48}, {}, "width 48 (it needs a multiple of 32)"),
        ({"mlp_width": 40}, {}, "MLP width 40 (it needs a multiple of 32)"),
        (
            {"width": 96, "head_width": None},
            {"heads": 4},
            "head width 24 (it needs a multiple of 16)",
        ),
        ({"patch_size": 2}, {}, "196 tokens (it needs at most 128)"),
        ({"head_width": 80}, {}, "head width 80 with 49 tokens (it needs at most 64)"),
        (
            {"head_width": 48},
            {"augmentation": {"early_tokens": 0.5}},
            "head width 48 with 24 tokens (it needs at most 32), in the first epochs only",
        ),
        ({}, {}, None),
        ({"width": 96}, {}, None),
        ({"width": 48}, {"precision": "float32"}, None),
        ({"width": 48}, {"kernels": "torch"}, None),
        ({"patch_size": 1}, {}, None),  # too many tokens for either kernel: they are torch's
    ],
)
def test_layers_that_the_kernel_in_bfloat16_does_not_take_are_named(
    model: dict[str, Any], more: dict[str, Any], reason: str | None
) -> None:
    trial = bfloat16(model).model_copy(update={"precision": more.pop("precision", "bfloat16")})
    trial = TrialConfig.model_validate({**trial.model_dump(), "data_path": trial.data_path, **more})
    said = (
        "All layers are computed in float32, not in bfloat16: the compiled kernel for bfloat16 "
        f"does not take {reason}."
    )
    assert note_on_precision([trial, trial]) == (None if reason is None else said)


def test_of_several_trials_those_in_another_precision_are_counted() -> None:
    trials = [bfloat16({"width": width}) for width in (32, 48, 48, 64, 80)]
    note = note_on_precision(trials)
    assert note is not None
    assert note.startswith("The layers of 3 of 5 trials are computed in float32, not in bfloat16: ")
    assert note.endswith(
        "width 48 (it needs a multiple of 32), width 80 (it needs a multiple of 32)."
    )


def test_a_larger_network_or_batch_needs_more_memory_than_the_presets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiler, "reason_against", lambda: None)

    def needs(**more: object) -> int:
        flags = {"device": "cpu", "kernels": "torch", "precision": "float32", **more}
        config = load(vit_sweep.Config, vit_sweep.COMMAND, flags=flags)
        found = Found(path=Path("unused"), name="fashion-mnist", origin="nowhere", digest="x")
        trials = vit_sweep.make_trials(config, found)
        return max(worker_bytes(TrialConfig.model_validate(trial.config)) for trial in trials)

    assert needs() == resources.WORKER_BYTES
    wide = {"layers": "8", "heads": "4", "model.width": 128, "model.mlp_width": 256}
    # Measured: 1,476 MiB for the layers of this one, beside about 420 MB.
    assert 1.9e9 < needs(**wide, batch_size=512) < 2.5e9
    # Half a gigabyte of weights of pairs in each of 5 layers, where PyTorch computes in bfloat16.
    small = {"layers": "5", "heads": "4", "model.patch_size": 1, "precision": "bfloat16"}
    assert needs(**small) > needs(**small, **{"model.attention": "linear"}) + 3e9
    # The kernel for bfloat16 takes 49 tokens and not 196: those are computed in float32.
    compiled = {**wide, "kernels": "compiled", "precision": "bfloat16", "batch_size": 512}
    assert needs(**compiled, **{"model.patch_size": 2}) > 8 * needs(**compiled)
    assert needs(**wide, batch_size=1024) > 1.7 * needs(**wide, batch_size=512)

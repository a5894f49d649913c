"""One trial in this process, on made-up images; the real sweep is in test_vit_sweep_real.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hwcli.config import load
from hwcli.data import catalogue
from hwcli.data.cache import Found
from hwcli.errors import ConfigError
from hwcli.experiments import vit_sweep
from hwcli.experiments.vit_sweep import Config, Recipe, TrialConfig
from hwcli.output.run_folder import RunFolder
from hwcli.sweep.runner import Outcome
from hwcli.sweep.store import TrialFolder
from hwcli.sweep.trial import Trial
from hwcli.training.step import BatchOutcome
from hwcli.vision.fashion_mnist import FashionMNIST, Part
from hwcli.vision.tables import grid_table

TINY = {
    "epochs": 2,
    "batch_size": 13,
    "model": {"width": 24, "mlp_width": 17, "head_width": None},
    "optimizer": {"muon_learning_rate": 2e-2},
    "augmentation": {"flip": True, "max_shift": 1},
}


def made_up_part(num_images: int, seed: int) -> Part:
    """Images whose class is the row that is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (num_images,), generator=generator)
    images = torch.randint(0, 60, (num_images, 28, 28), dtype=torch.uint8, generator=generator)
    images[torch.arange(num_images), 2 * labels + 4] = 255
    return Part(images, labels)


@pytest.fixture
def made_up_data(monkeypatch: pytest.MonkeyPatch) -> FashionMNIST:
    train, valid, test = (made_up_part(n, seed) for n, seed in ((301, 1), (53, 2), (71, 3)))
    data = FashionMNIST(train, valid, test, mean=0.2, std=0.3)
    monkeypatch.setattr(vit_sweep, "_load", lambda path, config: data)
    torch.set_num_threads(1)
    return data


def trial_config(**more: Any) -> TrialConfig:
    values = {
        "layers": 2,
        "heads": 3,
        "seed": 0,
        "device": "cpu",
        "precision": "float32",
        "kernels": "torch",
    }
    given = {**TINY, **values, **more}
    recipe = {key: value for key, value in given.items() if key in Recipe.model_fields}
    config = load(Config, vit_sweep.COMMAND, flags=recipe)
    return TrialConfig.model_validate(
        {
            "data_path": "unused",
            **given,
            **{key: getattr(config, key) for key in Recipe.model_fields},
        }
    )


def run_trial(tmp_path: Path, **more: Any) -> dict[str, Any]:
    tmp_path.mkdir(exist_ok=True)
    folder = TrialFolder(tmp_path)
    result = vit_sweep.run_trial(trial_config(**more), folder, lambda event: None)
    return {key: value for key, value in result.items() if key != "train_s"}


@pytest.mark.parametrize(
    "override", ["", "optimizer.weight_decay=0.1", "augmentation.flip=false", "model.width=32"]
)
def test_what_a_config_leaves_out_is_the_standard_recipe(tmp_path: Path, override: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: standard\n")
    overrides = [override] if override else []
    config = load(Config, vit_sweep.COMMAND, path=own, overrides=overrides)
    assert config == load(Config, vit_sweep.COMMAND, overrides=overrides)


def test_a_trial_learns_and_stores_what_it_predicted(
    made_up_data: FashionMNIST, tmp_path: Path
) -> None:
    result = run_trial(tmp_path, epochs=10, augmentation={"max_shift": 0})
    assert result["test_accuracy"] > 0.5
    assert (result["num_valid"], result["num_test"]) == (53, 71)
    from safetensors.torch import load_file

    stored = load_file(tmp_path / "predictions.safetensors")
    hits = (stored["label"].long() == made_up_data.test.labels).sum().item()
    assert hits / 71 == result["test_accuracy"]
    assert len(TrialFolder(tmp_path).epochs()) == 10


def test_the_same_trial_gives_the_same_numbers_and_another_seed_others(
    made_up_data: FashionMNIST, tmp_path: Path
) -> None:
    first = run_trial(tmp_path / "a", epochs=1)
    assert run_trial(tmp_path / "b", epochs=1) == first
    assert run_trial(tmp_path / "c", epochs=1, seed=1) != first


def test_the_first_ten_losses_change_only_with_the_recipe_version(
    made_up_data: FashionMNIST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raise RECIPE_VERSION when this fails, or trials of the old recipe are reused."""
    losses = []
    judge = vit_sweep._judge

    def watched(model: nn.Module, batch: Any, **more: Any) -> BatchOutcome:
        outcome = judge(model, batch, **more)
        losses.append(outcome.loss.item())
        return outcome

    monkeypatch.setattr(vit_sweep, "_judge", watched)
    run_trial(tmp_path)
    assert vit_sweep.RECIPE_VERSION == 1
    # Muon's bfloat16 products differ by processor, which moves a loss by up to 4e-4.
    assert losses[:10] == pytest.approx(GOLDEN_LOSSES, abs=1e-3)


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


def test_a_trials_identity_holds_what_decides_its_numbers_and_nothing_else() -> None:
    def identify(**more: Any) -> str:
        facts = {"recipe": vit_sweep.RECIPE_VERSION}
        return Trial(trial_config(**more), {}, facts, cost=1.0).id

    base = identify()
    assert identify(data_path="elsewhere") == base
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"epochs": 3},
        {"precision": "bfloat16"},
        {"device": "cuda"},
        {"data": {"train_limit": 50}},
        {"model": {**TINY["model"], "attention": "linear"}},  # type: ignore[dict-item]
    ]
    assert len({base, *(identify(**change) for change in changes)}) == len(changes) + 1


def test_where_a_trial_is_trained_does_not_enter_its_identity() -> None:
    files = Found(Path("unused"), "fashion-mnist", "nowhere", digest="made-up")
    grid = {**TINY, "layers": "1,2", "heads": "2,3", "device": "cpu"}
    launchers: list[dict[str, Any]] = [
        {},
        {"kind": "slurm", "partition": "big", "memory_gb": 3, "cpus": 2},
        {"kind": "ray", "address": "auto"},
    ]
    identities = {
        tuple(
            trial.id
            for trial in vit_sweep.make_trials(
                load(Config, vit_sweep.COMMAND, flags={**grid, "launcher": launcher}), files
            )
        )
        for launcher in launchers
    }
    assert len(identities) == 1


def test_a_trial_on_a_cluster_is_given_the_gpu_it_asks_for() -> None:
    def device(launcher: dict[str, Any], device: str = "auto") -> str:
        return vit_sweep.resolve_device(
            load(
                Config,
                vit_sweep.COMMAND,
                flags={"heads": "2", "launcher": {"kind": "slurm", **launcher}, "device": device},
            )
        ).type

    assert device({}) == "cpu"
    assert device({"gpus": 1}) == "cuda"  # whatever this machine has
    assert device({"gpus": 1}, "cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"launcher\.gpus = 0"):
        device({}, "cuda")


def test_a_dry_run_for_a_clusters_gpu_needs_none_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = Found(tmp_path, "fashion-mnist", "nowhere", digest="made-up")
    monkeypatch.setattr(catalogue, "find", lambda *arguments: files)
    launcher = {"kind": "slurm", "gpus": 1}
    config = load(
        Config, vit_sweep.COMMAND, flags={**TINY, "layers": "2", "heads": "3", "launcher": launcher}
    )
    vit_sweep.plan(config, RunFolder(tmp_path, "vit-sweep", "default"))
    assert "No estimate: it trains on a cluster's GPU." in capsys.readouterr().out


def outcomes(config: Config) -> list[Outcome]:
    """Made-up outcomes for a grid of two by two with two seeds, one of them failed."""
    made = []
    for layers in config.layers:
        for heads in config.heads:
            for seed in config.seeds:
                label = {"layers": layers, "heads": heads, "seed": seed}
                trial = Trial(trial_config(**label), label, {}, 1.0)
                accuracy = 0.8 + 0.01 * layers + 0.001 * heads + 0.0002 * seed
                result = {
                    "valid_accuracy": accuracy - 0.1,
                    "test_accuracy": accuracy,
                    "num_test": 10_000,
                    "train_s": 60.0 * layers,
                }
                failed = (layers, heads, seed) == (2, 3, 1)
                made.append(
                    Outcome(trial, "failed", reason="ValueError: no", log="log.txt")
                    if failed
                    else Outcome(trial, "done", result)
                )
    return made


def test_cells_are_means_over_the_seeds_that_are_done() -> None:
    config = load(
        Config, vit_sweep.COMMAND, flags={**TINY, "layers": "1,2", "heads": "2,3", "seeds": "0,1"}
    )
    cells = vit_sweep.summarize(outcomes(config))
    assert [(c["layers"], c["heads"], c["num_seeds"], c["status"]) for c in cells] == [
        (1, 2, 2, "done"),
        (1, 3, 2, "done"),
        (2, 2, 2, "done"),
        (2, 3, 1, "failed"),
    ]
    assert cells[0]["test_accuracy_mean"] == pytest.approx(0.8121)
    assert cells[0]["test_accuracy_std"] == pytest.approx(0.0002 / 2**0.5)
    assert cells[3]["test_accuracy_std"] is None
    assert cells[0]["num_params"] == sum(
        p.numel()
        for p in vit_sweep.ViT(layers=1, heads=2, config=trial_config().model).parameters()
    )
    grid = grid_table(cells, cells[2], num_epochs=config.epochs, num_seeds=2).to_markdown()
    assert "| 2 | 82.21 ± 0.01 % *<br>" in grid
    assert "82.30 % (a seed failed)<br>" in grid

"""What a sweep shows when its trials are done, on made-up images; no trial trains here twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hwcli.config import load
from hwcli.data import catalogue
from hwcli.data.cache import Found
from hwcli.errors import ConfigError
from hwcli.experiments import vit_sweep
from hwcli.experiments.vit_sweep import Config, TrialConfig
from hwcli.output import plots
from hwcli.output.run_folder import RunFolder
from hwcli.sweep.store import TrialStore
from hwcli.vision.fashion_mnist import FashionMNIST
from tests.experiments.test_vit_sweep import TINY, made_up_part

FILES = Found(Path("unused"), "fashion-mnist", "nowhere", digest="made-up")
GRID = {**TINY, "layers": "1,2", "heads": "2,3", "epochs": 1, "precision": "float32"}
LINEAR = {"model": {**TINY["model"], "attention": "linear"}}  # type: ignore[dict-item]


@pytest.fixture(autouse=True)
def made_up_data(monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid, test = (made_up_part(n, seed) for n, seed in ((101, 1), (53, 2), (71, 3)))
    data = FashionMNIST(train, valid, test, mean=0.2, std=0.3)
    monkeypatch.setattr(vit_sweep, "_load", lambda path, config: data)
    monkeypatch.setattr(catalogue, "find", lambda *arguments: FILES)


@pytest.fixture
def not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are made and not rendered, which takes most of their time."""
    monkeypatch.setattr(plots, "to_png", lambda figure: repr(figure).encode())


def make_config(**more: Any) -> Config:
    return load(Config, "vit-sweep", flags={"name": "default", "device": "cpu", **GRID, **more})


def train(out: Path, config: Config) -> None:
    """Train the trials in this process: what a worker does."""
    store = TrialStore(out / vit_sweep.COMMAND / "trials")
    for trial in vit_sweep.make_trials(config, FILES):
        folder = store.folder(trial)
        if folder.result() is None:
            folder.prepare(trial)
            folder.finish(vit_sweep.run_trial(trial.config, folder, lambda event: None))  # type: ignore[arg-type]


def show(out: Path, config: Config) -> dict[str, Any]:
    with RunFolder(out, vit_sweep.COMMAND, config.name) as folder:
        summary = vit_sweep.run(config, folder)
        assert summary is not None
        content: dict[str, Any] = json.loads(folder.finish(summary).read_text())
    return content


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials of the grid by two seeds, and once more with linear attention."""
    out = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        made_up_data.__wrapped__(patch)  # type: ignore[attr-defined]
        train(out, make_config(seeds="0,1"))
        train(out, make_config(**LINEAR))
    return out


@pytest.fixture
def out(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "out")
    return tmp_path / "out"


def test_every_cell_is_tested_against_the_best_and_the_best_one_is_drawn(out: Path) -> None:
    summary = show(out, make_config())
    assert summary["status"] == "complete"
    best = summary["best"]
    for cell in summary["cells"]:
        if (cell["layers"], cell["heads"]) == (best["layers"], best["heads"]):
            assert cell["p_value"] is None
        else:
            assert 0 < cell["p_value"] <= cell["p_value_holm"] <= 1
            assert cell["indistinguishable_from_best"] == (cell["p_value_holm"] >= 0.05)
    assert summary["conclusion"].startswith("By a two-way additive fit over 4 cells")
    assert summary["effects"].keys() == {"layers", "heads"}
    run_folder = out / "vit-sweep" / "default"
    assert {path.stem for path in run_folder.glob("*.png")} == {
        *("heatmap", "curves", "costs", "confusion", "mistakes", "rollout", "positions"),
    }
    table = (run_folder / "table.md").read_text()
    assert summary["conclusion"] in table
    assert "exact McNemar" in table


def test_the_network_drawn_is_the_one_that_was_tested(trained: Path) -> None:
    trial = vit_sweep.make_trials(make_config(), FILES)[0]
    folder = TrialStore(trained / "vit-sweep" / "trials").folder(trial)
    config = trial.config
    assert isinstance(config, TrialConfig)
    model = vit_sweep.trained_model(config, folder)
    assert model is not None
    data = vit_sweep._load(Path("unused"), config.data)
    device = torch.device("cpu")
    _, probabilities = vit_sweep.classify(model, data.test, data, device, torch.float32)
    stored = vit_sweep.read_predictions(folder, len(data.test))
    assert stored is not None
    assert torch.equal(probabilities.argmax(dim=1), stored["label"].long())


@pytest.mark.usefixtures("not_rendered")
def test_several_seeds_are_tested_by_the_bootstrap_and_repeat_themselves(out: Path) -> None:
    first, again = (show(out, make_config(seeds="0,1")) for _ in range(2))
    assert first["cells"] == again["cells"]
    assert any(cell["p_value"] is not None for cell in first["cells"])
    table = (out / "vit-sweep" / "default" / "table.md").read_text()
    assert "paired bootstrap over the test images and 2 seeds" in table


@pytest.mark.usefixtures("not_rendered")
def test_without_the_checkpoint_its_pictures_stay_as_they_are(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(out, make_config())
    run_folder = out / "vit-sweep" / "default"
    (run_folder / "rollout.png").write_bytes(b"earlier")
    (run_folder / "positions.png").unlink()
    (run_folder / "confusion.png").unlink()
    for checkpoint in out.rglob("checkpoint.safetensors"):
        checkpoint.unlink()
    capsys.readouterr()
    show(out, make_config())
    assert "rollout.png and positions.png are not drawn anew" in capsys.readouterr().err
    assert (run_folder / "rollout.png").read_bytes() == b"earlier"
    assert not (run_folder / "positions.png").exists()
    assert (run_folder / "confusion.png").exists()

    summary = json.loads((run_folder / "summary.json").read_text())
    summary["best"]["layers"] += 1  # as if another network had been the best
    (run_folder / "summary.json").write_text(json.dumps(summary))
    show(out, make_config())
    assert not (run_folder / "rollout.png").exists()
    assert (run_folder / "confusion.png").exists()


@pytest.mark.usefixtures("not_rendered")
def test_what_is_only_shown_anew_keeps_the_environment_it_was_trained_in(out: Path) -> None:
    config = make_config()
    show(out, config)
    run_folder = out / "vit-sweep" / "default"
    (run_folder / "env.json").write_text('{"cpu": "another"}')
    show(out, config)
    assert json.loads((run_folder / "env.json").read_text()) == {"cpu": "another"}
    for trial in TrialStore(out / "vit-sweep" / "trials").path.iterdir():
        assert json.loads((trial / "env.json").read_text())["threads"] == 1


@pytest.mark.usefixtures("not_rendered")
def test_a_comparison_that_is_no_longer_asked_for_goes(out: Path) -> None:
    show(out, make_config(name="other"))
    show(out, make_config(compare_with="other"))
    assert (out / "vit-sweep" / "default" / "compare.md").exists()
    show(out, make_config())
    assert not (out / "vit-sweep" / "default" / "compare.md").exists()


@pytest.mark.usefixtures("not_rendered")
def test_lost_predictions_are_told_and_cost_only_their_comparison(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = show(out, make_config())["best"]
    store = TrialStore(out / "vit-sweep" / "trials")
    trials = vit_sweep.make_trials(make_config(), FILES)
    lost = next(t for t in trials if t.label["layers"] != best["layers"])
    store.folder(lost).predictions.write_bytes(b"damaged")
    summary = show(out, make_config())
    assert f"{lost}: no predictions to compare" in capsys.readouterr().err
    untested = [cell for cell in summary["cells"] if cell["p_value"] is None]
    assert len(untested) == 2  # the best one, and that one
    for trial in trials:
        store.folder(trial).predictions.unlink(missing_ok=True)
    summary = show(out, make_config())
    assert all(cell["indistinguishable_from_best"] is None for cell in summary["cells"])
    assert summary["status"] == "complete"


@pytest.mark.usefixtures("not_rendered")
@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"layers": "1", "heads": "2"}, "One cell alone supports nothing about layers or heads."),
        ({"layers": "1"}, "nothing about layers (all cells have 1)"),
    ],
)
def test_a_grid_of_one_cell_or_one_row_is_shown(out: Path, grid: dict[str, str], said: str) -> None:
    summary = show(out, make_config(**grid))
    assert summary["effects"]["layers"] is None
    assert said in summary["conclusion"]
    table = (out / "vit-sweep" / summary["name"] / "table.md").read_text()
    assert said in table
    assert ("best by validation" in table) == (len(summary["cells"]) > 1)
    assert "intervals" not in table


@pytest.mark.usefixtures("not_rendered")
def test_failed_cells_are_left_out_of_what_the_grid_supports(out: Path) -> None:
    store = TrialStore(out / "vit-sweep" / "trials")
    trials = vit_sweep.make_trials(make_config(), FILES)
    for trial in trials[1:]:
        (store.folder(trial).path / "result.json").unlink()
        store.folder(trial).fail("ValueError: no")
    summary = show(out, make_config())
    assert summary["status"] == "partial"
    assert summary["conclusion"].startswith("One cell alone")
    (store.folder(trials[0]).path / "result.json").unlink()
    store.folder(trials[0]).fail("ValueError: no")
    summary = show(out, make_config())
    assert (summary["best"], summary["conclusion"]) == (None, None)


@pytest.mark.usefixtures("not_rendered")
def test_a_run_is_shown_beside_another(out: Path) -> None:
    show(out, make_config())
    linear = make_config(**LINEAR, name="linear", compare_with="default")
    comparison = show(out, linear)["comparison"]
    assert comparison["with"] == "default"
    assert comparison["settings"] == {"config.model.attention": ["softmax", "linear"]}
    assert len(comparison["cells"]) == 4
    assert comparison["mean_difference"]["value"] == pytest.approx(
        sum(row["difference"] for row in comparison["cells"]) / 4
    )
    assert comparison["train_s_ratio"] > 0
    run_folder = out / "vit-sweep" / "linear"
    assert {path.name for path in run_folder.glob("compare.*")} == {
        *("compare.md", "compare.csv", "compare.png"),
    }
    written = (run_folder / "compare.md").read_text()
    assert "differ: model.attention softmax and linear." in written
    assert comparison["conclusion"] in written

    narrow = make_config(**LINEAR, name="narrow", compare_with="default", layers="2")
    assert len(show(out, narrow)["comparison"]["cells"]) == 2


@pytest.mark.usefixtures("not_rendered")
def test_a_run_whose_trials_are_gone_is_shown_beside_without_tests(out: Path) -> None:
    show(out, make_config())
    store = TrialStore(out / "vit-sweep" / "trials")
    for trial in vit_sweep.make_trials(make_config(), FILES):
        shutil.rmtree(store.folder(trial).path)
    comparison = show(out, make_config(**LINEAR, name="linear", compare_with="default"))[
        "comparison"
    ]
    assert (comparison["settings"], comparison["mean_difference"]) == ({}, None)
    assert [row["p_value"] for row in comparison["cells"]] == [None] * 4


@pytest.mark.usefixtures("not_rendered")
def test_a_run_is_not_shown_beside_what_is_not_there(out: Path) -> None:
    linear = make_config(**LINEAR, name="linear", compare_with="default")
    with pytest.raises(ConfigError, match=r"compare_with = 'default': .* choices: none in"):
        show(out, linear)
    show(out, make_config())
    with pytest.raises(ConfigError, match=r"compare_with = 'other': .* choices: default"):
        show(out, make_config(**LINEAR, name="linear", compare_with="other"))
    with pytest.raises(ConfigError, match="no cell of this grid"):
        show(out, make_config(name="wide", layers="3", compare_with="default"))

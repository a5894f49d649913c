"""What a sweep shows when its trials are done, on made-up images; no trial trains here twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwcli.config import load
from hwcli.data import catalogue
from hwcli.data.cache import Found
from hwcli.errors import ConfigError, OutputError
from hwcli.experiments import vit_sweep
from hwcli.experiments.vit_sweep import Config
from hwcli.output import plots
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Table
from hwcli.sweep import status
from hwcli.sweep.runner import Outcome
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from hwcli.vision import training, worker
from hwcli.vision.fashion_mnist import FashionMNIST
from hwcli.vision.recipe import DataConfig
from hwcli.vision.record import read_record
from hwcli.vision.summary import summarize
from tests.vision.made_up import TINY, made_up_images

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = Found(path=Path("unused"), name="fashion-mnist", origin="nowhere", digest="made-up")
GRID = {**TINY, "layers": "1,2", "heads": "2,3", "epochs": 1, "precision": "float32"}
LINEAR = {"model.attention": "linear"}


@pytest.fixture(autouse=True)
def made_up_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made_up_images(101)
    monkeypatch.setattr(training, "load_images", lambda path, config: data)
    monkeypatch.setattr(catalogue, "find", lambda *arguments: FILES)


@pytest.fixture
def not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are made and not rendered, which takes most of their time."""
    monkeypatch.setattr(plots, "to_png", lambda figure: repr(figure).encode())


def make_config(**more: Any) -> Config:
    flags = {**GRID, "model.head_width": None, "name": "default", "device": "cpu", **more}
    return load(Config, vit_sweep.COMMAND, flags=flags)


def train(out: Path, config: Config) -> None:
    """Train the trials in this process: what a worker does."""
    store = TrialStore(out / vit_sweep.COMMAND / "trials")
    for trial in vit_sweep.make_trials(config, FILES):
        folder = store.folder(trial)
        if folder.result() is None:
            folder.prepare(trial)
            folder.finish(worker.run_trial(trial.config, folder, lambda progress: None))  # type: ignore[arg-type]


def show(out: Path, config: Config) -> dict[str, Any]:
    with RunFolder(out, vit_sweep.COMMAND, config.name) as folder:
        summary = vit_sweep.run(config, folder)
        assert summary is not None
        content: dict[str, Any] = json.loads(folder.finish(summary).read_text())
    return content


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
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


def best_of(summary: dict[str, Any]) -> dict[str, Any]:
    (best,) = (cell for cell in summary["cells"] if cell["versus_best"] == "best")
    return best


def test_every_cell_is_tested_against_the_best_and_the_best_one_is_drawn(out: Path) -> None:
    summary = show(out, make_config())
    assert summary["status"] == "complete"
    best = best_of(summary)
    for cell in summary["cells"]:
        if cell is best:
            assert cell["p_value"] is None
        else:
            assert 0 < cell["p_value"] <= cell["p_value_adjusted"] <= 1
            assert (cell["versus_best"] == "similar") == (cell["p_value_adjusted"] >= 0.05)
    assert summary["conclusion"].startswith("Effects on test accuracy (additive fit over 4 cells)")
    assert [effect["axis"] for effect in summary["effects"]] == ["layers", "heads"]
    run_folder = out / "vit-sweep" / "default"
    assert {path.stem for path in run_folder.glob("*.png")} == {
        *("heatmap", "curves", "costs", "confusion", "mistakes", "rollout", "positions"),
    }
    table = (run_folder / "table.md").read_text()
    assert summary["conclusion"] in table
    assert "exact McNemar" in table


@pytest.mark.usefixtures("not_rendered")
def test_several_seeds_are_tested_by_tukeys_range_and_repeat_themselves(out: Path) -> None:
    first, again = (show(out, make_config(seeds="0,1")) for _ in range(2))
    assert first["cells"] == again["cells"]
    assert any(cell["p_value"] is not None for cell in first["cells"])
    table = (out / "vit-sweep" / "default" / "table.md").read_text()
    assert "Tukey's range" in table


@pytest.mark.usefixtures("not_rendered")
def test_a_copied_run_folder_is_the_whole_run(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = show(out, make_config())
    there = tmp_path / "elsewhere" / "vit-sweep" / "default"
    shutil.copytree(out / "vit-sweep" / "default", there)
    (there / "table.md").unlink()
    capsys.readouterr()
    after = show(tmp_path / "elsewhere", make_config())
    assert "4 of 4 trials are already done" in capsys.readouterr().err
    assert after == before
    for name in ("table.md", "table.csv", "trials.csv", "metrics.jsonl", "predictions.safetensors"):
        assert (there / name).read_bytes() == (out / "vit-sweep/default" / name).read_bytes()
    compared = show(out, make_config(**LINEAR, name="linear", compare_with=str(there)))
    assert len(compared["comparison"]["cells"]) == 4


@pytest.mark.usefixtures("not_rendered")
def test_what_contradicts_itself_is_told_and_not_used(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    store = TrialStore(out / "vit-sweep" / "trials")
    edited, broken, *_ = (store.folder(t) for t in vit_sweep.make_trials(config, FILES))
    for folder, change in ((edited, {"test_accuracy": 0.99}), (broken, {"test_accuracy": 1.5})):
        result = json.loads((folder.path / "result.json").read_text())
        (folder.path / "result.json").write_text(json.dumps({**result, **change}))
    summary = show(out, config)
    told = capsys.readouterr().err
    assert "layers 1, heads 2, seed 0: not used: its test accuracy is stored as 99.00%" in told
    assert "layers 1, heads 3, seed 0: not used: its result.json is damaged" in told
    assert f"delete {edited.path} to train it again" in told
    assert summary["status"] == "partial"
    assert len(summary["failures"]) == 2
    assert sum(cell["test_accuracy_mean"] is not None for cell in summary["cells"]) == 2


@pytest.mark.usefixtures("not_rendered")
def test_a_trial_without_its_predictions_is_tested_again_and_not_trained(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    undisturbed = show(out, config)
    shutil.rmtree(out / "vit-sweep" / "default")
    trials = vit_sweep.make_trials(config, FILES)
    first = TrialStore(out / "vit-sweep" / "trials").folder(trials[0])
    first.predictions.write_bytes(b"")
    trained = first.result()
    monkeypatch.setattr(training, "code_digest", lambda: "edited")
    with RunFolder(out, vit_sweep.COMMAND, config.name) as folder:
        shown = vit_sweep.plan(config, folder).shown
    assert isinstance(shown, Table)
    assert [row["state"] for row in shown.rows] == ["interrupted", "done", "done", "done"]

    def in_this_process(trials: list[Trial], *_: object, **__: object) -> list[Outcome]:
        assert [trial.id for trial in trials] == [first.path.name]
        train(out, config)
        return [Outcome(trials[0], "done")]

    monkeypatch.setattr(vit_sweep, "run_trials", in_this_process)
    summary = show(out, config)
    told = capsys.readouterr().err
    assert "its predictions.safetensors is missing or damaged; its network is tested again" in told
    assert (summary["status"], summary["cells"]) == ("complete", undisturbed["cells"])
    # The code that tests it did not train it.
    assert first.result() == trained
    first.predictions.unlink()
    first.checkpoint.unlink()
    shutil.rmtree(out / "vit-sweep" / "default")
    show(out, config)
    assert "its predictions.safetensors is missing or damaged; it is trained again" in (
        capsys.readouterr().err
    )


@pytest.mark.usefixtures("not_rendered")
def test_a_copied_run_keeps_its_own_results_beside_this_machines(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(name="theirs")
    theirs = show(out, config)
    run_folder = out / "vit-sweep" / "theirs"
    kept = {name: (run_folder / name).read_bytes() for name in ("trials.csv", "rollout.png")}
    store = TrialStore(out / "vit-sweep" / "trials")
    for trial in vit_sweep.make_trials(config, FILES):
        # The same trials, trained here another time.
        folder = store.folder(trial)
        result = folder.result()
        assert result is not None
        folder.finish({**result, "train_s": result["train_s"] + 1, "valid_accuracy": 0.0})
    capsys.readouterr()
    again = show(out, config)
    told = capsys.readouterr().err
    assert told.count("this run keeps its own result; --replace takes that of another") == 4
    assert again["cells"] == theirs["cells"]
    assert {name: (run_folder / name).read_bytes() for name in kept} == kept
    assert "keeping the old positions.png and rollout.png" in told  # not of the other weights
    with RunFolder(out, vit_sweep.COMMAND, "theirs", replace=True) as folder:
        replaced = vit_sweep.run(config, folder)
    assert replaced is not None
    assert {cell.valid_accuracy_mean for cell in replaced.cells} == {0.0}


@pytest.mark.usefixtures("not_rendered")
def test_results_of_other_code_are_told(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    show(out, config)
    assert "other software" not in capsys.readouterr().err
    monkeypatch.setattr(training, "code_digest", lambda: "edited")
    show(out, config)
    told = capsys.readouterr().err
    assert "trained by other software: 4 of them (" in told
    assert "; edited since); " in told
    assert "--out FOLDER trains all of them again" in told


@pytest.mark.usefixtures("not_rendered")
def test_an_interrupted_trial_that_other_code_began_is_told(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    store = TrialStore(out / "vit-sweep" / "trials")
    (store.folder(vit_sweep.make_trials(config, FILES)[0]).path / "result.json").unlink()
    monkeypatch.setattr(vit_sweep, "run_trials", lambda *_, **__: [])
    show(out, config)
    assert "other software" not in capsys.readouterr().err
    monkeypatch.setattr(training, "code_digest", lambda: "edited")
    shutil.rmtree(out / "vit-sweep" / "default")
    show(out, config)
    told = capsys.readouterr().err
    assert "trained by other software: 3 of them (" in told
    assert "begun by other software: 1 trial (" in told
    assert "), to go on from the last epoch; --out FOLDER trains everything again" in told


@pytest.mark.usefixtures("not_rendered")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("predictions.safetensors", b"", "its predictions.safetensors is missing or damaged"),
        ("result.json", b'{"test_accuracy": 0.99}', "its result.json is damaged"),
        pytest.param("result.json", b"<<<<<<< HEAD", "", marks=pytest.mark.slow),
        pytest.param("identity.json", b"", "", marks=pytest.mark.slow),
        ("metrics.jsonl", b"", ""),
        ("checkpoint.safetensors", b"x", "a damaged checkpoint of "),
    ],
)
def test_damage_to_a_trials_files_does_not_reach_the_finished_run(
    out: Path, name: str, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    before = show(out, config)
    run_folder = out / "vit-sweep" / "default"
    files = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    capsys.readouterr()
    for trial in vit_sweep.make_trials(config, FILES):
        (out / "vit-sweep" / "trials" / trial.id / name).write_bytes(content)
    assert show(out, config) == {**before, "num_run": 0, "num_reused": 4}
    told = capsys.readouterr().err
    assert said in told
    assert "4 of 4 trials are already done" in told
    now = {path.name: path.read_bytes() for path in run_folder.iterdir()}
    assert now.keys() == files.keys()
    for kept in ("trials.csv", "metrics.jsonl", "predictions.safetensors", "table.md"):
        assert now[kept] == files[kept]
    (found,) = (run for run in status.read_runs(out) if run.name == "default")
    assert found.trials["done"] == 4


def test_ctrl_c_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vit_sweep, "run_trials", interrupted)
    with pytest.raises(KeyboardInterrupt):
        show(tmp_path, make_config())
    assert (
        "stopped: 0 of 4 trials are done; of the others each finished epoch is kept; run the same "
        "command again to continue"
    ) in capsys.readouterr().err


@pytest.mark.usefixtures("not_rendered")
def test_a_failed_trial_is_a_row_of_the_run_folder(out: Path) -> None:
    store = TrialStore(out / "vit-sweep" / "trials")
    first = store.folder(vit_sweep.make_trials(make_config(), FILES)[0])
    (first.path / "result.json").unlink()
    first.fail("ValueError: no")
    with RunFolder(out, vit_sweep.COMMAND, "default") as folder:
        shown = vit_sweep.plan(make_config(), folder).shown
    assert isinstance(shown, Table)
    assert shown.title.endswith("1 epoch each, 3 done, 1 failed")
    summary = show(out, make_config())
    trial = read_record(out / "vit-sweep/default").trials[0]
    assert (trial.state, trial.reason) == ("failed", "ValueError: no")
    (failure,) = summary["failures"]
    assert (failure["point"], failure["seed"]) == ({"layers": 1, "heads": 2}, 0)


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
    assert "keeping the old rollout.png" in capsys.readouterr().err
    assert (run_folder / "rollout.png").read_bytes() == b"earlier"
    assert not (run_folder / "positions.png").exists()
    assert (run_folder / "confusion.png").exists()

    summary = json.loads((run_folder / "summary.json").read_text())
    best_of(summary)["versus_best"] = "similar"  # as if another network had been the best
    summary["cells"][-1]["versus_best"] = "best"
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
    environment = json.loads((run_folder / "env.json").read_text())
    assert environment["cpu"] == "another"
    (place,) = environment["trained_on"]
    assert place["num_trials"] == 4
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
@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"layers": "1", "heads": "2"}, "One cell says nothing about the effect of layers or "),
        ({"layers": "1"}, "no statement about layers (all cells have 1 layer)"),
    ],
)
def test_a_grid_of_one_cell_or_one_row_is_shown(out: Path, grid: dict[str, str], said: str) -> None:
    summary = show(out, make_config(**grid))
    assert summary["effects"][0]["slope"] is None
    assert said in summary["conclusion"]
    table = (out / "vit-sweep" / summary["name"] / "table.md").read_text()
    assert (said in table) == ("selected by validation" in table) == (len(summary["cells"]) > 1)


@pytest.mark.usefixtures("not_rendered")
def test_failed_cells_are_left_out_of_what_the_grid_supports(out: Path) -> None:
    store = TrialStore(out / "vit-sweep" / "trials")
    trials = vit_sweep.make_trials(make_config(), FILES)
    for trial in trials[1:]:
        (store.folder(trial).path / "result.json").unlink()
        store.folder(trial).fail("ValueError: no")
    summary = show(out, make_config())
    assert summary["status"] == "partial"
    assert summary["conclusion"].startswith("One cell says nothing")
    (store.folder(trials[0]).path / "result.json").unlink()
    store.folder(trials[0]).fail("ValueError: no")
    summary = show(out, make_config(name="other"))
    assert summary["conclusion"] is None
    assert all(cell["versus_best"] is None for cell in summary["cells"])


@pytest.mark.usefixtures("not_rendered")
def test_a_run_is_compared_with_another(out: Path) -> None:
    show(out, make_config())
    linear = make_config(**LINEAR, name="linear", compare_with="default")
    comparison = show(out, linear)["comparison"]
    assert comparison["other"] == "default"
    assert comparison["settings"] == {"model.attention": ["softmax", "linear"]}
    assert len(comparison["cells"]) == 4
    assert comparison["mean"]["value"] == pytest.approx(
        sum(row["difference"] for row in comparison["cells"]) / 4
    )
    assert all(row["train_s"] > 0 for row in comparison["cells"])
    run_folder = out / "vit-sweep" / "linear"
    assert {path.name for path in run_folder.glob("compare.*")} == {
        *("compare.md", "compare.csv", "compare.png"),
    }
    written = (run_folder / "compare.md").read_text()
    assert "default and linear: model.attention softmax and linear." in written
    assert comparison["conclusion"] in written

    narrow = make_config(**LINEAR, name="narrow", compare_with="default", layers="2")
    assert len(show(out, narrow)["comparison"]["cells"]) == 2


@pytest.mark.usefixtures("not_rendered")
def test_a_run_is_not_compared_with_what_is_not_there(out: Path) -> None:
    linear = make_config(**LINEAR, name="linear", compare_with="default")
    with pytest.raises(ConfigError, match=r"compare_with = 'default': .* choices: none in"):
        show(out, linear)
    show(out, make_config())
    with pytest.raises(ConfigError, match=r"compare_with = 'other': .* choices: default"):
        show(out, make_config(**LINEAR, name="linear", compare_with="other"))
    with pytest.raises(ConfigError, match="no cell of this grid"):
        show(out, make_config(name="wide", layers="3", compare_with="default"))


@pytest.mark.usefixtures("not_rendered")
def test_a_finished_run_is_never_replaced_by_other_networks(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vit_sweep.runtime, "has_fast_bf16", lambda device: False)
    show(out, make_config(precision="auto"))
    before = {path: path.read_bytes() for path in (out / "vit-sweep/default").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(vit_sweep.runtime, "has_fast_bf16", lambda device: True)
        with pytest.raises(OutputError, match="precision float32 there, bfloat16 here"):
            show(out, make_config(precision="auto"))
    with pytest.raises(OutputError, match="is a finished run with other settings"):
        show(out, make_config(precision="auto", layers="1"))
    assert {path: path.read_bytes() for path in before} == before
    # Stopped while its first pictures were drawn: the networks are there, the summary is not.
    (out / "vit-sweep/default/summary.json").unlink()
    with pytest.raises(OutputError, match=r"run of other networks \(epochs 1 there, 2 here\); cho"):
        show(out, make_config(precision="auto", epochs=2))


@pytest.mark.usefixtures("not_rendered")
def test_a_run_that_begins_again_with_another_precision_says_so(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vit_sweep.runtime, "has_fast_bf16", lambda device: False)
    monkeypatch.setattr(vit_sweep, "run_trials", lambda *_, **__: [])
    show(out, make_config(precision="auto"))
    for name in ("summary.json", "predictions.safetensors"):
        (out / "vit-sweep/default" / name).unlink()
    monkeypatch.setattr(vit_sweep.runtime, "has_fast_bf16", lambda device: True)
    capsys.readouterr()
    config = make_config(precision="auto")
    kernels = vit_sweep.make_trials(config, FILES)[0].identity["config"]["kernels"]
    line = (
        "4 trials of this run were begun with precision float32, and would begin again here with "
        "precision bfloat16; --set device=cpu --set precision=float32 --set "
        f"kernels={kernels} goes on with what is there, where this machine can."
    )
    with RunFolder(out, vit_sweep.COMMAND, config.name) as folder:
        planned = vit_sweep.plan(config, folder)
    assert isinstance(planned.shown, Table)
    assert line in planned.shown.notes
    show(out, config)
    assert line in capsys.readouterr().err
    # What the line says goes on with them, and says nothing.
    show(out, make_config(precision="float32", kernels=kernels))
    told = capsys.readouterr().err
    assert "4 of 4 trials are already done" in told
    assert "begun with" not in told


def test_the_best_network_is_shown_with_the_images_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def images(path: Path, config: DataConfig) -> FashionMNIST:
        return replace(made_up_images(config.num_train), mean=config.num_train / 100)

    monkeypatch.setattr(training, "load_images", images)
    config = make_config(layers="1", heads="2", grid=["data.train_limit=51,67"])
    train(tmp_path, config)
    with RunFolder(tmp_path, vit_sweep.COMMAND, config.name) as folder:
        sweep = vit_sweep.Sweep(config, folder)
        record = sweep.record()
        summary = summarize(
            "default", config, record, None, num_run=0, precision="float32", kernels="torch"
        )
        last = [
            cell.model_copy(update={"versus_best": verdict})
            for cell, verdict in zip(summary.cells, ("worse", "best"), strict=True)
        ]
        network = sweep.best_network(summary.model_copy(update={"cells": last}), record)
    assert network is not None
    assert (network.config.data.num_train, network.data.mean) == (67, 0.67)

"""The sweep's trials: what identifies them, and where they train. Runs are in the other files."""

import json
from pathlib import Path
from typing import Any

import pytest

from hwcli import resources, runtime
from hwcli.config import dump_yaml, load
from hwcli.data import catalogue
from hwcli.data.cache import Found
from hwcli.errors import ConfigError, OutputError
from hwcli.experiments import vit_sweep
from hwcli.experiments.vit_sweep import Config
from hwcli.native import compiler
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Table
from hwcli.sweep.trial import Trial
from hwcli.vision import training
from hwcli.vision.recipe import RECIPE_VERSION
from hwcli.vision.record import read_record
from tests.vision.made_up import TINY, trial_config

REFERENCE = Path(__file__).parents[2] / "results/reference/vit-sweep"
FILES = Found(path=Path("unused"), name="fashion-mnist", origin="nowhere", digest="made-up")


def make(**flags: Any) -> Config:
    return load(Config, vit_sweep.COMMAND, flags={"layers": "1,2", "heads": "2,3", **flags})


@pytest.mark.parametrize(
    "name", sorted(path.parent.name for path in REFERENCE.glob("*/trials.csv"))
)
def test_todays_code_gives_the_committed_trials_their_ids(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A new field of the recipe fails here unless ``exclude_if`` leaves it out at its old value."""
    config = load(Config, vit_sweep.COMMAND, path=REFERENCE / name / "config.yaml")
    committed = read_record(REFERENCE / name).trials
    resolved = committed[0].identity["config"]
    monkeypatch.setattr(vit_sweep, "trial_device", lambda _: _Device(resolved["device"]))
    fast = resolved["precision"] == "bfloat16"
    monkeypatch.setattr(runtime, "has_fast_bf16", lambda device: fast)
    monkeypatch.setattr(compiler, "reason_against", lambda: None)
    digest = committed[0].identity["data"]
    files = Found(path=Path("unused"), name="fashion-mnist", origin="", digest=digest)
    trials = vit_sweep.make_trials(config, files)
    assert [trial.id for trial in trials] == [trial.id for trial in committed]
    assert {trial.state for trial in committed} == {"done"}


def test_a_runs_own_config_stands_alone_whatever_is_shipped_today(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    stored = dump_yaml(make(**{"augmentation.early_tokens": 1.0}))
    assert "early_tokens: 1.0" in stored
    path.write_text(stored.replace(", early_tokens: 1.0", ""))  # as a run of before wrote it
    again = load(Config, vit_sweep.COMMAND, path=path)
    assert again.augmentation.early_tokens == 1.0
    assert make().augmentation.early_tokens == 0.5
    # What a person writes lies over the shipped values.
    path.write_text("augmentation: {flip: false}")
    assert load(Config, vit_sweep.COMMAND, path=path).augmentation.early_tokens == 0.5


def test_an_earlier_recipes_run_is_refused_by_the_setting_that_differs(tmp_path: Path) -> None:
    path = tmp_path / "vit-sweep/standard/config.yaml"
    path.parent.mkdir(parents=True)
    (path.parent / "summary.json").write_text('{"status": "complete"}')
    earlier = make(**{"augmentation.early_tokens": 1.0})
    path.write_text(dump_yaml(earlier).replace(", early_tokens: 1.0", ""))
    folder = RunFolder(tmp_path, "vit-sweep", "standard")
    folder.refuse_to_lose(earlier)
    folder.refuse_to_lose(make(**{"augmentation.early_tokens": 1.0, "seeds": "0..2"}))
    for config in (make(), make(seeds="0..2")):
        line = r"other settings \(.*augmentation.early_tokens 1.0 there, 0.5 here"
        with pytest.raises(OutputError, match=line):
            folder.refuse_to_lose(config)
        assert "The run would be refused" in folder.forecast(config)


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [("augmentation.early_tokens", 0.5, 1.0), ("augmentation.erase_probability", 0.0, 0.5)],
)
def test_a_field_that_is_left_out_at_its_old_value_can_become_an_axis(
    field: str, old: float, new: float
) -> None:
    assert make(grid=[f"{field}={old},{new}"]).contains(make())


def test_a_worker_in_another_folder_finds_the_images() -> None:
    trials = vit_sweep.make_trials(make(device="cpu"), FILES)
    assert {trial.config.data_path for trial in trials} == {Path.cwd() / "unused"}


class _Device:
    """A device by name, present or not."""

    def __init__(self, kind: str):
        self.type = kind


def test_a_trials_identity_holds_what_decides_its_numbers_and_nothing_else() -> None:
    def identify(**more: Any) -> str:
        return Trial(trial_config(**more), {}, {"recipe": RECIPE_VERSION}, cost=1.0).id

    base = identify()
    assert identify(data_path="elsewhere") == base
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"epochs": 3},
        {"precision": "bfloat16"},
        {"device": "cuda"},
        {"data": {"train_limit": 50}},
        {"model": {**TINY["model"], "attention": "linear"}},
    ]
    assert len({base, *(identify(**change) for change in changes)}) == len(changes) + 1


def test_another_axis_makes_the_trials_that_its_values_make_alone() -> None:
    swept = vit_sweep.make_trials(make(grid=["model.width=48,64"], device="cpu"), FILES)
    alone = [
        trial
        for width in ("48", "64")
        for trial in vit_sweep.make_trials(make(device="cpu", **{"model.width": width}), FILES)
    ]
    assert {trial.id for trial in swept} == {trial.id for trial in alone}
    assert str(swept[1]) == "layers 1, heads 2, width 64, seed 0"
    assert len(swept) == 8


def test_where_a_trial_is_trained_does_not_enter_its_identity() -> None:
    launchers: list[dict[str, Any]] = [
        {},
        {"launcher.kind": "slurm", "launcher.partition": "big", "launcher.cpus": 2},
        {"launcher.kind": "ray", "launcher.address": "auto"},
    ]
    identities = {
        tuple(trial.id for trial in vit_sweep.make_trials(make(device="cpu", **launcher), FILES))
        for launcher in launchers
    }
    assert len(identities) == 1


def test_a_trial_on_a_cluster_is_given_the_gpu_it_asks_for() -> None:
    def device(gpus: int, device: str = "auto") -> str:
        flags = {"launcher.kind": "slurm", "launcher.gpus": gpus, "device": device}
        return vit_sweep.trial_device(make(**flags)).type

    assert device(0) == "cpu"
    assert device(1) == "cuda"  # whatever this machine has
    assert device(1, "cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"launcher\.gpus = 0"):
        device(0, "cuda")


def test_a_dry_run_for_a_clusters_gpu_needs_none_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalogue, "find", lambda *arguments: FILES)
    flags = {"launcher.kind": "slurm", "launcher.gpus": 1, "grid": ["model.width=24,48"]}
    flags["data.train_limit"] = 640
    planned = vit_sweep.plan(make(**flags), RunFolder(tmp_path, "vit-sweep", "default"))
    assert planned.seconds is None
    assert "a time that cannot be known here" in planned.needs()
    assert isinstance(planned.shown, Table)
    shown = planned.shown.to_markdown()
    assert "No time estimate for a cluster GPU." in shown
    assert "width" in shown
    assert "vit-sweep standard: 8 trials, 20 epochs each, on 640 images, 0 done" in shown
    more = vit_sweep.plan(
        make(**{**flags, "data.train_limit": 60000}), RunFolder(tmp_path, "v", "d")
    )
    assert isinstance(more.shown, Table)
    assert "each, on 55,000 images," in more.shown.to_markdown()
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_how_many_train_at_a_time_and_which_layers_stay_in_float32(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalogue, "find", lambda *arguments: FILES)
    monkeypatch.setattr(compiler, "reason_against", lambda: None)
    monkeypatch.setattr(training, "seconds_per_flop", lambda config, **_: 1e-9)

    def shown(**more: Any) -> str:
        flags = {"device": "cpu", "precision": "bfloat16", **more}
        planned = vit_sweep.plan(make(**flags), RunFolder(tmp_path, "vit-sweep", "default"))
        assert isinstance(planned.shown, Table)
        return planned.shown.to_markdown()

    monkeypatch.setattr(resources, "num_cores", lambda: 6)
    said = "estimated from timed steps of the network with 2 layers and 2 heads."
    one = shown(jobs="1", **{"launcher.cpus": 1})
    assert f"1 trial trains at a time. Times are {said}" in one
    two = shown(jobs="2", kernels="compiled", **{"launcher.cpus": 3})
    assert f"2 trials train at a time, on 3 threads each. Times are {said}" in two
    three = shown(jobs="3", **{"launcher.cpus": 1})
    assert f"3 trials train at a time. Times are {said}" in three
    assert "4 of 12 trials are computed in float32" in shown(grid=["model.width=32,48,64"])
    assert "computed in float32" not in shown(grid=["model.width=32,64,96"])
    assert "computed in float32" not in shown(grid=["model.width=48"], precision="float32")


def test_a_dry_run_leaves_out_the_epochs_that_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalogue, "find", lambda *arguments: FILES)
    monkeypatch.setattr(training, "seconds_per_flop", lambda config, **_: 1e-9)
    # Each epoch takes as long as the others where no token is left out.
    config = make(device="cpu", jobs="1", epochs=4, **{"augmentation.early_tokens": 1.0})
    folder = RunFolder(tmp_path, "vit-sweep", "default")
    before = vit_sweep.plan(config, folder)
    sweep = vit_sweep.Sweep(config, folder)
    trial = sweep.trials[0]
    place = sweep.store.folder(trial)
    place.prepare(trial)
    place.write_epochs([{"epoch": epoch} for epoch in range(3)])
    # Without a checkpoint it begins again.
    assert vit_sweep.plan(config, folder).seconds == before.seconds
    place.checkpoint.write_bytes(b"")
    after = vit_sweep.plan(config, folder)
    assert before.seconds is not None
    assert after.seconds is not None
    assert before.seconds - after.seconds == pytest.approx(0.75 * trial.cost * 1e-9)
    # Trained to its end, it is only tested.
    place.write_epochs([{"epoch": epoch} for epoch in range(4)])
    tested = vit_sweep.plan(config, folder)
    assert tested.seconds is not None
    assert isinstance(tested.shown, Table)
    assert before.seconds - tested.seconds == pytest.approx(trial.cost * 1e-9)
    assert tested.shown.rows[0]["estimate"] == "0 s"


def test_a_processor_without_bfloat16_is_told_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiler, "reason_against", lambda: None)
    for has_bfloat16 in (True, False):
        monkeypatch.setattr(runtime, "has_fast_bf16", lambda device, has=has_bfloat16: has)
        for precision in ("auto", "float32", "bfloat16"):
            vit_sweep.make_trials(make(device="cpu", precision=precision), FILES)
            said = "precision: layers are computed in float32" in capsys.readouterr().err
            assert said == (precision == "bfloat16" and not has_bfloat16)


def test_the_summary_of_each_committed_run_is_read_by_its_type() -> None:
    for path in sorted(REFERENCE.glob("*/summary.json")):
        summary = vit_sweep.RunSummary.model_validate(json.loads(path.read_text()))
        assert (summary.command, summary.name) == (vit_sweep.COMMAND, path.parent.name)
        assert summary.best is not None

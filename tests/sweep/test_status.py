"""What `hw2 status` and `hw2 export` make of the files of runs and trials."""

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hwcli.config import Section
from hwcli.errors import ConfigError, OutputError
from hwcli.locks import Lock
from hwcli.output.run_folder import STAGING
from hwcli.sweep import export, status
from hwcli.sweep.ownership import Ownership
from hwcli.sweep.runner import run_trials
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from tests.sweep.toy_trials import toy, toy_trial

DONE, FAILED, RUNNING, MISSING = toy(2), toy(3, behaviour="raise"), toy(5), toy(7)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    store = TrialStore(out / "command" / "trials")
    run_trials([DONE, FAILED], toy_trial, store, num_workers=2)
    store.folder(DONE).environment.write_text(
        json.dumps({"cpu": "AMD EPYC(TM) (avx2, avx512f)", "commit": "0123456789"})
    )
    run = out / "command" / "run"
    run.mkdir()
    (run / "config.yaml").write_text("{}")
    ids = [{"id": trial.id} for trial in (DONE, FAILED, RUNNING, MISSING)]
    (run / "trials.json").write_text(json.dumps(ids))
    return out


def test_a_sweep_that_runs_shows_what_is_done_what_failed_and_why_and_the_time_left(
    finished: Path,
) -> None:
    folder = TrialStore(finished / "command" / "trials").folder(RUNNING)
    folder.prepare(RUNNING)
    with Ownership(folder.path, 0) as owner:
        owner.confirm(0.2)
        owner.confirm(0.7)
        owner._began = time.monotonic() - 60
        owner._write()
        (run,) = status.read_runs(finished)
    assert run.status == "running"
    assert {state: number for state, number in run.trials.items() if number} == {
        "done": 1,
        "failed": 1,
        "running": 1,
        "missing": 1,
    }
    assert run.failures == [f"number 3, behaviour raise ({FAILED.id}): ValueError: told to"]
    assert run.trained_on == {"AMD EPYC with AVX-512": 1}
    # Half of a trial took 60 s: three tenths of one and a whole one are left.
    assert run.seconds_left == pytest.approx(120 * 1.3, rel=0.02)
    (again,) = status.read_runs(finished)
    assert (again.status, again.seconds_left) == ("not finished", None)


def test_scripts_read_runs_and_trials_as_json_and_csv(finished: Path) -> None:
    (run,) = json.loads(json.dumps(status.to_json(status.read_runs(finished))))
    assert run["trials"]["failed"] == 1
    trials = list(csv.DictReader(io.StringIO(status.to_csv(status.read_trials(finished)))))
    rows = {row["id"]: row for row in trials}
    assert rows[DONE.id]["state"] == "done"
    assert rows[DONE.id]["square"] == "4"
    assert rows[DONE.id]["config.number"] == "2"
    assert (rows[DONE.id]["trained_on"], rows[DONE.id]["commit"]) == (
        "AMD EPYC with AVX-512",
        "0123456",
    )
    assert rows[FAILED.id]["reason"] == "ValueError: told to"


def test_the_commands_print_them(
    hw2: Callable[..., int], capsys: pytest.CaptureFixture[str], finished: Path
) -> None:
    out = ("--out", str(finished))
    assert hw2("status", *out, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "run"
    assert hw2("status", *out, "--csv", "--trials") == 0
    assert capsys.readouterr().out.startswith("config.number,")
    assert hw2("status", *out, "--trials") == 0
    assert FAILED.id in capsys.readouterr().out
    assert hw2("data", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "fashion-mnist"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trials.json", b"<<<<<<< HEAD\n[]"),
        ("trials.json", b"\xff"),
        ("trials.json", b'[{"x": 1}]'),
        ("trials.json", b'["a"]'),
        ("trials.json", b'[{"id": "../../etc"}]'),
        ("trials.csv", b"a,b\n1,2\n"),
        ("summary.json", b"[]"),
        ("summary.json", b"{"),
    ],
)
def test_a_damaged_file_is_named_in_its_row(tmp_path: Path, name: str, content: bytes) -> None:
    for run in ("damaged", "whole"):
        (tmp_path / "command" / run).mkdir(parents=True)
        (tmp_path / "command" / run / "config.yaml").write_text("{}")
        (tmp_path / "command" / run / "summary.json").write_text('{"status": "complete"}')
    (tmp_path / "command" / "damaged" / name).write_bytes(content)
    assert [(run.name, run.status) for run in status.read_runs(tmp_path)] == [
        ("damaged", f"damaged {name}"),
        ("whole", "complete"),
    ]


def test_a_run_folder_alone_says_how_its_trials_ended(tmp_path: Path) -> None:
    run = tmp_path / "command" / "copied"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    (run / "trials.csv").write_text("id,state,reason\na,done,\nb,failed,it broke\n")
    (found,) = status.read_runs(tmp_path)
    assert (found.trials["done"], found.trials["failed"]) == (1, 1)
    assert found.failures == ["b: it broke"]


def test_accuracies_stand_beside_the_runs_and_the_settings_that_differ_beside_the_trials(
    tmp_path: Path,
) -> None:
    store = TrialStore(tmp_path / "command" / "trials")
    for number, accuracy in ((8, 0.93), (10, 0.91)):
        store.folder(toy(number)).prepare(toy(number))
        store.folder(toy(number)).finish({"test_accuracy": accuracy})
    table = status.trials_table(tmp_path)
    assert [(row["settings"], row["test_accuracy"]) for row in table.rows] == [
        ("number 8", 0.93),
        ("number 10", 0.91),
    ]

    def runs(listed: str | None, summary: dict[str, object]) -> tuple[object, object]:
        run = tmp_path / "command" / "run"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        (run / "config.yaml").write_text("{}")
        (run / "summary.json").write_text(json.dumps({"status": "complete", **summary}))
        if listed is not None:
            (run / "trials.csv").write_text(listed)
        (found,) = status.read_runs(tmp_path)
        (row,) = status.status_table(tmp_path).rows
        return found.highest_test_accuracy, row["accuracies"]

    ids = [folder.path.name for folder in store.folders()]
    assert runs("id,state\n" + "".join(f"{i},done\n" for i in ids), {}) == (0.93, "91.00 to 93.00")
    # A run folder that was copied alone lists the accuracies itself.
    alone = "id,state,result.test_accuracy\na,done,0.925\nb,failed,\n"
    assert runs(alone, {}) == (0.925, "92.50")
    assert runs(None, {"test_accuracy": 0.934}) == (0.934, "93.40")
    assert runs(None, {}) == (None, None)


def make_run(out: Path, name: str, trials_csv: str) -> Path:
    run = out / "command" / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    (run / "summary.json").write_text('{"status": "complete"}')
    (run / "trials.csv").write_text(trials_csv)
    return run


def test_a_copied_run_shows_its_own_numbers_where_the_store_has_others(tmp_path: Path) -> None:
    store, trial = TrialStore(tmp_path / "command" / "trials"), toy(3)
    store.folder(trial).prepare(trial)
    here = {"test_accuracy": 0.93, "train_s": 7.0, "trained_on": {"processor": "Apple M2"}}
    store.folder(trial).finish(here)
    keys = "id,state,result.test_accuracy,result.trained_on.processor,result.trained_on.gpu"
    make_run(tmp_path, "copied", f"{keys}\n{trial.id},done,0.925,AMD EPYC (avx2),null\n")
    make_run(tmp_path, "without results", f"id,state\n{trial.id},done\n")
    copied, without = status.read_runs(tmp_path)
    assert copied.highest_test_accuracy == 0.925
    assert copied.trained_on == {"AMD EPYC with AVX2": 1}
    assert without.highest_test_accuracy == 0.93
    assert without.trained_on == {"Apple M2": 1}


def test_a_sweep_whose_driver_lives_is_running_though_no_trial_trains(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", "id,state\na,missing\n")
    (run / "summary.json").unlink()
    assert status.read_runs(tmp_path)[0].status == "not finished"
    lock = Lock(run / ".lock")
    assert lock.acquire()
    assert status.read_runs(tmp_path)[0].status == "running"
    lock.release()


class EpochsConfig(Section):
    epochs: int
    seed: int


def test_an_interrupted_trial_shows_how_much_of_it_is_done_and_takes_only_the_rest(
    tmp_path: Path,
) -> None:
    store = TrialStore(tmp_path / "command" / "trials")
    stopped, trains = (
        Trial(EpochsConfig(epochs=4, seed=seed), {}, facts={}, cost=1.0) for seed in (2, 3)
    )
    store.folder(stopped).prepare(stopped)
    store.folder(stopped).append_epoch({"epoch": 0})
    store.folder(stopped).checkpoint.write_text("")
    store.folder(trains).prepare(trains)
    make_run(tmp_path, "run", f"id,state\n{stopped.id},missing\n{trains.id},missing\n")
    (found, _) = status.trials_table(tmp_path).rows
    assert (found["settings"], found["state"], found["share"]) == ("seed 2", "interrupted", 0.25)
    with Ownership(store.folder(trains).path, 0) as owner:
        owner.confirm(0.2)
        owner.confirm(0.7)
        owner._began = time.monotonic() - 60
        owner._write()
        (run,) = status.read_runs(tmp_path)
    # Half of a trial took 60 s: three tenths of one and three quarters of the other are left.
    assert run.seconds_left == pytest.approx(120 * (0.3 + 0.75), rel=0.02)
    store.folder(stopped).metrics.unlink()  # an experiment that keeps its epochs elsewhere
    assert status.trials_table(tmp_path).rows[0]["share"] is None


def test_trials_that_only_runs_list_come_once_each_after_those_of_the_store(
    tmp_path: Path,
) -> None:
    store, trial = TrialStore(tmp_path / "command" / "trials"), toy(3)
    store.folder(trial).prepare(trial)
    store.folder(trial).finish({"test_accuracy": 0.93})
    listed = (
        "id,number,behaviour,num_steps,step_s,identity.recipe,state,reason,result.test_accuracy\n"
        f"{trial.id},3,work,3,0.0,1,done,,0.925\n"
        "b,5,work,3,0.0,1,done,,0.91\n"
        "c,7,work,3,0.0,1,failed,it broke,\n"
    )
    make_run(tmp_path, "copied", listed)
    make_run(tmp_path, "copied again", listed)
    rows = status.trials_table(tmp_path).rows
    assert [(row["id"], row["settings"], row["state"], row["test_accuracy"]) for row in rows] == [
        (trial.id, "number 3", "done", 0.93),
        ("b", "number 5", "done", 0.91),
        ("c", "number 7", "failed", None),
    ]
    (run, _) = status.read_runs(tmp_path)
    assert run.failures == ["number 7 (c): it broke"]
    shutil.rmtree(store.path)
    rows = status.trials_table(tmp_path).rows
    assert [row["test_accuracy"] for row in rows] == [0.925, 0.91, None]


def test_a_damaged_row_is_not_counted_as_done(tmp_path: Path) -> None:
    store, trial = TrialStore(tmp_path / "command" / "trials"), toy(3)
    store.folder(trial).prepare(trial)
    store.folder(trial).finish({"test_accuracy": 0.99})
    make_run(tmp_path, "run", f"id,state,reason\n{trial.id},damaged,its numbers contradict\n")
    (run,) = status.read_runs(tmp_path)
    assert (run.trials["done"], run.trials["damaged"]) == (0, 1)
    assert run.failures == [f"{trial.id}: damaged: its numbers contradict"]
    assert run.highest_test_accuracy is None
    (row,) = status.status_table(tmp_path).rows
    assert row["counts"] == "0/1 done, 1 damaged"


def test_a_trial_that_waits_for_slurm_is_queued_until_its_job_has_sent_a_message(
    tmp_path: Path,
) -> None:
    store, trial = TrialStore(tmp_path / "command" / "trials"), toy(3)
    folder = store.folder(trial)
    folder.prepare(trial)
    messages = folder.path / "messages.jsonl"
    messages.write_text("an earlier attempt\n")

    def seen() -> tuple[object, object]:
        (row,) = status.trials_table(tmp_path).rows
        (run,) = status.status_table(tmp_path).rows
        return row["state"], run["counts"]

    make_run(tmp_path, "run", f"id,state\n{trial.id},missing\n")
    assert seen() == ("missing", "0/1 done, 1 missing")
    size = messages.stat().st_size
    (folder.path / "job.json").write_text(json.dumps({"job": "7_2", "heard_bytes": size}))
    assert seen() == ("queued, job 7_2", "0/1 done, 1 queued")
    folder.environment.write_text("{}")  # trained here since then
    os.utime(folder.environment, ns=(0, (folder.path / "job.json").stat().st_mtime_ns + 1))
    assert seen() == ("missing", "0/1 done, 1 missing")
    folder.environment.unlink()
    with messages.open("a") as file:
        file.write('{"kind": "started"}\n')
    assert seen() == ("missing", "0/1 done, 1 missing")
    for unreadable in ("[]", "{}", "<<<<<<< HEAD"):
        (folder.path / "job.json").write_text(unreadable)
        assert seen() == ("missing", "0/1 done, 1 missing")


def test_a_finished_run_that_is_being_extended_is_not_complete(finished: Path) -> None:
    run = finished / "command/run"
    (run / "summary.json").write_text(json.dumps({"status": "complete"}))
    (run / STAGING).mkdir()
    (run / STAGING / "trials.json").write_text((run / "trials.json").read_text())
    (found,) = status.read_runs(finished)
    assert found.status == "not finished"
    (run / "summary.json").unlink()
    shutil.rmtree(run / STAGING)


def test_a_run_without_trials_is_running_while_a_process_writes_it(tmp_path: Path) -> None:
    run = tmp_path / "sentiment-train/mine"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    lock = Lock(run / ".lock")
    assert lock.acquire()
    (found,) = status.read_runs(tmp_path)
    assert found.status == "running"
    lock.release()
    (found,) = status.read_runs(tmp_path)
    assert found.status == "not finished"


def test_reading_writes_nothing(finished: Path) -> None:
    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in finished.rglob("*")}

    before = files()
    status.status_table(finished)
    status.trials_table(finished)
    assert files() == before


def test_trials_that_only_a_run_folder_has_are_exported_too() -> None:
    reference = Path(__file__).parents[2] / "results/reference"
    curves = [curve for curve in export.read_curves(reference) if curve.project == "vit-sweep"]
    runs = [json.loads(path.read_text()) for path in reference.glob("vit-sweep/*/summary.json")]
    assert len(curves) >= 15 * 3  # of the standard grid alone
    assert len({curve.name for curve in curves}) == len(curves)
    assert len(runs) > 1
    for curve in curves:
        assert {"layers", "heads", "seed"} <= curve.config.keys()
        assert [step for step, _ in curve.points] == list(range(len(curve.points)))
        assert "valid_accuracy" in curve.points[0][1]
        assert "seed" not in curve.points[0][1]


def test_copies_of_a_trial_with_other_numbers_are_exported_under_their_runs_names(
    tmp_path: Path,
) -> None:
    for name, accuracy in (("ann", 0.5), ("bob", 0.6), ("copy of ann", 0.5), ("dan", 0.6)):
        line = {"trial": "abc", "seed": 0, "epoch": 0, "valid_accuracy": accuracy}
        run = make_run(tmp_path, name, "id,state\nabc,done\n")
        (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    curves = {curve.name: curve.points for curve in export.read_curves(tmp_path)}
    assert curves == {
        "abc": [(0, {"valid_accuracy": 0.5})],
        "bob/abc": [(0, {"valid_accuracy": 0.6})],
    }


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_is_exported(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # a second export replaces the first
        export.export("tensorboard", finished, tmp_path / "tb")
    read = EventAccumulator(str(tmp_path / "tb" / "command" / DONE.id))
    read.Reload()
    events = read.Scalars("valid_accuracy")
    assert [event.step for event in events] == [0, 1, 2]
    assert [event.value for event in events] == pytest.approx([0.5, 0.6, 0.7])


@pytest.mark.filterwarnings("ignore")
def test_trackio_reads_what_is_exported(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setitem(os.environ, "TRACKIO_DIR", "")
    for _ in range(2):
        export.export("trackio", finished, tmp_path / "trackio")
    import trackio

    (run,) = trackio.Api().runs("command")
    assert run.name == DONE.id
    logs = trackio.sqlite_storage.SQLiteStorage.get_logs("command", DONE.id)
    assert [log["valid_accuracy"] for log in logs] == pytest.approx([0.5, 0.6, 0.7])
    assert [log["step"] for log in logs] == [0, 1, 2]


def test_a_tool_that_is_unknown_or_not_installed_is_one_line(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="unknown; choices: tensorboard, trackio"):
        export.export("wandb", finished, tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        ConfigError, match=r"not installed; in the checkout: pip install -e '\.\[tensorboard\]'"
    ):
        export.export("tensorboard", finished, tmp_path)
    with pytest.raises(OutputError, match="no trial or run there has metrics"):
        export.export("trackio", tmp_path, tmp_path)


def test_reference_runs_name_the_processor_or_the_gpu_that_trained_them() -> None:
    runs = status.read_runs(Path(__file__).parents[2] / "results/reference")
    machines = {run.name: set(run.trained_on) for run in runs if run.command == "vit-sweep"}
    assert machines["standard"] == {"Intel Xeon Processor with AMX"}
    assert machines["standard-gpu"] == {"NVIDIA H200"}

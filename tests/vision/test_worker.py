"""What a worker process of the sweep holds."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwcli import resources
from hwcli.native import compiler
from hwcli.sweep.store import TrialFolder
from hwcli.training.progress import Progress
from hwcli.vision import training, worker
from hwcli.vision.places import TrainedOn, notes_on_software
from tests.vision.made_up import made_up_images, trial_config

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_worker_imports_no_plotting_and_no_statistics() -> None:
    code = "import sys, hwcli.vision.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "torch" in loaded
    assert not loaded & {"matplotlib", "scipy", "pandas", "pyarrow", "datasets", "sklearn"}


@pytest.mark.parametrize(("more", "said"), [({}, ""), ({"bfloat16": "emulated"}, "bfloat16 is em")])
def test_a_gpu_without_bfloat16_is_told_in_the_log(
    more: dict[str, Any],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = {"cpu": "Intel X", "gpu": "Tesla V100", **more}
    monkeypatch.setattr(training, "describe_environment", lambda config, **_: place)
    monkeypatch.setattr(training, "load_images", lambda path, config: made_up_images(101))
    result = worker.run_trial(trial_config(epochs=1), TrialFolder(tmp_path), lambda progress: None)
    assert capsys.readouterr().out[:14] == said
    assert result["trained_on"].get("emulated_bfloat16", False) == bool(more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialFolder:
    monkeypatch.setattr(training, "load_images", lambda path, config: made_up_images(101))
    return TrialFolder(tmp_path)


def train(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch, *places: dict[str, Any]
) -> TrainedOn:
    """Train one epoch at each place, and what is left at the last one."""

    def stop(progress: Progress) -> None:
        if progress.finished is not None:
            raise KeyboardInterrupt

    def train_at(place: dict[str, Any], on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        monkeypatch.setattr(training, "describe_environment", lambda config, **_: dict(place))
        return worker.run_trial(trial_config(epochs=3), folder, on_progress)

    for place in places[:-1]:
        with pytest.raises(KeyboardInterrupt):
            train_at(place, stop)
    return TrainedOn.model_validate(train_at(places[-1], lambda progress: None)["trained_on"])


INTEL, AMD = {"cpu": "Intel X"}, {"cpu": "AMD Y"}


def test_a_trial_that_is_resumed_on_another_machine_names_both(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(folder, monkeypatch, INTEL, AMD, AMD, AMD).machine == "AMD Y, partly on Intel X"
    folder.checkpoint.unlink()
    assert train(folder, monkeypatch, AMD).machine == "AMD Y"


def test_a_trial_that_is_resumed_with_other_threads_says_so_of_its_time(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = ({**AMD, "threads": number} for number in (1, 2))
    faster = train(folder, monkeypatch, one, two, two)
    assert (faster.partly_on, faster.num_threads) == ("AMD Y", 2)
    assert faster.timed_on == "AMD Y with 2 threads, partly on AMD Y"
    folder.checkpoint.unlink()
    slower = train(folder, monkeypatch, two, one, one)
    assert slower.timed_on == "AMD Y, partly on AMD Y with 2 threads"


@pytest.mark.skipif(compiler.reason_against() is not None, reason="no compiler here")
@pytest.mark.parametrize(
    ("cores", "more", "expected"),
    [
        (8, {}, 3),
        (2, {}, 2),  # a job that got fewer than it was to have
        (8, {"model": {"width": 24, "mlp_width": 17, "dropout": 0.1}}, 1),
        (8, {"kernels": "torch"}, 1),
    ],
)
def test_a_trial_trains_with_the_threads_that_it_is_given_and_can_use(
    cores: int,
    more: dict[str, Any],
    expected: int,
    folder: TrialFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "num_cores", lambda: cores)
    seen = set()
    batch_loss = training.batch_loss

    def watched(model: Any, batch: Any, **options: Any) -> Any:
        seen.add(compiler.num_threads())
        return batch_loss(model, batch, **options)

    monkeypatch.setattr(training, "batch_loss", watched)
    config = trial_config(**{"epochs": 1, "kernels": "compiled", **more})
    result = worker.run_trial(config, folder, lambda progress: None, num_threads=3)
    assert seen == {expected}
    assert TrainedOn.model_validate(result["trained_on"]).num_threads == expected


def test_a_trial_whose_checkpoint_is_damaged_is_of_the_machine_that_trains_it_anew(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(folder, monkeypatch, INTEL)
    folder.checkpoint.write_bytes(b"x")
    assert train(folder, monkeypatch, AMD).machine == "AMD Y"


def test_a_trial_that_is_resumed_by_other_software_names_both(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = ({**AMD, "commit": "c0ffee", "code": code} for code in ("a", "b"))
    mixed = train(folder, monkeypatch, first, second, second)
    before = "commit c0ffee, torch unknown, code a"
    assert (mixed.machine, mixed.partly_by) == ("AMD Y", before)
    assert f"other software trained some of its epochs: {before}\n" in capsys.readouterr().out
    (told,) = notes_on_software([mixed], [], second)
    assert "trained by other software: 1 of them (commit c0ffee, torch unknown, partly by " in told
    folder.checkpoint.unlink()
    alike = train(folder, monkeypatch, second, second)
    assert "partly_by" not in alike.model_dump()
    assert notes_on_software([alike], [], second) == []
    assert capsys.readouterr().out == ""


def test_software_is_other_code_or_another_torch() -> None:
    def place(code: str, torch: str, **more: Any) -> TrainedOn:
        environment = {"code": code, "versions": {"torch": torch}, **more}
        return TrainedOn.from_environment(environment)

    old, new = "unknown commit, torch 2.11, code a", "unknown commit, torch 2.14, code a"
    assert place("a", "2.11").resumed_by(place("a", "2.14")) == old
    assert place("a", "2.14").resumed_by(place("a", "2.14")) is None
    # By the one that began it again: only the one in between is another.
    assert place("a", "2.14", partly_by=old).resumed_by(place("a", "2.11")) == new
    third = place("b", "2.14")
    assert place("a", "2.14", partly_by=old).resumed_by(third) == f"{old} and {new}"
    # The same code under another commit is no other software.
    again = place("b", "2.14", partly_by="commit c0ffee, torch 2.14, code a")
    assert (
        again.resumed_by(place("a", "2.14", commit="decade"))
        == "unknown commit, torch 2.14, code b"
    )
    (told,) = notes_on_software([], [place("a", "2.11")], {"versions": {"torch": "2.14"}})
    assert told.startswith("begun by other software: 1 trial (unknown commit, torch 2.11; now ")

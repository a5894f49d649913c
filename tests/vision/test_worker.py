"""What a worker process of the sweep holds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwcli.sweep.store import TrialFolder
from hwcli.training.progress import Progress
from hwcli.vision import training, worker
from hwcli.vision.cells import TrainedOn
from tests.vision.made_up import made_up_images, trial_config


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
    monkeypatch.setattr(training, "describe_environment", lambda config: place)
    monkeypatch.setattr(training, "load_images", lambda path, config: made_up_images(101))
    result = worker.run_trial(trial_config(epochs=1), TrialFolder(tmp_path), lambda progress: None)
    assert capsys.readouterr().out[:14] == said
    assert result["trained_on"].get("emulated_bfloat16", False) == bool(more)


def test_a_trial_that_is_resumed_on_another_machine_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "load_images", lambda path, config: made_up_images(101))
    folder = TrialFolder(tmp_path)

    def train(machine: str, *, stopped: bool = False) -> TrainedOn:
        def on_progress(progress: Progress) -> None:
            if stopped and progress.finished is not None:
                raise KeyboardInterrupt

        monkeypatch.setattr(training, "describe_environment", lambda config: {"cpu": machine})
        result = worker.run_trial(trial_config(epochs=3), folder, on_progress)
        return TrainedOn.model_validate(result["trained_on"])

    for machine in ("Intel X", "AMD Y", "AMD Y"):
        with pytest.raises(KeyboardInterrupt):
            train(machine, stopped=True)
    assert train("AMD Y").machine == "AMD Y, partly on Intel X"
    folder.checkpoint.unlink()
    assert train("AMD Y").machine == "AMD Y"

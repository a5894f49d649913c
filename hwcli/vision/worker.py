"""What a worker process does for one trial of the grid.

Every worker holds its own copy of what it imports, so nothing here draws or tests hypotheses.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from hwcli.output.files import read_json, write_atomic, write_json
from hwcli.training.progress import Progress
from hwcli.vision import training
from hwcli.vision.cells import TrainedOn, note_on_emulation
from hwcli.vision.recipe import TrialConfig
from hwcli.vision.record import one_trials_predictions


class TrialFiles(Protocol):
    """Where a trial's files go: the sweep's ``TrialFolder``."""

    checkpoint: Path
    predictions: Path
    environment: Path

    def write_epochs(self, epochs: list[dict[str, Any]]) -> None:
        """Keep the figures of every epoch."""


def run_trial(
    config: TrialConfig, folder: TrialFiles, on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    """Train one network, test it once, and keep what it leaves in its trial's folder."""
    # The trials of a run may come from several machines, and from earlier commits.
    environment = training.describe_environment(config)
    place = TrainedOn.from_environment(environment)
    if place.emulated_bfloat16:
        print(note_on_emulation([place.machine]), flush=True)
    if others := _trained_before(folder, place):
        environment["partly_on"] = others
        place = TrainedOn.from_environment(environment)
    write_json(folder.environment, environment)
    output = training.run_trial(config, folder.checkpoint, on_progress)
    write_atomic(folder.predictions, one_trials_predictions(output.predictions))
    folder.write_epochs([asdict(epoch) for epoch in output.history])
    result = output.result.model_copy(update={"trained_on": place})
    return result.model_dump(mode="json")


def _trained_before(folder: TrialFiles, here: TrainedOn) -> str | None:
    """Name the other machines that trained a checkpoint which is resumed here."""
    if not folder.checkpoint.exists():
        return None
    with suppress(OSError, ValueError):
        return TrainedOn.from_environment(read_json(folder.environment)).resumed_on(here)
    return None

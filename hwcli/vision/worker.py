"""What a worker process does for one trial of the grid.

Every worker holds its own copy of what it imports, so nothing here draws or tests hypotheses.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from hwcli import resources
from hwcli.output.files import read_mapping, write_atomic, write_json
from hwcli.sweep.store import TrialFolder
from hwcli.training.progress import Progress
from hwcli.vision import training
from hwcli.vision.places import TrainedOn, note_on_emulation
from hwcli.vision.recipe import TrialConfig
from hwcli.vision.record import one_trials_predictions


def run_trial(
    config: TrialConfig,
    folder: TrialFolder,
    on_progress: Callable[[Progress], None],
    *,
    num_threads: int = 1,
) -> dict[str, Any]:
    """Train one network, test it once, and keep what it leaves in its trial's folder.

    Args:
        config: the network, the recipe and the seed.
        folder: of the trial.
        on_progress: as in :func:`hwcli.vision.training.train_and_test`.
        num_threads: to use at the most.
    """
    # A cluster's job may have got fewer cores.
    num_threads = min(num_threads, training.most_threads(config), resources.num_cores())
    # The trials of a run may come from several machines, and from earlier commits.
    environment = _environment(config, folder, num_threads)
    place = TrainedOn.from_environment(environment)
    if place.emulated_bfloat16:
        print(note_on_emulation([place.machine]), flush=True)
    if place.partly_by is not None:
        print(f"other software trained some of its epochs: {place.partly_by}", flush=True)
    write_json(folder.environment, environment)
    output = training.train_and_test(
        config, folder.checkpoint, on_progress, num_threads=num_threads
    )
    write_atomic(folder.predictions, one_trials_predictions(output.predictions))
    folder.write_epochs([asdict(epoch) for epoch in output.history])
    result = output.result.model_copy(update={"trained_on": place})
    return result.model_dump(mode="json")


def _environment(config: TrialConfig, folder: TrialFolder, num_threads: int) -> dict[str, Any]:
    """Return what trains a network: this machine and code, with those that began it.

    A network that was trained to its end, and is only tested again, keeps what trained it.
    """
    here = training.describe_environment(config, num_threads=num_threads)
    begun = training.restored_network(config, folder.checkpoint)
    there = read_mapping(folder.environment)
    if begun is None or not there:
        return here
    _, num_finished = begun
    if num_finished == config.epochs:
        return there
    with suppress(ValueError):
        before, now = TrainedOn.from_environment(there), TrainedOn.from_environment(here)
        if machines := before.resumed_on(now):
            here["partly_on"] = machines
        if software := before.resumed_by(now):
            here["partly_by"] = software
    return here

"""What a sweep leaves in its run folder and shows, and what of it must not be lost."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hwcli.config import find_differences
from hwcli.errors import OutputError
from hwcli.output import terminal
from hwcli.output.files import short_digest
from hwcli.output.run_folder import RunFolder
from hwcli.output.units import counted
from hwcli.sweep.runner import Outcome
from hwcli.vision import closeup, pictures, tables
from hwcli.vision.grid import show
from hwcli.vision.recipe import every_setting
from hwcli.vision.record import SweepRecord, record_files
from hwcli.vision.summary import VitSweepSummary

# Each may be ``auto``: then the machine decides.
MACHINE_SETTINGS = ("device", "precision", "kernels")
NAMED_DIFFERENCES = 3  # of a refusal

Identity = Mapping[str, Any]
"""All that decides a trial's numbers, nested."""


def refuse_other_networks(
    folder: RunFolder, known: SweepRecord, own: Mapping[str, Identity]
) -> None:
    """Make sure that a run keeps its networks, where this machine would train others in its place.

    Args:
        folder: of the run.
        known: what it holds.
        own: the trials that this machine would train, by id.

    Raises:
        OutputError: they are others, such as those of another device where that is ``auto``.
    """
    lost = [trial for trial in known.done().values() if trial.id not in own]
    if not lost or folder.may_replace:
        return
    there = lost[0].identity
    nearest = min(own.values(), key=lambda identity: len(find_differences(there, identity)))
    differences = find_differences(_every_setting(there), _every_setting(nearest))
    cures = ["choose another name with --name", "or replace that run with --replace"]
    if differences and differences.keys() <= {f"config.{key}" for key in MACHINE_SETTINGS}:
        cures.insert(0, f"add to it by {_set_flags(there)}, where this machine can")
    what = [_spell(key, *both) for key, both in list(differences.items())[:NAMED_DIFFERENCES]]
    if len(differences) > len(what):
        what.append(f"and {len(differences) - len(what)} more")
    raise OutputError(
        f"{folder.path} is a run of other networks "
        f"({', '.join(what) or 'settings that are spelled otherwise'}); {'; '.join(cures)}"
    )


def note_on_machine_settings(
    known: SweepRecord, own: Mapping[str, Identity], has_begun: Callable[[str], bool]
) -> str | None:
    """Say that trials of a run were begun with another device, precision or kernels.

    The run is not refused: the store keeps those trials, and an unattended run whose machine lost
    its GPU should go on, on the CPU.

    Args:
        known: what the run's folder holds.
        own: the trials that this machine would train, by id.
        has_begun: tells whether the store has something of the trial of an id.
    """
    here = next(iter(own.values()))["config"]
    begun = [
        trial.identity
        for trial in known.trials
        if trial.id not in own
        and short_digest(_computed_as(trial.identity, here)) in own
        and has_begun(trial.id)
    ]
    if not begun:
        return None
    there = begun[0]["config"]
    differ = [key for key in MACHINE_SETTINGS if there[key] != here[key]]
    before, now = (", ".join(f"{key} {config[key]}" for key in differ) for config in (there, here))
    were = "was" if len(begun) == 1 else "were"
    return (
        f"{counted(len(begun), 'trial')} of this run {were} begun with {before}, and would begin "
        f"again here with {now}; {_set_flags(begun[0])} goes on with what is there, where this "
        "machine can."
    )


def _computed_as(identity: Identity, config: Mapping[str, Any]) -> Identity:
    """Return what a trial would be if it were computed as another config has it."""
    return {
        **identity,
        "config": {**identity["config"], **{key: config[key] for key in MACHINE_SETTINGS}},
    }


def _set_flags(identity: Identity) -> str:
    # All three: what is left out would be chosen anew, by the device that is named.
    return " ".join(f"--set {key}={identity['config'][key]}" for key in MACHINE_SETTINGS)


def _every_setting(identity: Identity) -> Identity:
    return {**identity, "config": every_setting(identity["config"])}


def _spell(key: str, there: Any, here: Any) -> str:
    if key == "data":  # a digest
        return "other data"
    return f"{key.removeprefix('config.')} {show(there)} there, {show(here)} here"


def write(
    summary: VitSweepSummary,
    record: SweepRecord,
    folder: RunFolder,
    environment: Mapping[str, Any],
) -> None:
    """Write tables, trials, predictions and epochs: all that a reader of the folder needs."""
    grid, cells = tables.grid_table(summary), tables.cells_table(summary)
    folder.write("table.csv", cells.to_csv())
    folder.write("table.md", grid.to_markdown() + "\n" + cells.to_markdown())
    for name, content in record_files(record).items():
        folder.write(name, content)
    places = [place.model_dump() for place in summary.trained_on]
    folder.write("env.json", json.dumps({**environment, "trained_on": places}, indent=2) + "\n")
    if summary.comparison is None:
        folder.discard("compare.md", "compare.csv")
    else:
        folder.write_table(tables.comparison_table(summary.comparison, summary.axes), "compare")


def draw(
    summary: VitSweepSummary,
    record: SweepRecord,
    network: closeup.TrainedNetwork | None,
    folder: RunFolder,
    earlier: VitSweepSummary | None,
) -> None:
    """Draw the grid and a network of the best cell; remove pictures that no longer fit.

    Args:
        summary: what the sweep found.
        record: its trials.
        network: of the best cell; None where no cell is done.
        folder: the run folder.
        earlier: what the run found that the folder held before. Pictures of the same cell's weights
            are kept where the weights are not.
    """
    figures = pictures.draw_grid(summary, record.histories())
    best, kept = summary.best, set[str]()
    if best is not None and network is not None:
        figures |= closeup.draw_network(network)
        is_same = earlier is not None and earlier.best is not None and earlier.best.key == best.key
        there = {x for x in closeup.FROM_WEIGHTS if (folder.path / f"{x}.png").exists()}
        if is_same and there and not figures.keys() & set(closeup.FROM_WEIGHTS):
            kept = there
            old = " and ".join(f"{name}.png" for name in sorted(there))
            is_damaged = network.checkpoint is not None and network.checkpoint.exists()
            lack = "a damaged" if is_damaged else "no"
            terminal.log(f"{lack} checkpoint of {network.who}: keeping the old {old}")
    for name, figure in figures.items():
        folder.save_figure(name, figure)
    names = {*pictures.GRID_NAMES, *closeup.NAMES} - figures.keys() - kept
    folder.discard(*(f"{name}.png" for name in sorted(names)))


def show_summary(summary: VitSweepSummary, outcomes: Sequence[Outcome], folder: RunFolder) -> None:
    """Print the tables, and what failed with the command that tries it again."""
    terminal.show(tables.cells_table(summary))
    terminal.show(tables.grid_table(summary))
    if summary.comparison is not None:
        terminal.show(tables.comparison_table(summary.comparison, summary.axes))
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        terminal.log(f"failed: {outcome.trial}: {outcome.reason} (log: {outcome.log})")
    if failed:
        config, out = folder.path / "config.yaml", folder.path.parent.parent
        where = shlex.join(["--config", str(config), "--out", str(out)])
        terminal.log(f"try them again: hw2 {folder.command} {where} --retry-failed")

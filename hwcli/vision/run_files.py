"""What a sweep leaves in its run folder besides its summary, and what of it must not be lost."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from hwcli.errors import OutputError
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder
from hwcli.vision import closeup, pictures, tables
from hwcli.vision.recipe import TrialConfig
from hwcli.vision.record import SweepRecord, record_files
from hwcli.vision.summary import VitSweepSummary

HOW = ("device", "precision", "kernels")


def refuse_to_lose(
    folder: RunFolder, known: SweepRecord, ids: Collection[str], here: TrialConfig
) -> None:
    """Make sure that a run keeps its networks, where this machine would train others in its place.

    Args:
        folder: of the run.
        known: what it holds.
        ids: of the trials that this machine would train.
        here: one of them.

    Raises:
        OutputError: the same settings mean another device, precision or kernels here.
    """
    lost = [trial for trial in known.done().values() if trial.id not in ids]
    if not lost or folder.may_replace:
        return
    there, own = lost[0].identity["config"], here.model_dump(include=set(HOW))
    differ = [key for key in HOW if there[key] != own[key]]
    cures = ["choose another name with --name", "or replace that run with --replace"]
    if differ:
        settings = " ".join(f"--set {key}={there[key]}" for key in differ)
        cures.insert(0, f"add to it by {settings}, where this machine can")
    what = ", ".join(f"{key} {there[key]} there, {own[key]} here" for key in differ)
    raise OutputError(
        f"{folder.path} is a run of other networks ({what or 'other data'}); {'; '.join(cures)}"
    )


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
    network: closeup.Network | None,
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

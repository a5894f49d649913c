"""Question 3: the Vision Transformer, its recipe, the grid of accuracies, and what it supports."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from hwcli.config import default_config_path, read_file
from hwcli.native.encoder_layer import MOST_TOKENS
from hwcli.output.tables import Column, Table
from hwcli.output.units import counted
from hwcli.report.cells import Cell
from hwcli.report.checks import percent
from hwcli.report.display import TEXT_WIDTH_IN, png_width_in
from hwcli.report.runs import Run, Runs, mark_of, named, newest
from hwcli.report.templates import render
from hwcli.vision import network_pictures, pictures
from hwcli.vision.augmentation import AugmentationConfig
from hwcli.vision.cells import Cell as GridCell
from hwcli.vision.fashion_mnist import IMAGE_SIDE
from hwcli.vision.grid import HEADS, LAYERS
from hwcli.vision.grid_statistics import differing_pairs
from hwcli.vision.recipe import DataConfig, with_point
from hwcli.vision.record import read_record
from hwcli.vision.summary import VitSweepSummary
from hwcli.vision.tables import grid_table
from hwcli.vision.vit import ViTConfig, num_patches, num_tokens

COMMAND = "vit-sweep"
ASKED = set(itertools.product(range(4, 9), range(2, 5)))
MAIN = "standard"

# As wide as a page's text: printed, a figure's type is as large as it is drawn.
WIDTH_IN = 6.4


def used(runs: Runs) -> list[Run]:
    """Return the run that is shown: the grid that was asked for."""
    grid = choose(runs)
    return [] if grid is None else [grid]


def choose(runs: Runs) -> Run | None:
    """Return the run named ``standard``, else the newest, of those with every cell asked for."""
    whole = runs.of(COMMAND, lambda run: _num_asked_cells(run) == len(ASKED))
    own = [run for run in whole if settings(run)["model"]["attention"] == "softmax"]
    return named(MAIN, whole) or newest(own or whole)


def settings(run: Run) -> dict[str, Any]:
    """Return the settings of every trial of a run: its config with the grid's axes of one value."""
    axes = run.read(VitSweepSummary).axes
    return with_point(
        dict(run.config),
        {a.field: a.values[0] for a in axes if not a.varies and a.field not in (LAYERS, HEADS)},
    )


def _num_asked_cells(run: Run) -> int:
    cells = [cell for cell in run.read(VitSweepSummary).cells if cell.status == "done"]
    if _more_axes(run):
        return 0
    return len(ASKED & {(cell.point[LAYERS], cell.point[HEADS]) for cell in cells})


def _more_axes(run: Run) -> list[str]:
    axes = run.read(VitSweepSummary).axes
    return [a.name for a in axes if a.varies and a.field not in (LAYERS, HEADS)]


def not_shown(runs: Runs) -> dict[str, str]:
    """Name the author's runs where no grid of theirs is shown, and say what they lack."""
    return {
        run.id: f"it also varies {' and '.join(more)}"
        if (more := _more_axes(run))
        else f"it has {_num_asked_cells(run)} of the {len(ASKED)} cells"
        for run in runs.not_shown(COMMAND, used(runs))
    }


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 3."""
    run = choose(runs)
    config = read_file(default_config_path(COMMAND)).values if run is None else settings(run)
    model = ViTConfig.model_validate(config["model"])
    values: dict[str, Any] = {
        "grid": run is not None,
        "command": _command(MAIN),
        "quick": _command("quick"),
        "home": "hwcli.vision.training",
        "side": IMAGE_SIDE,
        "patch": model.patch_size,
        "tokens": num_patches(model.patch_size),
        "width": model.width,
        "attention": model.attention,
        "pooling": model.pooling,
        "pooled": POOLED[model.pooling],
        "optimizer": config["optimizer"]["kind"],
        "num_cells": len(ASKED),
        "head_width": _head_width(model),
        "kernels": _kernels(run),
        "changes": changes_to_images(
            config["augmentation"], num_patches(model.patch_size), config["epochs"]
        ),
        "rollout": False,
        "mark": mark_of([] if run is None else [run]),
        "not_shown": not_shown(runs),
    }
    if run is not None:
        values |= {
            "folder": run.folder,
            "num_cells": len(_tested_cells(run)),
            "sentence": _sentence(run),
            "how_chosen": _how_chosen(run),
            "supported": _supported(run),
            "rollout": _can_be_read(run.picture("rollout")),
        }
    return render("q3", **values)


def changes_to_images(config: Mapping[str, Any], patches: int, epochs: int) -> str:
    """Say what a recipe does to training images, and which functions do it."""
    said = []
    if config["flip"]:
        said.append("It mirrors half of them; the next epoch mirrors the other half.")
    if pixels := config["max_shift"]:
        said.append(f"`shift` moves each by up to {counted(pixels, 'pixel')}.")
    if share := config["erase_probability"]:
        said.append(f"`erase` fills a rectangle with noise in {share:.0%} of them.")
    if share := config["cutmix_probability"]:
        said.append(
            f"`cutmix` takes a rectangle of another image, and its label likewise, in {share:.0%}."
        )
    # A training of one epoch has no first half: it sees all patches.
    kept = AugmentationConfig.model_validate(config).num_kept(patches, 0, epochs)
    if kept < patches:
        said.append(
            f"In the first half of the epochs the network sees {kept} of each image's {patches} "
            "patches: `draw_patches` draws them anew each time."
        )
    return " ".join(said)


# The classifier norms the mean of the tokens, not each token.
POOLED = {
    "mean": r"\mathrm{LN}\Bigl(\tfrac1N \sum_{i=1}^{N} (X_L)_i\Bigr)",
    "class": r"\mathrm{LN}\bigl((X_L)_0\bigr)",
}


def _kernels(run: Run | None) -> str:
    if run is None:
        return ""
    found = run.read(VitSweepSummary)
    if found.kernels != "compiled":
        return "The blocks are computed by torch, exactly as shown."
    model = ViTConfig.model_validate(settings(run)["model"])
    for is_unfit, limit, others in (
        (model.dropout > 0, "has no dropout", "blocks with dropout"),
        (num_tokens(model) > MOST_TOKENS, f"takes at most {MOST_TOKENS} tokens", "longer inputs"),
    ):
        if is_unfit:
            return (
                f"The compiled C++ kernel of `hwcli/native/` {limit}. Torch computes {others}, "
                "exactly as shown."
            )
    precision = "" if found.note_on_precision else f" in {found.precision}"
    sentences = [
        f"This run trained{precision} with the compiled C++ kernel of "
        "`hwcli/native/`: `Block.forward` above calls it in place of its last two lines, and it "
        "computes the same block in one pass.",
        found.note_on_precision or "",
    ]
    return " ".join(filter(None, sentences))


def _can_be_read(picture: Path | None) -> bool:
    """Tell whether a picture fits a page as it is: shrunk to it, its type is too small to read."""
    return picture is not None and png_width_in(picture.read_bytes()) <= TEXT_WIDTH_IN


def _head_width(model: ViTConfig) -> str:
    if model.head_width is None:
        return f"The width {model.width} divides by every number of heads, so no dimension is lost."
    return (
        f"A head has width {model.head_width} for every number of heads, so the width never has to "
        "be divided unevenly; more heads mean more parameters."
    )


def _command(name: str) -> str:
    return f"hw2 vit-sweep --layers 4..8 --heads 2..4 --preset {name}"


def _how_chosen(run: Run) -> str:
    valid = settings(run)["data"]["valid_size"]
    return (
        f"{valid:,} of the training images are set aside for validation, by which the best cell is "
        "chosen; the official test images are read once per trained network, at the end."
    )


def _supported(run: Run) -> str:
    """Say what the numbers allow, from the summary: the best, the spread, and its noise."""
    found = run.read(VitSweepSummary)
    cells = _tested_cells(run)
    best = best_cell(run)
    lowest, highest = (pick(cells, key=_test_accuracy) for pick in (min, max))
    spread = _test_accuracy(highest) - _test_accuracy(lowest)
    sentences = [
        f"Validation selects {found.describe(best.point)}; its test accuracy is {_accuracy(best)}. "
        f"Over the {len(cells)} cells it goes from {percent(_test_accuracy(lowest))} "
        f"({found.describe(lowest.point)}) to {percent(_test_accuracy(highest))} "
        f"({found.describe(highest.point)}): {100 * spread:.2f} points in all."
    ]
    if len(found.seeds) > 1:
        sentences.append(_pairs(found, cells))
    if found.conclusion:
        sentences.append(found.conclusion)
    return " ".join(sentences)


def _pairs(found: VitSweepSummary, cells: list[GridCell]) -> str:
    """Say which cells differ significantly, of all pairs."""
    number = math.comb(len(cells), 2)
    differing = differing_pairs(cells)
    if not differing:
        return f"No two of them differ significantly (Tukey's range over all {number} pairs)."
    named = [
        f"{found.describe(better.point)} from {found.describe(worse.point)}"
        for better, worse in differing[:2]
    ]
    return (
        f"Of all {number} pairs of cells {len(differing)} "
        f"{'differs' if len(differing) == 1 else 'differ'} significantly (Tukey's range): "
        f"{'; '.join(named)}{'; and others' if differing[2:] else ''}."
    )


def best_cell(run: Run) -> GridCell:
    """Return the cell that validation selected."""
    best = run.read(VitSweepSummary).best
    assert best is not None  # a run that is complete has trained all of its networks
    return best


def _tested_cells(run: Run) -> list[GridCell]:
    cells = run.read(VitSweepSummary).cells
    return [cell for cell in cells if cell.test_accuracy_mean is not None]


def _test_accuracy(cell: GridCell) -> float:
    return cell.test_accuracy_mean or 0.0


def _accuracy(cell: GridCell) -> str:
    error = cell.test_accuracy_se if cell.test_accuracy_std is None else cell.test_accuracy_std
    return f"{100 * _test_accuracy(cell):.2f} ± {100 * (error or 0.0):.2f} %"


def _sentence(run: Run) -> str:
    """Say what the accuracies support, in one sentence."""
    found = run.read(VitSweepSummary)
    cells = _tested_cells(run)
    accuracies = [_test_accuracy(cell) for cell in cells]
    others = len(cells) - 1
    similar = sum(cell.versus_best == "similar" for cell in cells)
    differing = {
        others: f"none of the other {others} is",
        0: f"each of the other {others} is",
        1: f"1 of the other {others} is not",
    }.get(similar, f"{similar} of the other {others} are not")
    what = "mean accuracies lie" if len(found.seeds) > 1 else "accuracies lie"
    return (
        f"The {len(cells)} {what} between {percent(min(accuracies))} and "
        f"{percent(max(accuracies))}. Compared with the cell that validation selected (*), "
        f"{differing} significantly different."
    )


# --------------------------------------------------------------------------------------
# What the notebook shows


def recipe_table(run: Run) -> Table:
    """Return what every trial of a run shares."""
    config = settings(run)
    model, optimizer, augmentation = config["model"], config["optimizer"], config["augmentation"]
    erased, mixed = augmentation["erase_probability"], augmentation["cutmix_probability"]
    whole = num_patches(model["patch_size"])
    early = AugmentationConfig.model_validate(augmentation).num_kept(whole, 0, config["epochs"])
    rates = f"{optimizer['learning_rate']:g}"
    if optimizer["kind"] == "muon":
        rates = (
            f"{optimizer['muon_learning_rate']:g} on the blocks' matrices, {rates} by AdamW "
            "on the rest"
        )
    data = DataConfig.model_validate(config["data"])
    rows = {
        "patches": f"{model['patch_size']} x {model['patch_size']}",
        "width; hidden width of the MLP": f"{model['width']}; {model['mlp_width']}",
        "width of a head": model["head_width"] or "width / heads",
        "attention; pooling": f"{model['attention']}; {model['pooling']}",
        "epochs; batch size": f"{config['epochs']}; {config['batch_size']}",
        "optimiser; learning rate": f"{optimizer['kind']}; {rates}",
        "schedule": f"{optimizer['warmup_fraction']:.0%} warm-up, then linear to 0",
        "weight decay; label smoothing": f"{optimizer['weight_decay']:g}; "
        f"{config['label_smoothing']:g}",
        "augmentation": ("flips" if augmentation["flip"] else "no flips")
        + f", shifts of up to {augmentation['max_shift']} pixels"
        + (f", a rectangle of noise in {erased:.0%} of the images" if erased else "")
        + (f", a rectangle of another image in {mixed:.0%}" if mixed else "")
        + (f", {early} of the {whole} patches in the first half" if early < whole else ""),
        "training images": f"{data.num_train:,}",
        "seeds": ", ".join(map(str, config["seeds"])),
        "precision": run.read(VitSweepSummary).precision,
    }
    return Table(
        title="The recipe",
        columns=[Column("what", "what"), Column("value", "value")],
        rows=[{"what": what, "value": str(value)} for what, value in rows.items()],
    )


def grid_table_of(run: Run) -> Table:
    """Return the table that the question asks for: layers down, heads across, accuracies alone."""
    found = run.read(VitSweepSummary)
    table = _with_line(grid_table(found), 0)
    # "What this supports" says it in the next paragraph.
    return replace(table, notes=[note for note in table.notes if note != found.conclusion])


def details_table_of(run: Run) -> Table:
    """Return what each network of the grid costs: its parameters and how long it trained."""
    table = _with_line(grid_table(run.read(VitSweepSummary)), 1)
    return replace(table, title="Parameters and training time of each network", notes=())


def _with_line(table: Table, line: int) -> Table:
    """Return a table whose texts keep one of their two lines."""

    def kept(column: Column) -> Column:
        return replace(column, show=lambda value: _line_of(column, value, line))

    return replace(table, columns=[kept(column) for column in table.columns])


def _line_of(column: Column, value: Any, line: int) -> str:
    lines = column.text({column.key: value}).split("\n")
    # What has one line only, the layers and a cell that is not done, stays.
    return lines[min(line, len(lines) - 1)]


def grid_costs(run: Run) -> Figure | None:
    """Draw accuracy against training time and parameters."""
    return pictures.draw_costs(run.read(VitSweepSummary), width=WIDTH_IN, height=2.9)


def confusion(run: Run) -> Figure | None:
    """Draw which classes the selected network mistakes; None where its predictions are not kept."""
    record = read_record(run.path)
    trial = next(trial for trial in record.trials if trial.key == best_cell(run).key)
    predicted = record.predictions.get(trial.id)
    if predicted is None or record.labels is None:
        return None
    return network_pictures.draw_confusion(
        torch.from_numpy(record.labels),
        torch.from_numpy(predicted.label),
        f"{run.read(VitSweepSummary).describe(trial.point)}, seed {trial.seed}",
        width=WIDTH_IN,
        height=3.3,
    )


def grid_curves(run: Run) -> Figure | None:
    """Draw validation accuracy over epochs."""
    summary = run.read(VitSweepSummary)
    return pictures.draw_curves(
        read_record(run.path).histories(),
        summary.axes,
        selected=best_cell(run).point,
        width=WIDTH_IN,
        height=2.8,
    )

"""Question 3: the Vision Transformer, its recipe, the grid of accuracies, and what it supports."""

import itertools
import math
from typing import Any

from matplotlib.figure import Figure

from hwcli.output.tables import Column, Table
from hwcli.report.cells import Cell
from hwcli.report.recurrences import folder_of
from hwcli.report.runs import Run, Runs
from hwcli.report.templates import render
from hwcli.vision import pictures
from hwcli.vision.cells import Cell as GridCell
from hwcli.vision.fashion_mnist import IMAGE_SIDE
from hwcli.vision.record import read_record
from hwcli.vision.summary import VitSweepSummary
from hwcli.vision.tables import grid_table
from hwcli.vision.vit import ViTConfig

COMMAND = "vit-sweep"
ASKED_LAYERS, ASKED_HEADS = range(4, 9), range(2, 5)
MAIN = "standard"

NUM_TEST_IMAGES = 10_000

PICTURES = {
    "confusion": "How the selected network classifies the test images of each class. See: a "
    "row is a true class; bright cells off the diagonal are classes mistaken for each other.",
    "rollout": "Attention rollout of the selected network. See: bright patches matter most for its "
    "answer; 1 means each patch gets an equal share.",
}


def used(runs: Runs) -> list[Run]:
    """Return the run that is shown: the grid that was asked for."""
    grid = choose(runs)
    return [] if grid is None else [grid]


def choose(runs: Runs) -> Run | None:
    """Return the run named ``standard``, else the newest that has every cell asked for."""
    standard = runs.get(COMMAND, MAIN)
    if standard is not None:
        return standard
    whole = [run for run in runs.of(COMMAND) if _has_every_cell(run)]
    own = [run for run in whole if run.config["model"]["attention"] == "softmax"]
    return runs.newest(own or whole)


def _has_every_cell(run: Run) -> bool:
    asked = set(itertools.product(ASKED_LAYERS, ASKED_HEADS))
    done = {cell.key for cell in summary_of(run).cells if cell.status == "done"}
    return asked <= done


def summary_of(run: Run) -> VitSweepSummary:
    """Return what the run found."""
    return VitSweepSummary.model_validate(run.summary)


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 3."""
    run = choose(runs)
    model = ViTConfig() if run is None else ViTConfig.model_validate(run.config["model"])
    values: dict[str, Any] = {
        "grid": run is not None,
        "command": _command(MAIN),
        "home": "hwcli.vision.training",
        "side": IMAGE_SIDE,
        "patch": model.patch_size,
        "tokens": (IMAGE_SIDE // model.patch_size) ** 2,
        "width": model.width,
        "pooled": POOLED[model.pooling],
        "head_width": _head_width(model),
        "kernels": _kernels(run),
        "pictures": [],
    }
    if run is not None:
        values |= {
            "folder": folder_of(run),
            "sentence": _sentence(run),
            "how_chosen": _how_chosen(run),
            "supported": _supported(run),
            "pictures": [(name, text) for name, text in PICTURES.items() if run.picture(name)],
        }
    return render("q3", **values)


# The classifier norms the mean of the tokens, not each token.
POOLED = {
    "mean": r"\mathrm{LN}\Bigl(\tfrac1N \sum_{i=1}^{N} (X_L)_i\Bigr)",
    "class": r"\mathrm{LN}\bigl((X_L)_0\bigr)",
}


def _kernels(run: Run | None) -> str:
    if run is None or summary_of(run).kernels != "compiled":
        return "The blocks are computed by torch, exactly as shown."
    return (
        f"This run trained in {summary_of(run).precision} with the compiled C++ kernel of "
        "`hwcli/native/`: `Block.forward` above calls it in place of its last two lines, and it "
        "computes the same block in one pass."
    )


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
    valid = run.config["data"]["valid_size"]
    return (
        f"{valid:,} of the training images are set aside for validation, by which the best cell is "
        "chosen; the official test images are read once per trained network, at the end."
    )


def _supported(run: Run) -> str:
    """Say what the numbers allow, from the summary: the best, the spread, and its noise."""
    found = summary_of(run)
    cells = [cell for cell in found.cells if cell.test_accuracy_mean is not None]
    best = best_cell(run)
    lowest, highest = (pick(cells, key=_test_accuracy) for pick in (min, max))
    spread = _test_accuracy(highest) - _test_accuracy(lowest)
    p = _test_accuracy(best)
    error = math.sqrt(2 * p * (1 - p) / NUM_TEST_IMAGES)
    sentences = [
        f"Validation selects {found.describe(best.point)}; its test accuracy is {_accuracy(best)}. "
        f"Over the {len(cells)} cells it goes from {_percent(_test_accuracy(lowest))} "
        f"({found.describe(lowest.point)}) to {_percent(_test_accuracy(highest))} "
        f"({found.describe(highest.point)}): {100 * spread:.2f} points in all. The standard error "
        f"of a difference between two networks, from the test images alone, is "
        f"{100 * error:.2f} points"
        + (
            ", so the order of neighbouring cells is mostly chance."
            if spread < 6 * error
            else ", much less than the whole spread."
        )
    ]
    if found.conclusion:
        sentences.append("The effects of layers and heads, over all cells, stand below the table.")
    return " ".join(sentences)


def best_cell(run: Run) -> GridCell:
    """Return the cell that validation selected."""
    best = summary_of(run).best
    assert best is not None  # a run that is complete has trained all of its networks
    return best


def _test_accuracy(cell: GridCell) -> float:
    return cell.test_accuracy_mean or 0.0


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _accuracy(cell: GridCell) -> str:
    error = cell.test_accuracy_se if cell.test_accuracy_std is None else cell.test_accuracy_std
    return f"{100 * _test_accuracy(cell):.2f} ± {100 * (error or 0.0):.2f} %"


def _sentence(run: Run) -> str:
    """Say what the 15 accuracies support, in one sentence."""
    cells = [cell for cell in summary_of(run).cells if cell.test_accuracy_mean is not None]
    accuracies = [_test_accuracy(cell) for cell in cells]
    others = len(cells) - 1
    similar = sum(cell.versus_best == "similar" for cell in cells)
    differing = (
        f"none of the other {others} is"
        if similar == others
        else f"{similar} of the other {others} are not"
    )
    return (
        f"All {len(cells)} networks reach {_percent(min(accuracies))} to "
        f"{_percent(max(accuracies))}, and {differing} "
        "significantly different from the one that validation selected (*)."
    )


# --------------------------------------------------------------------------------------
# What the notebook shows


def recipe_table(run: Run) -> Table:
    """Return what every trial of a run shares."""
    config = run.config
    model, optimizer, augmentation = config["model"], config["optimizer"], config["augmentation"]
    erased = augmentation.get("erase_probability")
    rates = f"{optimizer['learning_rate']:g}"
    if optimizer["kind"] == "muon":
        rates = (
            f"{optimizer['muon_learning_rate']:g} on the blocks' matrices, {rates} by AdamW "
            "on the rest"
        )
    limit = config["data"].get("train_limit")
    rows = {
        "patches": f"{model['patch_size']} x {model['patch_size']}",
        "width; hidden width of the MLP": f"{model['width']}; {model['mlp_width']}",
        "width of a head": model.get("head_width") or "width / heads",
        "attention; pooling": f"{model['attention']}; {model['pooling']}",
        "epochs; batch size": f"{config['epochs']}; {config['batch_size']}",
        "optimiser; learning rate": f"{optimizer['kind']}; {rates}",
        "schedule": f"{optimizer['warmup_fraction']:.0%} warm-up, then linear to 0",
        "weight decay; label smoothing": f"{optimizer['weight_decay']:g}; "
        f"{config['label_smoothing']:g}",
        "augmentation": ("flips" if augmentation["flip"] else "no flips")
        + f", shifts of up to {augmentation['max_shift']} pixels"
        + (f", a rectangle erased in {erased:.0%} of the images" if erased else ""),
        "training images": "all but those for validation" if limit is None else f"{limit:,}",
        "seeds": ", ".join(map(str, config["seeds"])),
        "precision": summary_of(run).precision,
    }
    return Table(
        title="The recipe",
        columns=[Column("what", "what"), Column("value", "value")],
        rows=[{"what": what, "value": str(value)} for what, value in rows.items()],
    )


def grid_table_of(run: Run) -> Table:
    """Return the table that the question asks for: layers down, heads across."""
    return grid_table(summary_of(run))


def grid_costs(run: Run) -> Figure | None:
    """Draw accuracy against training time and parameters."""
    figure = pictures.draw_costs(summary_of(run))
    if figure is not None:
        figure.set_figheight(2.9)  # table, conclusion and picture share a page
    return figure


def grid_curves(run: Run) -> Figure | None:
    """Draw validation accuracy over epochs."""
    histories = read_record(run.path).histories()
    return pictures.draw_curves(histories, summary_of(run).axes, width=6.4, height=3.1)

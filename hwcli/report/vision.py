"""Question 3: the Vision Transformer, its recipe, the grid of accuracies, and what it supports."""

import itertools
import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from hwcli.output.tables import Column, Table
from hwcli.report.cells import Cell, code, not_run_yet, text, words
from hwcli.report.runs import Run, Runs
from hwcli.vision import pictures
from hwcli.vision.cells import Cell as GridCell
from hwcli.vision.fashion_mnist import IMAGE_SIDE
from hwcli.vision.record import read_record
from hwcli.vision.summary import VitSweepSummary

COMMAND = "vit-sweep"
ASKED_LAYERS, ASKED_HEADS = range(4, 9), range(2, 5)
MAIN, OTHERS = "standard", ("strong", "linear")

NUM_TEST_IMAGES = 10_000

OWN = words("q3", "would you spend more layers, more heads or more epochs, and why?")


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
    cells = [text("# Question 3: Vision Transformers")]
    run = choose(runs)
    if run is None:
        cells.append(not_run_yet("the grid of 5 x 3 Vision Transformers", _command(MAIN)))
        return [*cells, *_tiny_training(), OWN]
    cells += _model(run)
    cells += _tiny_training()
    cells += _grid(run)
    cells += _pictures(run)
    others = [other for other in runs.of(COMMAND) if other is not run]
    if others:
        cells += _other_grids(run, others)
    for name in (MAIN, *OTHERS):
        if runs.get(COMMAND, name) is None:
            cells.append(not_run_yet(f"the grid named `{name}`", _command(name)))
    cells.append(OWN)
    return cells


def _command(name: str) -> str:
    grid = "hw2 vit-sweep --layers 4..8 --heads 2..4"
    if name == "linear":
        # One grid differs from the other by its attention alone.
        return f"{grid} --preset standard --attention linear --name linear --compare-with standard"
    if name == "strong":
        return "hw2 vit-sweep --preset strong --seeds 0..2"
    return f"{grid} --preset {name}"


def _model(run: Run) -> list[Cell]:
    model = run.config["model"]
    tokens = (IMAGE_SIDE // model["patch_size"]) ** 2
    P, D = model["patch_size"], model["width"]
    pooled = (
        r"\tfrac1N \sum_{i=1}^{N} \mathrm{LN}(X_L)_i"
        if model["pooling"] == "mean"
        else r"\mathrm{LN}(X_L)_0"
    )
    return [
        text(
            rf"""
            **The model.** An image of {IMAGE_SIDE} x {IMAGE_SIDE} pixels is cut into
            $N = {tokens}$ patches $p_i$ of {P} x {P} pixels, and $L$ blocks of attention with $H$
            heads and a two-layer network follow, as in Dosovitskiy et al. (2021), equations 1-4:

            $$\begin{{aligned}}
            X_0 &= [E p_1; \dots; E p_N] + E_{{\mathrm{{pos}}}}, & E p_i &\in
            \mathbb{{R}}^{{{D}}} \\
            X'_l &= X_{{l-1}} + \mathrm{{MSA}}(\mathrm{{LN}}(X_{{l-1}})), & l &= 1, \dots, L \\
            X_l &= X'_l + \mathrm{{MLP}}(\mathrm{{LN}}(X'_l)), & l &= 1, \dots, L \\
            \mathrm{{logits}} &= W\, {pooled} + b.
            \end{{aligned}}$$

            {_head_width(run)} The code of a block:
            """
        ),
        code(
            """
            from hwcli.vision.vit import MLP, Attention, Block

            show_source(Attention, MLP, Block)
            """
        ),
        text("**The recipe** is the same for every cell; the run's own config says all of it."),
        code(
            f"""
            from hwcli.report.vision import recipe_table

            sweep = read_run(RUNS / "{run.id}")
            show(recipe_table(sweep))
            """
        ),
    ]


def _head_width(run: Run) -> str:
    model = run.config["model"]
    if model.get("head_width") is None:
        return (
            f"The width {model['width']} divides by every number of heads, so that no dimension "
            "is lost."
        )
    return (
        f"A head is {model['head_width']} wide whatever their number is: no number of heads loses "
        "dimensions by a division with a rest, and more heads mean more parameters."
    )


def _tiny_training() -> list[Cell]:
    return [
        text(
            "**The same code at work**, in a second and without a data set: a network of one block "
            "learns to tell upright from lying bars in noise."
        ),
        code(
            """
            import torch
            import torch.nn.functional as F
            from hwcli.vision.vit import ViT, ViTConfig

            torch.manual_seed(0)
            labels = torch.randint(2, (256,))
            images = 0.3 * torch.randn(256, 1, 8, 8)
            for image, label, place in zip(images, labels, torch.randint(8, (256,))):
                image[0, place, :] += 1.0 - label
                image[0, :, place] += label
            tiny = ViT(layers=1, heads=2, config=ViTConfig(width=16, mlp_width=32),
                       image_size=8, num_classes=2)
            optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-2)
            for step in range(61):
                loss = F.cross_entropy(tiny(images[:192]), labels[:192])
                if step % 30 == 0:
                    print(f"step {step:2d}: loss {loss.item():.2f}")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            right = (tiny(images[192:]).argmax(dim=1) == labels[192:]).sum().item()
            print(f"{right} of {len(labels) - 192} held-out images are right")
            """
        ),
    ]


def _grid(run: Run) -> list[Cell]:
    return [
        text(f"**Test accuracy.** {_how_chosen(run)}"),
        code(
            f"""
            from hwcli.config import load
            from hwcli.experiments import vit_sweep
            from hwcli.report.vision import draw_curves, summary_of
            from hwcli.vision.pictures import draw_costs, draw_heatmap
            from hwcli.vision.tables import grid_table
            from hwcli.vision.vit import num_params

            config = load(vit_sweep.Config, "{COMMAND}", path=sweep.path / "config.yaml")
            found = summary_of(sweep)
            for cell in found.cells:  # the counts are those of the code above
                counted = num_params(cell.point["layers"], cell.point["heads"], config.model)
                assert counted == cell.num_params
            show(grid_table(found))
            """
        ),
        code('show(draw_heatmap(found), "Test accuracy of every cell, in %")'),
        code('show(draw_curves(sweep), "Validation accuracy over the epochs")'),
        code('show(draw_costs(found), "Accuracy against cost")'),
        text(f"**What the comparison supports.** {_supported(run)}"),
    ]


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
        sentences.append(found.conclusion)
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


def _pictures(run: Run) -> list[Cell]:
    """Show what the run has drawn of its best cell, as far as it has."""
    captions = {
        "confusion": "What the best cell calls the test images of each class",
        "mistakes": "The surest mistakes of the best cell",
        "rollout": "Attention rollout: where the best cell looks",
        "positions": "Position embeddings: similarity of each to the others",
    }
    drawn = {name: caption for name, caption in captions.items() if run.has_picture(name)}
    if not drawn:
        return []
    lines = "\n".join(
        f'show(sweep.path / "{name}.png", "{caption}")' for name, caption in drawn.items()
    )
    return [text("**The best cell, looked at closely.**"), code(lines)]


def _other_grids(run: Run, others: Sequence[Run]) -> list[Cell]:
    names = ", ".join(f'"{other.name}"' for other in (run, *others))
    cells = [
        text("**Other runs**, by their best cell; it was chosen by validation in each."),
        code(
            f"""
            from hwcli.report.vision import runs_table

            sweeps = [read_run(RUNS / "{COMMAND}" / name) for name in [{names}]]
            show(runs_table(sweeps))
            """
        ),
    ]
    for other in others:
        comparison = summary_of(other).comparison
        if comparison is not None:
            title = f"{comparison.name} compared with {comparison.other}"
            cells.append(text(f"**{title}.** {comparison.conclusion}"))
            cells.append(
                code(
                    f"""
                    from hwcli.report.vision import summary_of
                    from hwcli.vision.tables import comparison_table

                    other = summary_of(read_run(RUNS / "{other.id}"))
                    show(comparison_table(other.comparison, other.axes))
                    """
                )
            )
    return cells


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
        "precision": run.summary["precision"],
    }
    return Table(
        title=f"The recipe of {run.id}",
        columns=[Column("what", "what"), Column("value", "value")],
        rows=[{"what": what, "value": str(value)} for what, value in rows.items()],
    )


def draw_curves(run: Run) -> Figure:
    """Draw validation accuracy over epochs."""
    histories = read_record(run.path).histories()
    return pictures.draw_curves(histories, summary_of(run).axes, width=7.0, height=2.7)


def runs_table(runs: Sequence[Run]) -> Table:
    """Return the best cell of each of several runs."""
    return Table(
        title="The best cell of each run",
        columns=[
            Column("run", "run"),
            Column("attention", "attention"),
            Column("epochs", "epochs"),
            Column("cells", "cells"),
            Column("seeds", "seeds"),
            Column("best", "best cell"),
            Column("accuracy", "test accuracy"),
        ],
        rows=[
            {
                "run": run.name,
                "attention": run.config["model"]["attention"],
                "epochs": run.config["epochs"],
                "cells": len(summary_of(run).cells),
                "seeds": len(run.config["seeds"]),
                "best": summary_of(run).describe(best_cell(run).point),
                "accuracy": _accuracy(best_cell(run)),
            }
            for run in runs
        ],
        notes=["± standard deviation over seeds where there are several, else standard error."],
    )

"""A grid of trained networks as tables: every cell, and layers down and heads across."""

from collections.abc import Mapping, Sequence
from typing import Any

from hwcli.output.tables import Column, Table
from hwcli.training.significance import Estimate
from hwcli.vision.grid_statistics import conclude, p_text


def cells_table(cells: Sequence[Mapping[str, Any]], *, num_epochs: int) -> Table:
    """Return one row for each cell: everything that is known of it."""
    percent = "{:.2%}"
    return Table(
        title=f"Vision Transformers on Fashion-MNIST, {num_epochs} epochs: every cell",
        columns=[
            Column("layers", "layers"),
            Column("heads", "heads"),
            Column("num_seeds", "seeds"),
            Column("valid_accuracy_mean", "validation", percent),
            Column("test_accuracy_mean", "test", percent),
            Column("test_accuracy_std", "std over seeds", percent),
            Column("test_accuracy_se", "standard error", percent),
            Column("num_params", "parameters", "{:,}"),
            Column("train_s", "training", "{:.0f} s"),
            Column("p_value_holm", "p against best", p_text),
            Column("status", "status"),
        ],
        rows=cells,
    )


def grid_table(
    cells: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    *,
    num_epochs: int,
    num_seeds: int,
    effects: Mapping[str, Estimate | None] | None = None,
) -> Table:
    """Return the table the question asks for: test accuracy, layers down and heads across.

    Under it stands what the effects of layers and heads come to, if they are given.
    """
    layers, heads = (
        list(dict.fromkeys(cell[key] for cell in cells)) for key in ("layers", "heads")
    )
    by_place = {(cell["layers"], cell["heads"]): cell for cell in cells}

    def text(cell: Mapping[str, Any]) -> str:
        if cell["test_accuracy_mean"] is None:
            return str(cell["status"])
        error = cell["test_accuracy_std"] if num_seeds > 1 else cell["test_accuracy_se"]
        spread = "" if error is None else f" ± {100 * error:.2f}"
        mark = " ≈" if cell["indistinguishable_from_best"] else ""
        mark = " *" if cell is best and len(cells) > 1 else mark
        lacking = "" if cell["status"] == "done" else f" (a seed {cell['status']})"
        return (
            f"{100 * cell['test_accuracy_mean']:.2f}{spread} %{mark}{lacking}\n"
            f"{cell['num_params']:,} parameters, {cell['train_s']:.0f} s"
        )

    read_once = "the test images were read once per trial, after training."
    error = "standard deviation over seeds" if num_seeds > 1 else "standard error, n = 10,000"
    return Table(
        title=f"Test accuracy on Fashion-MNIST, {num_epochs} epochs (± {error})",
        columns=[
            Column("layers", "layers"),
            *(Column(f"heads {h}", f"{h} heads", text) for h in heads),
        ],
        rows=[{"layers": n, **{f"heads {h}": by_place[n, h] for h in heads}} for n in layers],
        notes=[
            f"* best by validation accuracy, on which the choice was made; {read_once}"
            if len(cells) > 1
            else read_once.capitalize(),
            *_note_on_tests(cells, num_seeds),
            *([] if effects is None else _notes_on_effects(cells, effects)),
        ],
    )


def _notes_on_effects(
    cells: Sequence[Mapping[str, Any]], effects: Mapping[str, Estimate | None]
) -> list[str]:
    """Say what the grid supports about layers and heads, and what its intervals rest on."""
    notes = [conclude(cells, effects)]
    if any(effect is not None and effect.low is not None for effect in effects.values()):
        notes.append(
            "Its intervals come from the scatter of the cells about the fit: it holds the luck of "
            "each training run and of the test images, as far as they favour single cells."
        )
    return notes


def _note_on_tests(cells: Sequence[Mapping[str, Any]], num_seeds: int) -> list[str]:
    """Say what the mark of cells that cannot be told from the best rests on."""
    num_tests = sum(cell["p_value"] is not None for cell in cells)
    if not num_tests:
        return []
    num_alike = sum(bool(cell["indistinguishable_from_best"]) for cell in cells)
    if num_seeds == 1:
        test = "exact McNemar test on the same test images"
        scope = "It holds for these trained networks; another seed may order them otherwise."
    else:
        test = f"paired bootstrap over the test images and {num_seeds} seeds"
        if any(cell["status"] != "done" for cell in cells):
            test += " (those that both cells have; exact McNemar where that is one)"
        scope = "It errs on the side of caution, as far as so few seeds show how much they differ."
    return [
        f"≈ {num_alike} of {num_tests} cells cannot be told apart from the best at the 5 % level: "
        f"{test}, Holm-corrected. {scope}"
    ]

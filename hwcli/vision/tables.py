"""A grid of trained networks as tables: every cell, accuracies over the grid, two runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from hwcli.output.tables import Column, Table
from hwcli.output.units import counted, p_text
from hwcli.training.significance import LEVEL
from hwcli.vision.cells import Cell, best_cells
from hwcli.vision.compare_runs import ComparedCell, Comparison
from hwcli.vision.grid import HEADS, LAYERS, Axis, Layout, show
from hwcli.vision.grid_statistics import least_significant, percentage_points, spread_over_seeds
from hwcli.vision.places import describe_places, note_on_emulation
from hwcli.vision.summary import VitSweepSummary

VERDICTS: dict[Any, str] = {
    "similar": "not significantly different",
    "better": "significantly better",
    "worse": "significantly worse",
}
MARKS = {"best": " *", "similar": " ≈", "better": " ↑", "worse": " ↓", None: ""}


def cells_table(summary: VitSweepSummary) -> Table:
    """Return one row for each cell: everything that is known of it."""
    percent = "{:.2%}"
    corrected = "p (Tukey)" if _is_tested_by_seeds(summary) else "p (Holm)"
    return Table(
        title=_title("Vision Transformers on Fashion-MNIST", summary.recipe_text) + ": every cell",
        columns=[
            *_axis_columns(_shown_axes(summary)),
            Column("num_seeds", "seeds", priority=3),
            Column("valid_accuracy_mean", "validation", percent),
            Column("test_accuracy_mean", "test", percent, priority=0),
            Column("test_accuracy_std", "std over seeds", percent, priority=2),
            Column("test_accuracy_se", "standard error", percent, priority=3),
            Column("num_params", "parameters", "{:,}", priority=3),
            Column("train_s", "training", "{:.0f} s", priority=2),
            Column("p_value_adjusted", corrected, p_text, priority=2),
            Column("versus_best", "versus best"),
            Column("status", "status", priority=2),
        ],
        rows=[_row(cell) for cell in summary.cells],
        notes=_notes_on_cells(summary),
    )


def _shown_axes(summary: VitSweepSummary) -> list[Axis]:
    return [axis for axis in summary.axes if axis.varies or axis.field in (LAYERS, HEADS)]


def _axis_columns(axes: list[Axis]) -> list[Column]:
    return [Column(axis.field, axis.name, show, priority=0) for axis in axes]


def _row(cell: Cell | ComparedCell) -> Mapping[str, Any]:
    return {**cell.point, **cell.model_dump(exclude={"point"})}


def _title(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _is_tested_by_seeds(summary: VitSweepSummary) -> bool:
    """Tell whether cells were compared by their spread over seeds, not image by image."""
    return spread_over_seeds(summary.cells) is not None


def _notes_on_cells(summary: VitSweepSummary) -> list[str]:
    if len(summary.seeds) > 1:
        return ["Standard error: of the mean over seeds (one seed: over the test images)."]
    return ["Standard error: over the test images, of one trained network."]


def grid_table(summary: VitSweepSummary) -> Table:
    """Return the table the question asks for: test accuracy over the grid.

    Layers go down and heads across; another axis that varies adds columns on the left.
    """
    layout = Layout.of(summary.axes)
    by_key = {cell.key: cell for cell in summary.cells}
    has_seeds = any(cell.test_accuracy_std is not None for cell in summary.cells)

    def text(cell: Cell) -> str:
        if cell.test_accuracy_mean is None:
            return cell.status
        error = cell.test_accuracy_std if has_seeds else cell.test_accuracy_se
        spread = "" if error is None else f" ± {100 * error:.2f}"
        mark = "" if summary.is_one_cell else MARKS[cell.versus_best]
        num_lacking = counted(len(summary.seeds) - cell.num_seeds, "seed")
        lacking = "" if cell.status == "done" else f" ({num_lacking} {cell.status})"
        time = "" if cell.train_s is None else f", {cell.train_s:.0f} s"
        return (
            f"{100 * cell.test_accuracy_mean:.2f}{spread} %{mark}{lacking}\n"
            f"{cell.num_params:,} parameters{time}"
        )

    rows = [
        {
            **block,
            layout.down.field: value,
            **{
                f"{layout.across.field} {show(other)}": by_key[
                    layout.key(summary.axes, block, value, other)
                ]
                for other in layout.across.values
            },
        }
        for block in layout.blocks()
        for value in layout.down.values
    ]
    error = "standard deviation over seeds" if has_seeds else "standard error, one network"
    fixed = ", ".join(axis.text(axis.values[0]) for axis in layout.fixed)
    title = _title("Test accuracy on Fashion-MNIST", summary.recipe_text, fixed)
    return Table(
        title=f"{title} (± {error})",
        columns=[
            *_axis_columns([*layout.groups, layout.down]),
            *(
                Column(f"{layout.across.field} {show(v)}", layout.across.text(v), text, priority=0)
                for v in layout.across.values
            ),
        ],
        rows=rows,
        notes=grid_notes(summary),
    )


def grid_notes(summary: VitSweepSummary) -> list[str]:
    """Return what is to be known below the table: the selection, the tests, the effects."""
    best, data = summary.best, summary.data
    if best is None:
        return []
    images = "each network was evaluated on the test images once, after training."
    if summary.varies_images:
        images = images.capitalize()
    else:
        sizes = f"{data.num_train:,} training images, {data.valid_size:,} for validation"
        images = f"{sizes}; {images}"
    notes = [images if summary.is_one_cell else f"* selected by validation accuracy. {images}"]
    tied = best_cells(summary.cells)
    if len(tied) > 1:
        names = " and ".join(summary.describe(cell.point) for cell in tied)
        notes.append(
            f"{names} have the same validation accuracy; the one with the fewest parameters is "
            "selected."
        )
    notes += _note_on_tests(summary)
    if summary.conclusion is not None and not summary.is_one_cell:
        notes.append(summary.conclusion)
    if summary.note_on_precision is not None:
        notes.append(summary.note_on_precision)
    slow = sorted({place.machine for place in summary.trained_on if place.emulated_bfloat16})
    if slow:
        notes.append(note_on_emulation(slow))
    places = describe_places(summary.trained_on)
    return [*notes, *([] if places is None else [places])]


def _note_on_tests(summary: VitSweepSummary) -> list[str]:
    verdicts = [cell.versus_best for cell in summary.cells]
    tested = [verdict for verdict in verdicts if verdict not in (None, "best")]
    if not tested:
        return []
    texts = [
        f"{MARKS[verdict].strip()} {words}: {tested.count(verdict)} of {len(tested)} cells"
        for verdict, words in VERDICTS.items()
        if tested.count(verdict)
    ]
    if _is_tested_by_seeds(summary):
        test = "Tukey's range, variance over seeds pooled over the cells"
        scope = f"{_least(summary)}This applies to these test images."
    else:
        test = "exact McNemar test on the same test images, Holm-corrected"
        scope = (
            "This applies to these trained networks only; another seed may rank them differently."
        )
    level = f"Compared with the selected cell at the {100 * LEVEL:.0f} % level"
    return [f"{level}: {', '.join(texts)} ({test}). {scope}"]


def _least(summary: VitSweepSummary) -> str:
    """Say by how much two cells must differ."""
    least = least_significant(summary.cells)
    if least is None:
        return ""
    sizes = {cell.num_seeds for cell in summary.cells if cell.num_seeds}
    of = "" if len(sizes) == 1 else f" of {counted(max(sizes), 'seed')}"
    return f"Two cells{of} must differ by {100 * least:.2f} points to be significantly different. "


def comparison_table(comparison: Comparison, axes: list[Axis]) -> Table:
    """Return one row for each cell that both runs have."""
    names = {axis.field: axis for axis in axes}
    fields = list(comparison.cells[0].point)
    notes = []
    if comparison.settings:
        texts = [
            f"{key} {_setting(theirs)} and {_setting(ours)}"
            for key, (theirs, ours) in comparison.settings.items()
        ]
        different = f"{comparison.other} and {comparison.name}"
        notes = [f"Settings that differ between {different}: {'; '.join(texts)}."]
    has_seeds = any(cell.num_seeds > 1 for cell in comparison.cells)
    test = (
        "t-test of the differences between seeds, their variance pooled over the cells"
        if has_seeds
        else "exact McNemar test on the same test images"
    )
    tested = [cell for cell in comparison.cells if cell.p_value is not None]
    how = f"{_why_untested(comparison.cells, '')}: no difference was tested."
    if tested:
        how = (
            f"p: {test}, Holm-corrected over these cells. The interval of the mean takes networks "
            "and test images as samples."
        )
    if 0 < len(tested) < len(comparison.cells):
        why = _why_untested(comparison.cells, " of theirs")
        how += f" Cells without p were not tested: {why[0].lower()}{why[1:]}."
    has_times = any(cell.train_s and cell.other_train_s for cell in comparison.cells)
    times = (
        "The training times do not compare speeds: the runs were not interleaved, and other work "
        "may have slowed one of them."
        if has_times
        else "No training times: the runs were trained on different machines, or by different "
        "numbers of threads."
    )
    return Table(
        title=f"{comparison.name} vs {comparison.other}: cells in both runs",
        columns=[
            *(
                Column(f, names[f].name, show)
                for f in fields
                if names[f].varies or f in (LAYERS, HEADS)
            ),
            Column("num_seeds", "paired seeds", priority=3),
            Column("other_test_accuracy", f"test, {comparison.other}", "{:.2%}"),
            Column("test_accuracy", f"test, {comparison.name}", "{:.2%}"),
            Column("difference", "difference, points", percentage_points, priority=0),
            Column("p_value_adjusted", "p (Holm)", p_text),
            *(
                []
                if not has_times
                else [
                    Column(
                        "other_train_s", f"training, {comparison.other}", "{:.0f} s", priority=3
                    ),
                    Column("train_s", f"training, {comparison.name}", "{:.0f} s", priority=3),
                ]
            ),
        ],
        rows=[_row(cell) for cell in comparison.cells],
        notes=[
            *notes,
            comparison.conclusion,
            f"{how} {times}",
        ],
    )


def _why_untested(cells: Sequence[ComparedCell], whose: str) -> str:
    """Say why cells have no p."""
    texts = {
        "seeds": f"no seed{whose} is in both runs",
        "predictions": f"predictions{whose} are missing",
        "images": "the test images of the runs differ",
    }
    reasons = dict.fromkeys(cell.untested or "seeds" for cell in cells if cell.p_value is None)
    text = ", or ".join(texts[reason] for reason in reasons)
    return text[:1].upper() + text[1:]


def _setting(value: Any) -> str:
    return "unset" if value is None else str(value)


def plan_table(
    title: str, axes: Sequence[Axis], rows: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> Table:
    """Return one row for each trial that would be trained."""
    return Table(
        title=title,
        columns=[
            *(Column(axis.name, axis.name, show, priority=0) for axis in axes),
            Column("seed", "seed"),
            Column("state", "state"),
            Column("num_params", "parameters", "{:,}"),
            Column("flops", "training FLOPs", "{:.2e}", priority=3),
            Column("estimate", "time left"),
        ],
        rows=rows,
        notes=notes,
    )

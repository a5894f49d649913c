from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from hwcli.config import load
from hwcli.experiments.vit_sweep import Config
from hwcli.output.plots import to_png
from hwcli.vision import network_pictures, pictures
from hwcli.vision.compare_runs import OtherRun
from hwcli.vision.fashion_mnist import CLASS_NAMES
from hwcli.vision.grid import Axis, Layout
from hwcli.vision.record import SweepRecord
from hwcli.vision.summary import summarize
from tests.vision.made_up import record


@pytest.fixture
def judged() -> tuple[torch.Tensor, ...]:
    """Images, labels, predictions and their probabilities; every fifth is wrong."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(71) % 10
    predicted = torch.where(torch.arange(71) % 5 == 0, (labels + 3) % 10, labels)
    images = torch.randint(0, 256, (71, 28, 28), dtype=torch.uint8, generator=generator)
    return images, labels, predicted, torch.rand(71, generator=generator).half()


def test_a_confusion_matrix_counts_rows_of_true_classes(judged: tuple[torch.Tensor, ...]) -> None:
    _, labels, predicted, _ = judged
    figure = network_pictures.draw_confusion(labels, predicted, "title")
    matrix, bars = figure.axes
    texts = [text.get_text() for text in matrix.texts]
    assert (texts[0], texts[3], texts[13]) == ("", "8", "")  # all of class 0 taken for class 3
    assert texts[11] == "7"
    assert [text.get_text() for text in bars.texts][:2] == ["0.0", "100.0"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_the_gallery_starts_with_the_surest_mistake(judged: tuple[torch.Tensor, ...]) -> None:
    images, labels, predicted, probability = judged
    figure = network_pictures.draw_mistakes(images, labels, predicted, probability, "title")
    assert figure is not None
    wrong = (labels != predicted).nonzero()[:, 0]
    surest = int(wrong[probability[wrong].float().argmax()])
    title = figure.axes[0].get_title()
    assert title.startswith(f"says {CLASS_NAMES[int(predicted[surest])]}, ")
    assert title.endswith(f"is {CLASS_NAMES[int(labels[surest])]}")
    assert sum(bool(axes.get_title()) for axes in figure.axes) == len(wrong) == 15
    assert network_pictures.draw_mistakes(images, labels, labels, probability, "title") is None


def test_rollout_and_positions_are_drawn(judged: tuple[torch.Tensor, ...]) -> None:
    images, labels, predicted, _ = judged
    shares = torch.rand(3, 7, 7).softmax(dim=-1) / 7
    figure = network_pictures.draw_rollout(images[:3], shares, labels[:3], predicted[:3], "title")
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        f"{CLASS_NAMES[0]}\n(says {CLASS_NAMES[3]})",
        f"{CLASS_NAMES[1]}\n",
    ]
    similarity = torch.rand(3, 3, 3, 3)
    figure = network_pictures.draw_positions(similarity, "title")
    (mosaic,) = figure.axes[0].images
    assert mosaic.get_array().shape == (11, 11)  # three pictures of three and the lines between


def test_ten_rollouts_stand_in_two_bands_as_wide_as_a_page(
    judged: tuple[torch.Tensor, ...],
) -> None:
    images, labels, predicted, _ = judged
    shares = torch.rand(7, 7, 7).softmax(dim=-1) / 7
    figure = network_pictures.draw_rollout(images[:7], shares, labels[:7], predicted[:7], "title")
    assert figure.get_figwidth() <= 6.5
    panels = figure.axes[:20]
    # Bands of five: images above, their patches below; what is left over stays blank.
    names = [panels[k].get_title().partition("\n")[0] for k in (*range(5), *range(10, 12))]
    assert names == list(CLASS_NAMES[:7])
    assert [len(panel.images) for panel in panels] == [1] * 12 + [0] * 3 + [1] * 2 + [0] * 3
    heat = panels[16].images[0].get_array()
    assert heat is not None
    assert torch.as_tensor(heat).sum().item() == pytest.approx(49 * shares[6].sum().item())


def summary_with(
    places: dict[Any, Any],
    other: SweepRecord | None = None,
    axes: Sequence[str] = ("layers", "heads"),
    **flags: Any,
) -> Any:
    found = record(places, axes=axes)
    config = load(Config, "vit-sweep", flags={"layers": "1,2", "heads": "2,3", **flags})
    compared = None if other is None else OtherRun("other", other)
    return summarize(
        "made-up", config, found, compared, num_run=0, precision="float32", kernels="torch"
    )


PLACES = {(n, h): [820 + n + h] for n in (1, 2) for h in (2, 3)}


def test_one_cell_is_no_grid() -> None:
    single = record({(1, 2): [810]})
    summary = summary_with({(1, 2): [820]}, single, layers="1", heads="2")
    figures = pictures.draw_grid(summary, record({(1, 2): [820]}).histories())
    assert figures.keys() == {"curves"}


def test_the_colours_of_a_heatmap_do_not_exaggerate_noise() -> None:
    summary = summary_with(PLACES)
    figure = pictures.draw_heatmap(summary)
    assert figure is not None
    low, high = figure.axes[0].images[0].get_clim()
    accuracies = [cell.test_accuracy_mean for cell in summary.cells]
    errors = [cell.test_accuracy_se for cell in summary.cells]
    assert high - low > 10 * min(errors) > 10 * (max(accuracies) - min(accuracies)) / 10
    assert low < min(accuracies) < max(accuracies) < high
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sum("*" in text for text in texts) == 1
    assert len(texts) == 4


def test_curves_are_a_mean_for_each_value_of_an_axis_labelled_at_its_end() -> None:
    summary = summary_with(PLACES)
    figure = pictures.draw_curves(record(PLACES).histories(), summary.axes)
    by_layers, by_heads = figure.axes
    assert (by_layers.get_title(), by_heads.get_title()) == (
        "by layers",
        "by heads",
    )
    assert len(by_layers.lines) == len(by_heads.lines) == 2
    assert [text.get_text() for text in by_heads.texts] == ["2 heads", "3 heads"]
    assert by_layers.lines[0].get_ydata() == pytest.approx([80, 81, 82, 83, 84])
    assert len({line.get_marker() for line in by_layers.lines}) == 2
    heights = [text.xy[1] for text in by_heads.texts]
    assert heights[0] != heights[1]


def test_the_band_of_a_curve_is_the_standard_deviation_of_the_tables() -> None:
    (point, low), (_, high) = record({(1, 2): [810], (2, 2): [820]}).histories()
    high = [replace(epoch, valid_accuracy=epoch.valid_accuracy + 0.02) for epoch in high]
    axes = [Axis(field="layers", values=(1,)), Axis(field="heads", values=(2,))]
    figure = pictures.draw_curves([(point, low), (point, high)], axes)
    (band,) = figure.axes[0].collections
    (path,) = band.get_paths()
    # The last epoch: 84 and 86 %, and the deviation of two values is their distance over sqrt(2).
    heights = path.vertices[path.vertices[:, 0] == 5][:, 1]  # type: ignore[index]
    assert (min(heights), max(heights)) == pytest.approx((85 - 2**0.5, 85 + 2**0.5))
    alone = pictures.draw_curves([(point, low)], axes)
    assert not alone.axes[0].collections


AXES = ("layers", "heads", "model.width")
WIDTHS = tuple(range(24, 24 + 12 * 10, 12))


def test_of_many_combinations_the_one_of_the_selected_cell_is_drawn() -> None:
    # Seven blocks; the last one has the selected cell.
    places: Any = {(n, h, w): [800 + n + h + w] for n in (1, 2) for h in (2, 3) for w in WIDTHS[:7]}
    summary = summary_with(
        places, record(places, axes=AXES), axes=AXES, grid=[f"model.width={_text(WIDTHS[:7])}"]
    )
    assert summary.best.point["model.width"] == WIDTHS[6]
    heatmap, compare = (
        pictures.draw_heatmap(summary),
        pictures.draw_grid(summary, [])["compare"],
    )
    assert heatmap is not None
    layout = Layout.of(summary.axes)
    (group,) = layout.groups
    shown = [group.text(value) for value in (*group.values[:5], group.values[-1])]
    for figure in (heatmap, compare):
        assert [panel.get_title() for panel in figure.axes] == shown
        assert "(6 of 7 combinations)" in figure.get_suptitle()


def _text(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def test_of_many_values_the_line_of_the_selected_one_is_drawn() -> None:
    places: Any = {(1, 2, w): [800 + w] for w in WIDTHS}
    found = record(places, axes=AXES)
    axes = [
        Axis(field="layers", values=(1,)),
        Axis(field="heads", values=(2,)),
        Axis(field="model.width", values=WIDTHS),
    ]
    for selected, last in (({"model.width": WIDTHS[9]}, 9), ({"model.width": WIDTHS[3]}, 7)):
        figure = pictures.draw_curves(found.histories(), axes, selected=selected)
        (panel,) = figure.axes
        assert panel.get_title() == "by width (8 of 10 values)"
        named = {text.get_text() for text in panel.texts}
        assert named == {f"width {w}" for w in (*WIDTHS[:7], WIDTHS[last])}


def test_one_cell_that_is_done_has_a_bar_of_its_own() -> None:
    places: Any = {(1, 2): [820, 824], (1, 3): [None, None], (2, 2): [None] * 2, (2, 3): [None] * 2}
    costs = pictures.draw_costs(summary_with(places, seeds="0,1"))
    assert costs is not None
    assert "nan" not in costs.get_suptitle()
    assert "one standard error, 0.20 points" in costs.get_suptitle()


def test_two_runs_are_drawn_with_a_whole_title() -> None:
    other = record({place: [n + 5 for n in numbers] for place, numbers in PLACES.items()})
    summary = summary_with(PLACES, other)
    figure = pictures.draw_comparison(summary.comparison, summary.axes)
    assert figure is not None
    figure.canvas.draw()
    (title,) = figure.texts
    box = title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    costs = pictures.draw_costs(summary)
    assert costs is not None
    assert len(costs.axes) == 2

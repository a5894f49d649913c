"""Figures of the hand-in in the size they are printed in."""

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hwcli.attention.bench.pictures import draw_memory, draw_times
from hwcli.attention.bench.results import AttentionSummary
from hwcli.report import vision
from hwcli.report.display import TEXT_WIDTH_IN, png_width_in
from hwcli.report.runs import read_run
from hwcli.rnn.diagrams import draw_network
from hwcli.rnn.summary import TraceSummary

from .conftest import COMMITTED

LEAST_PT = 7.0


def network() -> Figure | None:
    trace = read_run(COMMITTED / "rnn-trace/alternating-sum").read(TraceSummary)
    return draw_network(trace.network.spec.networks()[0])


def bench() -> AttentionSummary:
    return read_run(COMMITTED / "attention-bench/default").read(AttentionSummary)


def of_the_sweep(draw: Callable[..., Figure | None]) -> Callable[[], Figure | None]:
    return lambda: draw(read_run(COMMITTED / "vit-sweep/standard"))


DRAWN: dict[str, Callable[[], Figure | None]] = {
    "network": network,
    "times": lambda: draw_times(bench()),
    "memory": lambda: draw_memory(bench()),
    "costs": of_the_sweep(vision.grid_costs),
    "curves": of_the_sweep(vision.grid_curves),
    "confusion": of_the_sweep(vision.confusion),
}


@pytest.mark.parametrize("name", DRAWN)
def test_type_has_at_least_seven_points_in_print(name: str) -> None:
    figure = DRAWN[name]()
    assert figure is not None
    figure.canvas.draw()
    scale = min(1.0, TEXT_WIDTH_IN / figure.get_figwidth())
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    assert texts
    small = {t.get_text(): t.get_fontsize() for t in texts if scale * t.get_fontsize() < LEAST_PT}
    assert small == {}


def test_a_picture_that_a_run_has_drawn_is_not_shrunk_to_the_page() -> None:
    picture = COMMITTED / "rnn-trace/alternating-sum/trace.png"
    assert png_width_in(picture.read_bytes()) <= TEXT_WIDTH_IN


def test_a_picture_that_would_be_shrunk_is_left_out() -> None:
    run = read_run(COMMITTED / "vit-sweep/strong")
    wide, narrow = run.picture("rollout"), run.picture("positions")
    assert wide is not None
    assert narrow is not None
    assert png_width_in(wide.read_bytes()) > TEXT_WIDTH_IN > png_width_in(narrow.read_bytes())
    assert [vision._can_be_read(picture) for picture in (wide, narrow, None)] == [
        False,
        True,
        False,
    ]


def test_the_classes_that_are_mistaken_are_those_of_the_selected_network() -> None:
    run = read_run(COMMITTED / "vit-sweep/standard")
    figure = vision.confusion(run)
    assert figure is not None
    matrix, bars = figure.axes
    assert matrix.get_title() == "6 layers, 4 heads, seed 0"
    accuracies = [float(text.get_text()) for text in bars.texts]
    assert len(accuracies) == 10
    best = vision.best_cell(run)
    # One of the cell's three networks: within two standard deviations of their mean.
    mean, std = 100 * (best.test_accuracy_mean or 0), 100 * (best.test_accuracy_std or 0)
    assert sum(accuracies) / 10 == pytest.approx(mean, abs=2 * std)

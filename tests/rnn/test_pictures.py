"""Pictures show what the trace holds."""

import random

import pytest

from hwcli.rnn.diagrams import draw_network
from hwcli.rnn.pictures import draw_trace
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.trace import Trace, trace

HOMEWORK = NetworkSpec(w_in=1, w_rec=-1, w_out=1000).network()


def traced(length: int, network: object = HOMEWORK) -> Trace:
    draw = random.Random(0)
    return trace(network, [(draw.randint(-9, 9),) for _ in range(length)])  # type: ignore[arg-type]


def test_the_difference_of_the_sums_ends_in_what_the_last_output_reads() -> None:
    seen = traced(1000)
    figure = draw_trace(seen, "alternating-sum")
    difference = figure.axes[-1]
    assert difference.get_ylabel() == "even minus odd"
    h = seen.final.hidden[0]  # T is even
    assert list(difference.lines[0].get_ydata())[-1] == h  # type: ignore[arg-type]
    output = 1 if h > 0 else 0
    assert difference.get_title(loc="right") == f"{h:+,} at t = 1,000: output {output}"


@pytest.mark.parametrize("property_id", ["alternating-sum", None])
@pytest.mark.parametrize("length", [1, 2, 59, 131])
def test_the_axis_of_steps_begins_at_the_first(length: int, property_id: str | None) -> None:
    figure = draw_trace(traced(length), property_id)
    for axes in figure.axes:
        if axes.axison:
            assert axes.get_xticks()[0] == 1
            assert length == 1 or axes.get_xlim()[0] == 1
    # Beyond 60 steps a second column shows all of them.
    num_columns = 1 if length <= 60 else 2
    assert len(figure.axes) == 2 * num_columns
    output = figure.axes[num_columns]
    assert output.get_ylabel() == "output $y_t$"
    assert list(output.get_yticks()) == [0, 0.5, 1]


def test_many_points_of_two_values_are_not_drawn() -> None:
    parity = NetworkSpec(
        w_in=[[1], [1]], w_rec=[[1, -1], [1, -1]], w_out=[1, -1], bias=["-1/2", "-3/2"],
        activation="step", output_activation="identity",
    ).network()  # fmt: skip
    assert len(draw_trace(traced(1000, parity)).axes) == 2
    summed = NetworkSpec(w_in=1, w_rec=1, w_out=1000).network()
    assert [axes.axison for axes in draw_trace(traced(1000, summed)).axes] == [1, 1, 1, 0]


def test_the_weights_of_one_unit_are_named_and_those_of_more_are_numbers() -> None:
    figure = draw_network(HOMEWORK)
    assert figure is not None
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"w_in = 1", "w_rec = -1", "w_out = 1000", "linear", "logistic"} <= texts
    pair = NetworkSpec(w_in=[[3], [4]], w_rec=[[5, 0], [0, 6]], w_out=[7, 8]).network()
    figure = draw_network(pair)
    assert figure is not None
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert set("345678") <= texts

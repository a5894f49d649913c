"""The typed summary of a run, its sentences, and the committed runs."""

from pathlib import Path

import pytest

from hwcli.attention.bench import explanation, pictures, tables
from hwcli.attention.bench.results import AttentionSummary

REFERENCE = Path(__file__).parents[3] / "results/reference/attention-bench"


def committed(name: str) -> AttentionSummary:
    text = (REFERENCE / name / "summary.json").read_text()
    return AttentionSummary.model_validate_json(text)


@pytest.mark.parametrize("name", ["default", "million"])
def test_a_committed_run_loads_and_its_exponents_are_those_of_its_rows(name: str) -> None:
    summary = committed(name)
    for curve, stored in summary.exponents.items():
        fitted = summary.fitted().exponents[curve]
        assert fitted.time == pytest.approx(stored.time)
        assert fitted.memory == pytest.approx(stored.memory)


def test_what_is_said_is_what_the_run_measured() -> None:
    text = " ".join(explanation.findings(committed("default")))
    assert "T^2.01 for softmax-sdpa" in text
    assert "softmax-sdpa takes 3.80 s and linear 3.58 ms: 1,060 times less." in text
    assert "49% of the sums of weights are negative" in text
    assert "4 T D^2 + 3 T D   = 1.09e+09" in explanation.derivation(committed("default"))


def test_every_method_of_the_tables_is_explained() -> None:
    summary = committed("default")
    shown = tables.times_table(summary)
    assert [column.key for column in shown.columns] == ["T", *summary.methods]
    notes = tables.method_notes(summary)
    assert [note.partition(":")[0] for note in notes] == list(summary.methods)


def test_labels_keep_their_distance_and_their_order() -> None:
    """Two curves that end together and one far below: worked by hand."""
    assert pictures.spread([0.3, 0.9, 0.91], 0.2) == pytest.approx([0.3, 0.7, 0.9])
    assert pictures.spread([0.0], 0.2) == pytest.approx([0.1])


def test_curves_are_labelled_on_the_line_and_no_legend_covers_them() -> None:
    figure = pictures.draw_times(committed("default"))
    (panel,) = figure.axes
    assert panel.get_legend() is None
    labels = [text.get_text() for text in panel.texts]
    assert any(label.startswith("softmax-naive: $T^{2.14}$") for label in labels)
    markers = {line.get_marker() for line in panel.lines} - {"None"}
    assert len(markers) == 4

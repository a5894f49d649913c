"""The typed summary of a run, its sentences, and the committed runs."""

from pathlib import Path

import pytest

from hwcli.attention.bench import explanation, pictures, points, tables
from hwcli.attention.bench.measure import Times
from hwcli.attention.bench.points import BenchSettings
from hwcli.attention.bench.results import AttentionSummary, CrossingPoint

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
    assert "T^2.01 (1.96 to 2.06) for softmax-sdpa" in text
    assert (
        "The exponents are fitted to the measured lengths of T = 8,192 to 65,536 for softmax-sdpa "
        "and linear and T = 4,096 to 32,768 for softmax-naive and linear-quadratic."
    ) in text
    assert (
        "softmax-sdpa by torch's fused kernel takes 3.80 s and linear by the compiled C++ kernel "
        "of hw2 takes 3.58 ms: 1,060 times less."
    ) in text
    assert "of 512 queries on random inputs at T = 16,384, 49% of the sums of weights are" in text
    assert "4 T D^2 + 3 T D   = 1.09e+09" in explanation.derivation(committed("default"))


def test_a_crossing_says_what_it_was_interpolated_from() -> None:
    older = committed("default")
    assert older.crossing_points == ()
    (said,) = explanation.crossing_sentences(older)
    assert said.startswith(
        "Linear attention is faster from about T = 135 on (interpolated between two lengths whose "
        "times this run has not kept). By the number of operations, both cost the same at about "
    )
    assert tables.crossing_table(older) is None
    kept = tuple(
        CrossingPoint(T=T, median_ms={"softmax-sdpa": a, "linear": b})
        for T, a, b in ((64, 0.01, 0.02), (128, 0.025, 0.026), (256, 0.072, 0.04))
    )
    newer = older.model_copy(update={"crossing_points": kept})
    (said,) = explanation.crossing_sentences(newer)
    assert (
        "from about T = 135 on (interpolated between T = 128, with 0.025 ms of softmax-sdpa and "
        "0.026 ms of linear, and T = 256, with 0.072 ms of softmax-sdpa and 0.04 ms of linear)."
    ) in said
    shown = tables.crossing_table(newer)
    assert shown is not None
    assert shown.cells()[1] == ["128", "0.025 ms", "0.026 ms"]
    assert shown in tables.all_tables(newer)


def test_a_largest_output_is_an_order_of_magnitude() -> None:
    # 126,446 at T = 4,096, then 18,888 and 39,395.
    assert explanation.largest_outputs(committed("default")) == (
        "The largest output at T = 4,096, 8,192 and 16,384 is about 10^4 to 10^5 standard "
        "deviations of the values, and changes from sample to sample; an average can never leave "
        "their range."
    )
    table = tables.normalizers_table(committed("default"), longest_only=True)
    assert table.cells()[0][-1] == "4e+04"
    assert "without the exponential" in table.title
    assert not any(note.startswith("softmax:") for note in table.notes)


def test_a_predicted_time_is_the_last_one_times_the_ratio_of_the_operations() -> None:
    summary = committed("default")
    times = summary.times_ms("forward", "softmax-naive")
    predicted = summary.times_ms("forward", "softmax-naive", "predicted")
    assert predicted[65536] == pytest.approx(4 * times[32768])
    (note,) = tables.times_table(summary).notes
    assert "times the ratio of the operations (4 for twice the length" in note


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


def test_where_linear_attention_is_slower_or_always_faster_that_is_said() -> None:
    found = committed("default")
    tried = [CrossingPoint(T=T, median_ms={"softmax-sdpa": 2.0, "linear": 1.0}) for T in (8, 16)]
    always = found.model_copy(update={"crossover_T": None, "crossing_points": tuple(tried)})
    (said,) = explanation.crossing_sentences(always)
    assert said == "Linear attention is faster at all lengths that were tried, from T = 8 to 16."
    tried[1] = CrossingPoint(T=16, median_ms={"softmax-sdpa": 1.0, "linear": 2.0})
    (said,) = explanation.crossing_sentences(
        always.model_copy(update={"crossing_points": tuple(tried)})
    )
    assert said.startswith("No length was found from which linear attention is faster")
    untried = always.model_copy(update={"crossing_points": ()})
    assert explanation.crossing_sentences(untried) == []
    # The shortest lengths alone: the ratio is told the right way round.
    rows = [row for row in found.rows if min(found.lengths) == row.T]
    slower = {row.method: 2.0 if row.method == "linear" else 1.0 for row in rows}
    rows = [row.model_copy(update={"median_ms": slower[row.method]}) for row in rows]
    short = always.model_copy(update={"rows": rows})
    assert "2 times more." in " ".join(explanation.findings(short))


def test_a_time_at_a_few_tokens_predicts_no_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []

    def time_in_turns(calls: dict[str, int], **how: object) -> dict[str, Times]:
        (T,) = calls.values()
        timed.append(T)
        return {"probe": Times(1e-6 * T, 1e-6 * T, 1e-6 * T)}

    monkeypatch.setattr(points.measure, "time_in_turns", time_in_turns)
    monkeypatch.setattr(points, "make_call", lambda case: case.T)
    settings = BenchSettings(
        shape=committed("default").shape,
        lengths=(16, 65536),
        methods=("linear",),
        directions=("forward",),
        device="cpu",
        threads=1,
        kernels="torch",
        memory_limit_bytes=10**6,
        time_limit_s=30,
        seed=0,
    )
    pace = points.Pace(settings)
    pace.record(settings.case("linear", 16, "forward"), 1e-3)
    for _ in range(2):
        pace.estimate_s(settings.case("linear", 65536, "forward"))
    # Nor is one tried that does not fit.
    assert timed == [512]

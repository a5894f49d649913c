"""The typed summary of a run, its sentences, and the committed runs."""

from dataclasses import replace
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


def of_shape(**changes: object) -> AttentionSummary:
    found = committed("default")
    return found.model_copy(update={"shape": found.shape.model_copy(update=changes)})


@pytest.mark.parametrize("name", ["default", "million"])
def test_the_sentences_of_the_committed_tables_are_those_of_today(name: str) -> None:
    written = (REFERENCE / name / "table.md").read_text()
    said = [
        explanation.derivation(committed(name)),
        " ".join(explanation.findings(committed(name))),
    ]
    assert written.startswith("\n".join(said) + "\n")


def test_a_causal_run_keeps_running_sums_and_its_map_has_letters_of_its_own() -> None:
    text = explanation.derivation(of_shape(causal=True, feature_map="elu1"))
    assert "linear:   y_i = sum_{j<=i} (a_i.b_j) v_j / sum_{j<=i} a_i.b_j" in text
    assert "with      a = phi(q), b = phi(k): the elu1 map" in text
    assert "S_i = S_{i-1} + b_i v_i^T" in text
    assert "No factor 1 / sqrt(D) is needed." in text
    assert "the same for every i" not in text
    assert "cancels" not in text
    mapped = explanation.derivation(of_shape(feature_map="relu"))
    assert "y_i = sum_j (a_i.b_j) v_j" in mapped
    assert "the same for every i" in mapped
    assert "phi" not in explanation.derivation(of_shape(causal=True))


def test_the_price_names_the_weights_that_it_was_studied_for() -> None:
    (plain,) = explanation.price(committed("default"))
    assert plain.startswith("The price: of 512 queries")
    (causal,) = explanation.price(of_shape(causal=True))
    assert causal.startswith("The price (without a causal mask): of 512 queries")
    (mapped,) = explanation.price(of_shape(feature_map="elu1"))
    assert mapped.startswith("The price (for weights q.k without a feature map): of 512 queries")
    assert mapped.endswith(
        "With the elu1 map of this run, 0% are negative and 0% cancel by more than 99%."
    )


def test_equal_operations_are_counted_for_what_was_timed() -> None:
    def said(found: AttentionSummary) -> str:
        return explanation.crossing_sentences(found)[0].rpartition("at about ")[2]

    default = committed("default")
    assert said(default) == "T = D = 64."
    # Forwards and backwards: 14 T^2 D against 12 T D^2, which is T = 6/7 D.
    both = [row.model_copy(update={"direction": "forward+backward"}) for row in default.rows]
    assert said(default.model_copy(update={"rows": tuple(both)})) == "T = 55."
    # Causal, compiled: 2 T (T + 1) D against 4 T D^2 + 96 T D, which is T + 1 = 2 D + 48.
    renamed = [
        row.model_copy(
            update={"method": "linear-chunked" if row.method == "linear" else row.method}
        )
        for row in default.rows
    ]
    causal = of_shape(causal=True).model_copy(update={"rows": tuple(renamed)})
    assert said(causal) == "T = 175."
    # Causal, by torch: 2 T (T + 1) D against 24,896 operations for each token of chunks of 32. At
    # T = 1 both are 4 D; at T = 208, which takes seven chunks, linear attention needs more for the
    # last time.
    by_torch = causal.machine.model_copy(update={"kernels": "torch"})
    assert said(causal.model_copy(update={"machine": by_torch})) == "T = 209."


def test_what_the_check_left_out_is_said() -> None:
    default = committed("default")
    (note,) = tables.gate_table(default).notes
    assert "T = 1, 7, 67, 2051" in note
    gate = [entry.model_copy(update={"skipped": (67, 2051)}) for entry in default.gate[:1]]
    notes = tables.gate_table(default.model_copy(update={"gate": tuple(gate)})).notes
    assert notes[1] == (
        "softmax-sdpa was not checked in float32 at T = 67 and 2051, where it needs more than "
        "1 GiB."
    )
    gate = [entry.model_copy(update={"skipped_float64": (2051,)}) for entry in default.gate[:1]]
    notes = tables.gate_table(default.model_copy(update={"gate": tuple(gate)})).notes
    assert notes[1:] == [
        "softmax-sdpa was not checked in float64 at T = 2051, where it needs more than 1 GiB."
    ]


def test_a_probe_fits_even_where_one_token_of_all_heads_does_not() -> None:
    settings = BenchSettings(
        shape=committed("default").shape.model_copy(update={"batch": 4096, "heads": 4096}),
        lengths=(65536,),
        methods=("linear",),
        directions=("forward",),
        device="cpu",
        threads=1,
        kernels="torch",
        memory_limit_bytes=2**22,
        time_limit_s=30,
        seed=0,
    )
    case = settings.case("linear", 65536, "forward")
    assert not settings.fits(replace(case, T=1))
    # The probe is of one head, whose operations are a part of the case's.
    assert points.Pace(settings).estimate_s(case) > 0


def test_a_run_on_apples_gpu_speaks_of_no_fused_kernel() -> None:
    found = committed("default")
    machine = found.machine.model_copy(update={"device": "mps", "kernels": "torch"})
    there = found.model_copy(update={"machine": machine})
    said = [
        *tables.method_notes(there),
        *explanation.findings(there),
        *(text.get_text() for text in pictures.draw_times(there).axes[0].texts),
    ]
    assert "softmax-sdpa by torch's own function takes 3.80 s" in " ".join(said)
    assert any("may store the T x T weights" in line for line in said)
    assert any(line.endswith("\ntorch's own function") for line in said)
    assert not any("fused" in line or "never stores" in line for line in said)

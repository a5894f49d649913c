"""What is printed of a network: the answer first, what is exact and what is rounded, the checks."""

from typing import Any

import pytest

from hwcli.rnn.answer import Answer, answer
from hwcli.rnn.letters import BITS, Alphabet
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.tables import answer_lines, evidence_lines, final_line, steps_table, trace_table

INTEGERS = tuple((n,) for n in range(-9, 10))


def found(inputs: Any, letters: Any = INTEGERS, expected: str | None = None, **spec: Any) -> Answer:
    (network,) = NetworkSpec.model_validate(spec).networks()
    return answer(
        network,
        [(x,) for x in inputs],
        Alphabet(tuple(letters)),
        max_states=500,
        seed=0,
        expected=expected,
    )


HOMEWORK: dict[str, Any] = {"w_in": 1, "w_rec": -1, "w_out": 1000}
LINEAR: dict[str, Any] = {"output_activation": "identity"}
STEP: dict[str, Any] = {"activation": "step", "output_activation": "identity"}


def test_the_answer_for_the_length_at_hand_comes_first_and_once() -> None:
    lines = answer_lines([found([3, -1, 4, 4], **HOMEWORK)], "random integers, seed 3")
    assert lines[0].startswith("For T = 4 (even) and integer inputs: y_T is 1 when the sum of the")
    assert lines[1].startswith("For odd T and integer inputs: y_T is 1 when the sum of the inputs")
    assert sum("exceeds" in line for line in lines) == 2
    assert lines[3] == (
        "Example (random integers, seed 3, T = 4): h_T = -4 and z_T = -4000 exactly; y_T rounds "
        "to 0."
    )
    assert lines[-4:] == [
        "The network, with h_0 = 0:",
        "  h_t = -h_{t-1} + x_t",
        "  z_t = 1000·h_t",
        "  y_t = logistic(z_t) = 1/(1 + exp(-z_t))",
    ]


@pytest.mark.parametrize(
    ("inputs", "spec", "said"),
    [
        ([5, 5], HOMEWORK, "h_T = 0, z_T = 0 and y_T = 0.5 exactly."),
        ([2], {**HOMEWORK, "w_out": 1}, "h_T = 2 and z_T = 2 exactly; y_T ≈ 0.880797."),
        ([2], {**HOMEWORK, "output_activation": "identity"}, "z_T = 2000 and y_T = 2000 exactly."),
        ([1], {**HOMEWORK, "activation": "tanh", "output_activation": "step"},
         "h_T ≈ 0.761594, z_T ≈ 761.594 and y_T = 1."),
        ([1], {**HOMEWORK, "activation": "tanh", "output_activation": "identity", "w_out": 1},
         "h_T ≈ 0.761594 and z_T ≈ 0.761594; y_T ≈ 0.761594."),
    ],
)  # fmt: skip
def test_only_what_is_exact_is_called_so(inputs: Any, spec: Any, said: str) -> None:
    line = final_line(found(inputs, **spec))
    assert line.startswith(f"For the given inputs (T = {len(inputs)}): ")
    assert line.endswith(said)


def test_headings_say_what_is_rounded() -> None:
    def headings(**spec: Any) -> list[str]:
        each = found([1, 0], BITS, **spec)
        table = steps_table(each.network, each.closed, each.traced, 2)
        return [column.heading for column in table.columns][-4:]

    assert headings(**HOMEWORK) == ["h_t by the inputs alone", "h_t", "z_t", "y_t (rounded)"]
    assert headings(**HOMEWORK, **STEP) == ["h_t in numbers", "h_t", "z_t", "y_t"]
    assert headings(**HOMEWORK, activation="tanh")[1:] == [
        "h_t (rounded)",
        "z_t (rounded)",
        "y_t (rounded)",
    ]


def test_a_table_of_all_steps_is_called_so() -> None:
    each = found([1, 0], BITS, **HOMEWORK)
    titles = [steps_table(each.network, each.closed, each.traced, n).title for n in (1, 2)]
    assert titles == ["The first of 2 steps", "All 2 steps"]


def test_the_evidence_ends_in_the_gradients_and_repeats_no_formula() -> None:
    lines = evidence_lines(found([3, -1, 4, 4], **HOMEWORK))
    assert lines[-1] == (
        "Gradients: abs(dh_T/dx_t) is 1 for every t, whatever the inputs are: the gradient neither "
        "vanishes nor explodes. The output unit is saturated at z_T = -4000: its derivative is "
        "less than 10^-100, so almost nothing of a squared error reaches the weights. With "
        "cross-entropy dE/dz_T = y_T - target, without this derivative."
    )
    assert lines[-2].startswith("Besides the proof, the network was run on all 380 sequences of up")
    assert lines[-2].endswith("more: the answer was right for every one.")
    assert not any(line.startswith(("h_T =", "z_T =", "  for ")) for line in lines)


def test_formulas_of_both_parities_are_shown_once_where_more_than_the_sign_differs() -> None:
    both = found([1], w_in=[[1], [1]], w_rec=[[1, 0], [0, -1]], w_out=[1, 2], bias=[0, 1])
    lines = evidence_lines(both)
    assert sum(". For even T, z_T = " in line for line in lines) == 1
    assert any(line.startswith("  for even T: h[2]_T = ") for line in lines)
    # Of one hidden unit the proof has said all.
    one = evidence_lines(found([1], w_in=1, w_rec=-1, w_out=1, bias="1/2"))
    assert [line for line in one if line.lstrip().startswith(("h_T =", "z_T =", "for "))] == []
    assert [line.partition(":")[0] for line in one if not line.startswith("  ")][-1] == "Gradients"


def test_activations_are_defined_where_an_equation_names_them() -> None:
    assert "logistic(z) is 1/(1 + exp(-z))." in answer_lines(
        [found([1, 0], BITS, **{**HOMEWORK, "activation": "logistic"})]
    )
    assert any(
        line.startswith("step(z) is 1 for z > 0")
        for line in answer_lines([found([1, 0], BITS, **HOMEWORK, **STEP)])
    )


@pytest.mark.parametrize(
    ("expected", "change", "passed"),
    [
        ("running-sum", {}, True),
        ("running-sum", {"output_bias": -3}, False),  # 1 where the sum exceeds 3/2
        ("running-sum", {"output_activation": "step-ge"}, False),  # 1 at a tie
        ("running-sum", {"output_activation": "identity"}, True),  # shows twice the sum
        ("running-sum", {"w_out": -2}, False),
        ("last-input", {"w_rec": 0, "output_activation": "sign"}, True),
        # Over these inputs, which are no bits, ones are counted by no sum.
        ("count-ones", {"output_activation": "identity"}, False),
    ],
)
def test_a_sum_is_expected_with_its_sign(expected: str, change: Any, passed: bool) -> None:
    spec: dict[str, Any] = {"w_in": 1, "w_rec": 1, "w_out": 2, **change}
    verdict = found([1], [(-1,), (0,), (1,)], expected, **spec).verdict
    assert verdict is not None
    assert verdict.passed == passed


@pytest.mark.parametrize("expected", ["running-sum", "count-ones"])
def test_of_bits_the_sum_is_the_number_of_ones(expected: str) -> None:
    shown = {"w_in": 1, "w_rec": 1, "w_out": 2, "output_activation": "identity"}
    verdict = found([1, 0, 1], BITS, expected, **shown).verdict
    assert verdict is not None
    assert (verdict.passed, verdict.proved) == (True, True)


@pytest.mark.parametrize(
    ("expected", "spec", "said"),
    [
        ("running-sum", {"w_rec": -1, "w_out": -1},
         "After -9 the output is above 0.5, expected below 0.5;"),
        ("running-sum", {"w_rec": -1, "w_out": -1, "output_activation": "step"},
         "After -9 the output is 1, expected 0;"),
        ("running-sum", {"w_rec": -1, "w_out": -1, "output_activation": "sign"},
         "After -9 the output is 1, expected 0 or -1;"),
        ("running-sum", {"w_rec": -1, "w_out": -1, "output_activation": "relu"},
         "After -9 the output is 9, expected 0;"),
        ("running-sum", {"w_rec": 0, "w_out": 0, "output_bias": 1},
         "After -9 the output is above 0.5, expected below 0.5;"),
        ("last-nonzero-input", {"w_rec": 0, "w_out": 0, "output_bias": 3},
         "After -9 the output is above 0.5, expected below 0.5;"),
        ("count-mod-3", {"w_rec": 1, "w_out": 1, "output_activation": "step"},
         "After 2 the output is 1, expected 0;"),
        ("count-mod-3", {"w_rec": 0, "w_out": 1, "output_activation": "step"},
         "After 1, 0 the output is 0, expected 1;"),
        ("count-mod-3", {"w_rec": 1, "w_out": 1, "output_activation": "tanh"},
         "After 1, 1 the output is above 0, expected 2, which this output unit never shows;"),
    ],
)  # fmt: skip
def test_what_is_expected_is_what_the_output_unit_can_show(
    expected: str, spec: Any, said: str
) -> None:
    letters = INTEGERS
    if expected == "count-mod-3":
        letters = ((0,), (1,), (2,)) if said.startswith("After 2") else tuple(BITS)
    verdict = found([1], letters, expected, w_in=1, **spec).verdict
    assert verdict is not None
    assert f"FAIL. {said}" in verdict.text


def test_a_tie_of_a_logistic_unit_may_stand_for_zero() -> None:
    verdict = found([1], BITS, "last-input", w_in=1, w_rec=0, w_out=1, output_bias=1).verdict
    assert verdict is not None
    assert "After 0 the output is above 0.5, expected below 0.5 or 0.5;" in verdict.text


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"w_rec": 0}, "vanishes: 1 at the last step, 0 at each of the 2 steps before. The netw"),
        ({"w_rec": "1/40"}, "vanishes: 1 at the last step, 0.000625 at t = 1. The network cannot"),
    ],
)
def test_where_a_gradient_vanishes_has_one_reading(spec: Any, said: str) -> None:
    lines = evidence_lines(found([1, 2, 3], w_in=1, w_out=1, **spec))
    assert f"Gradients: abs(dh_T/dx_t) {said}" in lines[-1]


def test_the_state_of_a_stack_is_named_by_what_it_holds() -> None:
    on = {"w_in": 1, "w_rec": 0, "activation": "step"}
    gates: dict[str, Any] = dict.fromkeys(("input", "forget", "output"), on)
    gates["candidate"] = {"w_in": 3, "w_rec": 0, "activation": "linear"}
    cell = {"cell": "lstm", "gates": gates, "cell_activation": "step"}
    # The gates are 1 and the candidate 6: c = 0 + 6, and h = step(6).
    one = found([2], ((2,),), layers=cell, w_out=1, output_activation="linear")
    assert final_line(one).endswith("(h_T, c_T) = (1, 6), z_T = 1 and y_T = 1 exactly.")
    headings = [column.heading for column in steps_table(one.network, None, one.traced, 1).columns]
    assert "(h_t, c_t)" in headings
    two = found([2], ((2,),), layers=[{"w_in": 1, "w_rec": 0}, cell], w_out=1)
    assert "(h(1)_T, h(2)_T, c(2)_T) = (2, 1, 6)" in final_line(two)
    assert trace_table(one.network, one.traced).to_csv().splitlines() == [
        "t,x,h,c,z,y",
        "1,2,1,6,1,1",
    ]
    names = trace_table(two.network, two.traced).to_csv().splitlines()[0]
    assert names == "t,x,h(1),h(2),c(2),z,y"


def test_a_number_of_many_digits_is_a_float_where_programs_read_it() -> None:
    grown = found([1, 0, 0, 0], BITS, w_in="1/3", w_rec=10**9, w_out=10**290, **LINEAR)
    rows = trace_table(grown.network, grown.traced).rows
    assert rows[0]["h"] == "1/3"
    assert rows[2]["h"] == pytest.approx(1e18 / 3, rel=1e-15)
    assert rows[1]["z"] == pytest.approx(1e299 / 3, rel=1e-15)
    # 10^317 / 3 is beyond float64.
    assert rows[3]["z"] == "≈3.3333e+316"


def test_a_machine_that_holds_up_to_a_length_is_no_proof_for_all() -> None:
    # The gates of this LSTM leak: its parity holds for every sequence in sight, not for ever.
    gates: dict[str, Any] = {
        "input": {"w_in": 200, "w_rec": -400, "bias": -50},
        "forget": {"w_in": -200, "w_rec": 0, "bias": 100},
        "output": {"w_in": 0, "w_rec": 0, "bias": 100},
        "candidate": {"w_in": 0, "w_rec": 0, "bias": 100},
    }
    lstm = found(
        [1, 0], BITS, "parity", layers={"cell": "lstm", "gates": gates}, w_out=1,
        output_bias="-1/2", output_activation="step",
    )  # fmt: skip
    assert lstm.verdict is not None
    assert lstm.verdict.passed
    assert "all sequences of up to 1,000 steps" in lstm.verdict.text

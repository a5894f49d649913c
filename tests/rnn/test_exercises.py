"""Exercises that courses set, answered in words. Sources are named; weights are our own where the
exercise asks to choose them."""

import itertools
import random
import re
from fractions import Fraction
from typing import Any

import pytest

from hwcli.rnn.answer import Answer, answer
from hwcli.rnn.gradients import Gradients, gradients, lesson
from hwcli.rnn.letters import BIT_PAIRS, BITS, Alphabet
from hwcli.rnn.loss import loss
from hwcli.rnn.sequences import parse_sequence
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.trace import trace


def solved(
    spec: dict[str, Any], letters: Any = BITS, inputs: Any = None, names: Any = None
) -> Answer:
    (network,) = NetworkSpec.model_validate(spec).networks()
    alphabet = Alphabet(tuple(letters), names or {})
    return answer(network, inputs or list(letters), alphabet, max_states=500, seed=0)


def outputs(found: Answer) -> list[Any]:
    return [step.output for step in found.traced.head]


def statement(found: Answer) -> str:
    assert found.finding.proved
    assert found.checks.num_failed == 0
    return found.finding.statement.text


def bits(text: str) -> list[Any]:
    return [(int(bit),) for bit in text]


def test_even_number_of_ones_by_or_and_nand() -> None:
    # jupytext notebook "simple RNN for the even-odd problem".
    found = solved({
        "U": [[1], [-1]], "W": [[1, 1], [-1, -1]], "b": ["-3/2", "5/2"], "h_0": [1, 1],
        "V": [1, 1], "c": "-3/2", "activation": "step", "output_activation": "step",
    })  # fmt: skip
    assert statement(found) == (
        "y_T is 1 when the number of ones is even, 0 when the number of ones is odd."
    )


def test_binary_addition_with_a_step_output() -> None:
    # csc477/website_fall24, week 8, rnn-addition (CSC413).
    found = solved({
        "W_xh": [[1, 1]] * 3, "W_hh": [[0, 1, 0]] * 3, "b_h": ["-1/2", "-3/2", "-5/2"],
        "W_hy": [1, -1, 1], "b_y": "-1/2", "activation": "step", "output_activation": "step",
    }, BIT_PAIRS)  # fmt: skip
    assert found.finding.id == "binary-addition"
    assert found.finding.proved


def test_one_until_the_first_zero() -> None:
    # transtutors 11413526: h_0 = 0.
    found = solved({
        "w_in": -1, "w_rec": 1, "bias": "1/2", "w_out": -1, "output_bias": 1,
        "activation": "step", "output_activation": "identity",
    })  # fmt: skip
    assert statement(found) == "y_T is 1 when no zero has come, 0 when a zero has come."


def test_parity_of_zeros_by_thresholds() -> None:
    # An exam's collection, makeup 2020: units are 1 where z >= threshold.
    found = solved({
        "W": [[1, 1], [-1, -1]], "U": [[1], [-1]], "threshold": [2, 0], "V": [1, 1],
        "output_threshold": 1, "h_0": [1, 0],
    }, inputs=bits("0100101"))  # fmt: skip
    assert outputs(found) == [0, 0, 1, 0, 0, 1, 1]
    assert statement(found) == (
        "y_T is 1 when the number of zeros is even, 0 when the number of zeros is odd."
    )


def test_the_next_letter_of_a_repeating_word() -> None:
    # solutioninn 13433621: abbabbabba..., a after b b; a is 0 and b is 1.
    found = solved({
        "w_in": [[1], [0]], "w_rec": [[0, 0], [1, 0]], "bias": "-1/2", "w_out": [-1, -1],
        "output_bias": 1, "activation": "step", "output_activation": "step-ge",
    })  # fmt: skip
    assert statement(found) == (
        "y_T is 0 when x_{T-1} is one and x_T is one, 1 otherwise. Here x_t counts as 0 for t < 1."
    )


def test_equal_streams_by_an_output_that_feeds_on_its_own_past() -> None:
    # transtutors 13373647: y_t = g(v h_t + r y_{t-1} + c), no recurrence in the hidden units.
    found = solved({
        "w_in": [[1, -1], [-1, 1]], "w_rec": [[0, 0], [0, 0]], "bias": "-1/2", "w_out": [-1, -1],
        "output_recurrent": 1, "output_bias": "-1/2", "initial_output": 1, "activation": "step",
        "output_activation": "step",
    }, BIT_PAIRS)  # fmt: skip
    assert statement(found) == (
        "y_T is 1 when the two streams have been equal so far, 0 when the two streams have "
        "differed at some step."
    )


def test_parity_by_a_scalar_lstm_with_saturated_gates() -> None:
    # bikcrum/AI535-Deep-Learning-HW3 and kapshaul/nlp-rnn-state-machines: gates of about 100.
    found = solved({
        "layers": {"cell": "lstm", "gates": {
            "input": {"w_in": 200, "w_rec": -400, "bias": -50},
            "forget": {"w_in": -200, "w_rec": 0, "bias": 100},
            "output": {"w_in": 0, "w_rec": 0, "bias": 100},
            "candidate": {"w_in": 0, "w_rec": 0, "bias": 100},
        }}, "w_out": 1, "output_bias": "-1/2", "output_activation": "step",
    }, inputs=bits("1011"))  # fmt: skip
    assert outputs(found) == [1, 1, 0, 1]
    assert statement(found) == (
        "y_T is 1 when the number of ones is odd, 0 when the number of ones is even."
    )
    # The forget gate leaks 4e-44 of the cell at each step: not for ever, but for every T in sight.
    assert found.finding.scope.startswith("for every sequence of up to 1,000 steps")


def test_what_a_recurrent_weight_controls_in_keras_matrices() -> None:
    # yashn35/MachineLearning, Advanced-ML/RNN/RNN-2a.py: kernels are written inputs x units.
    spec = {"w_in": [[0, 1]], "w_rec": [[0, 0], [1, 0]], "transposed": True,
            "activation": "linear"}  # fmt: skip
    networks = NetworkSpec.model_validate(spec).networks()
    numbers = tuple((n,) for n in range(-3, 4))
    said = [
        answer(each, numbers, Alphabet(numbers), max_states=9, seed=0).finding.statement.text
        for each in networks
    ]
    assert said == ["y_T is x_{T-1} (0 for T < 2).", "y_T is the last input."]


@pytest.mark.parametrize(
    ("spec", "inputs", "hidden"),
    [
        # TomLous/coursera-neural-networks-octave-scala, quiz 7, question 3.
        ({"W_xh": 0.5, "W_hh": -1, "W_hy": -0.7, "b_h": -1, "activation": "sigmoid",
          "output_activation": "linear"}, [9, 4, -2], [0.970688, 0.507328, 0.0753461]),
        # AyanPaul2210/Deep-Learning-Tutorial.
        ({"w_in": 0.9, "w_rec": 0.5, "bias": 0.3, "h_0": 0.1, "activation": "tanh"},
         ["0.7", "0.5", "0.2"], [0.752987, 0.8093, 0.708873]),
    ],
)  # fmt: skip
def test_numbers_by_hand(spec: dict[str, Any], inputs: Any, hidden: list[float]) -> None:
    sequence = parse_sequence(inputs)
    found = solved(spec, sorted(set(sequence)), sequence)
    assert [float(step.hidden[0]) for step in found.traced.head] == pytest.approx(hidden, rel=1e-3)


def test_a_relu_network_by_hand() -> None:
    # A StackExchange thread on an RNN by hand.
    found = solved(
        {"U": [[1], [2]], "W": [[1, -1], [1, 1]], "V": [-1, 1], "activation": "relu",
         "output_activation": "relu"},
        [(n,) for n in (3, 4, 5, 6)], [(n,) for n in (3, 4, 5, 6)],
    )  # fmt: skip
    assert outputs(found) == [3, 16, 28, 40]


def test_three_inputs_and_a_label() -> None:
    # ducnd58233/aio-2024-hw, Q15 to Q17: the label is 1 where y > 0.
    found = solved(
        {"w_in": [[1, 0, -1], [0, "1/2", 1]], "w_rec": [[0, 1], [1, 0]], "w_out": [1, 1],
         "activation": "tanh", "output_activation": "step"},
        [(1, 2, 3), (4, 5, 6)], [(1, 2, 3), (4, 5, 6)],
    )  # fmt: skip
    # z_1 = tanh(-2) + tanh(4) > 0; z_2 = tanh(-2 + h[2]_1) + tanh(17/2 + h[1]_1) > 0.
    assert outputs(found) == [1, 1]


@pytest.mark.parametrize(("activation", "limit"), [("tanh", 1), ("logistic", 4)])
def test_for_which_weights_the_gradient_vanishes(activation: str, limit: int) -> None:
    # csc477/website_fall24, week 8, rnn-scalar: for every w with abs(w) < 1, not for one of them.
    spec = {"w_in": 2, "w_rec": "1/2", "w_out": 1, "activation": activation}
    told = lesson(solved(spec).network, _gradients_of(spec, 5))
    match = re.search(r"abs\(dh_T/dx_1\) <= (\S+)·\(abs\(w\)(?:/(\d+))?\)\^\(T - 1\)", told)
    assert match is not None
    assert f"for abs(w) < {limit} the gradient vanishes" in told
    for w, T in itertools.product(("-9/10", "1/3", "7/2", "-5"), (1, 2, 6, 20)):
        size = abs(float(Fraction(w))) / int(match[2] or 1)
        bound = float(Fraction(match[1])) * size ** (T - 1)
        found = _gradients_of({**spec, "w_rec": w}, T)
        assert abs(float(found.hidden[0][0][0])) <= bound * (1 + 1e-9)


def _gradients_of(spec: dict[str, Any], T: int) -> Gradients:
    network = NetworkSpec.model_validate(spec).network()
    inputs = [(random.Random(T).choice((-1, 0, 1)),) for _ in range(T)]
    return gradients(network, trace(network, inputs).head)


def test_errors_and_gradients_of_a_loss_by_hand() -> None:
    # TomLous/coursera-neural-networks-octave-scala, quiz 7, question 5, with targets of our own.
    spec = {"W_xh": 1, "W_hh": -2, "W_hy": 1, "activation": "sigmoid",
            "output_activation": "linear"}  # fmt: skip
    network = NetworkSpec.model_validate(spec).network()
    targets = [0, "1/2", 1, "1/2"]
    exact = [Fraction(d) for d in targets]
    found = loss(network, [(1,)] * 4, exact, "squared")
    assert float(found.steps[3].output) == pytest.approx(0.4718, abs=1e-4)

    def total(w_rec: Fraction) -> float:
        moved = NetworkSpec.model_validate({**spec, "W_hh": w_rec}).network()
        return float(loss(moved, [(1,)] * 4, exact, "squared").total)

    step = Fraction(1, 2**20)
    expected = (total(-2 + step) - total(-2 - step)) / float(2 * step)
    assert float(found.weights["w_rec"]) == pytest.approx(expected, rel=1e-6)
    # dE/dz_4 = y_4 - d_4, as nothing follows it.
    assert float(found.steps[3].output_gradient) == pytest.approx(0.4718 - 0.5, abs=1e-4)


def test_an_accumulator_and_a_difference_of_streams() -> None:
    # MIT 6.036, lab 11; askfilo 3437333137343032.
    summed = solved({"w_in": 1, "w_rec": 1, "w_out": 1, "output_activation": "linear"},
                    [(-1,), (0,), (2,)])  # fmt: skip
    assert statement(summed) == "y_T is the sum of all inputs."
    streams = solved({"w_in": [[1, -1]], "w_rec": 1, "w_out": 1, "output_activation": "linear"},
                     [(-1, 0), (3, 5)])  # fmt: skip
    assert statement(streams) == (
        "y_T is (the sum of the first inputs) minus (the sum of the second inputs)."
    )


def test_one_hot_letters_have_names_and_argmax_a_class() -> None:
    # The outputs count a's and b's modulo nothing: after the last letter the larger one is its own.
    found = solved(
        {"w_in": [[1, 0], [0, 1]], "w_rec": [[0, 0], [0, 0]], "w_out": [[1, 0], [0, 1]],
         "activation": "step", "output_activation": "softmax"},
        [(1, 0), (0, 1)], names={(1, 0): "a", (0, 1): "b"},
    )  # fmt: skip
    assert statement(found) == "y_T is 2 when the last input is b, 1 when the last input is a."


def test_a_second_layer_and_a_gru() -> None:
    # Layer 1 notices ones; layer 2 remembers that one has come.
    stacked = solved({
        "layers": [
            {"w_in": 1, "w_rec": 0, "bias": "-1/2", "activation": "step"},
            {"w_in": 1, "w_rec": 1, "bias": "-1/2", "activation": "step"},
        ], "w_out": 1, "output_activation": "identity",
    })  # fmt: skip
    assert statement(stacked) == "y_T is 1 when a one has come, 0 when not a single one has come."
    gru = solved({
        "layers": {"cell": "gru", "gates": {
            "reset": {"w_in": 0, "w_rec": 0, "bias": 100},
            "update": {"w_in": 0, "w_rec": 0, "bias": -100},
            "candidate": {"w_in": 20, "w_rec": 0, "bias": -10},
        }}, "w_out": 1, "output_activation": "step",
    })  # fmt: skip
    assert statement(gru) == "y_T is 1 when the last input is one, 0 when the last input is zero."

"""What is written of a network is read, or refused with its key and the cure."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from hwcli.config import load
from hwcli.experiments.rnn_trace import COMMAND, Config
from hwcli.rnn.answer import answer
from hwcli.rnn.letters import BITS, Alphabet
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.spelling import output_formulas, recurrences, start_in_words
from hwcli.rnn.trace import trace

SIMPLE: dict[str, Any] = {"w_in": 1, "w_rec": 1}
GATE: dict[str, Any] = {"w_in": 1, "w_rec": 1}


def lstm(**more: Any) -> dict[str, Any]:
    gates = dict.fromkeys(("input", "forget", "output", "candidate"), GATE)
    return {"cell": "lstm", "gates": gates, **more}


def gru(**gates: Any) -> dict[str, Any]:
    return {"cell": "gru", "gates": {"reset": GATE, "update": GATE, "candidate": GATE, **gates}}


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"layers": gru(reset={"U": 1, "W": 2}), "w_out": 1},
         "network.layers: U of a gate has two meanings"),
        ({"layers": gru(reset={"W_xh": 1, "W": 2}), "w_out": 1},
         "network.layers: W of a gate has two meanings"),
        ({"layers": lstm(U=1), "w_out": 1}, "network.layers: w_in has no effect in a layer of"),
        ({"layers": {**gru(), "initial_cell": 1}, "w_out": 1}, "network.layers: initial_cell has"),
        ({"layers": {**SIMPLE, "cell_activation": "relu"}}, "network.layers: cell_activation has"),
        ({"layers": [SIMPLE, {"w_in": [[1, 5]], "w_rec": 0}], "w_out": 1},
         "network.layers[2].w_in is 1 x 2: expected 1 x 1"),
        ({"layers": gru(update={"w_in": [[1, 2]], "w_rec": 1}), "w_out": 1},
         "network.layers.gates.update.w_in is 1 x 2: expected 1 x 1"),
        ({"layers": gru(candidate={"w_in": 1, "w_rec": 1, "bias": [1, 2]}), "w_out": 1},
         "network.layers.gates.candidate.bias has 2 numbers: expected 1"),
        ({"layers": {"w_in": [[1], [1]], "w_rec": [[1, 2], [3]]}, "w_out": 1},
         "network.layers.w_rec is 2 x 1/2: expected 2 x 2"),
        ({"layers": SIMPLE, "w_out": [1, 2]}, "network.w_out has 2 numbers: expected 1, one for"),
        ({"layers": lstm(initial_state=[0, 0]), "w_out": 1},
         "network.layers.initial_state has 2 numbers: expected 1"),
        ({"layers": lstm(initial_cell=[0, 0]), "w_out": 1},
         "network.layers.initial_cell has 2 numbers: expected 1"),
        ({"w_in": [[1, 2], [3, 4], [5, 6]], "w_rec": [[1, 2]], "transposed": True},
         "network.w_rec is 1 x 2: expected 2 x 2, as 2 units read 2 numbers (transposed)"),
        ({**SIMPLE, "w_out": [[1], [2]], "output_bias": [1, 2, 3], "output_activation": "softmax"},
         "network.output_bias has 3 numbers: expected 2, one for each output"),
        ({**SIMPLE, "w_out": [[1], [2]], "output_threshold": [1, 2, 3]},
         "network.output_threshold has 3 numbers: expected 2, one for each output"),
        ({**SIMPLE, "threshold": [1, 2]}, "network.threshold has 2 numbers: expected 1"),
        ({"layers": SIMPLE, "w_rec": -1, "w_out": 1}, "network.w_rec has no effect beside net"),
        ({"layers": SIMPLE, "activation": "tanh"}, "network.activation has no effect beside"),
        ({"layers": SIMPLE, "threshold": 1}, "network.threshold has no effect beside"),
        ({**SIMPLE, "w_out": 1, "w_feedback": 2, "output_recurrent": 1},
         "network.w_feedback has no effect beside network.output_recurrent"),
        ({**SIMPLE, "w_out": [[1], [2]], "w_feedback": 2, "output_activation": "argmax"},
         "network.w_feedback has no effect with network.output_activation = argmax"),
        ({**SIMPLE, "w_out": [[1], [2]], "output_recurrent": 2, "output_activation": "argmax"},
         "network.output_recurrent has no effect with network.output_activation = argmax"),
        ({**SIMPLE, "output_activation": "tanh"},
         "network.output_activation has no effect without network.w_out: give w_out"),
        ({**SIMPLE, "activation": "tanh", "threshold": 1},
         "network.activation has no effect beside network.threshold"),
        ({**SIMPLE, "w_out": 1, "output_activation": "tanh", "output_threshold": 1},
         "network.output_activation has no effect beside network.output_threshold: leave it out, "
         "or write step-ge"),
        ({**SIMPLE, "w_out": 1, "initial_output": 1},
         "network.initial_output has no effect without network.w_feedback or network.output_rec"),
        ({"layers": SIMPLE, "w_out": 1, "initial_output": 1}, "network.initial_output has no"),
        ({**SIMPLE, "w_out": [[1], [2]], "initial_output": 1, "output_activation": "argmax"},
         "network.initial_output has no effect without"),
        ({"layers": [SIMPLE, {"w_in": [[1]] * 65, "w_rec": [[0] * 65] * 65}], "w_out": 1},
         "network has 65 hidden units in a layer: up to 64 are read"),
        ({"w_in": [[1] * 65], "w_rec": [[0] * 65] * 65, "transposed": True},
         "network has 65 hidden units in a layer: up to 64 are read"),
        ({"layers": lstm(cell_activation="softmax"), "w_out": 1}, "it compares several outputs"),
        ({"layers": gru(reset={**GATE, "activation": "argmax"}), "w_out": 1},
         "it compares several outputs"),
        ({"layers": {"w_in": 1, "w_rec": "1e400", "activation": "tanh"}, "w_out": 1},
         "network.layers has a weight beyond 1e-100 to 1e+100"),
    ],
)  # fmt: skip
def test_what_would_not_be_read_is_refused(spec: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(line)):
        NetworkSpec.model_validate(spec)


def test_a_default_that_is_spelled_out_is_no_mistake() -> None:
    spelled = NetworkSpec.model_validate({"layers": SIMPLE, "w_out": 1}).model_dump(mode="json")
    assert NetworkSpec.model_validate(spelled).layers[0].w_in == ((1,),)


@pytest.mark.parametrize(
    "spec",
    [
        {"w_in": [[1], [1]], "w_rec": [[0, 0], [0, 0]], "w_out": [1, 1], "w_feedback": [0, 0],
         "output_recurrent": 1, "initial_output": 1},
        {"layers": lstm(bias=[0, 0]), "w_out": 1, "bias": [0, 0], "initial_state": [0]},
        {"layers": {**gru(), "initial_cell": [0, 0]}, "w_out": 1},
    ],
)  # fmt: skip
def test_zeros_for_each_unit_are_no_mistake_either(spec: dict[str, Any]) -> None:
    (network,) = NetworkSpec.model_validate(spec).networks()
    assert not any(network.initial_state[:-1])


def test_a_threshold_replaces_the_linear_outputs_of_a_preset() -> None:
    flags = {"network.output_threshold": 3, "inputs": "1,1,0,1,1"}
    config = load(Config, COMMAND, preset="count-ones", flags=flags)
    steps = trace(config.network.network(), config.inputs).head
    assert [step.output for step in steps] == [0, 0, 0, 1, 1]


def test_the_matrices_of_layers_are_transposed_too() -> None:
    # Two inputs, two units: h[1] reads x[1] + 3 x[2], h[2] reads 2 x[1] + 4 x[2].
    layer = {"w_in": [[1, 2], [3, 4]], "w_rec": [[0, 5], [0, 0]]}
    spec = {"layers": layer, "w_out": [[1], [10]], "transposed": True,
            "output_activation": "linear"}  # fmt: skip
    (network,) = NetworkSpec.model_validate(spec).networks()
    steps = trace(network, [(1, 1), (0, 0)]).head
    assert steps[0].hidden == (4, 6)
    assert steps[1].hidden == (0, 20)  # h[2] reads 5 times h[1]
    assert [step.output for step in steps] == [64, 200]


def test_bare_letters_keep_their_meaning_in_simple_layers() -> None:
    layer = NetworkSpec.model_validate({"layers": {"U": 2, "W": 3}, "w_out": 1}).layers[0]
    assert (layer.w_in, layer.w_rec) == (((2,),), ((3,),))


def test_a_gru_is_printed_as_it_is_computed() -> None:
    gates = {
        "reset": {"w_in": 0, "w_rec": 0, "bias": "1/2", "activation": "linear"},
        "update": {"w_in": 0, "w_rec": 0, "bias": "1/4", "activation": "linear"},
        "candidate": {"w_in": 3, "w_rec": 2, "bias": -1, "activation": "linear"},
    }
    spec = {"layers": {"cell": "gru", "gates": gates, "initial_state": 8}, "w_out": 1,
            "output_activation": "linear"}  # fmt: skip
    (network,) = NetworkSpec.model_validate(spec).networks()
    assert recurrences(network, "t") == (
        "r_t = 1/2",
        "u_t = 1/4",
        "n_t = 3·x_t + r_t·(2·h_{t-1}) - 1",
        "h_t = (1 - u_t)·n_t + u_t·h_{t-1}",
    )
    assert output_formulas(network) == ("z_t = h_t", "y_t = z_t")
    # n = 3 + 1/2 · 16 - 1 = 10 and h = 3/4 · 10 + 1/4 · 8.
    assert trace(network, [(1,)]).final.output == 19 / 2


def test_the_output_is_printed_as_that_of_the_top_layer() -> None:
    two = {"w_in": [[1], [2]], "w_rec": [[1, 0], [0, 1]], "activation": "step"}
    spec = {"layers": [SIMPLE, two], "w_out": [[1, -1], [3, 0]], "output_activation": "softmax"}
    (network,) = NetworkSpec.model_validate(spec).networks()
    assert recurrences(network, 1) == (
        "h(1)_1 = x_1 + h(1)_0",
        "h(2)[1]_1 = step(h(1)_1 + h(2)[1]_0)",
        "h(2)[2]_1 = step(2·h(1)_1 + h(2)[2]_0)",
    )
    assert output_formulas(network) == (
        "z_t = (h(2)[1]_t - h(2)[2]_t, 3·h(2)[1]_t)",
        "y_t = argmax(z_t)",
    )
    own_past = {**SIMPLE, "w_out": 3, "output_recurrent": 2, "output_activation": "step",
                "initial_output": 1}  # fmt: skip
    (remembers,) = NetworkSpec.model_validate(own_past).networks()
    assert start_in_words(remembers) == "h(1)_0 = 0, h(2)_0 = 1"
    assert recurrences(remembers, "t")[-1] == "h(2)_t = step(3·h(1)_t + 2·h(2)_{t-1})"
    assert output_formulas(remembers) == ("z_t = h(2)_t", "y_t = z_t")


def test_an_lstm_starts_with_a_cell_of_its_own() -> None:
    spec = {"layers": lstm(initial_state="1/2", initial_cell=3), "w_out": 1}
    (network,) = NetworkSpec.model_validate(spec).networks()
    assert start_in_words(network) == "h_0 = 1/2, c_0 = 3"
    assert network.num_inputs == len(BITS[0])


def test_gates_that_multiply_without_bounds_are_computed_in_float64() -> None:
    # h' = u h with u = h: 2^-1, 2^-2, 2^-4 and so on, which after 60 steps has 2^59 binary digits.
    gates = {
        "reset": {"w_in": 0, "w_rec": 0, "activation": "step"},
        "update": {"w_in": 0, "w_rec": 1, "activation": "relu"},
        "candidate": {"w_in": 0, "w_rec": 0, "activation": "linear"},
    }
    spec = {"layers": {"cell": "gru", "gates": gates, "initial_state": "1/2"}, "w_out": 1}
    (network,) = NetworkSpec.model_validate(spec).networks()
    assert not network.is_exact
    assert [step.hidden for step in trace(network, [(0,)] * 60).head[:3]] == [
        (2**-2,),
        (2**-4,),
        (2**-8,),
    ]
    bounded = {**gates, "update": {"w_in": 0, "w_rec": 1, "activation": "step"}}
    spec = {"layers": {"cell": "gru", "gates": bounded}, "w_out": 1}
    assert NetworkSpec.model_validate(spec).networks()[0].is_exact


# c' = (1 - 2x) c + x, of linear gates.
PARITY_CELL: dict[str, Any] = {
    "cell": "lstm",
    "gates": {
        "input": {"w_in": 1, "w_rec": 0, "activation": "linear"},
        "forget": {"w_in": -2, "w_rec": 0, "bias": 1, "activation": "linear"},
        "output": {"w_in": 0, "w_rec": 0, "bias": 1, "activation": "linear"},
        "candidate": {"w_in": 0, "w_rec": 0, "bias": 1, "activation": "linear"},
    },
    "cell_activation": "linear",
}


def test_gates_of_the_inputs_alone_keep_the_numbers_exact() -> None:
    spec: dict[str, Any] = {"layers": PARITY_CELL, "w_out": 1, "output_activation": "linear"}
    (network,) = NetworkSpec.model_validate(spec).networks()
    assert network.is_exact
    found = answer(network, BITS, Alphabet(BITS), max_states=100, seed=0, expected="parity")
    assert (found.finding.id, found.finding.kind) == ("parity", "state-machine")
    assert found.verdict is not None
    assert (found.verdict.passed, found.verdict.proved) == (True, True)
    # Of a layer below they multiply states.
    above = {**spec, "layers": [SIMPLE, PARITY_CELL]}
    assert not NetworkSpec.model_validate(above).networks()[0].is_exact


def test_the_gradients_of_a_rounded_network_are_rounded_from_the_first_step_on() -> None:
    # h' = (1 - u) x + u h with u = relu(h): h is 1/2, 1/4, 1/16 and 1/256.
    gates = {
        "reset": {"w_in": 0, "w_rec": 0, "activation": "step"},
        "update": {"w_in": 0, "w_rec": 1, "activation": "relu"},
        "candidate": {"w_in": 1, "w_rec": 0, "activation": "linear"},
    }
    spec = {"layers": {"cell": "gru", "gates": gates, "initial_state": "1/2"}, "w_out": 1}
    (network,) = NetworkSpec.model_validate(spec).networks()
    found = answer(network, [(0,)] * 3, Alphabet(((0,), (1,))), max_states=9, seed=0).gradients
    assert found is not None
    slopes = [slope for ((slope,),) in found.hidden]
    # dh_3/dx_3 = 1 - h_2, dh_3/dx_2 = 2 h_2 (1 - h_1), dh_3/dx_1 = 2 h_2 · 2 h_1 (1 - h_0).
    assert slopes == [1 / 32, 3 / 32, 15 / 16]
    # Exact ones would have twice as many digits after each step.
    assert all(isinstance(slope, float) for slope in slopes)

"""What is said of a network: the property, the proof, and never more than is so."""

from itertools import product
from typing import Any

import pytest

from hwcli.config import load
from hwcli.experiments.rnn_trace import COMMAND, Config, alphabet_letters
from hwcli.rnn.activations import decided
from hwcli.rnn.closed_form import closed_form
from hwcli.rnn.network import Network
from hwcli.rnn.properties import BIT_PAIRS, BITS, counted_properties
from hwcli.rnn.recognition import Finding, check, recognise
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.state_machine import MooreMachine, TooManyStatesError, network_machine
from hwcli.rnn.trace import trace

INTEGERS = tuple((n,) for n in range(-9, 10))


def network(**spec: Any) -> Network:
    return NetworkSpec.model_validate(spec).network()


def say(net: Network, letters: Any = INTEGERS, max_states: int = 500) -> Finding:
    finding = recognise(net, closed_form(net), letters, max_states=max_states, seed=0)
    checks = check(net, finding.predict, letters, seed=1)
    assert checks.num_failed == 0, checks.counterexample
    return finding


def scalar(w_in: Any, w_rec: Any, w_out: Any, **more: Any) -> Network:
    return network(w_in=w_in, w_rec=w_rec, w_out=w_out, **more)


@pytest.mark.parametrize(
    ("preset", "id", "method"),
    [
        ("alternating-sum", "alternating-sum", "closed-form"),
        ("running-sum", "running-sum", "closed-form"),
        ("difference-of-sums", "difference-of-sums", "closed-form"),
        ("last-input", "last-input", "closed-form"),
        ("moving-difference", "moving-difference", "closed-form"),
        ("exponential-average", "exponential-average", "closed-form"),
        ("count-ones", "count-ones", "closed-form"),
        ("majority", "majority", "closed-form"),
        ("parity", "parity", "state-machine"),
        ("count-mod-3", "count-mod-3", "state-machine"),
        ("latch-first-zero", "latch-first-zero", "state-machine"),
        ("binary-addition", "binary-addition", "state-machine"),
        ("equality", "equality", "state-machine"),
        ("tanh-vanish", "last-nonzero-input", "sampled"),
    ],
)
def test_every_preset_computes_what_it_is_named_after(preset: str, id: str, method: str) -> None:
    config = load(Config, COMMAND, preset=preset)
    letters = alphabet_letters(config)
    finding = say(config.network.network(), letters)
    assert (finding.id, finding.method, finding.proved) == (id, method, method != "sampled")


def test_the_homework_is_stated_for_both_parities_and_ties() -> None:
    statement = say(scalar(1, -1, 1000)).statement
    assert statement.startswith(
        "For even T, y_T is 1 when the sum of the inputs at even positions exceeds the sum at odd "
        "positions, 0 when it is smaller, 0.5 when they are equal. For odd T, y_T is 1 when the "
        "sum of the inputs at odd positions exceeds the sum at even positions, 0 when it is "
        "smaller, 0.5 when they are equal."
    )
    assert "at least 1000" in statement
    assert "10^-434" in statement


def test_a_negative_output_weight_swaps_the_classes() -> None:
    finding = say(scalar(1, -1, -7))
    assert finding.id == "alternating-sum"
    assert finding.statement.startswith("For even T, y_T is 0 when the sum of the inputs at even")


@pytest.mark.parametrize(
    ("weights", "id"),
    [
        ((3, 1, "1/2"), "running-sum"),
        ((1, 0, 5), "last-input"),
        ((1, 2, 1), "binary-number"),
        ((-1, 3, 2), "ternary-number"),
        ((1, "1/2", 1), "exponential-average"),
        ((1, -1, 0), "constant"),
        ((1, -2, 1), None),
        ((1, "3/2", 1), None),
    ],
)
def test_scalar_networks_are_recognised_by_their_weights(weights: Any, id: str | None) -> None:
    finding = say(scalar(*weights))
    assert (finding.id, finding.proved, finding.method) == (id, True, "closed-form")


def test_two_units_that_do_the_work_of_one_are_seen_through() -> None:
    # h[1] + h[2] is twice the running sum, minus what they differ by at the start: nothing.
    net = network(w_in=[[1], [1]], w_rec=[["1/2", "1/2"], ["1/2", "1/2"]], w_out=[2, 3])
    assert say(net).id == "running-sum"


def test_a_linear_network_without_a_name_is_proved_and_states_its_inequality() -> None:
    finding = say(scalar(1, 1, 2, output_bias=-3))
    assert (finding.id, finding.proved) == (None, True)
    assert "z_T = Σ_{t=1..T} 2·x_t - 3, y_T is 1 when z_T > 0" in finding.statement


def test_a_machine_without_a_name_is_proved_and_says_so() -> None:
    # Whether the last two inputs are both one.
    net = network(
        w_in=[[1], [0]], w_rec=[[0, 0], [1, 0]], w_out=[1, 1], output_bias="-3/2",
        activation="step", output_activation="step",
    )  # fmt: skip
    finding = say(net, BITS)
    assert (finding.id, finding.method, finding.proved) == (None, "state-machine", True)
    assert finding.statement.startswith("No named property")
    assert finding.machine is not None
    assert finding.machine.without_idle_start().num_states == 3


def test_a_float_network_without_a_name_claims_nothing() -> None:
    finding = say(scalar(1, 3, 1, activation="tanh", output_bias="1/3"))
    assert (finding.id, finding.proved, finding.predict) == (None, False, None)
    assert check(scalar(1, 3, 1, activation="tanh"), None, INTEGERS, 0).num_exhaustive == 0


def test_states_without_end_are_not_claimed_to_be_finite() -> None:
    majority = load(Config, COMMAND, preset="majority").network.network()
    finding = say(majority, BITS)
    assert finding.machine is None
    assert "the exploration was stopped" in finding.remarks[0]
    # As a relu unit it counts as well, but no proof is at hand.
    counted = say(scalar(1, 1, 2, activation="relu", output_activation="identity"), BITS)
    assert (counted.id, counted.method, counted.proved) == ("count-ones", "sampled", False)
    assert counted.statement == "y_T is 2 times the number of ones among the inputs."
    with pytest.raises(TooManyStatesError):
        network_machine(majority, BITS, lambda z: z, limit=100)


def test_outputs_that_stand_for_the_classes_may_be_any_numbers() -> None:
    spec = load(Config, COMMAND, preset="parity").network.model_dump()
    flipped = network(**{**spec, "w_out": [-2, 2], "output_bias": 7})
    finding = say(flipped, BITS)
    assert finding.id == "parity"
    assert finding.statement == "y_T is 5 when the number of ones is odd, 7 when it is even."


def test_the_first_letter_counts_even_where_the_start_shows_something_else() -> None:
    # Before the first letter this latch would show 0, after "1" it shows 1.
    opened = network(w_in=1, w_rec=1, bias="-1/2", w_out=1, activation="step",
                     output_activation="identity")  # fmt: skip
    finding = say(opened, BITS)
    assert finding.id == "latch-first-one"


@pytest.mark.parametrize("letters", [BITS, BIT_PAIRS], ids=["bits", "pairs"])
def test_the_machine_of_a_counted_property_shows_its_definition(letters: Any) -> None:
    for named in counted_properties(letters):
        machine = named.machine()
        for T in range(1, 6):
            for xs in product(letters, repeat=T):
                assert machine.run(xs) == named.definition(xs), (named.id, xs)


def test_minimising_merges_what_no_sequence_tells_apart() -> None:
    # States 1 and 3 do the same; so do the copies of the start.
    machine = MooreMachine(BITS, ((0, 1), (2, 0), (2, 3), (0, 2)), (0, 1, 0, 1))
    minimal = machine.minimal()
    assert minimal.num_states == 2
    for xs in product(BITS, repeat=7):
        assert minimal.run(xs) == machine.run(xs)
    assert minimal.minimal() == minimal


def test_a_wrong_claim_is_caught_with_a_counterexample() -> None:
    net = scalar(1, 1, 1000)
    checks = check(net, lambda xs: decided("logistic", xs[-1][0]), INTEGERS, 0)
    assert checks.num_failed > 0
    assert checks.counterexample is not None
    assert len(checks.counterexample) == 2  # one letter cannot tell the sum from the last input
    xs = checks.counterexample
    assert trace(net, xs).final.output != decided("logistic", xs[-1][0])

"""What is said of a network: the property, the proof, and never more than is so."""

from itertools import product
from typing import Any

import pytest

from hwcli.config import load
from hwcli.experiments.rnn_trace import COMMAND, Config, alphabet_of
from hwcli.rnn.activations import decided
from hwcli.rnn.letters import BITS, Alphabet
from hwcli.rnn.network import Network
from hwcli.rnn.observations import Observations, check
from hwcli.rnn.recognition import Finding, recognise
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.state_machine import MooreMachine, TooManyStatesError, network_machine
from hwcli.rnn.statements import Statement
from hwcli.rnn.trace import trace

INTEGERS = tuple((n,) for n in range(-9, 10))


def network(**spec: Any) -> Network:
    return NetworkSpec.model_validate(spec).network()


def say(net: Network, letters: Any = INTEGERS, max_states: int = 500) -> Finding:
    observations = Observations(net, letters, letters[:1])
    finding = recognise(net, observations, Alphabet(tuple(letters)), max_states=max_states)
    checks = check(observations, finding.predict)
    assert checks.num_failed == 0, checks.counterexample
    return finding


def scalar(w_in: Any, w_rec: Any, w_out: Any, **more: Any) -> Network:
    return network(w_in=w_in, w_rec=w_rec, w_out=w_out, **more)


@pytest.mark.parametrize(
    ("preset", "id", "kind"),
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
        ("tanh-vanish", "last-nonzero-input", "interval-machine"),
    ],
)
def test_every_preset_computes_what_it_is_named_after(preset: str, id: str, kind: str) -> None:
    config = load(Config, COMMAND, preset=preset)
    letters = alphabet_of(config).letters
    finding = say(config.network.network(), letters)
    assert (finding.id, finding.kind, finding.proved) == (id, kind, True)


def test_the_homework_is_stated_for_both_parities_and_ties() -> None:
    finding = say(scalar(1, -1, 1000))
    assert finding.statement.text == (
        "For even T and integer inputs, y_T is 1 when the sum of the inputs at even positions "
        "exceeds the sum at odd positions, 0 when it is smaller, 0.5 when they are equal. For odd "
        "T and integer inputs, y_T is 1 when the sum of the inputs at odd positions exceeds the "
        "sum at even positions, 0 when it is smaller, 0.5 when they are equal."
    )
    assert finding.statement.here(1000) == (
        "For T = 1,000 (even) and integer inputs: y_T is 1 when the sum of the inputs at even "
        "positions exceeds the sum at odd positions, 0 when it is smaller, 0.5 when they are equal."
    )
    assert finding.statement.elsewhere(1000).startswith("For odd T and integer inputs: y_T is 1 ")
    assert finding.margin == (
        "For integer inputs, h_T is an integer: at a tie y_T is exactly 0.5, elsewhere it is less "
        "than 10^-434 from 0 or 1."
    )


def test_the_homework_is_proved_up_to_the_sentence() -> None:
    finding = say(scalar(1, -1, 1000))
    assert finding.scope == (
        "for every length; steps 1 to 6 for all real inputs, step 7 for integer inputs"
    )
    assert finding.proof == (
        "Claim: h_T = Σ_{t=1..T} (-1)^(T - t)·x_t. For T = 1 the claim says h_1 = x_1; the "
        "recurrence gives h_1 = -h_0 + x_1 = x_1, because h_0 = 0.",
        "Suppose the claim holds for T - 1: the coefficient of x_t in h_{T-1} is (-1)^(T - 1 - t). "
        "By h_T = -h_{T-1} + x_T, its coefficient in h_T is -1·(-1)^(T - 1 - t) = (-1)^(T - t), "
        "and that of x_T is 1. So the claim holds for T.",
        "So z_T = 1000·Σ_{t=1..T} (-1)^(T - t)·x_t.",
        "(-1)^(T - t) is 1 where t and T are both even or both odd, and -1 elsewhere. So for even "
        "T, h_T = (sum at even positions) - (sum at odd positions); for odd T, h_T = (sum at odd "
        "positions) - (sum at even positions).",
        "z_T = 1000·h_T, and 1000 is positive. So z_T has the sign of h_T.",
        "y_T = logistic(z_T) is above 0.5 where z_T > 0, below 0.5 where z_T < 0, and 0.5 where "
        "z_T = 0.",
        "For integer inputs, z_T is 0 or at least 1000 away from 0, and 1/(1 + exp(1000)) < "
        "10^-434. So y_T is exactly 0.5 at a tie, and elsewhere less than 10^-434 from 0 or 1.",
    )


@pytest.mark.parametrize(
    ("weights", "steps"),
    [
        ((3, 1, "1/2"), ("coefficient of x_t in h_{T-1} is 3. By h_T = h_{T-1} + 3·x_T, its",
                         "coefficient in h_T stays 3, and that of x_T is 3",
                         "That is 3/2 times (the sum of all inputs), and 3/2 is positive. So z_T "
                         "has the sign of the sum of all inputs.")),
        ((1, 0, 5), ("The recurrence is h_T = x_T: no earlier state enters.",
                     "That is 5 times (the last input), and 5 is positive.")),
        ((2, "1/2", 1), ("h_T = 1/2·h_{T-1} + 2·x_T, its coefficient in h_T is "
                         "1/2·2·(1/2)^(T - 1 - t) = 2·(1/2)^(T - t), and that of x_T is 2",)),
    ],
)  # fmt: skip
def test_the_induction_shows_its_coefficients(weights: Any, steps: tuple[str, ...]) -> None:
    proof = " ".join(say(scalar(*weights)).proof)
    assert [step for step in steps if step not in proof] == []


def test_a_bound_is_derived_from_the_formula() -> None:
    finding = say(scalar(1, 1, -2, output_bias=3))
    assert finding.proof[-2] == (
        "So z_T < 0 exactly when the sum of all inputs is greater than 3/2, and z_T > 0 exactly "
        "when the sum of all inputs is less than 3/2."
    )


@pytest.mark.parametrize(
    ("w_out", "start", "step"),
    [
        (-7, "For even T, y_T is below 0.5 when the sum of the inputs at even positions exceeds "
         "the sum at odd positions, above 0.5 when it is smaller,",
         "z_T = -7·h_T, and -7 is negative. So z_T is positive where h_T is negative, and negative "
         "where h_T is positive."),
        (-1000, "For even T and integer inputs, y_T is 0 when the sum of the inputs at even ",
         "z_T = -1000·h_T, and -1000 is negative. So z_T is positive where h_T is negative, and "
         "negative where h_T is positive."),
        (-1, "For even T, y_T is below 0.5 when the sum of the inputs at even positions",
         "z_T = -h_T. So z_T is positive where h_T is negative, and negative where h_T is "
         "positive."),
        (1, "For even T, y_T is above 0.5 when the sum of the inputs at even positions",
         "z_T = h_T. So z_T has the sign of h_T."),
    ],
)  # fmt: skip
def test_the_sign_of_the_output_weight_is_a_step_of_the_proof(
    w_out: int, start: str, step: str
) -> None:
    finding = say(scalar(1, -1, w_out))
    assert finding.id == "alternating-sum"
    assert finding.statement.text.startswith(start)
    assert finding.proof[4] == step


def test_a_bias_that_counts_at_odd_positions_only_is_added_up_and_said_in_words() -> None:
    # h_T = A_T + 1/2 - 1/2 + 1/2 ...: nothing remains for even T, 1/2 for odd T.
    finding = say(scalar(1, -1, 1, bias="1/2"))
    assert finding.id == "alternating-sum"
    assert finding.statement == Statement(
        even="y_T is above 0.5 when the sum of the inputs at even positions exceeds the sum at odd "
        "positions, below 0.5 when it is smaller, 0.5 when they are equal.",
        odd="y_T is above 0.5 when 1/2 plus the sum of the inputs at odd positions exceeds the sum "
        "at even positions, below 0.5 when it is smaller, 0.5 when they are equal.",
    )
    assert finding.proof[2] == (
        "So z_T = Σ_{t=1..T} (-1)^(T - t)·x_t + 1/4 + 1/4·(-1)^(T - 1). For even T, z_T = "
        "Σ_{t=1..T} (-1)^t·x_t. For odd T, z_T = Σ_{t=1..T} (-1)^(t + 1)·x_t + 1/2."
    )
    assert finding.proof[4].endswith(
        "For odd T, z_T > 0 exactly when 1/2 plus the sum of the inputs at odd positions exceeds "
        "the sum at even positions, and z_T < 0 exactly when it is smaller."
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"w_in": 1, "w_rec": -1, "w_out": 2, "output_bias": -3},
         "y_T is 1 when the sum of the inputs at even positions exceeds 3/2 plus the sum at odd"),
        ({"w_in": 1, "w_rec": -1, "w_out": -2, "output_bias": -3},
         "y_T is 0 when 3/2 plus the sum of the inputs at even positions exceeds the sum at odd"),
        ({"w_in": [[1], [0]], "w_rec": [[0, 0], [1, 0]], "w_out": [1, -1], "output_bias": -3},
         "y_T is 1 when the last input exceeds 3 plus the one before it (x_0 = 0), 0 when it is"),
        ({"w_in": 0, "w_rec": -1, "w_out": 3, "bias": 1},
         "y_T is 0 whatever the inputs are. For odd T, y_T is 1 whatever the inputs are."),
    ],
)  # fmt: skip
def test_a_constant_joins_the_words_that_compare_two_sums(spec: Any, said: str) -> None:
    text = say(network(**spec, output_activation="step")).statement.text
    assert text.removeprefix("For even T, ").startswith(said)


def test_the_reason_names_the_power_of_the_recurrent_weight() -> None:
    said = "So the input of k steps ago counts {}^k times as much as the last one."
    assert str(say(scalar(1, 2, 1)).reason).endswith(said.format("2"))
    assert str(say(scalar(1, "1/2", 1)).reason).endswith(said.format("(1/2)"))
    # Where no input counts, none is said to.
    assert say(network(w_in=0, w_rec=-1, w_out=3, bias=1)).reason is None


def test_what_depends_on_the_length_is_added_up() -> None:
    # 100 (2 sum - T), and not 200 sum - 100 - 100 (T - 1).
    finding = say(scalar(2, 1, 100, bias=-1), BITS)
    assert finding.proof[2] == "So z_T = 200·Σ_{t=1..T} x_t - 100·T."
    assert finding.statement.text.startswith(
        "For inputs of 0 and 1, y_T is 1 when more than half of the inputs are ones, 0 when fewer"
    )
    both = say(network(w_in=[[1], [1]], w_rec=[[1, 0], [0, -1]], w_out=[1, 2], bias=[1, 1]))
    assert both.statement.even.endswith("z_T = Σ_{t=1..T} (1 + 2·(-1)^t)·x_t + T.")


def test_a_smooth_output_that_is_not_near_its_class_is_not_called_by_it() -> None:
    vanishing = load(Config, COMMAND, preset="tanh-vanish").network.network()
    finding = say(vanishing)
    assert finding.statement.text == (
        "y_T is 0.5 when no non-zero input has come, below 0.5 when the last non-zero input is "
        "negative, above 0.5 otherwise."
    )
    assert finding.margin == (
        "In the table of the machine, 1 stands for an output above 0.5 and 0 for one below 0.5."
    )
    # No relu clips over these letters; over others it may.
    counted = say(scalar(1, 1, 50, activation="relu", bias=1), ((0,), (1,), (2,)))
    assert counted.margin is not None
    assert counted.margin.startswith("For inputs of this alphabet, ")


@pytest.mark.parametrize(
    ("weights", "id"),
    [
        ((3, 1, "1/2"), "running-sum"),
        ((1, 0, 5), "last-input"),
        ((1, 2, 1), "power-sum"),
        ((-1, 3, 2), "power-sum"),
        ((1, "1/2", 1), "exponential-average"),
        ((1, -1, 0), "constant"),
        ((1, -2, 1), None),
        ((1, "3/2", 1), None),
    ],
)
def test_scalar_networks_are_recognised_by_their_weights(weights: Any, id: str | None) -> None:
    finding = say(scalar(*weights))
    assert (finding.id, finding.kind) == (id, "closed-form")


def test_two_units_that_do_the_work_of_one_are_seen_through() -> None:
    # h[1] + h[2] is twice the running sum, minus what they differ by at the start: nothing.
    net = network(w_in=[[1], [1]], w_rec=[["1/2", "1/2"], ["1/2", "1/2"]], w_out=[2, 3])
    assert say(net).id == "running-sum"


def test_a_bias_is_a_bound_that_the_sum_is_compared_with() -> None:
    finding = say(scalar(1, 1, 2, output_bias=-3))
    assert finding.statement.text == (
        "y_T is above 0.5 when the sum of all inputs is greater than 3/2, below 0.5 when the sum "
        "of all inputs is less than 3/2, 0.5 when the sum of all inputs is equal to 3/2."
    )


def test_a_linear_network_without_a_name_is_proved_and_states_its_formula() -> None:
    finding = say(scalar(1, -2, 1))
    assert (finding.id, finding.proved) == (None, True)
    assert finding.statement.even == (
        "y_T is above 0.5 when z_T > 0, below 0.5 when z_T < 0, 0.5 when z_T = 0, and z_T = "
        "Σ_{t=1..T} (-1)^t·2^(T - t)·x_t."
    )


def test_digits_are_called_digits_only_where_they_are() -> None:
    binary = say(scalar(1, 2, 1), BITS)
    assert binary.id == "binary-number"
    assert binary.scope == "for all inputs that are digits from 0 to 1 and every length"
    shown = say(scalar(1, 2, 1, output_activation="identity")).statement.text
    assert shown == "y_T is the sum of 2^(T - t)·x_t over t = 1..T."


def test_the_distance_to_a_class_is_not_overstated_for_tanh() -> None:
    # 1 - tanh(22) = 1.556e-19: 10^-19 would be too small.
    margin = say(scalar(1, 1, 22, output_activation="tanh")).margin
    assert margin is not None
    assert "less than 10^-18 from -1 or 1" in margin
    spaced = say(scalar(1, -1, 1000), ((2,), (4,))).margin
    assert spaced is not None
    assert spaced.startswith("For inputs that are whole multiples of 2, z_T is a whole multiple of")


def test_a_scale_multiplies_the_whole_quantity() -> None:
    net = scalar(2, 1, 1, bias=-1, output_activation="identity")
    assert say(net, BITS).statement.text == (
        "y_T is 2 times ((the number of ones) minus (half the number of inputs))."
    )


def test_a_float_network_without_a_name_claims_nothing() -> None:
    finding = say(scalar(1, "3/2", 1, activation="tanh", output_bias="1/3"))
    assert (finding.id, finding.proved, finding.predict) == (None, False, None)


def test_relu_units_that_never_clip_are_linear() -> None:
    counted = say(scalar(1, 1, 2, activation="relu", output_activation="identity"), BITS)
    assert (counted.id, counted.kind) == ("count-ones", "closed-form")
    assert counted.statement.text == "y_T is 2 times (the number of ones among the inputs)."
    assert counted.scope == "for every sequence over the alphabet"
    clipped = say(scalar(1, 1, 2, activation="relu", output_activation="identity"))
    assert clipped.kind == "none"


def test_states_without_end_are_not_claimed_to_be_finite() -> None:
    majority = load(Config, COMMAND, preset="majority").network.network()
    assert say(majority, BITS).machine is None
    with pytest.raises(TooManyStatesError):
        network_machine(majority, BITS, lambda z: z, limit=100)


def test_outputs_that_stand_for_the_classes_may_be_any_numbers() -> None:
    spec = load(Config, COMMAND, preset="parity").network.model_dump()
    flipped = network(**{**spec, "w_out": [-2, 2], "output_bias": 7})
    finding = say(flipped, BITS)
    assert finding.id == "remainder-mod-2"
    assert finding.statement.text == (
        "y_T is 7 when the number of ones is even, 5 when the number of ones is odd."
    )


def test_the_first_letter_counts_even_where_the_start_shows_something_else() -> None:
    # Before the first letter this latch would show 0, after "1" it shows 1.
    opened = network(w_in=1, w_rec=1, bias="-1/2", w_out=1, activation="step",
                     output_activation="identity")  # fmt: skip
    finding = say(opened, BITS)
    assert finding.id == "latch"
    assert finding.statement.text == (
        "y_T is 1 when a one has come, 0 when not a single one has come."
    )


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
    observations = Observations(net, INTEGERS, INTEGERS[:1])
    checks = check(observations, lambda xs: decided("logistic", xs[-1][0]))
    assert checks.num_failed > 0
    assert checks.counterexample is not None
    assert len(checks.counterexample) == 2  # after one letter the sum is the last input
    xs = checks.counterexample
    assert trace(net, xs).final.output != decided("logistic", xs[-1][0])


def test_a_sum_is_not_named_by_a_remainder_that_leaves_two_answers() -> None:
    """Of the inputs 2 and 4 both sums 4 and 8 are 0 modulo 4, with different outputs."""
    row = [1, 1, 1, -3, 1]
    counts = network(
        activation="step",
        output_activation="identity",
        w_in=[["1/2"]] * 5,
        w_rec=[row] * 5,
        bias=["-1/2", "-3/2", "-5/2", "-7/2", "-9/2"],
        w_out=row,
    )
    text = say(counts, ((2,), (4,))).statement.text
    assert "the sum of all inputs" not in text
    assert "the number of inputs 2 plus 2 times the number of inputs 4 leaves remainder" in text

"""Every printed sentence and closed-form line is true when it is read to the letter."""

import os
import random
from fractions import Fraction
from typing import Any

import pytest

from hwcli.rnn.answer import answer
from hwcli.rnn.letters import Alphabet
from hwcli.rnn.observations import agree, on_intervals
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.tables import closed_form_lines
from hwcli.rnn.trace import trace

from .reader import Reader, claims, closed_form_line

ALPHABETS: list[list[Any]] = [
    [0, 1],
    [0, 1],
    [0, 1],
    [-1, 0, 1],
    [1, 2],
    [0, 1, 2],
    [2, 4, 6],
    [-2, 3],
    [Fraction(1, 2), Fraction(3, 2)],
    [1],
]
ACTIVATIONS = ["identity", "step", "step-ge", "sign", "relu", "tanh", "logistic"]


def random_network(generator: random.Random) -> tuple[dict[str, Any], list[Any]]:
    """Return a spec and the numbers of its alphabet."""
    activation = generator.choice([*ACTIVATIONS, "identity", "step", "step", "relu"])
    H = generator.choice([1, 1, 2, 2, 3])
    D = generator.choice([1, 1, 1, 2])
    numbers = generator.choice(ALPHABETS)
    sizes: list[Any] = [-2, -1, -1, 0, 0, 1, 1, 1, 2, 3]
    if generator.random() < 0.3:
        sizes += [Fraction(1, 2), Fraction(-3, 2), Fraction(2, 3), 10, 1000]
    if activation in ("tanh", "logistic") and generator.random() < 0.5:
        sizes = [20 * w for w in sizes]

    def weights(n: int) -> list[Any]:
        return [generator.choice(sizes) for _ in range(n)]

    def sometimes(n: int, share: float) -> list[Any]:
        return weights(n) if generator.random() < share else [0] * n

    spec = {
        "w_in": [weights(D) for _ in range(H)],
        "w_rec": [weights(H) for _ in range(H)],
        "w_out": weights(H),
        "bias": [b * Fraction(1, 2) for b in sometimes(H, 0.6)],
        "initial_state": sometimes(H, 0.3),
        "w_feedback": sometimes(H, 0.15),
        "output_bias": sometimes(1, 0.4)[0] * Fraction(1, 2),
        "initial_output": sometimes(1, 0.3)[0],
        "activation": activation,
        "output_activation": generator.choice([*ACTIVATIONS, "identity", "step"]),
    }
    if not any(spec["w_feedback"]):
        spec["initial_output"] = 0  # nothing would read it
    return spec, numbers


def hold_to_the_letter(seed: int) -> str:
    """Compare what is said of one random network with the network; return how it was proved."""
    generator = random.Random(seed)
    spec, numbers = random_network(generator)
    network = NetworkSpec.model_validate(spec).network()
    D = network.num_inputs
    letters = [
        tuple(letter)
        for letter in (
            [[a] for a in numbers] if D == 1 else [[a, b] for a in numbers for b in numbers]
        )
    ]
    first = [generator.choice(letters) for _ in range(generator.randint(1, 9))]
    try:
        found = answer(network, first, Alphabet(tuple(letters)), max_states=60, seed=seed)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r} of {spec}") from error
    assert found.checks.num_failed == 0, (seed, found.finding, found.checks)
    reader = Reader(letters)
    if not found.finding.proved:
        return "none"
    says = reader.statement(found.finding.statement.text)
    linear = found.finding.linear
    lines = [closed_form_line(line) for line in closed_form_lines(linear)] if linear else []
    steps = [claim for step in found.finding.proof for claim in claims(step)]
    assert steps or found.finding.kind != "closed-form"
    for _ in range(12):
        xs = [generator.choice(letters) for _ in range(generator.choice([1, 1, 2, 3, 5, 8, 13]))]
        final = trace(network, xs).final
        y: Any = final.output
        if network.output_activation in ("tanh", "logistic"):
            z = final.preactivation
            tie = 0.5 if network.output_activation == "logistic" else 0
            y = tie if z == 0 else 1 if z > 0 else -1 if network.output_activation == "tanh" else 0
        if not network.is_exact and abs(final.preactivation) < 1e-6:
            y = on_intervals(network, xs)  # float64 cannot tell on which side of zero z is
        said = found.finding.predict(xs) if says is None else says(xs)  # type: ignore[misc]
        said_number = said if isinstance(said, float | int) else Fraction(said)
        if isinstance(y, float):
            said_number = float(said_number)
        if not network.is_exact and not agree(y, said_number):
            y = on_intervals(network, xs)  # a rounded state may have led float64 astray
        assert agree(y, said_number), (seed, spec, xs, y, said, found.finding.statement.text)
        if says is not None:
            # As printed: for a T at hand, and for the other parity.
            here = reader.statement(found.finding.statement.here(len(xs)))
            assert here is not None
            assert here(xs) == said, (seed, spec, xs)
            if elsewhere := found.finding.statement.elsewhere(len(xs) + 1):
                other = reader.statement(elsewhere)
                assert other is not None
                assert other(xs) == said, (seed, spec, xs)
        for claim in steps:
            assert claim(xs, final.hidden[0], final.preactivation), (seed, spec, xs)
        for parity, left, value in lines:
            if parity is None or parity == ("odd" if len(xs) % 2 else "even"):
                unit = int(left[2:-3]) - 1 if left.startswith("h[") else 0
                actual = final.preactivation if left == "z_T" else final.hidden[unit]
                assert value(xs) == actual, (seed, spec, xs, left, value(xs), actual)
    return found.finding.kind


def test_sentences_and_formulas_are_literally_true_of_random_networks() -> None:
    kinds = [hold_to_the_letter(seed) for seed in range(120)]
    assert {"closed-form", "state-machine", "interval-machine"} <= set(kinds)


def test_clauses_in_brackets_and_boxes_beyond_float64() -> None:
    # "((A) or (B)) and C", "(A, later B) and C"; the boxes of the last grow without end.
    assert hold_to_the_letter(2612) == "state-machine"
    assert hold_to_the_letter(60313) == "interval-machine"
    assert hold_to_the_letter(2914) == "none"


# A block takes one to three minutes of a core: HW2_LITERAL_BLOCKS=20 reads 20,000 networks.
NUM_BLOCKS = int(os.environ.get("HW2_LITERAL_BLOCKS", "1"))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(NUM_BLOCKS))
def test_nothing_false_is_said_of_a_thousand_networks_a_block(block: int) -> None:
    seeds = range(1000 * (block + 1), 1000 * (block + 2))
    print(f"seeds {seeds.start}..{seeds.stop - 1}")
    for seed in seeds:
        hold_to_the_letter(seed)

"""What a network computes: found, stated in a sentence, and proved where that can be done.

A linear network is proved by its closed form, for every sequence of every length. A network with
finitely many states over its alphabet is proved by its minimal state machine, for every sequence
over that alphabet. Of any other network a named property is only checked on sequences.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Literal

from hwcli.rnn.activations import Activation, decided
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import Exact, Number, shown, simplified
from hwcli.rnn.network import Letter, Network, State, Stepper
from hwcli.rnn.properties import (
    BITS,
    Counted,
    Weighed,
    alternating_sum,
    count_ones,
    counted_properties,
    difference_of_sums,
    last_input,
    last_nonzero_input,
    majority,
    moving_difference,
    recognise_counted,
    recognise_weighed,
    running_sum,
)
from hwcli.rnn.state_machine import MooreMachine, TooManyStatesError, network_machine

Method = Literal["closed-form", "state-machine", "sampled"]
Prediction = Callable[[Sequence[Letter]], Number]

# Every sequence that is short, up to so many of them in all; and so many long ones at random.
MAX_EXHAUSTIVE = 20_000
NUM_RANDOM = 100
MAX_RANDOM_LENGTH = 400
# More different letters are not explored, and only so many of them are tried in checks.
MAX_LETTERS = 2000

# Output units that show how much z is, and not only on which side of zero.
SHOW_VALUES: frozenset[Activation] = frozenset({"identity", "relu"})


@dataclass(frozen=True)
class Finding:
    """What a network computes.

    Attributes:
        id: the property's name, None where it has none.
        statement: the property, precisely.
        proved: whether it is proved for every sequence over the alphabet, of every length.
        method: how it is known.
        predict: what the property says of a sequence, None where nothing is claimed.
        machine: the minimal state machine, where there is one.
        remarks: what else is to be known, such as an exploration that was stopped.
    """

    id: str | None
    statement: str
    proved: bool
    method: Method
    predict: Prediction | None
    machine: MooreMachine | None = None
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Checks:
    """Sequences on which the network and the property were compared.

    Attributes:
        num_exhaustive: all sequences of up to ``longest_exhaustive`` letters.
        longest_exhaustive: see there.
        num_random: longer ones, drawn at random.
        num_failed: of all these.
        counterexample: the first that failed.
    """

    num_exhaustive: int = 0
    longest_exhaustive: int = 0
    num_random: int = 0
    num_failed: int = 0
    counterexample: tuple[Letter, ...] | None = None


def recognise(
    network: Network,
    closed: ClosedForm | None,
    letters: Sequence[Letter],
    *,
    max_states: int,
    seed: int,
) -> Finding:
    """Say what a network computes.

    Args:
        network: any.
        closed: its closed form, if it is linear.
        letters: what its inputs range over.
        max_states: an exploration that meets more is stopped.
        seed: of the random sequences on which what cannot be proved is checked.
    """
    machine, remarks = None, []
    if network.is_exact and len(letters) > MAX_LETTERS:
        remarks.append(f"no state machine: {len(letters):,} different inputs are too many")
    elif network.is_exact:
        try:
            explored = network_machine(
                network,
                letters,
                lambda z: decided(network.output_activation, z),
                limit=max_states,
            )
            machine = explored.minimal()
        except TooManyStatesError:
            remarks.append(
                f"more than {max_states:,} hidden states can be reached over the alphabet: the "
                "exploration was stopped, and no state machine is claimed"
            )
    if closed is not None:
        return _by_closed_form(network, closed, letters, machine, remarks)
    if machine is not None:
        return _by_state_machine(network, machine, remarks)
    return _by_checks(network, letters, remarks, seed)


# --------------------------------------------------------------------------------------
# Three ways of knowing


def _by_closed_form(
    network: Network,
    closed: ClosedForm,
    letters: Sequence[Letter],
    machine: MooreMachine | None,
    remarks: list[str],
) -> Finding:
    weighted = closed.preactivation
    activation = network.output_activation
    known = recognise_weighed(weighted, letters, shows_value=activation in SHOW_VALUES)
    if known is not None:
        name, scale = known
        words = _weighed_in_words(name, scale, activation)
        predict = _weighed_prediction(name, scale, activation)
        found_id: str | None = name.id
    elif all(response.order == 0 for response in weighted.responses) and (
        weighted.offset.coefficients in ((), (1,))
    ):
        constant = weighted.offset.terms(1)[0]
        always = decided(activation, constant)
        words, found_id = f"y_T is {shown(always)} whatever the inputs are.", "constant"

        def predict(xs: Sequence[Letter]) -> Number:
            return always

    else:
        found_id = None

        def predict(xs: Sequence[Letter]) -> Number:
            return decided(activation, weighted.value(xs))

        parities = ("even", "odd") if weighted.alternates else (None,)
        words = "No named property. " + " ".join(
            (f"For {parity} T: " if parity else "")
            + _compared_with_zero(weighted.text(parity), activation)
            for parity in parities
        )
    least = weighted.least_magnitude(letters)
    statement = words + _reading(activation, least)
    return Finding(found_id, statement, True, "closed-form", predict, machine, remarks)


def _by_state_machine(network: Network, machine: MooreMachine, remarks: list[str]) -> Finding:
    reading = _reading(network.output_activation, None)
    known = recognise_counted(machine)
    if known is not None:
        name, outputs = known
        return Finding(
            name.id,
            _counted_in_words(name, outputs) + reading,
            True,
            "state-machine",
            _counted_prediction(name, outputs),
            machine,
            remarks,
        )
    if len(machine.values) == 1:
        (always,) = machine.values
        statement, found_id = f"y_T is {shown(always)} whatever the inputs are.", "constant"
    else:
        statement, found_id = (
            "No named property: y_T is what the minimal state machine of "
            f"{machine.without_idle_start().num_states} states shows after the last input.",
            None,
        )
    return Finding(
        found_id, statement + reading, True, "state-machine", machine.run, machine, remarks
    )


def _by_checks(
    network: Network, letters: Sequence[Letter], remarks: list[str], seed: int
) -> Finding:
    """Keep the first named property that no sequence contradicts."""
    activation = network.output_activation
    observed = list(_observations(network, letters, seed))

    def found(id: str, words: str, predict: Prediction) -> Finding | None:
        if any(output != predict(xs) for xs, output in observed):
            return None
        statement = words + _reading(activation, None)
        return Finding(id, statement, False, "sampled", predict, None, remarks)

    for weighed in _weighed_candidates(letters, shows_value=activation in SHOW_VALUES):
        for scale in _scales(weighed, observed, activation):
            words = _weighed_in_words(weighed, scale, activation)
            predict = _weighed_prediction(weighed, scale, activation)
            if finding := found(weighed.id, words, predict):
                return finding
    for counted in counted_properties(letters):
        outputs = {counted.definition(xs): output for xs, output in reversed(observed)}
        if len(set(outputs.values())) == len(counted.cases):
            words = _counted_in_words(counted, outputs)
            if finding := found(counted.id, words, _counted_prediction(counted, outputs)):
                return finding
    return Finding(
        None,
        "No named property, no closed form and no finite state machine: nothing is claimed "
        "beyond the numbers of the trace.",
        False,
        "sampled",
        None,
        None,
        remarks,
    )


def _weighed_prediction(name: Weighed, scale: Exact, activation: Activation) -> Prediction:
    return lambda xs: decided(activation, scale * name.quantity(xs))


def _counted_prediction(name: Counted, outputs: Mapping[int, Number]) -> Prediction:
    return lambda xs: outputs[name.definition(xs)]


def _scales(
    name: Weighed, observed: Sequence[tuple[Sequence[Letter], Number]], activation: Activation
) -> list[Exact]:
    """Return the factors worth trying: the one that the first output shows, or the two signs."""
    if activation not in SHOW_VALUES:
        return [1, -1]
    for xs, output in observed:
        quantity = name.quantity(xs)
        if quantity != 0 and output != 0 and not isinstance(output, float):
            return [simplified(Fraction(output) / quantity)]
    return []


def _weighed_candidates(letters: Sequence[Letter], *, shows_value: bool) -> list[Weighed]:
    if len(letters[0]) == 2:
        return [difference_of_sums()]
    if len(letters[0]) > 2:
        return []
    over_bits = set(letters) <= set(BITS)
    return [
        *([count_ones()] if over_bits and shows_value else []),
        *([majority()] if over_bits else []),
        running_sum(),
        alternating_sum(),
        last_input(),
        last_nonzero_input(),
        moving_difference(),
    ]


# --------------------------------------------------------------------------------------
# In words


def _classes(activation: Activation) -> tuple[str, str, str]:
    """Return what the output is where z is above, below and at zero."""
    return {
        "logistic": ("1", "0", "0.5"),
        "tanh": ("1", "-1", "0"),
        "sign": ("1", "-1", "0"),
        "step": ("1", "0", "0"),
    }[activation]


def _weighed_in_words(name: Weighed, scale: Exact, activation: Activation) -> str:
    if activation in SHOW_VALUES:
        times = "" if scale == 1 else f"{shown(scale)} times "
        value = f"{times}{name.value}"
        return f"y_T is {value}." if activation == "identity" else f"y_T is {value}, or 0 if less."
    high, low, tie = _classes(activation)
    if scale < 0:
        high, low = low, high

    def cases(above: str, below: str, at: str) -> str:
        return f"{high} when {above}, {low} when {below}, {tie} when {at}."

    even = cases(name.above, name.below, name.at)
    if name.odd is None:
        return f"y_T is {even}"
    return f"For even T, y_T is {even} For odd T, y_T is {cases(*name.odd)}"


def _counted_in_words(name: Counted, outputs: Mapping[int, Number]) -> str:
    cases = (f"{shown(outputs[label])} when {words}" for label, words in name.cases.items())
    return f"y_T is {', '.join(cases)}."


def _compared_with_zero(text: str, activation: Activation) -> str:
    if activation == "identity":
        return f"y_T = {text}."
    if activation == "relu":
        return f"y_T = max(0, {text})."
    high, low, tie = _classes(activation)
    return f"with z_T = {text}, y_T is {high} when z_T > 0, {low} when z_T < 0, {tie} when z_T = 0."


def _reading(activation: Activation, least: Exact | None) -> str:
    """Say how a smooth output stands for a class; ``least`` bounds abs(z) off a tie."""
    if activation not in ("logistic", "tanh"):
        return ""
    middle = "0.5" if activation == "logistic" else "0"
    if least is not None and least >= 20:
        exponent = math.floor(int(least) * (1 if activation == "logistic" else 2) / math.log(10))
        return (
            f" Off a tie abs(z_T) is at least {shown(least)}, so that y_T differs from the class "
            f"by less than 10^-{exponent}."
        )
    return f" The class is read from the side of {middle} on which y_T lies."


# --------------------------------------------------------------------------------------
# Checks


def check(
    network: Network, predict: Prediction | None, letters: Sequence[Letter], seed: int
) -> Checks:
    """Compare a network with what a property predicts, on all short sequences and on long ones."""
    if predict is None:
        return Checks()
    num, num_failed, counterexample = 0, 0, None
    for xs, output in _observations(network, letters, seed):
        num += 1
        if output != predict(xs):
            num_failed += 1
            counterexample = counterexample or tuple(xs)
    longest = longest_exhaustive(len(_tried(letters)))
    return Checks(num - NUM_RANDOM, longest, NUM_RANDOM, num_failed, counterexample)


def longest_exhaustive(num_letters: int) -> int:
    """Return up to which length all sequences are few enough to try; 1 at least."""
    length, num = 1, num_letters
    while num_letters > 1 and num + num_letters ** (length + 1) <= MAX_EXHAUSTIVE:
        length += 1
        num += num_letters**length
    return length if num_letters > 1 else MAX_RANDOM_LENGTH


def _tried(letters: Sequence[Letter]) -> Sequence[Letter]:
    return letters[:: -(-len(letters) // MAX_LETTERS)]


def _observations(
    network: Network, letters: Sequence[Letter], seed: int
) -> Iterator[tuple[Sequence[Letter], Number]]:
    """Yield sequences and what the network decides after them: the short ones, then random ones."""
    stepper, letters = Stepper(network), _tried(letters)

    def decision(state: State) -> Number:
        return decided(network.output_activation, stepper.preactivation(state))

    known: dict[tuple[Letter, ...], State] = {(): stepper.start}
    for _ in range(longest_exhaustive(len(letters))):
        longer = {}
        for (prefix, state), letter in product(known.items(), letters):
            xs = (*prefix, letter)
            longer[xs] = stepper.advance(state, letter)
            yield xs, decision(longer[xs])
        known = longer
    generator = random.Random(seed)
    for _ in range(NUM_RANDOM):
        sequence = generator.choices(letters, k=generator.randint(1, MAX_RANDOM_LENGTH))
        state = stepper.start
        for letter in sequence:
            state = stepper.advance(state, letter)
        yield sequence, decision(state)

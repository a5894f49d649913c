"""What a network is meant to compute, and whether it does: the shortest counterexample if not.

A property is written as a name (``parity``), as a regular expression over the letters that the
whole sequence has to match (``.*11``), or as a file with a state machine.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hwcli.errors import ConfigError
from hwcli.rnn.activations import Activation, decided
from hwcli.rnn.cells import AnyNetwork, make_stepper
from hwcli.rnn.exact import Number, parse_exact
from hwcli.rnn.letters import Alphabet
from hwcli.rnn.network import Letter
from hwcli.rnn.properties import (
    Weighed,
    alternating_sum,
    binary_addition,
    count_ones,
    difference_of_sums,
    equality,
    last_input,
    last_nonzero_input,
    majority,
    moving_difference,
    running_sum,
)
from hwcli.rnn.recognition import Finding
from hwcli.rnn.regex import RegexError, derivative, nullable, parse
from hwcli.rnn.state_machine import MooreMachine, TooManyStatesError, explore
from hwcli.rnn.statements import output
from hwcli.yaml_files import read_yaml

# More sequences are not tried where no machine is known, and no larger machine is built.
MAX_TRIED = 50_000
MAX_STATES = 500

REGULAR = {
    "parity": "0*(10*10*)*10*",
    "parity-of-zeros": "(1*01*0)*1*01*",
    "latch-first-zero": "1*",
    "latch-first-one": "0*",
    "last-input": ".*1",
    "first-input": "1.*",
    "first-equals-last": "0|1|0.*0|1.*1",
}
WEIGHED: dict[str, Callable[[], Weighed]] = {
    "alternating-sum": alternating_sum,
    "running-sum": running_sum,
    "count-ones": count_ones,
    "majority": majority,
    "last-nonzero-input": last_nonzero_input,
    "moving-difference": moving_difference,
    "difference-of-sums": difference_of_sums,
    "sign-of-last-input": last_input,
}


@dataclass(frozen=True)
class Expectation:
    """A property: a machine that shows 1 where it holds, or a weighted sum whose sign decides."""

    text: str
    machine: MooreMachine | None = None
    weighed: Weighed | None = None

    def predict(self, xs: Sequence[Letter]) -> Number:
        """Return what is expected after a sequence."""
        if self.machine is not None:
            return self.machine.run(xs)
        assert self.weighed is not None
        quantity = self.weighed.quantity(xs)
        return (quantity > 0) - (quantity < 0)


@dataclass(frozen=True)
class Verdict:
    """Whether a network computes what was expected.

    Attributes:
        passed: no counterexample exists, or none was found.
        proved: whether that is proved.
        text: the verdict in a sentence.
        counterexample: a shortest sequence on which they differ.
    """

    passed: bool
    proved: bool
    text: str
    counterexample: tuple[Letter, ...] | None = None


def read_property(text: str, alphabet: Alphabet) -> Expectation:
    """Read a property.

    Raises:
        ConfigError: no such name, no such expression, or a file that is no machine.
    """
    if text.endswith((".yaml", ".yml")):
        return Expectation(text, read_machine(Path(text), alphabet))
    if text in WEIGHED:
        return Expectation(text, weighed=WEIGHED[text]())
    if text in ("binary-addition", "equality"):
        counted = binary_addition() if text == "binary-addition" else equality()
        if not alphabet.are_bit_pairs:
            raise ConfigError(
                f"{text} is about pairs of bits: give a network of two inputs and alphabet = 0,1"
            )
        return Expectation(text, explore(counted.start, alphabet.letters, counted.step,
                                         counted.label, limit=MAX_STATES).minimal())  # fmt: skip
    if text.startswith("count-mod-") and text[10:].isdigit() and 2 <= int(text[10:]) <= 100:
        m = int(text[10:])
        counting = explore(0, alphabet.letters, lambda n, x: (n + (x == (1,))) % m, lambda n: n,
                           limit=MAX_STATES)  # fmt: skip
        return Expectation(text, counting.minimal())
    try:
        start = parse(REGULAR.get(text, text), alphabet)
        machine = explore(
            start,
            alphabet.letters,
            derivative,
            lambda state: int(nullable(state)),
            limit=MAX_STATES,
        ).minimal()
    except RegexError as error:
        raise ConfigError(
            f"{text[:40]!r} is no property: {error}; write a name such as parity, a regular "
            "expression over the letters such as .*11, or a machine's YAML file "
            "(docs/rnn-trace.md lists the names)"
        ) from None
    except TooManyStatesError:
        raise ConfigError(f"{text!r} needs more than {MAX_STATES} states") from None
    return Expectation(text, machine)


def read_machine(path: Path, alphabet: Alphabet) -> MooreMachine:
    """Read ``start: even`` and ``states: {even: {output: 0, next: {0: even, 1: odd}}, ...}``.

    Raises:
        ConfigError: the file is no such machine over the alphabet.
    """
    content = read_yaml(path)
    states = content.get("states")
    if not isinstance(states, dict) or content.get("start") not in states:
        raise ConfigError(f"{path}: expected start: STATE and states: {{STATE: {{output, next}}}}")
    spelled = {alphabet.spell(letter): letter for letter in alphabet.letters}
    table: dict[Any, dict[Letter, Any]] = {}
    outputs: dict[Any, Number] = {}
    for name, state in states.items():
        try:
            outputs[name] = parse_exact(state["output"])
            following = {spelled[str(key)]: target for key, target in state["next"].items()}
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ConfigError(
                f"{path}: state {name}: expected output: NUMBER and next: {{LETTER: STATE}} with "
                f"the letters {', '.join(spelled)}"
            ) from None
        if set(following) != set(alphabet.letters) or not set(following.values()) <= set(states):
            raise ConfigError(f"{path}: state {name}: next needs a known state for every letter")
        table[name] = following
    return explore(
        content["start"],
        alphabet.letters,
        lambda state, letter: table[state][letter],
        outputs.__getitem__,
        limit=MAX_STATES,
    ).minimal()


def judge(
    expected: Expectation, network: AnyNetwork, finding: Finding, alphabet: Alphabet
) -> Verdict:
    """Say whether a network computes what is expected."""
    if expected.machine is not None and finding.machine is not None and finding.proved:
        found = _first_difference(finding.machine, expected.machine)
        lengths = "" if finding.longest is None else f" of up to {finding.longest:,} steps"
        tried = f"all sequences{lengths}, by comparing machines"
        return _verdict(expected, network, found, alphabet, tried)
    same = expected.weighed is not None and finding.id == expected.weighed.id
    above_zero = (finding.scale or 0) > 0 and finding.offsets == (0, 0)
    # A step-ge unit shows 1 at a tie, where the property does not hold.
    if same and finding.proved and above_zero and network.output_activation != "step-ge":
        how = finding.kind.replace("-", " ")
        return Verdict(True, True, f"Expected {expected.text}: pass, proved ({how}).")
    return _verdict(expected, network, *_search(expected, network, alphabet))


def _verdict(
    expected: Expectation,
    network: AnyNetwork,
    found: tuple[Letter, ...] | None,
    alphabet: Alphabet,
    tried: str,
) -> Verdict:
    if found is None:
        proved = tried.startswith("all")
        how = f"proved for {tried}" if proved else f"no counterexample among {tried}"
        return Verdict(True, proved, f"Expected {expected.text}: pass, {how}.")
    spelled = ", ".join(map(alphabet.spell, found))
    activation = network.output_activation
    shown = output(_decision(network, found), activation)
    return Verdict(
        False,
        True,
        f"Expected {expected.text}: FAIL. After {spelled} the output is {shown}, expected "
        f"{_wanted(expected.predict(found), activation)}; no shorter sequence shows a difference.",
        found,
    )


def _wanted(expected: Number, activation: Activation) -> str:
    """Spell the outputs that pass and that the output unit can show."""

    def can_be_shown(y: Number) -> bool:
        match activation:
            case "logistic":
                return y in (0, 0.5, 1)
            case "tanh" | "sign":
                return y in (-1, 0, 1)
            case "step" | "step-ge":
                return y in (0, 1)
            # The tie 0.5 is that of a logistic unit.
            case "relu":
                return y >= 0 and y in (0, expected)
            case "argmax":
                return y >= 1
            case "identity":
                return y in (-1, 0, expected)

    passing = [y for y in dict.fromkeys((0, 0.5, -1, expected)) if _means(y, expected)]
    wanted = [output(y, activation) for y in passing if can_be_shown(y)]
    if not wanted:
        return f"{output(expected, 'identity')}, which this output unit never shows"
    return " or ".join(wanted)


def _decision(network: AnyNetwork, xs: Iterable[Letter]) -> Number:
    stepper = make_stepper(network)
    state = stepper.start
    for letter in xs:
        state = stepper.advance(state, letter)
    return decided(network.output_activation, stepper.preactivation(state))


def _first_difference(shown: MooreMachine, expected: MooreMachine) -> tuple[Letter, ...] | None:
    """Walk both machines at once, the shortest sequences first."""
    place = {letter: i for i, letter in enumerate(expected.letters)}
    words: dict[tuple[int, int], tuple[Letter, ...]] = {(0, 0): ()}
    for left, right in (queue := [(0, 0)]):
        for i, letter in enumerate(shown.letters):
            pair = shown.transitions[left][i], expected.transitions[right][place[letter]]
            if pair in words:
                continue
            words[pair] = (*words[left, right], letter)
            if not _means(shown.outputs[pair[0]], expected.outputs[pair[1]]):
                return words[pair]
            queue.append(pair)
    return None


def _search(
    expected: Expectation, network: AnyNetwork, alphabet: Alphabet
) -> tuple[tuple[Letter, ...] | None, Alphabet, str]:
    """Try sequences, the shortest first."""
    num, length = 0, 1
    while num < MAX_TRIED and length <= 200:
        for xs in product(alphabet.letters, repeat=length):
            num += 1
            if not _means(_decision(network, xs), expected.predict(xs)):
                return xs, alphabet, ""
            if num >= MAX_TRIED:
                break
        length += 1
    return None, alphabet, f"{num:,} sequences of up to {length - 1} steps (not proved)"


def _means(shown: Number | None, expected: Number | None) -> bool:
    """Compare an output with what is expected; where 1 and 0 are expected, -1 stands for 0."""
    if shown == expected:
        return True
    if expected == -1:
        return shown == 0
    if expected == 0:
        return shown in (-1, 0.5)
    return False

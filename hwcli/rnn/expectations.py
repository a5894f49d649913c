"""What a network is meant to compute, and whether it does: the shortest counterexample if not.

A property is written as a name (``parity``), as a regular expression over the letters that the
whole sequence has to match (``.*11``), or as a file with a state machine.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

from hwcli.errors import ConfigError, short
from hwcli.paths import named_path
from hwcli.rnn.activations import Activation, decided
from hwcli.rnn.cells import AnyNetwork, make_stepper
from hwcli.rnn.exact import Number, parse_exact
from hwcli.rnn.letters import Alphabet
from hwcli.rnn.named import (
    DEFINITIONS,
    MAX_STATES,
    definition,
    first_difference,
    means,
    named_property,
    regular_machine,
)
from hwcli.rnn.network import Letter
from hwcli.rnn.properties import Weighed
from hwcli.rnn.recognition import Finding
from hwcli.rnn.regex import RegexError
from hwcli.rnn.state_machine import MooreMachine, TooManyStatesError, explore
from hwcli.rnn.statements import output
from hwcli.yaml_files import read_yaml

# More sequences are not tried where no machine is known.
MAX_TRIED = 50_000


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
        return Expectation(text, read_machine(named_path(text), alphabet))
    named = named_property(text, alphabet)
    if named is not None:
        defined = f"{text} ({definition(text)})"
        if isinstance(named, MooreMachine):
            return Expectation(defined, named)
        return Expectation(defined, weighed=named)
    try:
        return Expectation(text, regular_machine(text, alphabet))
    except RegexError as error:
        near = get_close_matches(text[:60], DEFINITIONS)
        names = " or ".join(f"{name} ({DEFINITIONS[name]})" for name in near)
        raise ConfigError(
            f"{short(text)} is no property: {error}; write a regular expression over the letters "
            f"such as .*11, a machine's YAML file, or a name: "
            f"{names or 'parity and others (docs/rnn-trace.md lists them)'}"
        ) from None
    except RecursionError:
        raise ConfigError(f"{short(text)} is too long, or nested too deeply") from None
    except TooManyStatesError:
        raise ConfigError(f"{short(text)} needs more than {MAX_STATES} states") from None


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
        found = first_difference(finding.machine, expected.machine)
        lengths = "" if finding.longest is None else f" of up to {finding.longest:,} steps"
        tried = f"all sequences{lengths}, by comparing machines"
        return _verdict(expected, network, alphabet, found, tried)
    same = expected.weighed is not None and _is_named(expected.weighed.id, finding.id, alphabet)
    above_zero = (finding.scale or 0) > 0 and finding.offsets == (0, 0)
    # A step-ge unit shows 1 at a tie, where the property does not hold.
    if same and finding.proved and above_zero and network.output_activation != "step-ge":
        how = finding.kind.replace("-", " ")
        return Verdict(True, True, f"Expected {expected.text}: pass, proved ({how}).")
    return _verdict(expected, network, alphabet, *_search(expected, network, alphabet))


def _is_named(expected: str, found: str | None, alphabet: Alphabet) -> bool:
    """Tell whether two names are of one sum. Of bits the sum is the number of ones."""
    names = {expected, found}
    return len(names) == 1 or (alphabet.are_bits and names == {"running-sum", "count-ones"})


def _verdict(
    expected: Expectation,
    network: AnyNetwork,
    alphabet: Alphabet,
    found: tuple[Letter, ...] | None,
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

    passing = [y for y in dict.fromkeys((0, 0.5, -1, expected)) if means(y, expected)]
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


def _search(
    expected: Expectation, network: AnyNetwork, alphabet: Alphabet
) -> tuple[tuple[Letter, ...] | None, str]:
    """Try sequences, the shortest first; return one that shows a difference, and what was tried."""
    num, length = 0, 1
    while num < MAX_TRIED and length <= 200:
        for xs in product(alphabet.letters, repeat=length):
            num += 1
            if not means(_decision(network, xs), expected.predict(xs)):
                return xs, ""
            if num >= MAX_TRIED:
                break
        length += 1
    return None, f"{num:,} sequences of up to {length - 1} steps (not proved)"

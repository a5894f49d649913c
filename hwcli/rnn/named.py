"""Properties that have a name, each with one definition: what ``--expect`` and ``--design`` know.

A network computes a named property where its output means what the property says after every
sequence: 1 where it holds, and elsewhere 0, -1 or a tie (:func:`means`).
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from hwcli.errors import ConfigError
from hwcli.output.units import counted
from hwcli.rnn.exact import Number
from hwcli.rnn.letters import BITS, Alphabet
from hwcli.rnn.network import Letter
from hwcli.rnn.properties import (
    Weighed,
    alternating_sum,
    count_ones,
    counted_properties,
    difference_of_sums,
    last_input,
    last_nonzero_input,
    majority,
    moving_difference,
    running_sum,
)
from hwcli.rnn.regex import derivative, nullable, parse
from hwcli.rnn.state_machine import MooreMachine, explore

# No larger machine is built.
MAX_STATES = 500
LARGEST_MODULUS = 100

DEFINITIONS = {
    "parity": "1 after an odd number of ones",
    "parity-of-zeros": "1 after an odd number of zeros",
    "count-mod-M": "the number of ones modulo M",
    "last-input": "the last input, or 1 where it is positive",
    "first-input": "1 when the first input is one",
    "first-equals-last": "1 when the last input equals the first",
    "latch-first-zero": "1 until the first zero comes",
    "latch-first-one": "1 until the first one comes",
    "binary-addition": "digit T of the sum of two binary numbers, the lowest digits first",
    "equality": "1 while two streams of bits are equal",
    "running-sum": "the sum of all inputs, or 1 where it is positive",
    "alternating-sum": "x_T - x_{T-1} + x_{T-2} - ..., or 1 where it is positive",
    "difference-of-sums": "the first inputs' sum minus the second's, or 1 where it is positive",
    "count-ones": "the number of ones, or 1 where it is positive",
    "majority": "1 when more than half of the inputs are ones",
    "last-nonzero-input": "the last input that is not zero, or 1 where it is positive",
    "moving-difference": "x_T - x_{T-1} with x_0 = 0, or 1 where it is positive",
}
# Over bits; each as an expression that the whole sequence matches where the property holds.
REGULAR = {
    "parity": "0*(10*10*)*10*",
    "parity-of-zeros": "(1*01*0)*1*01*",
    "last-input": ".*1",
    "first-input": "1.*",
    "first-equals-last": "0|1|0.*0|1.*1",
    "latch-first-zero": "1*",
    "latch-first-one": "0*",
}
WEIGHED: dict[str, Callable[[], Weighed]] = {
    "running-sum": running_sum,
    "alternating-sum": alternating_sum,
    "difference-of-sums": difference_of_sums,
    "count-ones": count_ones,
    "majority": majority,
    "last-input": last_input,
    "last-nonzero-input": last_nonzero_input,
    "moving-difference": moving_difference,
}


def definition(name: str) -> str | None:
    """Return what a named property is, or None where the name is unknown."""
    m = _modulus(name)
    return DEFINITIONS.get(name) if m is None else f"the number of ones modulo {m}"


def named_property(name: str, alphabet: Alphabet) -> MooreMachine | Weighed | None:
    """Return a named property: as a machine where a finite memory is enough; None: no such name.

    Raises:
        ConfigError: the property is about other inputs than the alphabet has.
    """
    D = len(alphabet.letters[0])
    if name in ("binary-addition", "equality"):
        found = {each.id: each for each in counted_properties(alphabet)}
        if name not in found:
            raise ConfigError(
                f"{name} is about pairs of bits: give a network of two inputs and alphabet = 0,1"
            )
        return _explored(alphabet, found[name].start, found[name].step, found[name].label)
    if name in REGULAR and alphabet.are_bits:
        return _over_bits(REGULAR[name])
    if name in WEIGHED:
        weighed = WEIGHED[name]()
        if weighed.num_inputs != D:
            raise ConfigError(
                f"{name} is about {counted(weighed.num_inputs, 'input')} per step: the network "
                f"reads {D}"
            )
        return weighed
    if name in REGULAR:
        if D != 1:
            raise ConfigError(f"{name} is about 1 input per step: the network reads {D}")
        raise ConfigError(f"{name} is about bits: give alphabet = 0,1 and inputs of 0 and 1")
    if (m := _modulus(name)) is not None:
        if D != 1:
            raise ConfigError(f"{name} is about 1 input per step: the network reads {D}")
        return _counting(m, alphabet)
    return None


def regular_machine(expression: str, alphabet: Alphabet) -> MooreMachine:
    """Return the machine that shows 1 where the whole sequence matches an expression, else 0.

    Raises:
        RegexError: it is no expression over the letters.
        TooManyStatesError: it needs more than :data:`MAX_STATES`.
    """
    start = parse(expression, alphabet)
    return _explored(alphabet, start, derivative, lambda state: int(nullable(state)))


def name_of(shown: MooreMachine, alphabet: Alphabet) -> str | None:
    """Return the name of the property that a machine shows, if it has one."""
    candidates: dict[str, Callable[[], MooreMachine]] = {
        each.id: each.machine for each in counted_properties(alphabet)
    }
    if alphabet.are_bits:
        for name, expression in REGULAR.items():
            candidates[name] = partial(_over_bits, expression)
    if len(alphabet.letters[0]) == 1 and not alphabet.names:
        numbers = [x for (x,) in alphabet.letters]
        m = len(shown.values)
        if 1 in numbers and 3 <= m <= LARGEST_MODULUS:
            candidates[f"count-mod-{m}"] = partial(_counting, m, alphabet)
        if min(numbers) < 0 < max(numbers):
            candidates["last-nonzero-input"] = partial(_last_sign, alphabet)
    return next(
        (name for name, make in candidates.items() if first_difference(shown, make()) is None),
        None,
    )


def means(shown: Number | None, expected: Number | None) -> bool:
    """Compare an output with what is expected; where 1 and 0 are expected, -1 stands for 0."""
    if shown == expected:
        return True
    if expected == -1:
        return shown == 0
    if expected == 0:
        return shown in (-1, 0.5)
    return False


def first_difference(shown: MooreMachine, expected: MooreMachine) -> tuple[Letter, ...] | None:
    """Walk both machines at once, the shortest sequences first; None where they mean the same."""
    place = {letter: i for i, letter in enumerate(expected.letters)}
    words: dict[tuple[int, int], tuple[Letter, ...]] = {(0, 0): ()}
    for left, right in (queue := [(0, 0)]):
        for i, letter in enumerate(shown.letters):
            pair = shown.transitions[left][i], expected.transitions[right][place[letter]]
            if pair in words:
                continue
            words[pair] = (*words[left, right], letter)
            if not means(shown.outputs[pair[0]], expected.outputs[pair[1]]):
                return words[pair]
            queue.append(pair)
    return None


def _over_bits(expression: str) -> MooreMachine:
    # A user may give the bits names of their own, even each other's: the digits mean the numbers.
    return regular_machine(expression, Alphabet(BITS))


def _modulus(name: str) -> int | None:
    digits = name.removeprefix("count-mod-")
    is_one = name != digits and digits.isascii() and digits.isdecimal() and len(digits) < 4
    return int(digits) if is_one and 2 <= int(digits) <= LARGEST_MODULUS else None


def _counting(m: int, alphabet: Alphabet) -> MooreMachine:
    return _explored(alphabet, 0, lambda n, x: (n + (x == (1,))) % m, lambda n: n)


def _last_sign(alphabet: Alphabet) -> MooreMachine:
    return _explored(
        alphabet, 0, lambda sign, x: (x[0] > 0) - (x[0] < 0) or sign, lambda sign: sign
    )


def _explored(
    alphabet: Alphabet,
    start: Hashable,
    step: Callable[[Any, Letter], Hashable],
    label: Callable[[Any], Number],
) -> MooreMachine:
    return explore(start, alphabet.letters, step, label, limit=MAX_STATES).minimal()

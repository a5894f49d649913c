"""Properties of input sequences that have a name, each spelled out as its definition says.

A *weighed* property compares one number, a weighted sum of the inputs, with a bound; it is
recognised in the closed form of a linear network. A *counted* property is kept in a finite memory,
and has a definition that the recognisers of :mod:`hwcli.rnn.words` do not find by themselves. Each
has a definition that takes a whole sequence and owes nothing to how it is recognised.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from hwcli.rnn.closed_form import WeightedSum
from hwcli.rnn.exact import Exact, shown, simplified
from hwcli.rnn.letters import BIT_PAIRS, BITS, Alphabet
from hwcli.rnn.network import Letter
from hwcli.rnn.recurrence import Recurrence
from hwcli.rnn.state_machine import MooreMachine, explore

# The digits of larger bases have no common names.
LARGEST_BASE = 36

Offsets: TypeAlias = tuple[Exact, Exact]
"""What is added to a weighted sum: for even T, for odd T."""


@dataclass(frozen=True)
class Weighed:
    """A weighted sum Q of the inputs, and what it means that it is above, below or at a bound.

    Attributes:
        id: the property's name.
        quantity: Q of a sequence of T >= 1 letters.
        value: Q in words.
        above, below, at: Q > 0, Q < 0 and Q = 0 in words, where the words differ from "Q is
            positive"; each is a clause of its own.
        sides: where Q is one sum minus another, both in words, for even T and for odd T.
        split: Q as a formula, and the step from it (or from what stands for it) to the words, where
            it takes one.
        num_inputs: D, how many numbers a letter has.
    """

    id: str
    quantity: Callable[[Sequence[Letter]], Exact]
    value: str
    above: str = ""
    below: str = ""
    at: str = ""
    sides: tuple[tuple[str, str], tuple[str, str]] | None = None
    split: tuple[str, str] | None = None
    num_inputs: int = 1

    def cases(self, bound: Exact, *, is_odd: bool) -> tuple[str, str, str]:
        """Return Q > bound, Q < bound and Q = bound in words, for even or for odd T."""
        if self.sides is not None:
            first, second = self.sides[is_odd]
            if bound > 0:
                second = f"{shown(bound)} plus {second}"
            if bound < 0:
                first = f"{shown(-bound)} plus {first}"
            return f"{first} exceeds {second}", "it is smaller", "they are equal"
        if bound == 0 and self.above:
            return self.above, self.below, self.at
        if bound == 0:
            return (
                f"{self.value} is positive",
                f"{self.value} is negative",
                f"{self.value} is zero",
            )
        return (
            f"{self.value} is greater than {shown(bound)}",
            f"{self.value} is less than {shown(bound)}",
            f"{self.value} is equal to {shown(bound)}",
        )


@dataclass(frozen=True)
class Counted:
    """A property kept in a finite memory, over given letters.

    Attributes:
        id: the property's name.
        letters: what is read.
        start, step, label: a machine that keeps it; its labels are numbers.
        cases: each label in words, a clause of its own.
    """

    id: str
    letters: tuple[Letter, ...]
    start: Hashable
    step: Callable[[Any, Letter], Hashable]
    label: Callable[[Any], int]
    cases: Mapping[int, str]

    def machine(self) -> MooreMachine:
        """Return the smallest machine that keeps the property."""
        return explore(self.start, self.letters, self.step, self.label, limit=100).minimal()


# --------------------------------------------------------------------------------------
# Weighed


def running_sum() -> Weighed:
    """Return the sum of all inputs."""
    return Weighed("running-sum", lambda xs: sum(x for (x,) in xs), "the sum of all inputs")


def count_ones() -> Weighed:
    """Return the running sum of bits."""
    return Weighed(
        "count-ones",
        lambda xs: sum(x == 1 for (x,) in xs),
        "the number of ones among the inputs",
    )


def alternating_sum() -> Weighed:
    """Return the sum over every other input, the last included, against the sum over the rest."""
    return Weighed(
        "alternating-sum",
        lambda xs: sum(x for (x,) in xs[::-1][::2]) - sum(x for (x,) in xs[::-1][1::2]),
        "(the sum of x_T, x_{T-2}, ...) minus (the sum of x_{T-1}, x_{T-3}, ...)",
        sides=(
            ("the sum of the inputs at even positions", "the sum at odd positions"),
            ("the sum of the inputs at odd positions", "the sum at even positions"),
        ),
        split=(
            "Σ_{t=1..T} (-1)^(T - t)·x_t",
            "(-1)^(T - t) is 1 where t and T are both even or both odd, and -1 elsewhere. So for "
            "even T, {0} = (sum at even positions) - (sum at odd positions); for odd T, {0} = (sum "
            "at odd positions) - (sum at even positions).",
        ),
    )


def last_input() -> Weighed:
    """Return the last input."""
    return Weighed("last-input", lambda xs: xs[-1][0], "the last input")


def delayed_input(k: int) -> Weighed:
    """Return the input k steps before the last."""
    name = f"x_{{T-{k}}}"
    return Weighed(
        "delay",
        lambda xs: xs[-1 - k][0] if len(xs) > k else 0,
        f"{name} (0 for T < {k + 1})",
    )


def last_nonzero_input() -> Weighed:
    """Return the last input that is not zero: no weighted sum."""
    return Weighed(
        "last-nonzero-input",
        lambda xs: next((x for (x,) in reversed(xs) if x != 0), 0),
        "the last input that is not zero (0 if there is none)",
    )


def moving_difference() -> Weighed:
    """Return the last input minus the one before it."""
    return Weighed(
        "moving-difference",
        lambda xs: xs[-1][0] - (xs[-2][0] if len(xs) > 1 else 0),
        "the last input minus the one before it (x_0 = 0)",
        sides=(("the last input", "the one before it (x_0 = 0)"),) * 2,
    )


def number_in_base(base: int, *, digits: bool) -> Weighed:
    """Return the sequence read as the digits of a number, the most significant first."""
    names = {2: "binary", 3: "ternary", 8: "octal", 10: "decimal", 16: "hexadecimal"}
    name = names.get(base, f"base-{base}")
    if digits:
        value = f"the {name} number whose digits are the inputs (the most significant first)"
    else:
        value = f"the sum of {base}^(T - t)·x_t over t = 1..T"
    return Weighed(
        f"{name}-number" if digits else "power-sum",
        lambda xs: _horner(base, xs),
        value,
    )


def exponential_average(decay: Exact) -> Weighed:
    """Return the sum of the inputs, each worth ``decay`` times the one after it."""
    return Weighed(
        "exponential-average",
        lambda xs: _horner(decay, xs),
        f"the sum of ({shown(decay)})^(T - t)·x_t over t = 1..T",
    )


def _horner(factor: Exact, xs: Sequence[Letter]) -> Exact:
    total: Exact = 0
    for (x,) in xs:
        total = factor * total + x
    return simplified(total)


def difference_of_sums() -> Weighed:
    """Return the sum of one stream of inputs against that of another."""
    return Weighed(
        "difference-of-sums",
        lambda xs: sum(x - y for x, y in xs),
        "(the sum of the first inputs) minus (the sum of the second inputs)",
        sides=(("the sum of the first inputs", "the sum of the second inputs"),) * 2,
        num_inputs=2,
    )


def majority() -> Weighed:
    """Return the ones against the zeros."""
    return Weighed(
        "majority",
        lambda xs: sum(x == 1 for (x,) in xs) - simplified(Fraction(len(xs), 2)),
        "(the number of ones) minus (half the number of inputs)",
        "more than half of the inputs are ones",
        "fewer than half are",
        "exactly half are",
    )


def recognise_weighed(
    weighted: WeightedSum, letters: Sequence[Letter]
) -> tuple[Weighed, Exact, Offsets] | None:
    """Name a weighted sum: return Q, s and c where it is s Q + c, s not 0, c by the parity of T.

    Two recurrences that are minimal are equal exactly when their sequences are: what is found
    here holds for every T.

    Args:
        weighted: of the output's pre-activation.
        letters: what the inputs range over; some names are for bits only.
    """
    over_bits = set(letters) <= set(BITS)
    offsets = offsets_of(weighted.offset)
    match weighted.responses:
        case [one] if offsets is not None:
            for found, scale in _of_one_input(one, letters, over_bits):
                return found, scale, offsets
        case [one] if over_bits and _is_proportional_to_length(weighted.offset):
            weight = _geometric(one, 1)
            if weight is not None and weighted.offset.initial[0] == -Fraction(weight) / 2:
                return majority(), weight, (0, 0)
        case [first, second] if offsets is not None:
            weights = _geometric(first, 1), _geometric(second, 1)
            if weights[0] is not None and weights[1] == -weights[0]:
                return difference_of_sums(), weights[0], offsets
    return None


def _of_one_input(
    response: Recurrence, letters: Sequence[Letter], over_bits: bool
) -> Iterator[tuple[Weighed, Exact]]:
    if response.order >= 2 and not any(response.coefficients):
        *others, last = response.initial
        if not any(others):
            yield delayed_input(response.order - 1), last
        elif response.order == 2 and last == -others[0]:
            yield moving_difference(), others[0]
    if response.order != 1:
        return
    (ratio,), (scale,) = response.coefficients, response.initial
    if ratio == 0:
        yield last_input(), scale
    elif ratio == 1:
        yield count_ones() if over_bits else running_sum(), scale
    elif ratio == -1:
        yield alternating_sum(), scale
    elif isinstance(ratio, int) and 1 < ratio <= LARGEST_BASE:
        are_digits = all(isinstance(x, int) and 0 <= x < ratio for (x,) in letters)
        yield number_in_base(ratio, digits=are_digits), scale
    elif 0 < ratio < 1:
        yield exponential_average(ratio), scale


def offsets_of(offset: Recurrence) -> Offsets | None:
    """Return o_T for even and for odd T where it depends on nothing else, else None."""
    # A recurrence of order 2 that repeats every second term; one of order 1 is such a one too.
    if offset.coefficients in ((), (1,), (-1,), (0, 1)):
        first, second = offset.terms(2)
        return second, first
    return None


def _geometric(recurrence: Recurrence, ratio: Exact) -> Exact | None:
    """Return s where the sequence is s, s r, s r^2, ..., s not 0; else None."""
    return recurrence.initial[0] if recurrence.coefficients == (ratio,) else None


def _is_proportional_to_length(offset: Recurrence) -> bool:
    """Tell whether o_T = c T, for T = 1, 2, ... and c not 0."""
    return offset.coefficients == (2, -1) and offset.initial[1] == 2 * offset.initial[0]


# --------------------------------------------------------------------------------------
# Counted


def binary_addition() -> Counted:
    """Return the latest digit of the sum of two binary numbers, least significant digits first."""
    digit = "digit T of the sum of the two binary numbers (least significant digits first) is"
    return Counted(
        "binary-addition",
        BIT_PAIRS,
        (0, 0),
        lambda state, letter: divmod(state[0] + letter[0] + letter[1], 2),
        lambda state: state[1],
        {1: f"{digit} 1", 0: f"{digit} 0"},
    )


def equality() -> Counted:
    """Return whether two streams of bits have been equal so far."""
    return Counted(
        "equality",
        BIT_PAIRS,
        1,
        lambda equal, letter: int(equal and letter[0] == letter[1]),
        lambda equal: equal,
        {
            1: "the two streams have been equal so far",
            0: "the two streams have differed at some step",
        },
    )


def counted_properties(alphabet: Alphabet) -> list[Counted]:
    """Return those over these letters."""
    return [equality(), binary_addition()] if alphabet.are_bit_pairs else []

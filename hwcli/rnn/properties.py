"""Properties of input sequences that have a name, each spelled out as its definition says.

There are two kinds. A *weighed* property compares one number, a weighted sum of the inputs, with
zero; it is recognised in the closed form of a linear network. A *counted* property is kept in a
finite memory; it is recognised in a minimal state machine. Each has a definition that takes a
whole sequence and owes nothing to how it is recognised: checks compare networks with that.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from hwcli.rnn.closed_form import WeightedSum
from hwcli.rnn.exact import Exact, shown, simplified
from hwcli.rnn.network import Letter
from hwcli.rnn.recurrence import Recurrence
from hwcli.rnn.state_machine import MooreMachine, explore

BITS: tuple[Letter, ...] = ((0,), (1,))
BIT_PAIRS: tuple[Letter, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))

# Counts are recognised up to this modulus.
LARGEST_MODULUS = 12


@dataclass(frozen=True)
class Weighed:
    """A weighted sum Q of the inputs, and what it means that it is above, below or at zero.

    Attributes:
        id: the property's name.
        quantity: Q of a sequence of T >= 1 letters.
        value: Q in words.
        above, below, at: the three cases in words, read one after the other.
        odd: the same three where T is odd, if they differ.
    """

    id: str
    quantity: Callable[[Sequence[Letter]], Exact]
    value: str
    above: str
    below: str
    at: str
    odd: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Counted:
    """A property kept in a finite memory, over given letters.

    Attributes:
        id: the property's name.
        letters: what is read.
        start, step, label: a machine that keeps it; its labels are numbers.
        cases: each label in words, read one after the other.
        definition: the label of a sequence of T >= 1 letters.
    """

    id: str
    letters: tuple[Letter, ...]
    start: Hashable
    step: Callable[[Any, Letter], Hashable]
    label: Callable[[Any], int]
    cases: Mapping[int, str]
    definition: Callable[[Sequence[Letter]], int]

    def machine(self) -> MooreMachine:
        """Return the smallest machine that keeps the property."""
        return explore(self.start, self.letters, self.step, self.label, limit=100).minimal()


# --------------------------------------------------------------------------------------
# Weighed


def running_sum() -> Weighed:
    """Return the sign of the sum of all inputs."""
    return Weighed(
        "running-sum",
        lambda xs: sum(x for (x,) in xs),
        "the sum of all inputs",
        "the sum of all inputs is positive",
        "it is negative",
        "it is zero",
    )


def count_ones() -> Weighed:
    """Return the running sum of bits."""
    return replace(
        running_sum(),
        id="count-ones",
        quantity=lambda xs: sum(x == 1 for (x,) in xs),
        value="the number of ones among the inputs",
    )


def alternating_sum() -> Weighed:
    """Return the sum over every other input, the last included, against the sum over the rest."""
    even = "the sum of the inputs at even positions"
    odd = "the sum of the inputs at odd positions"
    return Weighed(
        "alternating-sum",
        lambda xs: sum(x for (x,) in xs[::-1][::2]) - sum(x for (x,) in xs[::-1][1::2]),
        "the sum of x_T, x_{T-2}, ... minus the sum of x_{T-1}, x_{T-3}, ...",
        f"{even} exceeds the sum at odd positions",
        "it is smaller",
        "they are equal",
        (f"{odd} exceeds the sum at even positions", "it is smaller", "they are equal"),
    )


def last_input() -> Weighed:
    """Return the sign of the last input."""
    return Weighed(
        "last-input",
        lambda xs: xs[-1][0],
        "the last input",
        "the last input is positive",
        "it is negative",
        "it is zero",
    )


def last_nonzero_input() -> Weighed:
    """Return the sign of the last input that has one: no weighted sum, and never proved here."""
    return Weighed(
        "last-nonzero-input",
        lambda xs: next((x for (x,) in reversed(xs) if x != 0), 0),
        "the last input that is not zero",
        "the last input that is not zero is positive",
        "it is negative",
        "all inputs are zero",
    )


def moving_difference() -> Weighed:
    """Return the last input against the one before it."""
    return Weighed(
        "moving-difference",
        lambda xs: xs[-1][0] - (xs[-2][0] if len(xs) > 1 else 0),
        "the last input minus the one before it (x_0 = 0)",
        "the last input exceeds the one before it (x_0 = 0)",
        "it is smaller",
        "they are equal",
    )


def number_in_base(base: int) -> Weighed:
    """Return the sequence read as the digits of a number, the most significant first."""
    names = {2: "binary", 3: "ternary", 8: "octal", 10: "decimal", 16: "hexadecimal"}
    name = names.get(base, f"base-{base}")
    number = f"the {name} number whose digits are the inputs, the most significant first,"

    def quantity(xs: Sequence[Letter]) -> Exact:
        total: Exact = 0
        for (x,) in xs:
            total = base * total + x
        return simplified(total)

    return Weighed(
        f"{name}-number",
        quantity,
        number.rstrip(","),
        f"{number} is positive",
        "it is negative",
        "it is zero",
    )


def exponential_average(decay: Exact) -> Weighed:
    """Return the sum of the inputs, each worth ``decay`` times the one after it."""

    def quantity(xs: Sequence[Letter]) -> Exact:
        total: Exact = 0
        for (x,) in xs:
            total = decay * total + x
        return simplified(total)

    average = f"the sum of the inputs, each worth {shown(decay)} of the one after it,"
    return Weighed(
        "exponential-average",
        quantity,
        average.rstrip(","),
        f"{average} is positive",
        "it is negative",
        "it is zero",
    )


def difference_of_sums() -> Weighed:
    """Return the sum of one stream of inputs against that of another."""
    return Weighed(
        "difference-of-sums",
        lambda xs: sum(a - b for a, b in xs),
        "the sum of the first inputs minus the sum of the second inputs",
        "the sum of the first inputs exceeds the sum of the second inputs",
        "it is smaller",
        "they are equal",
    )


def majority() -> Weighed:
    """Return the ones against the zeros."""
    return Weighed(
        "majority",
        lambda xs: sum(x for (x,) in xs) - simplified(Fraction(len(xs), 2)),
        "the number of ones minus half the number of inputs",
        "more than half of the inputs are ones",
        "fewer than half are",
        "exactly half are",
    )


def recognise_weighed(
    weighted: WeightedSum, letters: Sequence[Letter], *, shows_value: bool
) -> tuple[Weighed, Exact] | None:
    """Name a weighted sum, and say by what factor it is a multiple of that property's Q.

    Two recurrences that are minimal are equal exactly when their sequences are: what is found
    here holds for every T.

    Args:
        weighted: of the output's pre-activation.
        letters: what the inputs range over; some names are for bits only.
        shows_value: whether the output is the sum itself, and not its sign.
    """
    over_bits = set(letters) <= set(BITS)
    match weighted.responses:
        case [one]:
            if _is_proportional_to_length(weighted.offset):
                scale = _geometric(one, 1)
                half = scale is not None and weighted.offset.initial[0] == -Fraction(scale) / 2
                return (majority(), scale) if over_bits and scale is not None and half else None
            if weighted.offset.order > 0:
                return None
            for found, scale in _of_one_input(one, over_bits and shows_value):
                return found, scale
        case [first, second] if weighted.offset.order == 0:
            scale, opposite = _geometric(first, 1), _geometric(second, 1)
            if scale is not None and opposite == -scale:
                return difference_of_sums(), scale
    return None


def _of_one_input(response: Recurrence, counts: bool) -> Iterator[tuple[Weighed, Exact]]:
    if response.order == 2 and response.coefficients == (0, 0):
        first, second = response.initial
        if second == -first:
            yield moving_difference(), first
    if response.order != 1:
        return
    (ratio,), (scale,) = response.coefficients, response.initial
    if ratio == 0:
        yield last_input(), scale
    elif ratio == 1:
        yield count_ones() if counts else running_sum(), scale
    elif ratio == -1:
        yield alternating_sum(), scale
    elif isinstance(ratio, int) and ratio > 1:
        yield number_in_base(ratio), scale
    elif 0 < ratio < 1:
        yield exponential_average(ratio), scale


def _geometric(recurrence: Recurrence, ratio: Exact) -> Exact | None:
    """Return s where the sequence is s, s r, s r^2, ..., s not 0; else None."""
    return recurrence.initial[0] if recurrence.coefficients == (ratio,) else None


def _is_proportional_to_length(offset: Recurrence) -> bool:
    """Tell whether o_T = c T, for T = 1, 2, ... and c not 0."""
    return offset.coefficients == (2, -1) and offset.initial[1] == 2 * offset.initial[0]


# --------------------------------------------------------------------------------------
# Counted


def parity() -> Counted:
    """Return whether the number of ones is odd."""
    return Counted(
        "parity",
        BITS,
        0,
        lambda odd, letter: odd ^ letter[0],
        lambda odd: odd,
        {1: "the number of ones is odd", 0: "it is even"},
        lambda xs: sum(x == 1 for (x,) in xs) % 2,
    )


def count_modulo(modulus: int) -> Counted:
    """Return the remainder of the number of ones."""
    words = "the number of ones leaves remainder {} when divided by {}"
    return Counted(
        f"count-mod-{modulus}",
        BITS,
        0,
        lambda count, letter: (count + letter[0]) % modulus,
        lambda count: count,
        {r: words.format(r, modulus) if r == 0 else f"remainder {r}" for r in range(modulus)},
        lambda xs: sum(x == 1 for (x,) in xs) % modulus,
    )


def latch(bit: int) -> Counted:
    """Return whether a zero, or a one, has come yet; once it has, it has for ever."""
    name = ("zero", "one")[bit]
    return Counted(
        f"latch-first-{name}",
        BITS,
        1,
        lambda waiting, letter: int(waiting and letter[0] != bit),
        lambda waiting: waiting,
        {1: f"no {name} has come yet", 0: f"a {name} has come, and ever after"},
        lambda xs: int(all(x != bit for (x,) in xs)),
    )


def last_bit() -> Counted:
    """Return the last input."""
    return Counted(
        "last-input",
        BITS,
        0,
        lambda _, letter: letter[0],
        lambda last: last,
        {1: "the last input is 1", 0: "it is 0"},
        lambda xs: int(xs[-1][0] == 1),
    )


def binary_addition() -> Counted:
    """Return the latest digit of the sum of two binary numbers, least significant digits first."""

    def definition(xs: Sequence[Letter]) -> int:
        first = sum(int(a) << t for t, (a, _) in enumerate(xs))
        second = sum(int(b) << t for t, (_, b) in enumerate(xs))
        return (first + second) >> (len(xs) - 1) & 1

    digit = "digit T of the sum of the two binary numbers, least significant digits first, is"
    return Counted(
        "binary-addition",
        BIT_PAIRS,
        (0, 0),
        lambda state, letter: divmod(state[0] + letter[0] + letter[1], 2),
        lambda state: state[1],
        {1: f"{digit} 1", 0: "it is 0"},
        definition,
    )


def equality() -> Counted:
    """Return whether two streams of bits have been equal so far."""
    return Counted(
        "equality",
        BIT_PAIRS,
        1,
        lambda equal, letter: int(equal and letter[0] == letter[1]),
        lambda equal: equal,
        {1: "the two streams have been equal so far", 0: "they have differed somewhere"},
        lambda xs: int(all(a == b for a, b in xs)),
    )


def counted_properties(letters: Sequence[Letter]) -> Iterator[Counted]:
    """Yield those over these letters, the ones with fewer states first."""
    if set(letters) == set(BITS):
        yield from (last_bit(), parity(), latch(0), latch(1))
        yield from map(count_modulo, range(3, LARGEST_MODULUS + 1))
    elif set(letters) == set(BIT_PAIRS):
        yield from (equality(), binary_addition())


def recognise_counted(machine: MooreMachine) -> tuple[Counted, dict[int, Any]] | None:
    """Name a minimal machine, and say which output stands for which label of the property.

    Outputs may be any numbers, as long as different labels have different ones.
    """
    for candidate in counted_properties(machine.letters):
        # The order of the letters decides the names of the states.
        ordered = replace(candidate, letters=machine.letters).machine()
        if ordered.transitions != machine.transitions:
            continue
        pairs = {
            (label, output)
            for label, output in zip(ordered.outputs, machine.outputs, strict=True)
            if label is not None
        }
        outputs = dict(sorted(pairs, reverse=True))
        if len(outputs) == len(pairs) == len(set(outputs.values())):
            return candidate, {int(label): output for label, output in outputs.items()}
    return None

"""The sentence that states a property, so that it is true when it is read to the letter.

There are few kinds of sentences: a value, a comparison with a bound, a formula, the cases of a
finite memory, a constant. A test reads each of them back and evaluates it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hwcli.rnn.activations import SATURATED, Activation
from hwcli.rnn.closed_form import WeightedSum
from hwcli.rnn.exact import Exact, Number, greatest_common_divisor, magnitude, shown, simplified
from hwcli.rnn.network import Letter
from hwcli.rnn.properties import Offsets, Weighed

# Output units that show how much z is, and not only on which side of zero.
SHOW_VALUES: frozenset[Activation] = frozenset({"identity", "relu"})
# They come near their classes and never reach them.
SMOOTH: frozenset[Activation] = frozenset({"logistic", "tanh"})
# What an output is where z is above, below and at zero.
CLASSES: dict[Activation, tuple[str, str, str]] = {
    "logistic": ("1", "0", "0.5"),
    "tanh": ("1", "-1", "0"),
    "sign": ("1", "-1", "0"),
    "step": ("1", "0", "0"),
    "step-ge": ("1", "0", "1"),
}
# ln 10 and log10 2, both rounded up.
LN_10 = (2_302_585_092_994_045_685, 10**18)
LOG10_2 = (301_029_995_663_981_196, 10**18)
# Larger exponents are not spelled.
MAX_EXPONENT = 10**9


@dataclass(frozen=True)
class Statement:
    """A sentence for every T, or one for even and one for odd T.

    Attributes:
        always: for every T.
        even, odd: for even and for odd T, where there is no sentence for every T.
        inputs: the inputs that the sentences hold for, where they need such: "integer inputs".
    """

    always: str = ""
    even: str = ""
    odd: str = ""
    inputs: str = ""

    @classmethod
    def by_parity(cls, even: str, odd: str, inputs: str = "") -> "Statement":
        """Return one sentence where both are the same."""
        if even == odd:
            return cls(even, inputs=inputs)
        return cls(even=even, odd=odd, inputs=inputs)

    @property
    def text(self) -> str:
        """Return the whole statement."""
        if self.always:
            return f"For {self.inputs}, {self.always}" if self.inputs else self.always
        return f"For even T{self._and_inputs}, {self.even} For odd T{self._and_inputs}, {self.odd}"

    @property
    def _and_inputs(self) -> str:
        return f" and {self.inputs}" if self.inputs else ""

    def here(self, T: int) -> str:
        """Return the sentence that applies at one T."""
        if self.always:
            return self.text
        parity, sentence = ("odd", self.odd) if T % 2 else ("even", self.even)
        return f"For T = {T:,} ({parity}){self._and_inputs}: {sentence}"

    def elsewhere(self, T: int) -> str:
        """Return the sentence for the other parity of T; empty where one sentence says it all."""
        if self.always:
            return ""
        parity, sentence = ("even", self.even) if T % 2 else ("odd", self.odd)
        return f"For {parity} T{self._and_inputs}: {sentence}"


def value(number: Number) -> str:
    """Spell an output: a float is marked as rounded, except for the tie 0.5."""
    if isinstance(number, float) and number != 0.5:
        return f"≈{number:.4g}" if abs(number) >= 1e-9 else "≈0"
    return shown(number)


def output(number: Number, activation: Activation) -> str:
    """Spell what an output unit decides; a smooth one is "above 0.5" or "below 0.5"."""
    text = value(number)
    if activation in SMOOTH and text in CLASSES[activation]:
        return _classes(activation, is_near=False)[CLASSES[activation].index(text)]
    return text


def _classes(activation: Activation, *, is_near: bool) -> tuple[str, str, str]:
    """Spell an output where z is above, below and at zero.

    A smooth output is only called 1 where it is near it.
    """
    high, low, tie = CLASSES[activation]
    if activation in SMOOTH and not is_near:
        return f"above {tie}", f"below {tie}", tie
    return high, low, tie


def constant(number: Number, activation: Activation) -> Statement:
    """State that the output never changes."""
    return Statement(f"y_T is {output(number, activation)} whatever the inputs are.")


def weighed(
    name: Weighed, scale: Exact, offsets: Offsets, activation: Activation, inputs: str = ""
) -> Statement:
    """State what an output does that reads z_T = scale * Q + offset.

    Args:
        name: of Q.
        scale: not 0.
        offsets: for even and for odd T.
        activation: of the output.
        inputs: for which a smooth output is near its class; empty where it is not.
    """

    def said(*, is_odd: bool) -> str:
        offset = offsets[is_odd]
        if activation in SHOW_VALUES:
            shown_value = affine(name.value, scale, offset)
            if activation == "relu":
                shown_value = f"the larger of 0 and {shown_value}"
            return f"y_T is {shown_value}."
        high, low, tie = _classes(activation, is_near=bool(inputs))
        if scale < 0:
            high, low = low, high
        above, below, at = name.cases(simplified(-offset / Fraction(scale)), is_odd=is_odd)
        return f"y_T is {high} when {above}, {low} when {below}, {tie} when {at}."

    return Statement.by_parity(said(is_odd=False), said(is_odd=True), inputs)


def formula(weighted: WeightedSum, activation: Activation, inputs: str = "") -> Statement:
    """State the weighted sum itself, where it has no name; see :func:`weighed` for the inputs."""
    if not weighted.alternates:
        return Statement(_formula(weighted.text(), activation, inputs), inputs=inputs)
    even, odd = (_formula(weighted.text(parity), activation, inputs) for parity in ("even", "odd"))
    return Statement.by_parity(even, odd, inputs)


def table_of(num_states: int) -> Statement:
    """State that the machine itself is the answer."""
    return Statement(
        f"No words were found for this property: the table of its {num_states} states is the "
        "answer. y_T is what the table shows after the last input."
    )


NOTHING = Statement(
    "No property was found: no closed form, no finite state machine and no named property. "
    "Only the numbers of the trace are known."
)


def is_near(activation: Activation, least: Exact | None) -> bool:
    """Tell whether a smooth output is near its class wherever z is not 0.

    Args:
        activation: of the output.
        least: abs(z) is a whole multiple of it, None where no such number is known.
    """
    return activation in SMOOTH and least is not None and least >= SATURATED


def margin(activation: Activation, least: Exact, inputs: str, *, holds_integers: bool) -> str:
    """Say how close a saturated output is to its class.

    Args:
        activation: of the output.
        least: abs(z) is a whole multiple of it.
        inputs: for which that is so.
        holds_integers: the one hidden unit holds integers, and z is ``least`` times one of them.
    """
    why = "h_T is an integer" if holds_integers else f"z_T is a whole multiple of {shown(least)}"
    return (
        f"For {inputs}, {why}: at a tie y_T is exactly {CLASSES[activation][2]}, elsewhere it is "
        f"{_near(activation, least)}."
    )


def table_classes(activation: Activation) -> str:
    """Say what a machine's table means by the outputs of a smooth unit."""
    high, low, tie = CLASSES[activation]
    return (
        f"In the table of the machine, {high} stands for an output above {tie} and {low} for one "
        f"below {tie}."
    )


def distance(activation: Activation, least: Exact, inputs: str) -> str:
    """Prove the margin of a saturated output in a sentence or two."""
    _, _, tie = CLASSES[activation]
    z = shown(least)
    bound = ""
    if (exponent := _exponent(int(least), activation)) < MAX_EXPONENT:
        away = f"1/(1 + exp({z}))" if activation == "logistic" else f"1 - tanh({z})"
        bound = f", and {away} < 10^-{exponent}"
    return (
        f"For {inputs}, z_T is 0 or at least {z} away from 0{bound}. So y_T is exactly {tie} "
        f"at a tie, and elsewhere {_near(activation, least)}."
    )


def _near(activation: Activation, least: Exact) -> str:
    high, low, _ = CLASSES[activation]
    exponent = _exponent(int(least), activation)
    if exponent < MAX_EXPONENT:
        return f"less than 10^-{exponent} from {low} or {high}"
    return f"closer to {low} or {high} than any float64 can show"


def _exponent(least: int, activation: Activation) -> int:
    """Return a k with abs(y - class) < 10^-k wherever abs(z) >= least.

    1 / (1 + e^z) < e^-z for a logistic unit; 1 - tanh z < 2 e^(-2 z).
    """
    if activation == "logistic":
        return least * LN_10[1] // LN_10[0]
    digits = 2 * least * LN_10[1] * LOG10_2[1] - LOG10_2[0] * LN_10[0]
    return digits // (LN_10[0] * LOG10_2[1])


def grid(letters: Sequence[Letter]) -> str:
    """Name the inputs for which whole multiples of the letters' divisors are all there is."""
    divisors = {
        greatest_common_divisor(letter[d] for letter in letters) for d in range(len(letters[0]))
    }
    if divisors == {1}:
        return "integer inputs"
    if len(divisors) == 1 and (divisor := divisors.pop()) != 0:
        return f"inputs that are whole multiples of {shown(divisor)}"
    return "inputs of this alphabet"


def affine(name: str, scale: Exact, offset: Exact) -> str:
    """Spell scale * Q + offset, Q in words."""
    text = name if scale == 1 else f"{shown(scale)} times ({name})"
    if offset == 0:
        return text
    if scale == 1:
        text = f"({text})"
    return f"{text} {'plus' if offset > 0 else 'minus'} {shown(magnitude(offset))}"


def _formula(text: str, activation: Activation, inputs: str) -> str:
    body, where, rules = text.partition(", where ")
    if activation == "identity":
        return f"y_T = {body}{where}{rules}."
    if activation == "relu":
        return f"y_T = max(0, {body}){where}{rules}."
    high, low, tie = _classes(activation, is_near=bool(inputs))
    return (
        f"y_T is {high} when z_T > 0, {low} when z_T < 0, {tie} when z_T = 0, "
        f"and z_T = {body}{where}{rules}."
    )

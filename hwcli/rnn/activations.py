"""The units' activations and their derivatives, on exact numbers and on floats."""

import math
from typing import Any, Literal, cast, get_args

from hwcli.rnn.exact import Number, to_float

UnitActivation = Literal["identity", "step", "step-ge", "sign", "relu", "logistic", "tanh"]
"""What one unit can compute from its own sum."""
Activation = Literal[UnitActivation, "argmax"]
UNIT_ACTIVATIONS: tuple[UnitActivation, ...] = get_args(UnitActivation)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

# These map rationals to rationals; the others are computed in float64.
EXACT: frozenset[Activation] = frozenset({"identity", "step", "step-ge", "sign", "relu", "argmax"})
# These may leave a finite set of values however few values their inputs have.
UNBOUNDED: frozenset[Activation] = frozenset({"identity", "relu"})
# From here on a logistic or tanh unit is called saturated.
SATURATED = 20

# What courses call some of them.
ALIASES: dict[str, Activation] = {
    "sigmoid": "logistic",
    "linear": "identity",
    "heaviside": "step",
    "softmax": "argmax",
}
# Said wherever one of them is used: courses differ at z = 0, or in the name.
DEFINITIONS: dict[Activation, str] = {
    "logistic": "logistic(z) is 1/(1 + exp(-z)).",
    "step": "step(z) is 1 for z > 0 and 0 for z <= 0 (step-ge is 1 at z = 0 too).",
    "step-ge": "step-ge(z) is 1 for z >= 0 and 0 for z < 0.",
    "argmax": "y_t is the number of the largest output, counted from 1; the first one on a tie.",
    "sign": "sign(z) is 1 for z > 0, -1 for z < 0 and 0 for z = 0.",
}


def activate(activation: Activation, z: Any) -> Number:
    """Apply an activation; see :data:`DEFINITIONS` for those that jump.

    z is a number, and for ``argmax`` a number for each output.
    """
    match activation:
        case "identity":
            return cast(Number, z)
        case "step":
            return int(z > 0)
        case "step-ge":
            return int(z >= 0)
        case "sign":
            return int(z > 0) - int(z < 0)
        case "relu":
            return cast(Number, z) if z > 0 else 0
        case "logistic":
            return logistic(to_float(z))
        case "tanh":
            return math.tanh(to_float(z))
        case "argmax":
            return largest(z)


def derivative(activation: Activation, z: Number) -> Number:
    """Return the derivative at z; 0 at the jumps and kinks, as torch has it for relu."""
    match activation:
        case "identity":
            return 1
        case "step" | "step-ge" | "sign" | "argmax":
            return 0
        case "relu":
            return int(z > 0)
        case "logistic":
            # s(z) s(-z), and not s(z) (1 - s(z)), which is 0 already at z = 37.
            return logistic(to_float(z)) * logistic(-to_float(z))
        case "tanh":
            # 1 / cosh(z)^2 in terms of exp(-2|z|), which cannot overflow.
            decay = math.exp(-2 * abs(to_float(z)))
            return 4 * decay / (1 + decay) ** 2


def largest(numbers: Any) -> int:
    """Return the place of the largest number, counted from 1; the first one on a tie."""
    return max(range(len(numbers)), key=lambda k: (numbers[k], -k)) + 1


def logistic(z: float) -> float:
    """Compute 1 / (1 + exp(-z)) without overflow at either end."""
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    grown = math.exp(z)
    return grown / (1 + grown)


def decided(activation: Activation, z: Any) -> Number:
    """Return what an output unit decides at pre-activation z.

    The output itself where it is exact; for a logistic unit its class 1, 0 or the tie 0.5, for
    a tanh unit the sign, both read from z: near a tie, or far from it, the float64 output has
    lost which it was.
    """
    if activation in EXACT:
        return activate(activation, z)
    sign = (z > 0) - (z < 0)
    return sign if activation == "tanh" else (0, 0.5, 1)[sign + 1]

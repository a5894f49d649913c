"""How a user writes a network down: the mapping under ``network:``, or a file of the same shape."""

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from hwcli.config import MAX_RANGE_LENGTH, Section, parse_range
from hwcli.rnn.activations import ACTIVATIONS, Activation
from hwcli.rnn.exact import Exact, parse_exact, to_json
from hwcli.rnn.network import Letter, Matrix, Network, Vector

# More units than a reader could follow; the largest preset has three.
MAX_HIDDEN = 64


def _exact(value: object) -> Exact:
    return parse_exact(value)


def _matrix(value: object) -> Matrix:
    if not isinstance(value, list | tuple):
        return ((parse_exact(value),),)
    if not value or not all(isinstance(row, list | tuple) and row for row in value):
        raise ValueError("write a number, or one row for each hidden unit, such as [[1], [-1]]")
    return tuple(tuple(map(parse_exact, row)) for row in value)


def _vector(value: object) -> Exact | Vector:
    if not isinstance(value, list | tuple):
        return parse_exact(value)
    if not value:
        raise ValueError("write a number, or one for each hidden unit, such as [1, -1]")
    return tuple(map(parse_exact, value))


def _to_yaml(value: object) -> object:
    if isinstance(value, tuple):
        return [_to_yaml(part) for part in value]
    assert isinstance(value, int | Fraction)
    return to_json(value)


_SPELLED = PlainSerializer(_to_yaml)
ExactField = Annotated[Any, BeforeValidator(_exact), _SPELLED]
"""A config field that holds one exact number (``int`` or ``Fraction``)."""
_MatrixField = Annotated[Any, BeforeValidator(_matrix), _SPELLED]
_VectorField = Annotated[Any, BeforeValidator(_vector), _SPELLED]
_ACTIVATIONS = ", ".join(ACTIVATIONS)


class NetworkSpec(Section):
    """The weights of :class:`~hwcli.rnn.network.Network` as they are written down.

    A matrix is a list of rows, one for each hidden unit, or one number in a scalar network. A
    vector is a list, one number for each hidden unit, or one number that holds for all.
    """

    w_in: _MatrixField = Field(description="Input weights, a row per hidden unit.")
    w_rec: _MatrixField = Field(description="Recurrent weights, a row per hidden unit.")
    w_out: _VectorField = Field(description="Output weights, one per hidden unit.")
    bias: _VectorField = Field(0, description="Biases of the hidden units.")
    w_feedback: _VectorField = Field(
        0, description="Weights from the previous output to the hidden units (Jordan network)."
    )
    initial_state: _VectorField = Field(0, description="Hidden state before the first step.")
    output_bias: ExactField = Field(0, description="Bias of the output unit.")
    initial_output: ExactField = Field(0, description="Output before the first step.")
    activation: Activation = Field(
        "identity", description=f"Activation of the hidden units: {_ACTIVATIONS}."
    )
    output_activation: Activation = Field(
        "logistic", description=f"Activation of the output unit: {_ACTIVATIONS}."
    )

    @model_validator(mode="after")
    def _dimensions_agree(self) -> "NetworkSpec":
        H, D = len(self.w_in), len(self.w_in[0])
        if H > MAX_HIDDEN:
            raise ValueError(f"network.w_in has {H} rows: up to {MAX_HIDDEN} hidden units are read")
        for key, width in (("w_in", D), ("w_rec", H)):
            matrix = getattr(self, key)
            shape = f"{len(matrix)} x {'/'.join(str(w) for w in sorted(set(map(len, matrix))))}"
            if shape != f"{H} x {width}":
                raise ValueError(
                    f"network.{key} is {shape}: expected {H} x {width}"
                    + (", as w_in has a row for each hidden unit" if key == "w_rec" else "")
                )
        for key in ("w_out", "bias", "w_feedback", "initial_state"):
            vector = getattr(self, key)
            if isinstance(vector, tuple) and len(vector) != H:
                raise ValueError(
                    f"network.{key} has {len(vector)} numbers: expected {H}, one for each row of "
                    "w_in"
                )
        return self

    def network(self) -> Network:
        """Return the network, every vector written out."""
        H = len(self.w_in)
        spread = {
            key: value if isinstance(value, tuple) else (value,) * H
            for key in ("w_out", "bias", "w_feedback", "initial_state")
            for value in [getattr(self, key)]
        }
        return Network(
            w_in=self.w_in,
            w_rec=self.w_rec,
            **spread,
            output_bias=self.output_bias,
            initial_output=self.initial_output,
            activation=self.activation,
            output_activation=self.output_activation,
        )


def parse_numbers(value: object) -> tuple[Exact, ...]:
    """Read ``0,1``, ``-3..3`` or a list of such into exact numbers.

    Raises:
        ValueError: no such text, an empty one, or over 10,000 numbers.
    """
    if isinstance(value, list | tuple):
        numbers = tuple(number for part in value for number in parse_numbers(part))
    elif isinstance(value, str) and "," in value:
        numbers = parse_numbers(value.split(","))
    elif isinstance(value, str) and ".." in value:
        numbers = parse_range(value.strip())
    else:
        numbers = (parse_exact(value),)
    if not 0 < len(numbers) <= MAX_RANGE_LENGTH:
        raise ValueError(f"expected from 1 to {MAX_RANGE_LENGTH:,} numbers")
    return numbers


def parse_sequence(value: object) -> tuple[Letter, ...]:
    """Read an input sequence: steps parted by commas, the numbers of one step by blanks.

    ``3,-1,4`` is three steps of a network with one input, ``1 0, 0 1`` two steps of one with
    two; a list holds one number or one list for each step.

    Raises:
        ValueError: a step is empty or holds something that is no number.
    """
    if isinstance(value, str):
        steps: list[object] = [part.split() for part in value.strip().rstrip(",").split(",")]
    elif isinstance(value, list | tuple):
        steps = list(value)
    else:
        steps = [value]
    sequence = []
    for t, step in enumerate(steps, 1):
        numbers = step if isinstance(step, list | tuple) else [step]
        if not numbers:
            raise ValueError(f"step {t} is empty; write 3,-1,4 or, for two inputs, 1 0, 0 1")
        try:
            sequence.append(tuple(map(parse_exact, numbers)))
        except ValueError as error:
            raise ValueError(f"step {t}: {error}") from None
    if not sequence:
        raise ValueError("a sequence needs at least one step")
    return tuple(sequence)


def read_sequence(text: str) -> tuple[Letter, ...]:
    """Read a file's sequence: one step a line, or steps parted by commas on any lines.

    Raises:
        ValueError: as in :func:`parse_sequence`.
    """
    lines = [line.strip().rstrip(",") for line in text.splitlines()]
    return parse_sequence(",".join(line for line in lines if line))


def _optional_sequence(value: object) -> tuple[Letter, ...] | None:
    return None if value is None else parse_sequence(value)


def _spelled_sequence(sequence: tuple[Letter, ...] | None) -> object:
    """Spell the letters of a network with one input as numbers, of others as lists."""
    if sequence is None:
        return None
    return [_to_yaml(letter[0] if len(letter) == 1 else letter) for letter in sequence]


AlphabetField = Annotated[Any, BeforeValidator(parse_numbers), _SPELLED]
"""A config field that holds exact numbers: what one input ranges over."""
SequenceField = Annotated[
    Any, BeforeValidator(_optional_sequence), PlainSerializer(_spelled_sequence)
]
"""A config field that holds a sequence of letters, or None."""

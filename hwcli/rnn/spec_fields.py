"""The fields of a network's spec: how its numbers, vectors and matrices are written and checked.

The names that courses use for weights and activations are understood.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from hwcli.output.units import counted
from hwcli.rnn.activations import ALIASES, Activation, UnitActivation
from hwcli.rnn.exact import Exact, parse_exact
from hwcli.rnn.network import Matrix, Vector
from hwcli.rnn.sequences import to_yaml

# What courses call the weights of h_t = f(W_xh x_t + W_hh h_{t-1} + b_h), y_t = g(W_hy h_t + b_y).
_COURSES = {
    "w_in": ("W_xh", "W_hx", "W_ih", "W_x", "U"),
    "w_rec": ("W_hh", "W_h", "W"),
    "w_out": ("W_hy", "W_yh", "W_ho", "W_y", "V"),
    "bias": ("b_h", "b"),
    "output_bias": ("b_y", "b_o", "c"),
    "initial_state": ("h_0", "h0"),
    "initial_output": ("y_0", "y0"),
}
NAMES = {theirs: ours for ours, names in _COURSES.items() for theirs in names}


def with_our_names(values: Any) -> Any:
    """Replace the names that courses use by ours.

    Raises:
        ValueError: two names of one weight are given.
    """
    if not isinstance(values, dict):
        return values
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        ours = NAMES.get(str(key), str(key))
        if ours in renamed:
            raise ValueError(f"network.{ours} is given twice, once as {key}")
        renamed[ours] = value
    return renamed


# --------------------------------------------------------------------------------------
# How a value is written


def _matrix(value: object) -> Matrix | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return ((parse_exact(value),),)
    if not value or not all(isinstance(row, list | tuple) and row for row in value):
        raise ValueError("write a number, or one row for each hidden unit, such as [[1], [-1]]")
    return tuple(tuple(map(parse_exact, row)) for row in value)


def _vector(value: object) -> Exact | Vector | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return parse_exact(value)
    if not value or any(isinstance(number, list | tuple) for number in value):
        raise ValueError("write a number, or one for each unit, such as [1, -1]")
    return tuple(map(parse_exact, value))


def _readout(value: object) -> Exact | Vector | Matrix | None:
    has_rows = isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple)
    return _matrix(value) if has_rows else _vector(value)


def _needed(value: object) -> object:
    if value is None:
        raise ValueError("a value is needed")
    return value


def _activation(value: object) -> object:
    return ALIASES.get(value, value) if isinstance(value, str) else value


def _of_one_unit(value: object) -> object:
    if _activation(value) == "argmax":
        raise ValueError("it compares several outputs: write it as output_activation")
    return value


def _spelled(value: Any) -> object:
    return None if value is None else to_yaml(value)


_SPELLED = PlainSerializer(_spelled)
_NEEDED = BeforeValidator(_needed)
ExactField = Annotated[Any, BeforeValidator(parse_exact), _SPELLED]
"""A config field that holds one exact number (``int`` or ``Fraction``)."""
OptionalMatrixField = Annotated[Any, BeforeValidator(_matrix), _SPELLED]
"""A matrix, as a tuple of rows, or None; one number stands for a matrix of 1 x 1."""
MatrixField = Annotated[Any, BeforeValidator(_matrix), _NEEDED, _SPELLED]
OptionalVectorField = Annotated[Any, BeforeValidator(_vector), _SPELLED]
"""A vector, or one number that holds for all units, or None."""
VectorField = Annotated[Any, BeforeValidator(_vector), _NEEDED, _SPELLED]
ReadoutField = Annotated[Any, BeforeValidator(_readout), _SPELLED]
"""A matrix with a row for each output, a vector for the only one, a number, or None."""
ActivationField = Annotated[Activation, BeforeValidator(_activation)]
"""An output's activation; ``sigmoid``, ``linear``, ``heaviside`` and ``softmax`` are understood."""
UnitActivationField = Annotated[
    UnitActivation, BeforeValidator(_activation), BeforeValidator(_of_one_unit)
]
"""The activation of a single unit, which cannot be ``softmax``."""


def is_given(value: object, default: object) -> bool:
    """Tell whether a value differs from its default; zeros for each unit do not differ from 0."""
    if default == 0 and isinstance(value, tuple):
        return any(value)
    return value != default


# --------------------------------------------------------------------------------------
# How large it has to be


def num_units(w_in: Matrix, *, transposed: bool) -> int:
    """Return H, as the input weights are written: rows, or columns where they are transposed."""
    return len(w_in[0]) if transposed else len(w_in)


def num_inputs(w_in: Matrix, *, transposed: bool) -> int:
    """Return D, as the input weights are written."""
    return len(w_in) if transposed else len(w_in[0])


def as_rows(key: str, matrix: Matrix, H: int, width: int, *, transposed: bool) -> Matrix:
    """Return a matrix with one row of ``width`` numbers for each of H units.

    Raises:
        ValueError: it is written with other dimensions; one line with its key.
    """
    rows, columns = (width, H) if transposed else (H, width)
    widths = sorted(set(map(len, matrix)))
    if len(matrix) != rows or widths != [columns]:
        raise ValueError(
            f"network.{key} is {len(matrix)} x {'/'.join(map(str, widths))}: expected {rows} x "
            f"{columns}, as {counted(H, 'unit')} {'reads' if H == 1 else 'read'} "
            f"{counted(width, 'number')}{' (transposed)' if transposed else ''}"
        )
    return tuple(zip(*matrix, strict=True)) if transposed else matrix


def as_vector(key: str, value: Exact | Vector, n: int, unit: str = "hidden unit") -> Vector:
    """Return a vector of n numbers; one number is repeated.

    Raises:
        ValueError: it has another length; one line with its key.
    """
    if not isinstance(value, tuple):
        return (value,) * n
    if len(value) != n:
        raise ValueError(
            f"network.{key} has {counted(len(value), 'number')}: expected {n}, one for each {unit}"
        )
    return value

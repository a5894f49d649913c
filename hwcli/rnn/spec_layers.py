"""How a user writes stacked layers down, and layers of LSTM or GRU cells."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from hwcli.config import Section
from hwcli.rnn.activations import UNIT_ACTIVATIONS, Activation
from hwcli.rnn.cells import GATES, CellKind, Gate, Layer
from hwcli.rnn.spec_fields import (
    MatrixField,
    OptionalMatrixField,
    UnitActivationField,
    VectorField,
    as_rows,
    as_vector,
    is_given,
    num_inputs,
    num_units,
    with_our_names,
)

# What a layer of each kind does not read.
_OF_SIMPLE_UNITS = ("w_in", "w_rec", "bias", "activation")
_NOT_READ: dict[CellKind, Mapping[str, str]] = {
    "simple": dict.fromkeys(("initial_cell", "cell_activation"), "leave it out"),
    "lstm": dict.fromkeys(_OF_SIMPLE_UNITS, "write it for each of the gates"),
    "gru": {
        **dict.fromkeys(_OF_SIMPLE_UNITS, "write it for each of the gates"),
        **dict.fromkeys(("initial_cell", "cell_activation"), "leave it out"),
    },
}


class GateSpec(Section):
    """The weights of one gate of an LSTM or GRU."""

    w_in: MatrixField = Field(description="Input weights, a row per hidden unit.")
    w_rec: MatrixField = Field(description="Recurrent weights, a row per hidden unit.")
    bias: VectorField = Field(0, description="Biases of the gate, one per hidden unit.")
    activation: UnitActivationField | None = Field(
        None, description="Activation of the gate; null: logistic, and tanh for the candidate."
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        # Of a simple network U is the input's matrix; of gates most courses say that W is.
        if isinstance(values, dict) and (bare := [key for key in ("U", "W") if key in values]):
            raise ValueError(
                f"network.layers: {bare[0]} of a gate has two meanings, as courses write both "
                "W x + U h and U x + W h: write w_in (W_xh) and w_rec (W_hh)"
            )
        return with_our_names(values)


class LayerSpec(Section):
    """One layer of a stacked network; the lowest is written first."""

    cell: CellKind = Field("simple", description="Kind of cell: simple, lstm or gru.")
    w_in: OptionalMatrixField = Field(None, description="Input weights of a simple layer.")
    w_rec: OptionalMatrixField = Field(None, description="Recurrent weights of a simple layer.")
    bias: VectorField = Field(0, description="Biases of a simple layer.")
    activation: UnitActivationField = Field(
        "identity", description=f"Activation of a simple layer: {', '.join(UNIT_ACTIVATIONS)}."
    )
    gates: dict[str, GateSpec] = Field(
        default_factory=dict,
        description="Gates by name: input, forget, output and candidate of an lstm; reset, update "
        "and candidate of a gru.",
    )
    initial_state: VectorField = Field(0, description="h_0 of the layer.")
    initial_cell: VectorField = Field(0, description="c_0 of an lstm layer.")
    cell_activation: UnitActivationField = Field(
        "tanh", description="Activation of an lstm's cell before the output gate."
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        return with_our_names(values)

    @model_validator(mode="after")
    def _has_what_its_cells_read(self) -> "LayerSpec":
        needed = GATES[self.cell] if self.cell != "simple" else ()
        if set(self.gates) != set(needed):
            raise ValueError(
                f"network: a {self.cell} layer has the gates {', '.join(needed) or 'none'}, not "
                f"{', '.join(self.gates) or 'none'}"
            )
        for key, cure in _NOT_READ[self.cell].items():
            if is_given(getattr(self, key), type(self).model_fields[key].default):
                raise ValueError(
                    f"network.layers: {key} has no effect in a layer of {self.cell} cells: {cure}"
                )
        if self.cell == "simple" and (self.w_in is None or self.w_rec is None):
            raise ValueError("network.layers: a simple layer needs w_in and w_rec")
        return self

    def layer(self, key: str, below: int | None, *, transposed: bool) -> Layer:
        """Return the layer, every vector written out.

        Args:
            key: its place in the spec, such as ``layers[2]``.
            below: H of the layer that it reads; None for the lowest, which reads the inputs.
            transposed: its matrices are written inputs x units.

        Raises:
            ValueError: a matrix or vector has other dimensions; one line with its key.
        """
        gates = {}
        specs: Mapping[str, LayerSpec | GateSpec]
        specs = {"hidden": self} if self.cell == "simple" else self.gates
        first = specs[GATES[self.cell][0]].w_in
        H = num_units(first, transposed=transposed)
        D = num_inputs(first, transposed=transposed) if below is None else below
        for name in GATES[self.cell]:
            spec = specs[name]
            of = key if self.cell == "simple" else f"{key}.gates.{name}"
            gates[name] = Gate(
                as_rows(f"{of}.w_in", spec.w_in, H, D, transposed=transposed),
                as_rows(f"{of}.w_rec", spec.w_rec, H, H, transposed=transposed),
                as_vector(f"{of}.bias", spec.bias, H),
                spec.activation or _usual(name),
            )
        initial = as_vector(f"{key}.initial_state", self.initial_state, H)
        if self.cell == "lstm":
            initial = (*initial, *as_vector(f"{key}.initial_cell", self.initial_cell, H))
        return Layer(self.cell, gates, initial, self.cell_activation)


def _usual(gate: str) -> Activation:
    return "tanh" if gate == "candidate" else "logistic"

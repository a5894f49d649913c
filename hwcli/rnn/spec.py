"""How a user writes a network down: the mapping under ``network:``, or a file of the same shape.

One file may hold a whole exercise: the network's keys and the config's stand side by side. The
names that courses use for weights and activations are understood.
"""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from hwcli.config import Section
from hwcli.errors import ConfigError
from hwcli.rnn.activations import ACTIVATIONS, ALIASES, Activation
from hwcli.rnn.cells import GATES, AnyNetwork, CellKind, Gate, Layer, Stack
from hwcli.rnn.exact import Exact, parse_exact, to_float, to_json
from hwcli.rnn.letters import Alphabet
from hwcli.rnn.network import Matrix, Network, Vector
from hwcli.rnn.sequences import to_yaml
from hwcli.yaml_files import read_yaml

# More units than a reader could follow; the largest preset has three.
MAX_HIDDEN = 64

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


def _readout(value: object) -> Exact | Vector | Matrix | None:
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        return _matrix(value)
    return None if value is None else _vector(value)


def _optional_matrix(value: object) -> Matrix | None:
    return None if value is None else _matrix(value)


def _activation(value: object) -> object:
    return ALIASES.get(value, value) if isinstance(value, str) else value


def _spelled(value: Any) -> object:
    return None if value is None else to_yaml(value)


_SPELLED = PlainSerializer(_spelled)
ExactField = Annotated[Any, BeforeValidator(parse_exact), _SPELLED]
"""A config field that holds one exact number (``int`` or ``Fraction``)."""
_MatrixField = Annotated[Any, BeforeValidator(_matrix), _SPELLED]
_VectorField = Annotated[Any, BeforeValidator(_vector), _SPELLED]
_OptionalMatrixField = Annotated[Any, BeforeValidator(_optional_matrix), _SPELLED]
_ReadoutField = Annotated[Any, BeforeValidator(_readout), _SPELLED]
ActivationField = Annotated[Activation, BeforeValidator(_activation)]
"""An activation; ``sigmoid``, ``linear``, ``heaviside`` and ``softmax`` are understood."""
_ACTIVATIONS = ", ".join(ACTIVATIONS)


class GateSpec(Section):
    """The weights of one gate of an LSTM or GRU."""

    w_in: _MatrixField = Field(description="Input weights, a row per hidden unit.")
    w_rec: _MatrixField = Field(description="Recurrent weights, a row per hidden unit.")
    bias: _VectorField = Field(0, description="Biases of the gate, one per hidden unit.")
    activation: ActivationField | None = Field(
        None, description="Activation of the gate; null: logistic, and tanh for the candidate."
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        return with_our_names(values)


class LayerSpec(Section):
    """One layer of a stacked network; the lowest is written first."""

    cell: CellKind = Field("simple", description="Kind of cell: simple, lstm or gru.")
    w_in: _OptionalMatrixField = Field(None, description="Input weights of a simple layer.")
    w_rec: _OptionalMatrixField = Field(None, description="Recurrent weights of a simple layer.")
    bias: _VectorField = Field(0, description="Biases of a simple layer.")
    activation: ActivationField = Field(
        "identity", description=f"Activation of a simple layer: {_ACTIVATIONS}."
    )
    gates: dict[str, GateSpec] = Field(
        default_factory=dict,
        description="Gates by name: input, forget, output and candidate of an lstm; reset, update "
        "and candidate of a gru.",
    )
    initial_state: _VectorField = Field(0, description="h_0 of the layer.")
    initial_cell: _VectorField = Field(0, description="c_0 of an lstm layer.")
    cell_activation: ActivationField = Field(
        "tanh", description="Activation of an lstm's cell before the output gate."
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        return with_our_names(values)

    @model_validator(mode="after")
    def _has_its_gates(self) -> "LayerSpec":
        needed = GATES[self.cell] if self.cell != "simple" else ()
        if set(self.gates) != set(needed):
            raise ValueError(
                f"network: a {self.cell} layer has the gates {', '.join(needed) or 'none'}, not "
                f"{', '.join(self.gates) or 'none'}"
            )
        if self.cell == "simple" and (self.w_in is None or self.w_rec is None):
            raise ValueError("network.layers: a simple layer needs w_in and w_rec")
        return self

    def layer(self) -> Layer:
        """Return the layer, every vector written out."""
        if self.cell == "simple":
            specs = {"hidden": (self.w_in, self.w_rec, self.bias, self.activation)}
        else:
            specs = {
                name: (gate.w_in, gate.w_rec, gate.bias, gate.activation or _usual(name))
                for name in GATES[self.cell]
                for gate in [self.gates[name]]
            }
        gates = {}
        H = len(_matrix(next(iter(specs.values()))[0]))
        for name, (w_in, w_rec, bias, activation) in specs.items():
            gate = Gate(_matrix(w_in), _matrix(w_rec), _wide(bias, H), activation)
            if not len(gate.w_in) == len(gate.w_rec) == len(gate.w_rec[0]) == len(gate.bias) == H:
                raise ValueError(f"network: the {name} gate of a layer is not of {H} units")
            gates[name] = gate
        initial = _wide(self.initial_state, H)
        if self.cell == "lstm":
            initial = (*initial, *_wide(self.initial_cell, H))
        return Layer(self.cell, gates, initial, self.cell_activation)


def _usual(gate: str) -> Activation:
    return "tanh" if gate == "candidate" else "logistic"


def _wide(value: Exact | Vector, H: int) -> Vector:
    return value if isinstance(value, tuple) else (value,) * H


class NetworkSpec(Section):
    """The weights of :class:`~hwcli.rnn.network.Network` as they are written down.

    A matrix is a list of rows, one for each hidden unit, or one number in a scalar network. A
    vector is a list, one number for each hidden unit, or one number that holds for all.
    """

    w_in: _OptionalMatrixField = Field(None, description="Input weights, a row per hidden unit.")
    w_rec: _OptionalMatrixField = Field(
        None, description="Recurrent weights, a row per hidden unit."
    )
    w_out: _ReadoutField = Field(
        None,
        description="Output weights, one per hidden unit, or a row per output; null: the hidden "
        "units are the outputs.",
    )
    bias: _VectorField = Field(0, description="Biases of the hidden units.")
    w_feedback: _VectorField = Field(
        0, description="Weights from the previous output to the hidden units (Jordan network)."
    )
    output_recurrent: ExactField = Field(
        0, description="Weight from the previous output to the output unit itself."
    )
    initial_state: _VectorField = Field(0, description="Hidden state before the first step.")
    output_bias: _VectorField = Field(0, description="Bias of the output unit, or of each.")
    initial_output: ExactField = Field(0, description="Output before the first step.")
    activation: ActivationField = Field(
        "identity", description=f"Activation of the hidden units: {_ACTIVATIONS}."
    )
    output_activation: ActivationField = Field(
        "logistic", description=f"Activation of the output unit: {_ACTIVATIONS}."
    )
    threshold: _ReadoutField = Field(
        None,
        description="Hidden units are 1 where their sum is at least this, else 0; null: see "
        "activation.",
    )
    output_threshold: _ReadoutField = Field(
        None,
        description="The output is 1 where its sum is at least this, else 0; null: see "
        "output_activation.",
    )
    transposed: bool = Field(
        False, description="Matrices are written inputs x units, as Keras stores them."
    )
    layers: tuple[LayerSpec, ...] = Field(
        (), description="Layers of a stacked network, or one layer of lstm or gru cells."
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        values = with_our_names(values)
        if not isinstance(values, dict):
            return values
        if values.get("layers") is None:
            values = {key: value for key, value in values.items() if key != "layers"}
        elif not isinstance(values["layers"], list | tuple):
            values = {**values, "layers": [values["layers"]]}
        return values

    @model_validator(mode="after")
    def _dimensions_agree(self) -> "NetworkSpec":
        if self.layers:
            self.networks()
            return self
        for key in ("w_in", "w_rec"):
            if getattr(self, key) is None:
                raise ValueError(f"network.{key}: a value is needed")
        w_in, w_rec = self._hidden_weights()
        H, D = len(w_in), len(w_in[0])
        if H > MAX_HIDDEN:
            raise ValueError(f"network.w_in has {H} rows: up to {MAX_HIDDEN} hidden units are read")
        for key, matrix, width in (("w_in", w_in, D), ("w_rec", w_rec, H)):
            shape = f"{len(matrix)} x {'/'.join(str(w) for w in sorted(set(map(len, matrix))))}"
            if shape != f"{H} x {width}":
                raise ValueError(
                    f"network.{key} is {shape}: expected {H} x {width}"
                    + (", as w_in has a row for each hidden unit" if key == "w_rec" else "")
                )
        for key in ("w_out", "bias", "w_feedback", "initial_state"):
            vector = getattr(self, key)
            if isinstance(vector, tuple) and not isinstance(vector[0], tuple) and len(vector) != H:
                raise ValueError(
                    f"network.{key} has {len(vector)} numbers: expected {H}, one for each row of "
                    "w_in"
                )
        for network in self.networks():
            _refuse_beyond_float64(network)
        return self

    def networks(self) -> tuple[AnyNetwork, ...]:
        """Return one network for each output; with ``argmax`` one that reads all outputs."""
        layers = tuple(each.layer() for each in self.layers)
        H = layers[-1].num_units if layers else len(self._hidden_weights()[0])
        rows = self._readout_rows(H)
        biases = _wide(self.output_bias, len(rows))
        activation = self.output_activation
        if self.output_threshold is not None:
            minus = _wide(self.output_threshold, len(rows))
            biases = tuple(b - m for b, m in zip(biases, minus, strict=True))
            activation = "step-ge"
        elif self.w_out is None:
            activation = "identity"
        if activation == "argmax":
            layers = layers or (self._simple_layer(),)
            return (Stack(layers, rows, biases, "argmax"),)
        if layers or self.output_recurrent:
            layers = layers or (self._simple_layer(),)
            return tuple(
                self._stack(layers, row, bias, activation)
                for row, bias in zip(rows, biases, strict=True)
            )
        return tuple(
            self._simple(row, bias, activation) for row, bias in zip(rows, biases, strict=True)
        )

    def network(self) -> Network:
        """Return a simple network with one output."""
        (network,) = self.networks()
        assert isinstance(network, Network)
        return network

    def _stack(
        self, layers: tuple[Layer, ...], row: Vector, bias: Exact, activation: Activation
    ) -> Stack:
        if not self.output_recurrent:
            return Stack(layers, (row,), (bias,), activation)
        # An output with a memory is one more layer that is shown as it is.
        output = Gate((row,), ((self.output_recurrent,),), (bias,), activation)
        top = Layer("simple", {"hidden": output}, (self.initial_output,))
        return Stack((*layers, top), ((1,),), (0,), "identity")

    def _simple(self, row: Vector, output_bias: Exact, activation: Activation) -> Network:
        w_in, w_rec = self._hidden_weights()
        bias, hidden_activation = self._hidden_bias(len(w_in))
        return Network(
            w_in=w_in,
            w_rec=w_rec,
            w_out=row,
            bias=bias,
            w_feedback=_wide(self.w_feedback, len(w_in)),
            initial_state=_wide(self.initial_state, len(w_in)),
            output_bias=output_bias,
            initial_output=self.initial_output,
            activation=hidden_activation,
            output_activation=activation,
        )

    def _simple_layer(self) -> Layer:
        w_in, w_rec = self._hidden_weights()
        bias, activation = self._hidden_bias(len(w_in))
        gate = Gate(w_in, w_rec, bias, activation)
        return Layer("simple", {"hidden": gate}, _wide(self.initial_state, len(w_in)))

    def _hidden_bias(self, H: int) -> tuple[Vector, Activation]:
        bias = _wide(self.bias, H)
        if self.threshold is None:
            return bias, self.activation
        minus = _wide(self.threshold, H)
        return tuple(b - m for b, m in zip(bias, minus, strict=True)), "step-ge"

    def _hidden_weights(self) -> tuple[Matrix, Matrix]:
        if not self.transposed:
            return self.w_in, self.w_rec
        w_in, w_rec = (tuple(zip(*m, strict=True)) for m in (self.w_in, self.w_rec))
        return w_in, w_rec

    def _readout_rows(self, H: int) -> Matrix:
        w_out = self.w_out
        if w_out is None:
            return tuple(tuple(int(i == j) for j in range(H)) for i in range(H))
        if not isinstance(w_out, tuple) or not isinstance(w_out[0], tuple):
            return (_wide(w_out, H),)
        rows: Matrix = tuple(zip(*w_out, strict=True)) if self.transposed else w_out
        if any(len(row) != H for row in rows):
            raise ValueError(
                f"network.w_out has rows of {len(rows[0])} numbers: expected {H}, one for each "
                "hidden unit"
            )
        return rows


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


def read_spec(path: Path) -> dict[str, Any]:
    """Read an exercise's file: keys of the config as they are, all others under ``network``.

    Raises:
        ConfigError: the file cannot be read, or gives a network twice.
    """
    content = read_yaml(path)
    ours = set(NetworkSpec.model_fields) | set(NAMES)
    bare = {key: value for key, value in content.items() if key in ours}
    rest = {key: value for key, value in content.items() if key not in ours}
    if bare and "network" in rest:
        raise ConfigError(f"{path}: {next(iter(bare))} belongs under network:")
    if not bare:
        return {**rest, "network": _complete(rest["network"])} if "network" in rest else rest
    # What is none of the config's keys was meant for the network, whose choices are then listed.
    config_keys = CONFIG_KEYS & set(rest)
    network = {**bare, **{key: rest[key] for key in set(rest) - config_keys}}
    return {**{key: rest[key] for key in config_keys}, "network": _complete(network)}


def _complete(network: Any) -> Any:
    """Add the defaults of what is not given, so that nothing of the shipped network is left."""
    if not isinstance(network, dict):
        return network
    try:
        given = with_our_names(network)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    defaults = {key: field.default for key, field in NetworkSpec.model_fields.items()}
    return {**defaults, **given}


def as_spec_file(spec: NetworkSpec, alphabet: Alphabet) -> str:
    """Spell a network as an exercise's file, with what it reads; only what is not the default."""
    values = spec.model_dump(mode="json", exclude_defaults=True)
    if alphabet.names:
        values["letters"] = {name: list(map(to_json, x)) for x, name in alphabet.names.items()}
    else:
        numbers = sorted({number for letter in alphabet.letters for number in letter})
        values["alphabet"] = ",".join(str(to_json(number)) for number in numbers)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


# Keys of an exercise's file that are no weights.
CONFIG_KEYS = {
    "name",
    "inputs",
    "inputs_file",
    "length",
    "alphabet",
    "letters",
    "steps",
    "max_states",
    "seed",
    "targets",
    "loss",
    "expect",
}


def _refuse_beyond_float64(network: AnyNetwork) -> None:
    """Refuse weights that float64 cannot hold, where the network is computed in float64."""
    if network.is_exact or isinstance(network, Stack):
        return
    for key in ("w_in", "w_rec", "w_out", "bias", "w_feedback", "initial_state"):
        rows = getattr(network, key)
        for number in [x for row in rows for x in (row if isinstance(row, tuple) else (row,))]:
            if number != 0 and not 1e-300 < abs(to_float(number)) < 1e300:
                raise ValueError(
                    f"network.{key} has a weight beyond what float64 holds (1e-300 to 1e300); "
                    f"{network.activation} units are computed in float64"
                )

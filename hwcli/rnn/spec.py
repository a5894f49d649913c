"""How a user writes a network down: the mapping under ``network:``, or a file of the same shape.

Nothing that is written is left unread in silence: a key that this network would not use is
refused, and so is a matrix or vector of another size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field, model_validator

from hwcli.config import Section
from hwcli.rnn.activations import ACTIVATIONS, UNIT_ACTIVATIONS, Activation
from hwcli.rnn.cells import AnyNetwork, Gate, Layer, Stack
from hwcli.rnn.exact import Exact, to_float
from hwcli.rnn.network import Matrix, Network, Vector
from hwcli.rnn.spec_fields import (
    ActivationField,
    ExactField,
    OptionalMatrixField,
    OptionalVectorField,
    ReadoutField,
    UnitActivationField,
    VectorField,
    as_rows,
    as_vector,
    is_given,
    num_inputs,
    num_units,
    with_our_names,
)
from hwcli.rnn.spec_layers import LayerSpec

# More units than a reader could follow; the largest preset has three.
MAX_HIDDEN = 64
# Weights of networks that are computed in float64: products of two of them, summed over 64 units,
# stay in its range.
SMALLEST, LARGEST = 1e-100, 1e100
# What is written in the layers of a network that has some.
OF_SIMPLE_NETWORKS = (
    "w_in", "w_rec", "bias", "w_feedback", "initial_state", "activation", "threshold",
)  # fmt: skip
IN_A_LAYER = "write it in a layer, and all of the network in a file for --spec"
# What a unit with a threshold computes.
STEPS = ("step", "step-ge")
NO_ACTIVATION = "leave it out, or write step-ge"


class NetworkSpec(Section):
    """The weights of :class:`~hwcli.rnn.network.Network` as they are written down.

    A matrix is a list of rows, one for each hidden unit, or one number in a scalar network. A
    vector is a list, one number for each hidden unit, or one number that holds for all.
    """

    w_in: OptionalMatrixField = Field(None, description="Input weights, a row per hidden unit.")
    w_rec: OptionalMatrixField = Field(
        None, description="Recurrent weights, a row per hidden unit."
    )
    w_out: ReadoutField = Field(
        None,
        description="Output weights, one per hidden unit, or a row per output; null: the hidden "
        "units are the outputs.",
    )
    bias: VectorField = Field(0, description="Biases of the hidden units.")
    w_feedback: VectorField = Field(
        0, description="Weights from the previous output to the hidden units (Jordan network)."
    )
    output_recurrent: ExactField = Field(
        0, description="Weight from the previous output to the output unit itself."
    )
    initial_state: VectorField = Field(0, description="Hidden state before the first step.")
    output_bias: VectorField = Field(0, description="Bias of the output unit, or of each.")
    initial_output: ExactField = Field(0, description="Output before the first step.")
    activation: UnitActivationField = Field(
        "identity", description=f"Activation of the hidden units: {', '.join(UNIT_ACTIVATIONS)}."
    )
    output_activation: ActivationField = Field(
        "logistic", description=f"Activation of the output unit: {', '.join(ACTIVATIONS)}."
    )
    threshold: OptionalVectorField = Field(
        None,
        description="Hidden units are 1 where their sum is at least this, else 0; null: see "
        "activation.",
    )
    output_threshold: OptionalVectorField = Field(
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
    def _makes_a_network(self) -> "NetworkSpec":
        if not self.layers:
            for key in ("w_in", "w_rec"):
                if getattr(self, key) is None:
                    raise ValueError(f"network.{key}: a value is needed")
        for reason, cure, keys in self._unread():
            for key in keys:
                if is_given(getattr(self, key), type(self).model_fields[key].default):
                    raise ValueError(f"network.{key} has no effect {reason}: {cure}")
        for layer in self._layers():
            if layer.num_units > MAX_HIDDEN:
                raise ValueError(
                    f"network has {layer.num_units} hidden units in a layer: up to {MAX_HIDDEN} "
                    "are read"
                )
        for network in self.networks():
            _refuse_beyond_float64(network)
        return self

    def _unread(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """Yield why a network would not read some keys, what to write instead, and the keys."""
        if self.layers:
            yield "beside network.layers", IN_A_LAYER, OF_SIMPLE_NETWORKS
        if self.output_activation == "argmax":
            yield (
                "with network.output_activation = argmax",
                "leave one of them out",
                ("w_feedback", "output_recurrent", "output_threshold"),
            )
        if self.output_recurrent:
            yield "beside network.output_recurrent", "leave one of them out", ("w_feedback",)
        elif not is_given(self.w_feedback, 0):
            yield (
                "without network.w_feedback or network.output_recurrent",
                "leave it out",
                ("initial_output",),
            )
        if self.threshold is not None and self.activation not in STEPS:
            yield "beside network.threshold", NO_ACTIVATION, ("activation",)
        if self.output_threshold is not None:
            # Many presets have linear outputs: a threshold that is set beside them replaces these.
            if self.output_activation not in (*STEPS, "identity"):
                yield "beside network.output_threshold", NO_ACTIVATION, ("output_activation",)
        elif self.w_out is None and self.output_activation != "identity":
            yield (
                "without network.w_out",
                "give w_out, or linear outputs",
                ("output_activation",),
            )

    def networks(self) -> tuple[AnyNetwork, ...]:
        """Return one network for each output; with ``argmax`` one that reads all outputs.

        Raises:
            ValueError: a matrix or vector has other dimensions; one line with its key.
        """
        layers = self._layers()
        rows = self._readout_rows(layers[-1].num_units)
        biases = as_vector("output_bias", self.output_bias, len(rows), "output")
        activation = self.output_activation
        if self.output_threshold is not None:
            minus = as_vector("output_threshold", self.output_threshold, len(rows), "output")
            biases = tuple(b - m for b, m in zip(biases, minus, strict=True))
            activation = "step-ge"
        elif self.w_out is None:
            activation = "identity"
        if activation == "argmax":
            return (Stack(layers, rows, biases, "argmax"),)
        make = self._stack if self.layers or self.output_recurrent else self._simple
        return tuple(
            make(layers, row, bias, activation) for row, bias in zip(rows, biases, strict=True)
        )

    def network(self) -> Network:
        """Return a simple network with one output."""
        (network,) = self.networks()
        assert isinstance(network, Network)
        return network

    def _layers(self) -> tuple[Layer, ...]:
        """Return the layers, the lowest first; of a simple network its hidden units."""
        if not self.layers:
            return (self._hidden_units(),)
        found: list[Layer] = []
        for number, spec in enumerate(self.layers, 1):
            key = f"layers[{number}]" if len(self.layers) > 1 else "layers"
            below = found[-1].num_units if found else None
            found.append(spec.layer(key, below, transposed=self.transposed))
        return tuple(found)

    def _hidden_units(self) -> Layer:
        H = num_units(self.w_in, transposed=self.transposed)
        D = num_inputs(self.w_in, transposed=self.transposed)
        bias, activation = as_vector("bias", self.bias, H), self.activation
        if self.threshold is not None:
            minus = as_vector("threshold", self.threshold, H)
            bias, activation = tuple(b - m for b, m in zip(bias, minus, strict=True)), "step-ge"
        gate = Gate(
            as_rows("w_in", self.w_in, H, D, transposed=self.transposed),
            as_rows("w_rec", self.w_rec, H, H, transposed=self.transposed),
            bias,
            activation,
        )
        initial = as_vector("initial_state", self.initial_state, H)
        return Layer("simple", {"hidden": gate}, initial)

    def _readout_rows(self, H: int) -> Matrix:
        w_out = self.w_out
        if w_out is None:
            return tuple(tuple(int(i == j) for j in range(H)) for i in range(H))
        if not isinstance(w_out, tuple) or not isinstance(w_out[0], tuple):
            return (as_vector("w_out", w_out, H),)
        return as_rows(
            "w_out", w_out, num_units(w_out, transposed=self.transposed), H,
            transposed=self.transposed,
        )  # fmt: skip

    def _stack(
        self, layers: tuple[Layer, ...], row: Vector, bias: Exact, activation: Activation
    ) -> AnyNetwork:
        if not self.output_recurrent:
            return Stack(layers, (row,), (bias,), activation)
        # An output with a memory is one more layer that is shown as it is.
        output = Gate((row,), ((self.output_recurrent,),), (bias,), activation)
        top = Layer("simple", {"hidden": output}, (self.initial_output,))
        return Stack((*layers, top), ((1,),), (0,), "identity")

    def _simple(
        self, layers: tuple[Layer, ...], row: Vector, bias: Exact, activation: Activation
    ) -> AnyNetwork:
        (hidden,) = layers
        gate = hidden.gates["hidden"]
        return Network(
            w_in=gate.w_in,
            w_rec=gate.w_rec,
            w_out=row,
            bias=gate.bias,
            w_feedback=as_vector("w_feedback", self.w_feedback, hidden.num_units),
            initial_state=hidden.initial,
            output_bias=bias,
            initial_output=self.initial_output,
            activation=gate.activation,
            output_activation=activation,
        )


def _refuse_beyond_float64(network: AnyNetwork) -> None:
    """Refuse weights that float64 cannot hold, where the network is computed in float64."""
    if network.is_exact:
        return
    for key, rows in _weights(network):
        for number in [x for row in rows for x in row]:
            if number != 0 and not SMALLEST < abs(to_float(number)) < LARGEST:
                raise ValueError(
                    f"network.{key} has a weight beyond {SMALLEST:g} to {LARGEST:g}, the range of "
                    f"networks that are computed in float64 ({network.activation} units)"
                )


def _weights(network: AnyNetwork) -> Iterator[tuple[str, Matrix]]:
    """Yield the weights of a network by their keys, vectors as matrices of one row."""
    if isinstance(network, Network):
        yield from (("w_in", network.w_in), ("w_rec", network.w_rec), ("w_out", (network.w_out,)))
        for key in ("bias", "w_feedback", "initial_state"):
            yield key, (getattr(network, key),)
        yield from (
            ("output_bias", ((network.output_bias,),)),
            ("initial_output", ((network.initial_output,),)),
        )
        return
    yield "w_out", network.w_out
    yield "output_bias", (network.output_bias,)
    for layer in network.layers:
        for gate in layer.gates.values():
            yield "layers", (*gate.w_in, *gate.w_rec, gate.bias, layer.initial)

"""Formulas of a network as text: its recurrence, its first steps unrolled, its closed form."""

from collections.abc import Sequence
from typing import Any

from hwcli.rnn.cells import AnyNetwork, Stack
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import Exact, Number, magnitude, shown
from hwcli.rnn.letters import vector
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.trace import Trace


def recurrence(network: Network, unit: int, t: int | str) -> str:
    """Spell one unit's step: ``h_2 = -h_1 + x_2``, or ``h_t = -h_{t-1} + x_t`` for t = "t"."""
    several_units, several_inputs = network.num_hidden > 1, network.num_inputs > 1
    before = t - 1 if isinstance(t, int) else f"{{{t}-1}}"
    h = [f"h[{j + 1}]" if several_units else "h" for j in range(network.num_hidden)]
    x = [f"x[{d + 1}]" if several_inputs else "x" for d in range(network.num_inputs)]
    terms = [
        *((w, f"{h[j]}_{before}") for j, w in enumerate(network.w_rec[unit])),
        *((w, f"{x[d]}_{t}") for d, w in enumerate(network.w_in[unit])),
        (network.w_feedback[unit], f"y_{before}"),
        (network.bias[unit], ""),
    ]
    return f"{h[unit]}_{t} = {_applied(network.activation, _sum(terms))}"


def recurrences(network: AnyNetwork, t: int | str) -> tuple[str, ...]:
    """Spell the step of every unit, or of every layer."""
    if isinstance(network, Stack):
        return network.equations(t)
    return tuple(recurrence(network, unit, t) for unit in range(network.num_hidden))


def number(z: Any) -> str:
    """Spell one number, or one for each output."""
    return vector(z) if isinstance(z, tuple) else shown(z)


def output_formulas(network: AnyNetwork) -> tuple[str, ...]:
    """Spell the output unit: ``z_t = 1000·h_t`` and ``y_t = 1/(1 + exp(-z_t))``."""
    if isinstance(network, Stack):
        several = len(network.w_out[0]) > 1
        sums = [
            _sum([*((w, f"h[{j}]_t" if several else "h_t") for j, w in enumerate(row, 1)), (b, "")])
            for row, b in zip(network.w_out, network.output_bias, strict=True)
        ]
        return (f"y_t = {_applied(network.output_activation, ', '.join(sums))}",)
    several = network.num_hidden > 1
    terms = [
        *((w, f"h[{j}]_t" if several else "h_t") for j, w in enumerate(network.w_out, 1)),
        (network.output_bias, ""),
    ]
    y = _applied(network.output_activation, "z_t")
    if network.output_activation == "logistic":
        y += " = 1/(1 + exp(-z_t))"
    return f"z_t = {_sum(terms)}", f"y_t = {y}"


def start_in_words(network: AnyNetwork) -> str:
    """Spell what the network holds before the first step, such as ``h_0 = 0``."""
    start = f"h_0 = {vector(network.initial_state)}"
    return f"{start}, y_0 = {shown(network.initial_output)}" if network.has_feedback else start


def description(network: AnyNetwork) -> str:
    """Describe a network in one clause."""
    H, D = network.num_hidden, network.num_inputs
    kind = {"identity": "linear"}
    if isinstance(network, Stack):
        layers = ", then ".join(f"{layer.num_units} {layer.kind}" for layer in network.layers)
        output = kind.get(network.output_activation, network.output_activation)
        return f"layers of {layers} cells, {D} inputs per step, {output} output"
    hidden, output = (kind.get(a, a) for a in (network.activation, network.output_activation))
    return (
        f"{H} hidden {hidden} {'unit' if H == 1 else 'units'}, "
        f"{D} {'input' if D == 1 else 'inputs'} per step, {output} output"
    )


def _applied(activation: str, inner: str) -> str:
    return inner if activation == "identity" else f"{activation}({inner})"


def unrolled(closed: ClosedForm, unit: int, t: int) -> str:
    """Spell h_t by the inputs alone, such as ``x_2 - x_1``."""
    weighted = closed.hidden[unit]
    several = len(weighted.responses) > 1
    terms = [
        (w, f"x[{d + 1}]_{t - k}" if several else f"x_{t - k}")
        for k, row in enumerate(weighted.coefficients(t))
        for d, w in enumerate(row)
    ]
    return _sum([*terms, (weighted.offset.terms(t)[-1], "")])


def _with_numbers(
    network: Network, unit: int, hidden: Sequence[Number], letter: Letter, fed_back: Number
) -> str:
    """Spell one unit's step with the numbers put in, such as ``step(1·0 + 1·1 - 1/2)``."""
    pairs: list[tuple[Exact, Number]] = [
        *zip(network.w_rec[unit], hidden, strict=True),
        *zip(network.w_in[unit], letter, strict=True),
        *([(network.w_feedback[unit], fed_back)] if network.w_feedback[unit] else []),
    ]
    products = [f"{shown(w)}·{_bracketed(value)}" for w, value in pairs if w]
    bias = network.bias[unit]
    text = " + ".join(products + ([shown(bias)] if bias or not products else []))
    return f"{network.activation}({text})".replace("+ -", "- ")


def _bracketed(value: Number) -> str:
    return f"({shown(value)})" if value < 0 else shown(value)


def _sum(terms: Sequence[tuple[Exact, str]]) -> str:
    text = ""
    for weight, symbol in terms:
        if weight == 0:
            continue
        size = shown(magnitude(weight))
        body = symbol if symbol and size == "1" else f"{size}·{symbol}" if symbol else size
        if text:
            text += f" - {body}" if weight < 0 else f" + {body}"
        else:
            text = f"-{body}" if weight < 0 else body
    return text or "0"


def unrolled_lines(
    network: AnyNetwork, closed: ClosedForm | None, traced: Trace, i: int
) -> tuple[str, ...]:
    """Spell each unit after step i + 1: by the inputs where it is linear, else by the numbers."""
    if isinstance(network, Stack):
        return ()
    step, units = traced.head[i], range(network.num_hidden)
    if closed is not None:
        return tuple(unrolled(closed, unit, step.t) for unit in units)
    before = traced.head[i - 1].hidden if i else network.initial_state
    fed_back = traced.head[i - 1].output if i else network.initial_output
    return tuple(_with_numbers(network, unit, before, step.letter, fed_back) for unit in units)

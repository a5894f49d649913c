"""Formulas of a network as text: its recurrence, its first steps unrolled, its closed form."""

from collections.abc import Sequence
from typing import Any

from hwcli.output.units import counted
from hwcli.rnn.cells import AnyNetwork, Layer, Stack
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import Exact, Number, magnitude, shown
from hwcli.rnn.letters import vector
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.trace import Trace

# What the gates of a cell are called in equations; z_t is the output's sum.
SYMBOLS = {"hidden": "h", "input": "i", "forget": "f", "output": "o", "reset": "r", "update": "u"}
CANDIDATES = {"lstm": "g", "gru": "n"}


def recurrence(network: Network, unit: int, t: int | str) -> str:
    """Spell one unit's step: ``h_2 = -h_1 + x_2``, or ``h_t = -h_{t-1} + x_t`` for t = "t"."""
    h, x = units("h", network.num_hidden), units("x", network.num_inputs)
    terms = [
        *_weighted(network.w_rec[unit], h, _before(t)),
        *_weighted(network.w_in[unit], x, t),
        (network.w_feedback[unit], f"y_{_before(t)}"),
        (network.bias[unit], ""),
    ]
    return f"{h[unit]}_{t} = {_applied(network.activation, _sum(terms))}"


def recurrences(network: AnyNetwork, t: int | str) -> tuple[str, ...]:
    """Spell the step of every unit, or of every layer."""
    if not isinstance(network, Stack):
        return tuple(recurrence(network, unit, t) for unit in range(network.num_hidden))
    lines: list[str] = []
    below = units("x", network.num_inputs)
    for layer, mark in zip(network.layers, _marks(network), strict=True):
        lines += _of_layer(layer, mark, below, t)
        below = units(f"h{mark}", layer.num_units)
    return tuple(lines)


def _of_layer(layer: Layer, mark: str, below: Sequence[str], t: int | str) -> list[str]:
    """Spell the step of one layer, which reads the units ``below``.

    What is computed alike for every unit from its gates stands there once, without a number.
    """
    h = units(f"h{mark}", layer.num_units)
    symbols = {**SYMBOLS, "candidate": CANDIDATES.get(layer.kind, "")}
    lines = []
    for name, gate in layer.gates.items():
        for unit, symbol in enumerate(units(f"{symbols[name]}{mark}", layer.num_units)):
            from_below = _weighted(gate.w_in[unit], below, t)
            from_before = _weighted(gate.w_rec[unit], h, _before(t))
            if layer.kind == "gru" and name == "candidate" and any(gate.w_rec[unit]):
                reset = units(f"r{mark}", layer.num_units)[unit]
                from_before = [(1, f"{reset}_{t}·({_sum(from_before)})")]
            inner = _sum([*from_below, *from_before, (gate.bias[unit], "")])
            lines.append(f"{symbol}_{t} = {_applied(gate.activation, inner)}")

    def at(letter: str, when: int | str) -> str:
        return f"{letter}{mark}_{when}"

    h_before, c_before = at("h", _before(t)), at("c", _before(t))
    if layer.kind == "lstm":
        lines.append(f"{at('c', t)} = {at('f', t)}·{c_before} + {at('i', t)}·{at('g', t)}")
        shown_cell = _applied(layer.cell_activation, at("c", t))
        lines.append(f"{at('h', t)} = {at('o', t)}·{shown_cell}")
    if layer.kind == "gru":
        lines.append(f"{at('h', t)} = (1 - {at('u', t)})·{at('n', t)} + {at('u', t)}·{h_before}")
    return lines


def _marks(stack: Stack) -> list[str]:
    """Return what marks the numbers of each layer, where there are several."""
    several = len(stack.layers) > 1
    return [f"({number})" if several else "" for number in range(1, len(stack.layers) + 1)]


def units(symbol: str, n: int) -> list[str]:
    """Number the units of a layer, where there are several."""
    return [f"{symbol}[{j}]" for j in range(1, n + 1)] if n > 1 else [symbol]


def _weighted(
    row: Sequence[Exact], symbols: Sequence[str], t: int | str
) -> list[tuple[Exact, str]]:
    return [(w, f"{symbol}_{t}") for w, symbol in zip(row, symbols, strict=True)]


def _before(t: int | str) -> int | str:
    return t - 1 if isinstance(t, int) else f"{{{t}-1}}"


def number(z: Any) -> str:
    """Spell one number, or one for each output."""
    return vector(z) if isinstance(z, tuple) else shown(z)


def output_formulas(network: AnyNetwork) -> tuple[str, ...]:
    """Spell the output unit: ``z_t = 1000·h_t`` and ``y_t = 1/(1 + exp(-z_t))``."""
    if isinstance(network, Stack):
        rows, biases, mark = network.w_out, network.output_bias, _marks(network)[-1]
    else:
        rows, biases, mark = (network.w_out,), (network.output_bias,), ""
    h = units(f"h{mark}", len(rows[0]))
    sums = [
        _sum([*_weighted(row, h, "t"), (bias, "")]) for row, bias in zip(rows, biases, strict=True)
    ]
    z = sums[0] if len(sums) == 1 else f"({', '.join(sums)})"
    y = _applied(network.output_activation, "z_t")
    if network.output_activation == "logistic":
        y += " = 1/(1 + exp(-z_t))"
    return f"z_t = {z}", f"y_t = {y}"


def start_in_words(network: AnyNetwork) -> str:
    """Spell what the network holds before the first step, such as ``h_0 = 0``."""
    if not isinstance(network, Stack):
        start = f"h_0 = {vector(network.initial_state)}"
        return f"{start}, y_0 = {shown(network.initial_output)}" if network.has_feedback else start
    held = []
    for layer, mark in zip(network.layers, _marks(network), strict=True):
        h, c = layer.initial[: layer.num_units], layer.initial[layer.num_units :]
        held += [f"h{mark}_0 = {vector(h)}", *([f"c{mark}_0 = {vector(c)}"] if c else [])]
    return ", ".join(held)


def state_in_symbols(network: AnyNetwork, t: str) -> str:
    """Name the numbers of a state in their order: ``h_t``, or ``(h_t, c_t)`` of an LSTM."""
    held = [f"{symbol}_{t}" for symbol, _ in _state(network)]
    return held[0] if len(held) == 1 else f"({', '.join(held)})"


def names_in_state(network: AnyNetwork) -> list[str]:
    """Name each number of a state: ``h[1]``, ``h[2]``, or ``h``, ``c`` of an LSTM."""
    return [name for symbol, n in _state(network) for name in units(symbol, n)]


def _state(network: AnyNetwork) -> list[tuple[str, int]]:
    """Return the parts of a state in their order: what each is called, and its number of units."""
    if not isinstance(network, Stack):
        return [("h", network.num_hidden)]
    held = []
    for layer, mark in zip(network.layers, _marks(network), strict=True):
        parts = ("h", "c") if layer.kind == "lstm" else ("h",)
        held += [(f"{symbol}{mark}", layer.num_units) for symbol in parts]
    return held


def description(network: AnyNetwork) -> str:
    """Describe a network in one clause."""
    H, inputs = network.num_hidden, counted(network.num_inputs, "input")
    kind = {"identity": "linear"}
    if isinstance(network, Stack):
        layers = ", then ".join(f"{layer.num_units} {layer.kind}" for layer in network.layers)
        output = kind.get(network.output_activation, network.output_activation)
        return f"layers of {layers} cells, {inputs} per step, {output} output"
    hidden, output = (kind.get(a, a) for a in (network.activation, network.output_activation))
    return f"{counted(H, f'hidden {hidden} unit')}, {inputs} per step, {output} output"


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

"""What a trace shows: the table of its first steps, and its formulas and evidence in words."""

from collections.abc import Sequence

from hwcli.output.tables import Column, Table
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import Exact, Number, magnitude, shown
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.recognition import Checks, Finding
from hwcli.rnn.trace import Trace


def steps_table(network: Network, closed: ClosedForm | None, traced: Trace, num: int) -> Table:
    """Return the first steps: the recurrence, what it unrolls to, and its numbers."""
    rows = [
        {
            "t": step.t,
            "input": vector(step.letter),
            "recurrence": "\n".join(
                recurrence(network, unit, step.t) for unit in range(network.num_hidden)
            ),
            "unrolled": "\n".join(unrolled_lines(network, closed, traced, i)),
            "hidden": vector(step.hidden),
            "preactivation": shown(step.preactivation),
            "output": shown(step.output),
        }
        for i, step in enumerate(traced.head[:num])
    ]
    return Table(
        title=f"The first {len(rows)} of {traced.length:,} steps",
        columns=[
            Column("t", "t"),
            Column("input", "x_t"),
            Column("recurrence", "recurrence"),
            Column("unrolled", "unrolled"),
            Column("hidden", "h_t"),
            Column("preactivation", "z_t"),
            Column("output", "y_t"),
        ],
        rows=rows,
    )


def unrolled_lines(
    network: Network, closed: ClosedForm | None, traced: Trace, i: int
) -> tuple[str, ...]:
    """Spell each unit after step i + 1: by the inputs where it is linear, else by the numbers."""
    step, units = traced.head[i], range(network.num_hidden)
    if closed is not None:
        return tuple(_unrolled(closed, unit, step.t) for unit in units)
    before = traced.head[i - 1].hidden if i else network.initial_state
    fed_back = traced.head[i - 1].output if i else network.initial_output
    return tuple(_with_numbers(network, unit, before, step.letter, fed_back) for unit in units)


def closed_form_lines(closed: ClosedForm | None) -> list[str]:
    """Spell the closed form of each hidden unit and of z; even and odd T apart if they differ."""
    if closed is None:
        return []
    readouts = [(f"h[{i}]_T", unit) for i, unit in enumerate(closed.hidden, 1)]
    if len(readouts) == 1:
        readouts = [("h_T", closed.hidden[0])]
    lines = []
    for name, weighted in (*readouts, ("z_T", closed.preactivation)):
        lines.append(f"{name} = {weighted.text()}")
        if weighted.alternates:
            lines += [f"  for {p} T: {name} = {weighted.text(p)}" for p in ("even", "odd")]
    return lines


def method_in_words(finding: Finding, checks: Checks, letters: Sequence[Letter]) -> str:
    """Say how the property is known, and for which sequences; never more than is so."""
    match finding.method:
        case "closed-form":
            how = "proved by closed form, for all inputs and every length"
            if finding.id in ("majority", "count-ones"):
                how = "proved by closed form, for all inputs of 0 and 1 and every length"
        case "state-machine":
            assert finding.machine is not None
            n = finding.machine.without_idle_start().num_states
            how = (
                f"proved by state machine: the minimal machine of the network has {n} states over "
                f"{len(letters)} letters"
                + (" and equals that of the property" if finding.id else "")
                + ", for every sequence over these letters"
            )
        case "sampled":
            num = checks.num_exhaustive + checks.num_random
            how = f"checked on {num:,} sequences only, not proved" if num else "it is not"
    return "; ".join([how, *finding.remarks]) + "."


def checks_lines(checks: Checks) -> list[str]:
    """Say what was checked, and the first counterexample if one was found."""
    if not checks.num_exhaustive:
        return []
    line = (
        f"Checks: all {checks.num_exhaustive:,} sequences of up to {checks.longest_exhaustive} "
        f"letters and {checks.num_random} random longer ones: {checks.num_failed} failed."
    )
    if checks.counterexample is None:
        return [line]
    return [line, f"Counterexample: {', '.join(map(vector, checks.counterexample))}"]


# --------------------------------------------------------------------------------------
# The recurrence in letters


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


def output_formula(network: Network) -> str:
    """Spell the output unit, such as ``y_t = logistic(1000·h_t)``."""
    several = network.num_hidden > 1
    terms = [
        *((w, f"h[{j}]_t" if several else "h_t") for j, w in enumerate(network.w_out, 1)),
        (network.output_bias, ""),
    ]
    return f"y_t = {_applied(network.output_activation, _sum(terms))}"


def start_in_words(network: Network) -> str:
    """Spell what the network holds before the first step, such as ``h_0 = 0``."""
    start = f"h_0 = {vector(network.initial_state)}"
    return f"{start}, y_0 = {shown(network.initial_output)}" if network.has_feedback else start


def description(network: Network) -> str:
    """Describe a network in one clause."""
    H, D = network.num_hidden, network.num_inputs
    kind = {"identity": "linear"}
    hidden, output = (kind.get(a, a) for a in (network.activation, network.output_activation))
    return (
        f"{H} hidden {hidden} {'unit' if H == 1 else 'units'}, "
        f"{D} {'input' if D == 1 else 'inputs'} per step, {output} output"
    )


def _applied(activation: str, inner: str) -> str:
    return inner if activation == "identity" else f"{activation}({inner})"


def _unrolled(closed: ClosedForm, unit: int, t: int) -> str:
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


def vector(numbers: Sequence[Number]) -> str:
    """Spell one number as it is, several in brackets."""
    texts = [shown(number) for number in numbers]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"

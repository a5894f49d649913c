"""What a trace shows: its tables, and the answer with its evidence in words."""

import math
from collections.abc import Sequence

from hwcli.output.tables import Column, Table
from hwcli.output.units import counted
from hwcli.rnn.activations import DEFINITIONS, EXACT, UNBOUNDED
from hwcli.rnn.answer import Answer
from hwcli.rnn.cells import AnyNetwork
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import Number, shown, to_float
from hwcli.rnn.gradients import lesson
from hwcli.rnn.letters import Alphabet, vector
from hwcli.rnn.observations import Checks
from hwcli.rnn.spelling import (
    names_in_state,
    number,
    output_formulas,
    recurrences,
    start_in_words,
    state_in_symbols,
    units,
    unrolled_lines,
)
from hwcli.rnn.state_machine import MooreMachine
from hwcli.rnn.statements import value
from hwcli.rnn.trace import Trace

# Longer lists of letters are named by what they share, or folded.
MAX_LETTERS_SPELLED = 6
# Larger machines are in machine.dot and summary.json.
MAX_STATES_SHOWN = 40
# More equations are in the table's first row and in summary.json.
MAX_EQUATIONS = 12

KINDS = {
    "closed-form": "closed form",
    "state-machine": "state machine",
    "interval-machine": "intervals",
}


def step_columns(network: AnyNetwork) -> list[Column]:
    """Return the columns of a table of steps; what is rounded says so."""
    hidden = "" if network.is_exact else " (rounded)"
    output = " (rounded)" if _is_rounded(network) else ""
    return [
        Column("t", "t"),
        Column("input", "x_t"),
        Column("recurrence", "recurrence"),
        Column("unrolled", "h_t by the inputs alone" if network.is_linear else "h_t in numbers"),
        Column("hidden", f"{state_in_symbols(network, 't')}{hidden}"),
        Column("preactivation", f"z_t{hidden}"),
        Column("output", f"y_t{output}"),
    ]


def steps_table(network: AnyNetwork, closed: ClosedForm | None, traced: Trace, num: int) -> Table:
    """Return the first steps: the recurrence, what it unrolls to, and its numbers."""
    rows = [
        {
            "t": step.t,
            "input": vector(step.letter),
            "recurrence": "\n".join(recurrences(network, step.t)),
            "unrolled": "\n".join(unrolled_lines(network, closed, traced, i)),
            "hidden": vector(step.hidden),
            "preactivation": number(step.preactivation),
            "output": shown(step.output),
        }
        for i, step in enumerate(traced.head[:num])
    ]
    left_out = set() if any(row["unrolled"] for row in rows) else {"unrolled"}
    columns = step_columns(network)
    return Table(
        title=first_steps(len(rows), traced.length),
        columns=[column for column in columns if column.key not in left_out],
        rows=rows,
    )


def trace_table(network: AnyNetwork, traced: Trace) -> Table:
    """Return all steps that a trace keeps as numbers, a column for each: t, x, h, z and y."""
    held = names_in_state(network)
    steps = (*traced.head, *(step for step in traced.tail if step.t > len(traced.head)))
    rows = []
    for step in steps:
        z = step.preactivation
        outputs = z if isinstance(z, tuple) else (z,)
        names = (*units("x", len(step.letter)), *held, *units("z", len(outputs)), "y")
        numbers = (*step.letter, *step.hidden, *outputs, step.output)
        rows.append({"t": step.t, **dict(zip(names, map(_in_csv, numbers), strict=True))})
    return Table("The trace", [Column(key, key) for key in rows[0]], rows)


def _in_csv(value: Number) -> object:
    """Return a number for programs: exact while it is short, else float64 where that holds it."""
    text = shown(value)
    nearest = to_float(value)
    is_held = math.isfinite(nearest) and (nearest != 0 or value == 0)
    return nearest if isinstance(value, float) or ("≈" in text and is_held) else text


def first_steps(num: int, length: int) -> str:
    """Return the title of a table of steps."""
    if num == length:
        return f"All {length:,} steps" if num > 1 else "The only step"
    first = f"The first {num}" if num > 1 else "The first"
    return f"{first} of {length:,} steps"


def answer_lines(answers: Sequence[Answer], inputs: str = "") -> list[str]:
    """Return the answer as lines of text: for the T at hand, what it gives here, and why.

    Args:
        answers: one for each output; all but the sentences and the verdicts is said of the first.
        inputs: what the inputs are an example of; empty where they were given.
    """
    found = answers[0]
    finding, T = found.finding, found.traced.length
    verdicts = [each.verdict.text for each in answers if each.verdict is not None]
    if len(answers) > 1:
        lines = [f"Output {k}: {each.finding.statement.text}" for k, each in enumerate(answers, 1)]
        lines += [f"Output {k}: {verdict}" for k, verdict in enumerate(verdicts, 1)]
        lines.append("What follows is said of output 1.")
    else:
        lines = [finding.statement.here(T), finding.statement.elsewhere(T), *verdicts]
    lines.append(finding.margin or "")
    lines.append(final_line(found, inputs))
    lines.append(f"Why: {finding.reason}" if finding.reason else "")
    equations = (*recurrences(found.network, "t"), *output_formulas(found.network))
    if len(equations) <= MAX_EQUATIONS:
        lines.append(f"The network, with {start_in_words(found.network)}:")
        lines += [f"  {equation}" for equation in equations]
    lines += definitions(found.network)
    return [line for line in lines if line]


def final_line(found: Answer, inputs: str = "") -> str:
    """Say what this sequence ends in, and which of these numbers are exact."""
    network, final, y = found.network, found.traced.final, shown(found.traced.final.output)
    held = [
        _equation(state_in_symbols(network, "T"), vector(final.hidden), exact=network.is_exact),
        _equation("z_T", number(final.preactivation), exact=network.is_exact),
    ]
    if _is_rounded(network) and (final.preactivation != 0 or not network.is_exact):
        tail = f"; y_T {'rounds to' if y in ('-1', '0', '1') else '≈'} {y}"
    else:
        held.append(_equation("y_T", y, exact=True))
        tail = ""
    exactly = "" if any("≈" in each for each in held) else " exactly"
    sequence = f"Example ({inputs}, " if inputs else "For the given inputs ("
    said = f"{', '.join(held[:-1])} and {held[-1]}{exactly}{tail}"
    return f"{sequence}T = {found.traced.length:,}): {said}."


def _is_rounded(network: AnyNetwork) -> bool:
    """Tell whether y is a rounded number: a smooth unit's, or that of a rounded state."""
    activation = network.output_activation
    return activation not in EXACT or (activation in UNBOUNDED and not network.is_exact)


def _equation(name: str, value: str, *, exact: bool) -> str:
    is_exact = exact and "≈" not in value
    return f"{name} {'=' if is_exact else '≈'} {value.removeprefix('≈')}"


def evidence_lines(found: Answer) -> list[str]:
    """Return how the answer is known, and what it means for learning, as lines of text."""
    finding = found.finding
    if finding.proved:
        lines = [f"Proof ({KINDS[finding.kind]}), {finding.scope}:"]
        lines += [f"  {i}. {line}" for i, line in enumerate(finding.proof, 1)]
    else:
        lines = ["Evidence: none." if finding.predict is None else finding.proof[0]]
    lines += checks_lines(found.checks, proved=finding.proved)
    # What the proof has said of z, and so of the only hidden unit, is not said again.
    rest = []
    if finding.linear is not None and len(finding.linear.hidden) > 1:
        rest = closed_form_lines(finding.linear, with_z=False)
    if rest and found.closed is None:
        rest.insert(0, "As relu never clips here:")
    lines += rest
    lines += [f"Rounding: {' '.join(found.remarks)}"] if found.remarks else []
    if found.gradients is not None:
        lines.append(f"Gradients: {lesson(found.network, found.gradients)}")
    return lines


def closed_form_lines(closed: ClosedForm, *, with_z: bool = True) -> list[str]:
    """Spell the closed form of each hidden unit, and of z.

    Even and odd T stand apart where they differ in more than the sign of the whole.
    """
    readouts = [(f"h[{i}]_T", unit) for i, unit in enumerate(closed.hidden, 1)]
    if len(readouts) == 1:
        readouts = [("h_T", closed.hidden[0])]
    if with_z:
        readouts.append(("z_T", closed.preactivation))
    lines = []
    for name, weighted in readouts:
        lines.append(f"{name} = {weighted.text()}")
        if weighted.differs_by_parity:
            lines += [f"  for {p} T: {name} = {weighted.text(p)}" for p in ("even", "odd")]
    return lines


def checks_lines(checks: Checks, *, proved: bool) -> list[str]:
    """Say what was checked, and the first counterexample if one was found."""
    if not checks.num_exhaustive:
        return []
    longest, num = checks.longest_exhaustive, checks.num_letters
    right = (
        "the answer was right for every one."
        if not checks.num_failed
        else f"the answer was wrong for {checks.num_failed:,} of them."
    )
    line = (
        f"{'Besides the proof, the' if proved else 'The'} network was run on all "
        f"{checks.num_exhaustive:,} sequences of up to {counted(longest, 'step')} "
        f"({counted(num, 'possible input')} per step) and on {checks.num_random:,} more: {right}"
    )
    if checks.num_rounded:
        line += f" In {checks.num_rounded:,} of them float64 rounds to another class."
    if checks.counterexample is None:
        return [line]
    return [line, f"Counterexample: {', '.join(map(vector, checks.counterexample))}"]


def definitions(network: AnyNetwork) -> list[str]:
    """Define the activations that courses define differently, where an equation names them."""
    equations = (*recurrences(network, "t"), *output_formulas(network))
    named = [equation for equation in equations if "exp(" not in equation]
    return [
        definition
        for activation, definition in DEFINITIONS.items()
        if any(f"{activation}(" in equation for equation in named)
    ]


def machine_table(machine: MooreMachine, alphabet: Alphabet) -> Table:
    """Return the transitions of a minimal machine: a row for each state, a column for each letter.

    Letters that lead to the same places share a column.
    """
    machine = machine.without_idle_start()
    columns: dict[tuple[int, ...], list[int]] = {}
    for i in range(len(machine.letters)):
        columns.setdefault(tuple(row[i] for row in machine.transitions), []).append(i)
    headings = [
        "/".join(alphabet.spell(machine.letters[i]) for i in group)
        if len(group) <= MAX_LETTERS_SPELLED
        else alphabet.adjective(machine.letters[i] for i in group)
        for group in columns.values()
    ]
    rows = [
        {
            "state": "start" if s == 0 and output is None else f"{s} (start)" if s == 0 else str(s),
            "output": "none yet" if output is None else value(output),
            **{str(k): column[s] for k, column in enumerate(columns)},
        }
        for s, output in enumerate(machine.outputs)
    ]
    return Table(
        title="The state machine: next state for each input",
        columns=[
            Column("state", "state"),
            Column("output", "y_t"),
            *(Column(str(k), f"x_t = {heading}") for k, heading in enumerate(headings)),
        ],
        rows=rows,
    )


def to_dot(machine: MooreMachine, alphabet: Alphabet) -> str:
    """Return a machine as Graphviz DOT, one arrow for each pair of states."""
    machine = machine.without_idle_start()
    lines = [
        "digraph machine {",
        "  rankdir=LR;",
        "  node [shape=circle];",
        "  start [shape=point];",
    ]
    lines.append("  start -> s0;")
    for s, output in enumerate(machine.outputs):
        label = "no output yet" if output is None else value(output)
        lines.append(f'  s{s} [label="{s}: {label}"];')
    for s, row in enumerate(machine.transitions):
        arrows: dict[int, list[str]] = {}
        for letter, target in zip(machine.letters, row, strict=True):
            arrows.setdefault(target, []).append(alphabet.spell(letter))
        for target, letters in arrows.items():
            lines.append(f'  s{s} -> s{target} [label="{", ".join(letters)}"];')
    return "\n".join([*lines, "}", ""])

"""What a trace shows: its tables, and the answer with its evidence in words."""

from hwcli.output.tables import Column, Table
from hwcli.rnn.activations import DEFINITIONS
from hwcli.rnn.answer import Answer
from hwcli.rnn.cells import AnyNetwork
from hwcli.rnn.closed_form import ClosedForm
from hwcli.rnn.exact import shown
from hwcli.rnn.gradients import lesson
from hwcli.rnn.letters import Alphabet, vector
from hwcli.rnn.observations import Checks
from hwcli.rnn.spelling import number, recurrences, unrolled_lines
from hwcli.rnn.state_machine import MooreMachine
from hwcli.rnn.statements import value
from hwcli.rnn.trace import Trace

# Longer lists of letters are named by what they share, or folded.
MAX_LETTERS_SPELLED = 6
# Larger machines are in machine.dot and summary.json.
MAX_STATES_SHOWN = 40

KINDS = {
    "closed-form": "closed form",
    "state-machine": "state machine",
    "interval-machine": "intervals",
}
STEPS = (
    Column("t", "t"),
    Column("input", "x_t"),
    Column("recurrence", "recurrence"),
    Column("unrolled", "unrolled"),
    Column("hidden", "h_t"),
    Column("preactivation", "z_t"),
    Column("output", "y_t"),
)


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
    return Table(
        title=first_steps(len(rows), traced.length),
        columns=[column for column in STEPS if column.key not in left_out],
        rows=rows,
    )


def first_steps(num: int, length: int) -> str:
    """Return the title of a table of steps."""
    return f"The first {num} of {length:,} steps"


def report_lines(found: Answer) -> list[str]:
    """Return the answer as lines of text, the sentence first."""
    final, finding = found.traced.final, found.finding
    T = found.traced.length
    lines = [finding.statement.text]
    if found.verdict is not None:
        lines.append(found.verdict.text)
    if not finding.statement.always:
        lines.append(f"Here {finding.statement.here(T)}")
    if finding.margin:
        lines.append(finding.margin)
    lines.append(f"Name: {finding.id or 'none'}.")
    if finding.proved:
        how = KINDS[finding.kind]
        lines.append(f"Proof ({how}), {finding.scope}:")
        lines += [f"  {i}. {line}" for i, line in enumerate(finding.proof, 1)]
    else:
        lines.append("Evidence: none." if finding.predict is None else finding.proof[0])
    lines += checks_lines(found.checks)
    lines += definitions(found.network)
    if finding.linear is not None and found.closed is None:
        lines.append("As relu never clips here:")
    lines += closed_form_lines(finding.linear)
    if found.gradients is not None:
        lines.append(f"Gradients: {lesson(found.network, found.gradients)}")
    lines += [f"Rounding: {' '.join(found.remarks)}"] if found.remarks else []
    lines.append(
        f"Final: h_T = {vector(final.hidden)}, z_T = {number(final.preactivation)}, "
        f"y_T = {shown(final.output)} (T = {T:,}, {found.arithmetic} arithmetic)."
    )
    return lines


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


def checks_lines(checks: Checks) -> list[str]:
    """Say what was checked, and the first counterexample if one was found."""
    if not checks.num_exhaustive:
        return []
    longest, num = checks.longest_exhaustive, checks.num_letters
    line = (
        f"Checked on the network itself: all {checks.num_exhaustive:,} sequences of up to "
        f"{counted(longest, 'step')} over {counted(num, 'letter')}, and "
        f"{counted(checks.num_random, 'longer one')}: {checks.num_failed} failed."
    )
    if checks.num_rounded:
        line += f" In {checks.num_rounded:,} of them float64 rounds to another class."
    if checks.counterexample is None:
        return [line]
    return [line, f"Counterexample: {', '.join(map(vector, checks.counterexample))}"]


def definitions(network: AnyNetwork) -> list[str]:
    """Define the activations that courses define differently, where they are used."""
    used = dict.fromkeys((network.activation, network.output_activation))
    return [DEFINITIONS[activation] for activation in used if activation in DEFINITIONS]


def counted(num: int, thing: str) -> str:
    """Say how many there are: 1 state, 2 states."""
    return f"{num:,} {thing}" if num == 1 else f"{num:,} {thing}s"


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

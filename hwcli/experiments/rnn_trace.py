"""Question 1: which property of the input sequence does a recurrent network compute?

A network is given by its weights. It is traced in exact arithmetic, its closed form is found where
it is linear and its minimal state machine where its states are finitely many, and the property of
the inputs that its output computes is stated, proved by one of the two or else only checked. From
top to bottom: the config, the run, what it shows.
"""

import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from hwcli import runtime
from hwcli.config import RunConfig, default_config_path, load, read_yaml
from hwcli.errors import ConfigError
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table
from hwcli.rnn.closed_form import ClosedForm, closed_form
from hwcli.rnn.exact import Exact, Number, approximately, magnitude, shown, to_float, to_json
from hwcli.rnn.gradients import Gradients, gradients, lesson, linear_gradients
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.recognition import MAX_LETTERS, Checks, Finding, check, recognise
from hwcli.rnn.spec import AlphabetField, NetworkSpec, SequenceField, read_sequence
from hwcli.rnn.trace import Step, Trace, trace

COMMAND = "rnn-trace"

# With respect to so many of the last inputs, coefficients and gradients are written down.
MAX_WRITTEN = 2000

# --------------------------------------------------------------------------------------
# Config


class Config(RunConfig):
    """A network, and the sequence it reads."""

    network: NetworkSpec
    inputs: SequenceField = None
    inputs_file: Path | None = None
    length: int = Field(1000, ge=1, le=10_000_000)
    alphabet: AlphabetField = tuple(range(-9, 10))
    steps: int = Field(6, ge=1, le=100)
    max_states: int = Field(2000, ge=1, le=100_000)
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _read_spec(cls, values: Any) -> Any:
        """Put the content of a spec file in the place of the network."""
        if isinstance(values, dict) and "spec" in values:
            spec = values["spec"]
            content = read_yaml(Path(str(spec)))
            # Both a bare network and a config that has one are taken.
            network = content.get("network", content)
            values = {**values, "network": network}
            values.update({k: content[k] for k in ("alphabet",) if k in content})
            del values["spec"]
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        D = len(self.network.w_in[0])
        if len(set(self.alphabet)) ** D > MAX_LETTERS:
            raise ValueError(
                f"alphabet has {len(set(self.alphabet))} numbers, which makes more than "
                f"{MAX_LETTERS:,} letters of {D} inputs"
            )
        if self.inputs is not None and self.inputs_file is not None:
            raise ValueError("inputs and inputs_file are both given: which of the two?")
        if self.inputs is not None:
            _refuse_other_widths(self.inputs, D, "inputs")
        return self


def _refuse_other_widths(sequence: Sequence[Letter], D: int, key: str) -> None:
    for t, letter in enumerate(sequence, 1):
        if len(letter) != D:
            raise ValueError(f"{key}: step {t} has {len(letter)} numbers: the network reads {D}")


def alphabet_letters(config: Config) -> list[Letter]:
    """Return what can be read in one step: every combination of the alphabet's numbers."""
    numbers = sorted(set(config.alphabet))
    return list(product(numbers, repeat=len(config.network.w_in[0])))


def input_sequence(config: Config) -> Sequence[Letter]:
    """Return the inputs: given, read from a file, or random letters drawn by the seed.

    Raises:
        ConfigError: the file cannot be read, or holds no such sequence.
    """
    if config.inputs is not None:
        return config.inputs  # type: ignore[no-any-return]
    if config.inputs_file is None:
        return random.Random(config.seed).choices(alphabet_letters(config), k=config.length)
    try:
        sequence = read_sequence(config.inputs_file.read_text(encoding="utf-8"))
        _refuse_other_widths(sequence, len(config.network.w_in[0]), "inputs_file")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"inputs_file = {config.inputs_file}: {reason}") from None
    except ValueError as error:
        raise ConfigError(f"inputs_file = {config.inputs_file}: {error}") from None
    return sequence


# --------------------------------------------------------------------------------------
# The run


def run(config: Config, folder: RunFolder) -> dict[str, Any]:
    """Trace the network, say what it computes and how that is known."""
    network, sequence = config.network.network(), input_sequence(config)
    # What is given may leave the alphabet; what is claimed has to hold for it too.
    letters = sorted({*alphabet_letters(config), *sequence})
    folder.claim(config, runtime.fingerprint(dtype=arithmetic(network), num_threads=1))

    traced = trace(network, sequence)
    closed = closed_form(network)
    finding = recognise(network, closed, letters, max_states=config.max_states, seed=config.seed)
    checks = check(network, finding.predict, letters, config.seed)
    if closed is None:
        found = gradients(network, traced.tail)
    else:
        found = linear_gradients(network, closed, traced.final, MAX_WRITTEN)

    table = steps_table(network, closed, traced, config.steps)
    report = [
        f"Arithmetic: {arithmetic(network)}. T = {traced.length:,}.",
        *closed_form_lines(closed),
        f"Property: {finding.id or 'none with a name'}",
        finding.statement,
        f"How it is known: {method_in_words(finding, checks, letters)}",
        *checks_lines(checks),
        f"Gradients: {lesson(network, found)}",
        f"Final: h_T = {_vector(traced.final.hidden)}, z_T = {shown(traced.final.preactivation)}, "
        f"y_T = {shown(traced.final.output)}",
    ]
    terminal.show(table)
    for line in report:
        terminal.show(line)
    folder.write("table.csv", table.to_csv())
    folder.write("table.md", table.to_markdown() + "\n" + "\n\n".join(report) + "\n")
    for step in (*traced.head[: config.steps], traced.final):
        folder.log(t=step.t, **_step_in_json(step))
    _draw(finding, traced, folder)
    return {
        "status": "complete",
        "length": traced.length,
        "arithmetic": arithmetic(network),
        "final": _step_in_json(traced.final),
        "closed_form": None if closed is None else closed_form_lines(closed),
        "coefficients": None if closed is None else hidden_in_json(network, found),
        "property": {
            "id": finding.id,
            "statement": finding.statement,
            "proved": finding.proved,
            "method": finding.method,
            "num_states": finding.machine and finding.machine.without_idle_start().num_states,
            "remarks": finding.remarks,
        },
        "checks": {
            "num_exhaustive": checks.num_exhaustive,
            "num_random": checks.num_random,
            "num_failed": checks.num_failed,
            "counterexample": checks.counterexample
            and [[to_json(x) for x in letter] for letter in checks.counterexample],
        },
        "gradients": gradients_in_json(network, found),
    }


def plan(config: Config, folder: RunFolder) -> None:
    """Show the network and the sequence that would be traced."""
    network, sequence = config.network.network(), input_sequence(config)
    terminal.show(
        f"{COMMAND} {config.name}: {network.num_hidden} hidden {network.activation} units, "
        f"{network.num_inputs} inputs a step, a {network.output_activation} output; "
        f"T = {len(sequence):,} steps in {arithmetic(network)}. Nothing was traced or written."
    )


def presets_table() -> Table:
    """Return the networks that have a name in the shipped YAML."""
    rows = []
    for name in read_yaml(default_config_path(COMMAND))["presets"]:
        config = load(Config, COMMAND, preset=name)
        network = config.network.network()
        rows.append(
            {
                "preset": name,
                "hidden": f"{network.num_hidden} {network.activation}",
                "output": network.output_activation,
                "inputs": network.num_inputs,
                "alphabet": _vector(config.alphabet) if len(config.alphabet) < 5 else "-9..9",
                "recurrence": "\n".join(
                    _recurrence(network, unit, 1) for unit in range(network.num_hidden)
                ),
            }
        )
    keys = ("preset", "hidden", "output", "inputs", "alphabet", "recurrence")
    return Table("Presets of rnn-trace", [Column(key, key) for key in keys], rows)


def arithmetic(network: Network) -> str:
    """Say in which numbers the hidden states are computed."""
    return "exact" if network.is_exact else "float64"


# --------------------------------------------------------------------------------------
# What it shows


def steps_table(network: Network, closed: ClosedForm | None, traced: Trace, num: int) -> Table:
    """Return the first steps: the recurrence, what it unrolls to, and its numbers."""
    rows = []
    for i, step in enumerate(traced.head[:num]):
        before = traced.head[i - 1].hidden if i else network.initial_state
        fed_back = traced.head[i - 1].output if i else network.initial_output
        units = range(network.num_hidden)
        if closed is not None:
            unrolled = [_unrolled(closed, unit, step.t) for unit in units]
        else:
            unrolled = [
                _with_numbers(network, unit, before, step.letter, fed_back) for unit in units
            ]
        rows.append(
            {
                "t": step.t,
                "input": _vector(step.letter),
                "recurrence": "\n".join(_recurrence(network, unit, step.t) for unit in units),
                "unrolled": "\n".join(unrolled),
                "hidden": _vector(step.hidden),
                "preactivation": shown(step.preactivation),
                "output": shown(step.output),
            }
        )
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
    return [line, f"Counterexample: {', '.join(map(_vector, checks.counterexample))}"]


def gradients_in_json(network: Network, found: Gradients) -> dict[str, Any]:
    """Return the gradients of h_T and of y_T, and what they mean for learning."""
    sizes = found.sizes()
    # A slope that underflows meets weights that overflow: the product is taken exactly.
    slope = Fraction(found.output_derivative)
    largest = max(slope * Fraction(max(g, -g)) for row in found.preactivation for g in row)
    return {
        "first_step": found.first,
        "hidden": hidden_in_json(network, found),
        "hidden_largest": to_json(max(sizes)),
        "hidden_smallest": to_json(min(sizes)),
        "output_derivative": to_json(found.output_derivative),
        "output_largest": to_float(largest) if largest < 10**300 else approximately(largest),
        "meaning": lesson(network, found),
    }


def hidden_in_json(network: Network, found: Gradients) -> list[Any]:
    """Return dh_T/dx_t, t ascending: of a linear network, the weight of x_t in h_T.

    A number for each t in a network of one input and one hidden unit, else H rows of D.
    """
    if network.num_hidden == network.num_inputs == 1:
        return [to_json(gradient) for ((gradient,),) in found.hidden]
    return [[list(map(to_json, row)) for row in rows] for rows in found.hidden]


def _step_in_json(step: Step) -> dict[str, Any]:
    return {"hidden": list(map(to_json, step.hidden)), "output": to_json(step.output)}


def _draw(finding: Finding, traced: Trace, folder: RunFolder) -> None:
    # Drawing takes a second to import, and the text should not wait for it.
    from hwcli.rnn.pictures import draw_machine, draw_trace

    folder.save_figure("trace", draw_trace(traced))
    (folder.path / "machine.png").unlink(missing_ok=True)
    if finding.machine is not None:
        drawn = draw_machine(finding.machine, f"Minimal state machine: {finding.id or 'no name'}")
        if drawn is not None:
            folder.save_figure("machine", drawn)


# --------------------------------------------------------------------------------------
# The recurrence in letters


def _recurrence(network: Network, unit: int, t: int) -> str:
    """Spell one unit's step, such as ``h_2 = -h_1 + x_2``."""
    several_units, several_inputs = network.num_hidden > 1, network.num_inputs > 1
    h = [f"h[{j + 1}]" if several_units else "h" for j in range(network.num_hidden)]
    x = [f"x[{d + 1}]" if several_inputs else "x" for d in range(network.num_inputs)]
    terms = [
        *((w, f"{h[j]}_{t - 1}") for j, w in enumerate(network.w_rec[unit])),
        *((w, f"{x[d]}_{t}") for d, w in enumerate(network.w_in[unit])),
        (network.w_feedback[unit], f"y_{t - 1}"),
        (network.bias[unit], ""),
    ]
    inner = _sum(terms)
    if network.activation != "identity":
        inner = f"{network.activation}({inner})"
    return f"{h[unit]}_{t} = {inner}"


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


def _vector(numbers: Sequence[Number]) -> str:
    texts = [shown(number) for number in numbers]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"

"""Question 1: which property of the input sequence does a recurrent network compute?

A network is given by its weights. It is traced in exact arithmetic (in float64 where an activation
is tanh or logistic). Its closed form is found where it is linear, and its minimal state machine
where its states are finitely many. The answer names the property of the inputs that the output
computes, with a proof where one is found. Otherwise the property is only checked on sequences.
From top to bottom: the config, the run, what it shows, the plan.
"""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from hwcli.config import RunConfig, resolve
from hwcli.errors import ConfigError
from hwcli.experiment import PROGRAM_BYTES, Plan
from hwcli.fingerprint import fingerprint
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Table
from hwcli.output.units import counted
from hwcli.rnn.answer import Answer, answer
from hwcli.rnn.design import design, spelled_weights
from hwcli.rnn.exact import Exact, magnitude, shown
from hwcli.rnn.expectations import read_property
from hwcli.rnn.letters import Alphabet, make_alphabet
from hwcli.rnn.loss import LossKind, loss, loss_tables
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.recognition import MAX_LETTERS
from hwcli.rnn.sequences import (
    AlphabetField,
    LettersField,
    SequenceField,
    TargetsField,
    parse_letters,
    parse_numbers,
    read_sequence,
    with_named_letters,
)
from hwcli.rnn.spec import LARGEST, NetworkSpec
from hwcli.rnn.spec_file import as_spec_file, without_shipped_weights
from hwcli.rnn.spelling import description
from hwcli.rnn.summarize import summarize
from hwcli.rnn.summary import TraceSummary
from hwcli.rnn.tables import (
    MAX_STATES_SHOWN,
    answer_lines,
    evidence_lines,
    machine_table,
    steps_table,
    to_dot,
    trace_table,
)
from hwcli.rnn.trace import WINDOW, trace

COMMAND = "rnn-trace"

# Steps that a dry run times.
STEPS_TIMED = 1000
# What the proof, tables and pictures take besides the steps.
FIXED_S = 4.0
# What pictures and tables take on disk.
DISK_BYTES = 200_000
# What one number in trace.csv takes.
NUMBER_BYTES = 20

RunSummary = TraceSummary

# --------------------------------------------------------------------------------------
# Config


class Config(RunConfig):
    """A network, and the sequence it reads."""

    network: NetworkSpec = Field(description="The weights and activations of the network.")
    inputs: SequenceField = Field(
        description="The sequence, such as 3,-1,4, or for two inputs 1 0, 0 1; null: random."
    )
    inputs_file: Path | None = Field(
        description="File with the sequence, one step per line; null: none."
    )
    length: int = Field(ge=1, le=10_000_000, description="Number of steps of random inputs.")
    alphabet: AlphabetField = Field(
        description="Values an input can take, such as 0,1 or -9..9; random inputs, state "
        "machines and checks use them."
    )
    letters: LettersField = Field(
        description="Named inputs in place of the alphabet, such as {a: [1, 0], b: [0, 1]}; null: "
        "every combination of the alphabet."
    )
    targets: TargetsField = Field(
        description="Wanted output of each step, null where there is none; null: no loss."
    )
    loss: LossKind = Field(
        description="Loss of a step with a target: squared ((y - d)^2 / 2) or cross-entropy."
    )
    expect: str | None = Field(
        description="Property to compare the network with: a name such as parity, a regular "
        "expression over the letters, or a machine's YAML file; null: none."
    )
    design: str | None = Field(
        description="Property to find weights for: a name such as parity, a regular expression "
        "over the letters, or a machine's YAML file; null: none."
    )
    steps: int = Field(ge=1, le=100, description="Number of recurrence steps to show.")
    max_states: int = Field(
        ge=1, le=100_000, description="Stop the search for a state machine beyond this many states."
    )
    seed: int = Field(ge=0, description="Seed of the random inputs and checks.")

    @model_validator(mode="before")
    @classmethod
    def _name_and_design(cls, values: Any) -> Any:
        """Put numbers in the place of named inputs, and designed weights in that of the network.

        Layers replace the shipped network's only one.
        """
        if not isinstance(values, dict):
            return values
        network = values.get("network")
        if isinstance(network, dict) and network.get("layers"):
            shipped = resolve(COMMAND)["network"]
            values = {**values, "network": without_shipped_weights(network, shipped)}
        letters = values.get("letters")
        if isinstance(letters, dict) and isinstance(values.get("inputs"), str | list):
            values = {**values, "inputs": with_named_letters(values["inputs"], letters)}
        if values.get("design") is not None:
            values = {**values, **_designed(values)}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        networks = self.network.networks()
        D = networks[0].num_inputs
        if self.inputs is not None and self.inputs_file is not None:
            raise ValueError("give either inputs or inputs_file, not both")
        if self.letters is None and len(set(self.alphabet)) ** D > MAX_LETTERS and not self.inputs:
            raise ValueError(
                f"alphabet has {len(set(self.alphabet))} numbers, which makes more than "
                f"{MAX_LETTERS:,} letters of {D} inputs; give a smaller one, such as alphabet = 0,1"
            )
        named = "alphabet" if self.letters is None else "letters"
        for key, read in (("inputs", self.inputs or ()), (named, alphabet_of(self).letters)):
            try:
                _refuse_unreadable(self, read)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        if self.targets is not None:
            if self.inputs is None or len(self.targets) != len(self.inputs):
                raise ValueError("targets: give inputs too, and one target (or null) for each step")
            if len(networks) > 1 or not isinstance(networks[0], Network):
                raise ValueError("targets: a loss is computed for one simple layer and one output")
            if self.loss == "cross-entropy":
                _refuse_no_classes(networks[0], self.targets)
        return self


def _designed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the network that ``design`` asks for, and its property as what is expected.

    Raises:
        ValueError: another network is given too, or no weights can be found.
    """
    wanted = str(values["design"])
    alphabet = make_alphabet(
        parse_numbers(values["alphabet"]),
        parse_letters(values.get("letters")),
        2 if wanted in ("binary-addition", "equality") else 1,
    )
    machine = read_property(wanted, alphabet).machine
    if machine is None:
        raise ValueError(
            f"design = {wanted!r} compares sums, for which no weights are sought; give an "
            "expression such as .*11, a machine's YAML file, or a name over bits such as parity"
        )
    network = spelled_weights(design(machine))
    given = values.get("network", network)
    # A run's own config holds what was designed, with the defaults written out.
    own = NetworkSpec.model_validate(network).model_dump(mode="json")
    if given not in (network, own, resolve(COMMAND)["network"]):
        raise ValueError(
            f"design = {wanted!r} has weights of its own: leave out the network that is given"
        )
    return {"network": network, "expect": wanted}


def _refuse_unreadable(config: Config, sequence: Sequence[Letter]) -> None:
    """Refuse steps that the network cannot read, or that were not meant as they are read."""
    network = config.network.networks()[0]
    D = network.num_inputs
    for t, letter in enumerate(sequence, 1):
        if len(letter) != D:
            numbers = counted(len(letter), "number")
            raise ValueError(f"step {t} has {numbers}: the network reads {D}")
        if not network.is_exact and any(magnitude(x) > LARGEST for x in letter):
            raise ValueError(
                f"step {t} has a number beyond {LARGEST:g}; {network.activation} units are "
                "computed in float64"
            )
    if len(sequence) == D == 1 and config.letters is None:
        (number,) = sequence[0]
        digits = set(map(str, config.alphabet))
        # Where all ten digits can be read, a longer number may be meant as it stands.
        few = len(digits) < 10 and all(len(digit) == 1 for digit in digits)
        if few and number not in config.alphabet and set(str(number)) <= digits:
            raise ValueError(
                f"{number} is one step, and is not in the alphabet: write "
                f"{','.join(str(number))}, or give an alphabet that has it"
            )


def _refuse_no_classes(network: Network, targets: Sequence[Exact | None]) -> None:
    """Refuse what cross-entropy is not defined for."""
    if network.output_activation != "logistic":
        raise ValueError(
            "loss = cross-entropy needs a logistic output, and this network's output is "
            f"{network.output_activation}"
        )
    if outside := [d for d in targets if d is not None and not 0 <= d <= 1]:
        raise ValueError(f"loss = cross-entropy: the target {shown(outside[0])} is not in 0 to 1")


def alphabet_of(config: Config) -> Alphabet:
    """Return what can be read in one step: named letters, or combinations of the alphabet.

    Where these are too many, only the letters of the given sequence.
    """
    D = config.network.networks()[0].num_inputs
    if config.letters is None and len(set(config.alphabet)) ** D > MAX_LETTERS:
        return Alphabet(tuple(sorted(set(config.inputs))))
    return make_alphabet(config.alphabet, config.letters, D)


def input_sequence(config: Config) -> Sequence[Letter]:
    """Return the inputs: given, read from a file, or random letters drawn by the seed.

    Raises:
        ConfigError: the file cannot be read, or holds no such sequence.
    """
    if config.inputs is not None:
        given: Sequence[Letter] = config.inputs
        return given
    if config.inputs_file is None:
        return random.Random(config.seed).choices(alphabet_of(config).letters, k=config.length)
    try:
        text = config.inputs_file.read_text(encoding="utf-8")
        sequence = read_sequence(text, config.letters)
        _refuse_unreadable(config, sequence)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"inputs_file = {config.inputs_file}: {reason}") from None
    except ValueError as error:
        raise ConfigError(f"inputs_file = {config.inputs_file}: {error}") from None
    return sequence


def inputs_in_words(config: Config) -> str:
    """Say what random inputs are drawn from; empty where the inputs are given."""
    if config.inputs is not None or config.inputs_file is not None:
        return ""
    numbers = sorted(set(config.alphabet))
    low, high = numbers[0], numbers[-1]
    if config.letters is not None:
        drawn = f"letters {', '.join(config.letters)}"
    elif numbers == [0, 1]:
        drawn = "bits"
    elif numbers == list(range(int(low), int(high) + 1)):
        drawn = f"integers from {low} to {high}"
    else:
        drawn = "numbers of the alphabet"
    return f"random {drawn}, seed {config.seed}"


# --------------------------------------------------------------------------------------
# The run


def run(config: Config, folder: RunFolder) -> RunSummary:
    """Trace the network, say what it computes and how that is known."""
    networks, sequence = config.network.networks(), input_sequence(config)
    first, *others = answers = [
        answer(
            network,
            sequence,
            alphabet_of(config),
            max_states=config.max_states,
            seed=config.seed,
            expected=config.expect,
        )
        for network in networks
    ]
    folder.claim(config, fingerprint(dtype=first.arithmetic, num_threads=1))
    folder.discard("network.png", "machine.png", "machine.dot", "spec.yaml")
    inputs = inputs_in_words(config)
    heading, lines = answer_lines(answers, inputs), evidence_lines(first)
    tables = [steps_table(first.network, first.closed, first.traced, config.steps)]
    machine = first.finding.machine
    if machine is not None and machine.num_states <= MAX_STATES_SHOWN:
        tables.append(machine_table(machine, first.alphabet))
    found_loss = None
    if config.targets is not None:
        assert isinstance(networks[0], Network)
        found_loss = loss(networks[0], sequence, config.targets, config.loss)
        tables += loss_tables(found_loss)
    if config.design is not None:
        exercise = as_spec_file(config.network, first.alphabet)
        folder.write("spec.yaml", exercise)
        lines.insert(0, f"The weights, as a spec file (spec.yaml):\n{exercise}")
    _show(heading, tables, lines, folder)
    summary = summarize(
        first, config.network, config.name, config.steps, others, found_loss, inputs
    )
    folder.write("trace.csv", trace_table(first.network, first.traced).to_csv())
    last = [] if summary.final.t <= len(summary.steps) else [summary.final]
    for step in (*summary.steps, *last):
        folder.append_metrics(t=step.t, hidden=step.hidden, output=step.output)
    _draw(first, folder)
    return summary


def _show(
    heading: Sequence[str], tables: Sequence[Table], lines: Sequence[str], folder: RunFolder
) -> None:
    """Show the answer, then the steps and the evidence, and write the same into the folder."""
    shown: list[Table | str] = [*heading, *tables, *lines]
    for part in shown:
        terminal.show(part)
    folder.write("table.csv", tables[0].to_csv())
    parts = [*heading, *(table.to_markdown() for table in tables), *lines]
    folder.write("table.md", "\n\n".join(parts) + "\n")


def _draw(found: Answer, folder: RunFolder) -> None:
    # Drawing takes a second to import, and the text should not wait for it.
    from hwcli.rnn.diagrams import draw_machine, draw_network
    from hwcli.rnn.pictures import draw_trace

    folder.save_figure("trace", draw_trace(found.traced, found.finding.id))
    if (diagram := draw_network(found.network)) is not None:
        folder.save_figure("network", diagram)
    machine, name = found.finding.machine, found.finding.id
    if machine is not None:
        folder.write("machine.dot", to_dot(machine, found.alphabet))
        drawn = draw_machine(machine, f"Minimal state machine: {name or 'no name'}")
        if drawn is not None:
            folder.save_figure("machine", drawn)


def plan(config: Config, folder: RunFolder) -> Plan:
    """Return the network and the sequence that would be traced; times its first steps."""
    network, sequence = config.network.networks()[0], input_sequence(config)
    kind = "exact" if network.is_exact else "float64"
    started = time.perf_counter()
    trace(network, sequence[:STEPS_TIMED])
    each = (time.perf_counter() - started) / min(STEPS_TIMED, len(sequence))
    numbers = min(len(sequence), 2 * WINDOW) * (network.num_inputs + network.num_hidden + 3)
    return Plan(
        f"{COMMAND} {config.name}: {description(network)}; T = {len(sequence):,}, {kind} "
        "arithmetic.",
        seconds=FIXED_S + each * len(sequence),
        memory_bytes=PROGRAM_BYTES,
        disk_bytes=DISK_BYTES + NUMBER_BYTES * numbers,
    )

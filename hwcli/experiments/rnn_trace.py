"""Question 1: which property of the input sequence does a recurrent network compute?

A network is given by its weights. It is traced in exact arithmetic (in float64 where an activation
is tanh or logistic). Its closed form is found where it is linear, and its minimal state machine
where its states are finitely many. The property of the inputs that its output computes is stated:
proved where it can be, or else only checked. From top to bottom: the config, the run, what it
shows.
"""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from hwcli import runtime
from hwcli.config import RunConfig, default_config_path, load
from hwcli.errors import ConfigError
from hwcli.experiment import PROGRAM_BYTES, Plan
from hwcli.output import terminal
from hwcli.output.run_folder import RunFolder
from hwcli.output.tables import Column, Table
from hwcli.rnn.answer import Answer, answer
from hwcli.rnn.design import design, spelled_weights
from hwcli.rnn.expectations import read_property
from hwcli.rnn.letters import Alphabet, make_alphabet, vector
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
from hwcli.rnn.spec import NetworkSpec, as_spec_file
from hwcli.rnn.spelling import description, recurrence
from hwcli.rnn.summarise import summarise
from hwcli.rnn.summary import TraceSummary
from hwcli.rnn.tables import (
    MAX_STATES_SHOWN,
    answer_lines,
    evidence_lines,
    machine_table,
    steps_table,
    to_dot,
)
from hwcli.rnn.trace import trace
from hwcli.yaml_files import read_yaml

COMMAND = "rnn-trace"

# A dry run times this many steps; the proof, tables and pictures take a few more seconds.
STEPS_TIMED, FIXED_S, DISK_BYTES = 1000, 4.0, 200_000

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
        description="Property to compare the network with: a name, a regular expression over the "
        "letters, or a machine's YAML file; null: none."
    )
    design: str | None = Field(
        description="Property to find weights for: a name, a regular expression over the letters, "
        "or a machine's YAML file; null: none."
    )
    steps: int = Field(ge=1, le=100, description="Number of recurrence steps to show.")
    max_states: int = Field(
        ge=1, le=100_000, description="Stop the search for a state machine beyond this many states."
    )
    seed: int = Field(ge=0, description="Seed of the random inputs and checks.")

    @model_validator(mode="before")
    @classmethod
    def _name_and_design(cls, values: Any) -> Any:
        """Put numbers in the place of named inputs, and designed weights in that of the network."""
        if not isinstance(values, dict):
            return values
        letters = values.get("letters")
        if isinstance(letters, dict) and isinstance(values.get("inputs"), str | list):
            values = {**values, "inputs": with_named_letters(values["inputs"], letters)}
        if values.get("design") is not None:
            numbers = parse_numbers(values["alphabet"])
            pairs = values["design"] in ("binary-addition", "equality")
            alphabet = make_alphabet(numbers, parse_letters(letters), 2 if pairs else 1)
            wanted = read_property(str(values["design"]), alphabet)
            if wanted.machine is None:
                raise ValueError(
                    f"design = {values['design']!r}: no finite memory is enough for it"
                )
            values = {**values, "network": spelled_weights(design(wanted.machine))}
            values["expect"] = values["design"]
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        D = self.network.networks()[0].num_inputs
        if self.inputs is not None and self.inputs_file is not None:
            raise ValueError("give either inputs or inputs_file, not both")
        if self.inputs is not None:
            _refuse_other_widths(self.inputs, D, "inputs")
        if self.letters is not None:
            _refuse_other_widths(list(self.letters.values()), D, "letters")
        elif len(set(self.alphabet)) ** D > MAX_LETTERS and self.inputs is None:
            raise ValueError(
                f"alphabet has {len(set(self.alphabet))} numbers, which makes more than "
                f"{MAX_LETTERS:,} letters of {D} inputs; give a smaller one, such as alphabet = 0,1"
            )
        if self.targets is not None:
            if self.inputs is None or len(self.targets) != len(self.inputs):
                raise ValueError("targets: give inputs too, and one target (or null) for each step")
            if len(self.network.networks()) > 1 or not isinstance(
                self.network.networks()[0], Network
            ):
                raise ValueError("targets: a loss is computed for one simple layer and one output")
            if self.loss == "cross-entropy" and self.network.output_activation != "logistic":
                raise ValueError("loss = cross-entropy needs output_activation = logistic")
        return self


def _refuse_other_widths(sequence: Sequence[Letter], D: int, key: str) -> None:
    for t, letter in enumerate(sequence, 1):
        if len(letter) != D:
            numbers = "1 number" if len(letter) == 1 else f"{len(letter)} numbers"
            raise ValueError(f"{key}: step {t} has {numbers}: the network reads {D}")


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
        sequence = read_sequence(config.inputs_file.read_text(encoding="utf-8"))
        D = config.network.networks()[0].num_inputs
        _refuse_other_widths(sequence, D, "inputs_file")
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
    folder.claim(config, runtime.fingerprint(dtype=first.arithmetic, num_threads=1))
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
    summary = summarise(
        first, config.network, config.name, config.steps, others, found_loss, inputs
    )
    for step in (*summary.steps, summary.final):
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


def plan(config: Config, folder: RunFolder) -> Plan:
    """Return the network and the sequence that would be traced; times its first steps."""
    network, sequence = config.network.networks()[0], input_sequence(config)
    kind = "exact" if network.is_exact else "float64"
    started = time.perf_counter()
    trace(network, sequence[:STEPS_TIMED])
    each = (time.perf_counter() - started) / min(STEPS_TIMED, len(sequence))
    return Plan(
        f"{COMMAND} {config.name}: {description(network)}; T = {len(sequence):,}, {kind} "
        "arithmetic.",
        seconds=FIXED_S + each * len(sequence),
        memory_bytes=PROGRAM_BYTES,
        disk_bytes=DISK_BYTES,
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
                "alphabet": vector(config.alphabet) if len(config.alphabet) < 5 else "-9..9",
                "recurrence": "\n".join(
                    recurrence(network, unit, 1) for unit in range(network.num_hidden)
                ),
            }
        )
    keys = ("preset", "hidden", "output", "inputs", "alphabet", "recurrence")
    return Table("Presets of rnn-trace", [Column(key, key) for key in keys], rows)


def _draw(found: Answer, folder: RunFolder) -> None:
    # Drawing takes a second to import, and the text should not wait for it.
    from hwcli.rnn.diagrams import draw_machine, draw_network
    from hwcli.rnn.pictures import draw_trace

    folder.save_figure("trace", draw_trace(found.traced, found.finding.id))
    folder.discard("network.png", "machine.png", "machine.dot")
    if (diagram := draw_network(found.network)) is not None:
        folder.save_figure("network", diagram)
    machine, name = found.finding.machine, found.finding.id
    if machine is not None:
        folder.write("machine.dot", to_dot(machine, found.alphabet))
        drawn = draw_machine(machine, f"Minimal state machine: {name or 'no name'}")
        if drawn is not None:
            folder.save_figure("machine", drawn)

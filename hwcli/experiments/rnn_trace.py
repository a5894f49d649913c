"""Question 1: which property of the input sequence does a recurrent network compute?

A network is given by its weights. It is traced in exact arithmetic, its closed form is found where
it is linear and its minimal state machine where its states are finitely many, and the property of
the inputs that its output computes is stated, proved by one of the two or else only checked. From
top to bottom: the config, the run, what it shows.
"""

import random
from collections.abc import Sequence
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
from hwcli.rnn.answer import Answer, answer, report_lines, summarise
from hwcli.rnn.letters import Alphabet, vector
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.recognition import MAX_LETTERS
from hwcli.rnn.spec import AlphabetField, NetworkSpec, SequenceField, read_sequence
from hwcli.rnn.spelling import description, recurrence
from hwcli.rnn.summary import TraceSummary
from hwcli.rnn.tables import machine_table, steps_table, to_dot

COMMAND = "rnn-trace"

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
    steps: int = Field(ge=1, le=100, description="Number of recurrence steps to show.")
    max_states: int = Field(
        ge=1, le=100_000, description="Stop the search for a state machine beyond this many states."
    )
    seed: int = Field(ge=0, description="Seed of the random inputs and checks.")

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


def run(config: Config, folder: RunFolder) -> RunSummary:
    """Trace the network, say what it computes and how that is known."""
    network, sequence = config.network.network(), input_sequence(config)
    folder.claim(config, runtime.fingerprint(dtype=arithmetic(network), num_threads=1))
    found = answer(
        network,
        sequence,
        Alphabet(tuple(alphabet_letters(config))),
        max_states=config.max_states,
        seed=config.seed,
    )
    sentence, *lines = report_lines(found)
    tables = [steps_table(network, found.closed, found.traced, config.steps)]
    machine = found.finding.machine
    if machine is not None:
        tables.append(machine_table(machine, found.alphabet))
        folder.write("machine.dot", to_dot(machine, found.alphabet))
    else:
        folder.discard("machine.dot", "machine.png")
    terminal.show(sentence)
    for table in tables:
        terminal.show(table)
    for line in lines:
        terminal.show(line)
    folder.write("table.csv", tables[0].to_csv())
    shown = [sentence, *(table.to_markdown() for table in tables), *lines]
    folder.write("table.md", "\n\n".join(shown) + "\n")
    summary = summarise(found, config.network, config.name, config.steps)
    for step in (*summary.steps, summary.final):
        folder.append_metrics(t=step.t, hidden=step.hidden, output=step.output)
    _draw(found, folder)
    return summary


def plan(config: Config, folder: RunFolder) -> None:
    """Show the network and the sequence that would be traced."""
    network, sequence = config.network.network(), input_sequence(config)
    terminal.show(
        f"{COMMAND} {config.name}: {description(network)}; T = {len(sequence):,}, "
        f"{arithmetic(network)} arithmetic. Nothing was traced or written."
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


def arithmetic(network: Network) -> str:
    """Say in which numbers the hidden states are computed."""
    return "exact" if network.is_exact else "float64"


def _draw(found: Answer, folder: RunFolder) -> None:
    # Drawing takes a second to import, and the text should not wait for it.
    from hwcli.rnn.pictures import draw_machine, draw_trace

    folder.save_figure("trace", draw_trace(found.traced))
    folder.discard("machine.png")
    machine, name = found.finding.machine, found.finding.id
    if machine is not None:
        drawn = draw_machine(machine, f"Minimal state machine: {name or 'no name'}")
        if drawn is not None:
            folder.save_figure("machine", drawn)

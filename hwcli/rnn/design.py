"""The way back: from a property to weights that compute it.

Every finite machine is computed by step units (after McCulloch and Pitts 1943, Minsky 1967): one
unit notices "the state was s, and the input is a". Sums of units then say which state it is now. A
search tries one and two units first, with weights -1, 0 and 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

from hwcli.errors import ConfigError
from hwcli.rnn.exact import Exact, simplified, to_json
from hwcli.rnn.letters import BITS
from hwcli.rnn.network import Letter
from hwcli.rnn.state_machine import MooreMachine

# A network of more units would be no answer.
MAX_UNITS = 64
MAX_SEARCHED = 2
HALF = Fraction(1, 2)


def design(machine: MooreMachine) -> dict[str, Any]:
    """Return the spec of a network of step units that shows what a machine shows.

    Raises:
        ConfigError: the machine or its letters are too many for a network that can be read.
    """
    machine = machine.minimal().without_idle_start()
    if set(machine.letters) == set(BITS):
        for H in range(1, MAX_SEARCHED + 1):
            if (found := _searched(machine, H)) is not None:
                return found
    return _constructed(machine)


# --------------------------------------------------------------------------------------
# The construction


@dataclass
class _Unit:
    """Fires when the state was ``state`` and the input is of a kind."""

    state: int
    into: list[Exact]
    scale: Exact
    bias: Exact


def _constructed(machine: MooreMachine) -> dict[str, Any]:
    units: list[_Unit] = []
    # reached[s]: (unit, sign) pairs whose sum is 1 exactly when the state is s.
    reached: dict[int, list[tuple[int, int]]] = {s: [] for s in range(machine.num_states)}
    D = len(machine.letters[0])
    if D > 1 and not all(set(letter) <= {0, 1} for letter in machine.letters):
        raise ConfigError("design: letters of several inputs have to be made of 0 and 1")
    for state, row in enumerate(machine.transitions):
        made = _thresholds(state, machine, row) if D == 1 else _matches(state, machine, row)
        for unit, pairs in made:
            for target, sign in pairs:
                reached[target].append((len(units), sign))
            units.append(unit)
    if not reached[0]:  # a start that is never reached again has a unit that never fires again
        reached[0].append((len(units), 1))
        units.append(_Unit(-1, [0] * D, 0, -1))
    if len(units) > MAX_UNITS:
        raise ConfigError(
            f"design: the construction needs {len(units)} units, more than {MAX_UNITS}"
        )
    H = len(units)
    w_rec: list[list[Exact]] = [[0] * H for _ in range(H)]
    for i, unit in enumerate(units):
        for j, sign in reached.get(unit.state, []):
            w_rec[i][j] += sign * unit.scale
    initial = [0] * H
    initial[next(unit for unit, sign in reached[0] if sign > 0)] = 1
    w_out: list[Exact] = [0] * H
    for state, output in enumerate(machine.outputs):
        for j, sign in reached[state]:
            w_out[j] += sign * _exact(output)
    return _spec([unit.into for unit in units], w_rec, [u.bias for u in units], initial, w_out, 0)


def _thresholds(
    state: int, machine: MooreMachine, row: Sequence[int]
) -> Iterator[tuple[_Unit, list[tuple[int, int]]]]:
    """Yield units for numbers in order: "the state was s and x >= a", where the target changes."""
    ordered = sorted(zip(machine.letters, row, strict=True))
    numbers = [letter[0] for letter, _ in ordered]
    largest = numbers[-1]
    before: int | None = None
    for i, (_, target) in enumerate(ordered):
        if target == before:
            continue
        if before is None:
            yield _Unit(state, [0], 1, -HALF), [(target, 1)]
        else:
            middle = simplified(Fraction(numbers[i - 1] + numbers[i]) / 2)
            # The state weighs as much as keeps the unit silent elsewhere, whatever the input.
            scale = max(1, -(-(largest - middle) // 1))
            bias = simplified(Fraction(-middle - scale))
            yield _Unit(state, [1], scale, bias), [(target, 1), (before, -1)]
        before = target


def _matches(
    state: int, machine: MooreMachine, row: Sequence[int]
) -> Iterator[tuple[_Unit, list[tuple[int, int]]]]:
    """Yield a unit for each letter of zeros and ones: "the state was s and x = a"."""
    if len(set(row)) == 1:
        yield _Unit(state, [0] * len(machine.letters[0]), 1, -HALF), [(row[0], 1)]
        return
    for letter, target in zip(machine.letters, row, strict=True):
        into: list[Exact] = [1 if x else -1 for x in letter]
        yield _Unit(state, into, 1, -sum(letter) - HALF), [(target, 1)]


# --------------------------------------------------------------------------------------
# The search


def _searched(machine: MooreMachine, H: int) -> dict[str, Any] | None:
    """Try all networks of H step units over bits with weights -1, 0, 1 and half biases."""
    rows: dict[tuple[int, ...], tuple[tuple[int, ...], Fraction]] = {}
    inputs = list(product((0, 1), repeat=H + 1))
    weightings = sorted(product((-1, 0, 1), repeat=H + 1), key=lambda w: sum(map(abs, w)))
    for weights, bias in product(weightings, (-HALF, HALF, -3 * HALF, 3 * HALF)):
        table = tuple(
            int(sum(w * v for w, v in zip(weights, values, strict=True)) + bias > 0)
            for values in inputs
        )
        rows.setdefault(table, (weights, bias))
    place = {values: i for i, values in enumerate(inputs)}
    column = {letter: i for i, letter in enumerate(machine.letters)}
    for tables in product(rows, repeat=H):
        for start in product((0, 1), repeat=H):
            shown = _shown(machine, tables, start, place, column)
            if shown is not None and (readout := _readout(shown)) is not None:
                chosen = [rows[table] for table in tables]
                w_out, output_bias = readout
                return _spec(
                    [[weights[H]] for weights, _ in chosen],
                    [list(weights[:H]) for weights, _ in chosen],
                    [bias for _, bias in chosen],
                    list(start),
                    w_out,
                    output_bias,
                )
    return None


def _shown(
    machine: MooreMachine,
    tables: tuple[tuple[int, ...], ...],
    start: tuple[int, ...],
    place: dict[tuple[int, ...], int],
    column: dict[Letter, int],
) -> dict[tuple[int, ...], Exact] | None:
    """Return what each state of the units has to show, None where it would have to show two."""
    shown: dict[tuple[int, ...], Exact] = {}
    seen = {(start, 0)}
    queue = [(start, 0)]
    for units, state in queue:
        for bit in (0, 1):
            i = place[(*units, bit)]
            after = tuple(table[i] for table in tables)
            target = machine.transitions[state][column[(bit,)]]
            output = _exact(machine.outputs[target])
            if shown.setdefault(after, output) != output:
                return None
            if (after, target) not in seen:
                seen.add((after, target))
                queue.append((after, target))
    return shown


def _readout(shown: dict[tuple[int, ...], Exact]) -> tuple[list[Exact], Exact] | None:
    """Return output weights and a bias that show these values exactly."""
    H = len(next(iter(shown)))
    for weights in sorted(product((-1, 0, 1), repeat=H), key=lambda w: sum(map(abs, w))):
        rest = {
            output - sum(w * u for w, u in zip(weights, units, strict=True))
            for units, output in shown.items()
        }
        if len(rest) == 1:
            return list(weights), simplified(Fraction(rest.pop()))
    return None


def _spec(
    w_in: list[list[Exact]],
    w_rec: list[list[Exact]],
    bias: list[Any],
    initial: list[int],
    w_out: list[Exact],
    output_bias: Exact,
) -> dict[str, Any]:
    return {
        "w_in": w_in,
        "w_rec": w_rec,
        "bias": bias,
        "initial_state": initial,
        "w_out": w_out,
        "output_bias": output_bias,
        "activation": "step",
        "output_activation": "identity",
    }


def _exact(output: Any) -> Exact:
    if output is None:
        return 0
    return simplified(Fraction(output))


def spelled_weights(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec whose numbers are spelled as a user writes them."""

    def spelled(value: Any) -> Any:
        if isinstance(value, list):
            return [spelled(part) for part in value]
        return value if isinstance(value, str) else to_json(value)

    return {key: spelled(value) for key, value in spec.items()}

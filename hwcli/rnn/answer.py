"""Everything that is found of one network and one sequence."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from hwcli.errors import ConfigError
from hwcli.rnn.activations import decided
from hwcli.rnn.cells import AnyNetwork, make_stepper
from hwcli.rnn.closed_form import ClosedForm, closed_form
from hwcli.rnn.exact import shown, to_float
from hwcli.rnn.expectations import Verdict, judge, read_property
from hwcli.rnn.gradients import Gradients, gradients, linear_gradients
from hwcli.rnn.letters import Alphabet
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.observations import Checks, Observations, agree, check
from hwcli.rnn.recognition import Finding, recognise
from hwcli.rnn.statements import value
from hwcli.rnn.tape import stack_gradients
from hwcli.rnn.trace import Step, Trace, trace

# Coefficients and gradients are written for this many of the last inputs.
MAX_WRITTEN = 2000
# Steps of back-propagation on a tape; binary digits that an exact state may have.
MAX_ON_TAPE = 200
MAX_BITS = 200_000
# Longer sequences are not predicted: that would only confirm the trace.
MAX_PREDICTED = 100_000


@dataclass(frozen=True)
class Answer:
    """A network with one output, what it reads, and what was found."""

    network: AnyNetwork
    alphabet: Alphabet
    traced: Trace
    closed: ClosedForm | None
    finding: Finding
    checks: Checks
    gradients: Gradients | None
    remarks: tuple[str, ...]
    verdict: Verdict | None = None

    @property
    def arithmetic(self) -> Literal["exact", "float64"]:
        """Say in which numbers the hidden states are computed."""
        return "exact" if self.network.is_exact else "float64"


def answer(
    network: AnyNetwork,
    sequence: Sequence[Letter],
    alphabet: Alphabet,
    *,
    max_states: int,
    seed: int,
    expected: str | None = None,
) -> Answer:
    """Trace a network, and say what it computes over an alphabet.

    Args:
        network: any with one output, or with ``argmax`` over several.
        sequence: T >= 1 letters.
        alphabet: what the claim has to hold for; the sequence's own letters are added.
        max_states: an exploration that meets more is stopped.
        seed: of the random sequences that claims are checked on.
        expected: a property to compare the network with.

    Raises:
        ConfigError: the hidden state leaves float64's range, or the property cannot be read.
    """
    alphabet = replace(alphabet, letters=tuple(sorted({*alphabet.letters, *sequence})))
    wanted = None if expected is None else read_property(expected, alphabet)
    rounded = network
    if isinstance(network, Network) and not network.is_linear:
        too_long = network.bits_per_step() * len(sequence) > MAX_BITS
        rounded = replace(network, rounded=too_long)
    traced = trace(rounded, sequence)
    refuse_overflow(traced)
    observations = Observations(network, alphabet.letters, sequence, seed)
    finding = recognise(network, observations, alphabet, max_states=max_states)
    checks = check(observations, finding.predict)
    closed = None
    if isinstance(network, Network) and network.is_linear:
        closed = closed_form(network)
    return Answer(
        rounded,
        alphabet,
        traced,
        closed,
        finding,
        checks,
        all_gradients(network, traced, closed),
        rounding_remarks(rounded, traced, finding, sequence),
        None if wanted is None else judge(wanted, network, finding, alphabet),
    )


def all_gradients(
    network: AnyNetwork, traced: Trace, closed: ClosedForm | None
) -> Gradients | None:
    """Return the gradients with respect to the last inputs, None for several outputs."""
    if isinstance(network, Network):
        if closed is not None:
            return linear_gradients(network, closed, traced.final, MAX_WRITTEN)
        return gradients(network, traced.tail)
    steps = traced.tail[-MAX_ON_TAPE:]
    if steps[0].t == 1:
        # The tape computes in the numbers it starts from: in float64 where the trace does.
        return stack_gradients(network, steps, make_stepper(network).start)
    return stack_gradients(network, steps[1:], steps[0].hidden)


def refuse_overflow(traced: Trace) -> None:
    """Refuse a trace whose numbers have left float64's range.

    Raises:
        ConfigError: one line that names the step.
    """
    for step in (*traced.head, *traced.tail):
        z = step.preactivation
        everything = (*step.hidden, *(z if isinstance(z, tuple) else (z,)))
        numbers = [number for number in everything if isinstance(number, float)]
        if not all(map(math.isfinite, numbers)):
            raise ConfigError(
                f"network: the hidden state leaves float64's range by step {step.t:,}; give a "
                f"shorter sequence (length = {max(1, step.t - 1)}) or smaller weights"
            )


def rounding_remarks(
    network: AnyNetwork, traced: Trace, finding: Finding, sequence: Sequence[Letter]
) -> tuple[str, ...]:
    """Name what float64 has rounded away, and where that changes what the trace shows."""
    if network.is_exact:
        return ()
    remarks = ["Hidden states are float64: rounded in about the 16th digit."]
    if isinstance(network, Network) and network.rounded:
        remarks.append(
            f"Exact states would need about {network.bits_per_step() * len(sequence):,.0f} binary "
            "digits at the end of so long a sequence."
        )
    limits = {"tanh": (-1.0, 1.0), "logistic": (0.0, 1.0)}.get(network.activation, ())
    steps = [*traced.head, *(s for s in traced.tail if s.t > len(traced.head))]
    saturated = next((s for s in steps if any(h in limits for h in s.hidden)), None)
    vanished = None
    if network.activation != "logistic":
        vanished = next((step for before, step in pairwise(steps) if _vanishes(before, step)), None)
    if saturated is not None:
        remarks.append(
            f"At t = {saturated.t:,} a unit is shown at its limit, which it never reaches exactly."
        )
    if vanished is not None:
        remarks.append(
            f"From t = {vanished.t:,} on a state is too small for float64 (underflow) and is shown "
            "as 0 or without most of its digits; its exact value is not 0."
        )
    final = decided(network.output_activation, traced.final.preactivation)
    if finding.proved and finding.predict is not None and len(sequence) <= MAX_PREDICTED:
        predicted = finding.predict(sequence)
        if not agree(final, predicted):
            remarks.append(
                f"Because of that rounding the trace ends at y_T = {shown(traced.final.output)}; "
                f"the exact network ends in the class {value(predicted)}."
            )
    return tuple(remarks)


def _vanishes(before: Step, step: Step) -> bool:
    """Tell whether a number of the state becomes too small for float64 in a step.

    A new 0 counts only where the number before was almost 0: else it is exact.
    """
    pairs = zip(map(to_float, before.hidden), map(to_float, step.hidden), strict=True)
    return any(
        abs(new) < sys.float_info.min and old != 0 and (new != 0 or abs(old) < 1e-300)
        for old, new in pairs
    )

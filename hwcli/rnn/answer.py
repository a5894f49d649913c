"""Everything that is found of one network and one sequence, from the trace to the summary."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

from hwcli.errors import ConfigError
from hwcli.rnn.activations import decided
from hwcli.rnn.cells import AnyNetwork
from hwcli.rnn.closed_form import ClosedForm, closed_form
from hwcli.rnn.exact import approximately, shown, to_float, to_json
from hwcli.rnn.expectations import Verdict, judge, read_property
from hwcli.rnn.gradients import Gradients, gradients, lesson, linear_gradients
from hwcli.rnn.letters import Alphabet, vector
from hwcli.rnn.loss import Loss
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.observations import Checks, Observations, agree, check
from hwcli.rnn.recognition import Finding, recognise
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.spelling import (
    description,
    number,
    output_formula,
    recurrences,
    start_in_words,
    unrolled_lines,
)
from hwcli.rnn.statements import value
from hwcli.rnn.summary import (
    ChecksSummary,
    ClosedFormSummary,
    ExpectationSummary,
    GradientsSummary,
    LossSummary,
    MachineSummary,
    NetworkSummary,
    ProofSummary,
    PropertySummary,
    StepSummary,
    TraceSummary,
    Value,
)
from hwcli.rnn.tables import checks_lines, closed_form_lines, definitions
from hwcli.rnn.tape import stack_gradients
from hwcli.rnn.trace import Step, Trace, trace

# Coefficients and gradients are written for this many of the last inputs.
MAX_WRITTEN = 2000
# Steps of back-propagation on a tape; binary digits that an exact state may have.
MAX_ON_TAPE = 200
MAX_BITS = 200_000
# Longer sequences are not predicted: that would only confirm the trace.
MAX_PREDICTED = 100_000
KINDS = {
    "closed-form": "closed form",
    "state-machine": "state machine",
    "interval-machine": "intervals",
}


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
        return stack_gradients(network, steps, network.initial_state)
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
    vanished = next(
        (
            step
            for before, step in pairwise(steps)
            for old, new in zip(
                map(to_float, before.hidden), map(to_float, step.hidden), strict=True
            )
            if network.activation != "logistic"
            and abs(new) < sys.float_info.min
            and old != 0
            and (new != 0 or abs(old) < 1e-300)
        ),
        None,
    )
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


def summarise(
    found: Answer,
    spec: NetworkSpec,
    name: str,
    num_steps: int,
    others: Sequence[Answer] = (),
    found_loss: Loss | None = None,
) -> TraceSummary:
    """Return the typed summary of a run."""
    network, finding, machine = found.network, found.finding, found.finding.machine
    if machine is not None:
        machine = machine.without_idle_start()
    return TraceSummary(
        command="rnn-trace",
        name=name,
        status="complete",
        length=found.traced.length,
        arithmetic=found.arithmetic,
        network=NetworkSummary(
            description=description(network),
            spec=spec,
            recurrence=recurrences(network, "t"),
            output=(output_formula(network),),
            start=start_in_words(network),
        ),
        steps=tuple(
            _step(step, network, unrolled_lines(network, found.closed, found.traced, i))
            for i, step in enumerate(found.traced.head[:num_steps])
        ),
        final=_step(found.traced.final),
        property=_property(found),
        more_outputs=tuple(map(_property, others)),
        loss=None if found_loss is None else _loss(found_loss),
        proof=ProofSummary(
            proved=finding.proved,
            kind=finding.kind,
            scope=finding.scope,
            lines=finding.proof,
            remarks=found.remarks,
        ),
        closed_form=None
        if finding.linear is None
        else ClosedFormSummary(
            lines=tuple(closed_form_lines(finding.linear)),
            coefficients=hidden_in_json(network, found.gradients) if found.gradients else [],
        ),
        machine=None
        if machine is None
        else MachineSummary(
            num_states=machine.num_states,
            letters=tuple(map(found.alphabet.spell, machine.letters)),
            next=machine.transitions,
            outputs=tuple(None if y is None else to_json(y) for y in machine.outputs),
        ),
        checks=ChecksSummary(
            num_exhaustive=found.checks.num_exhaustive,
            num_random=found.checks.num_random,
            num_failed=found.checks.num_failed,
            counterexample=_sequence(found.checks.counterexample),
        ),
        gradients=None if found.gradients is None else gradients_summary(network, found.gradients),
        expectation=None
        if found.verdict is None
        else ExpectationSummary(
            passed=found.verdict.passed,
            proved=found.verdict.proved,
            verdict=found.verdict.text,
            counterexample=_sequence(found.verdict.counterexample),
        ),
    )


def _sequence(letters: Sequence[Letter] | None) -> tuple[tuple[Value, ...], ...] | None:
    return None if letters is None else tuple(tuple(map(to_json, letter)) for letter in letters)


def gradients_summary(network: AnyNetwork, found: Gradients) -> GradientsSummary:
    """Return the gradients of h_T and of y_T, and what they mean for learning."""
    sizes = found.sizes()
    # A slope that underflows meets weights that overflow: the product is taken exactly.
    slope = Fraction(found.output_derivative)
    largest = max(slope * Fraction(max(g, -g)) for row in found.preactivation for g in row)
    return GradientsSummary(
        first_step=found.first,
        hidden=hidden_in_json(network, found),
        hidden_largest=to_json(max(sizes)),
        hidden_smallest=to_json(min(sizes)),
        output_derivative=to_json(found.output_derivative),
        output_largest=to_float(largest) if largest < 10**300 else approximately(largest),
        meaning=lesson(network, found),
    )


def hidden_in_json(network: AnyNetwork, found: Gradients) -> list[Any]:
    """Return dh_T/dx_t, t ascending: of a linear network, the weight of x_t in h_T.

    A number for each t in a network of one input and one hidden unit, else H rows of D.
    """
    if network.num_hidden == network.num_inputs == 1:
        return [to_json(gradient) for ((gradient,),) in found.hidden]
    return [[list(map(to_json, row)) for row in rows] for rows in found.hidden]


def _step(
    step: Step, network: AnyNetwork | None = None, unrolled: tuple[str, ...] = ()
) -> StepSummary:
    z = step.preactivation
    return StepSummary(
        t=step.t,
        letter=tuple(map(to_json, step.letter)),
        recurrence=() if network is None else recurrences(network, step.t),
        unrolled=unrolled,
        hidden=tuple(map(to_json, step.hidden)),
        preactivation=tuple(map(to_json, z)) if isinstance(z, tuple) else to_json(z),
        output=to_json(step.output),
    )


def _property(found: Answer) -> PropertySummary:
    finding = found.finding
    return PropertySummary(
        id=finding.id,
        statement=finding.statement.text,
        here=finding.statement.here(found.traced.length),
        quantity=finding.quantity,
        scale=None if finding.scale is None else to_json(finding.scale),
        margin=finding.margin,
    )


def _loss(found: Loss) -> LossSummary:
    return LossSummary(
        total=to_json(found.total),
        errors=tuple(None if step.error is None else to_json(step.error) for step in found.steps),
        output_gradients=tuple(to_json(step.output_gradient) for step in found.steps),
        hidden_gradients=tuple(tuple(map(to_json, s.hidden_gradient)) for s in found.steps),
        weights={name: to_json(gradient) for name, gradient in found.weights.items()},
    )

"""Everything that is found of one network and one sequence, from the trace to the summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from hwcli.rnn.closed_form import ClosedForm, closed_form
from hwcli.rnn.exact import approximately, shown, to_float, to_json
from hwcli.rnn.gradients import Gradients, gradients, lesson, linear_gradients
from hwcli.rnn.network import Letter, Network
from hwcli.rnn.recognition import Checks, Finding, check, recognise
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.summary import (
    ChecksSummary,
    ClosedFormSummary,
    GradientsSummary,
    MachineSummary,
    NetworkSummary,
    ProofSummary,
    PropertySummary,
    StepSummary,
    TraceSummary,
)
from hwcli.rnn.tables import (
    checks_lines,
    closed_form_lines,
    description,
    method_in_words,
    output_formula,
    recurrence,
    start_in_words,
    unrolled_lines,
    vector,
)
from hwcli.rnn.trace import Step, Trace, trace

# Coefficients and gradients are written down for so many of the last inputs.
MAX_WRITTEN = 2000


@dataclass(frozen=True)
class Answer:
    """A network, what it reads, and what was found."""

    network: Network
    letters: Sequence[Letter]
    traced: Trace
    closed: ClosedForm | None
    finding: Finding
    checks: Checks
    gradients: Gradients

    @property
    def arithmetic(self) -> Literal["exact", "float64"]:
        """Say in which numbers the hidden states are computed."""
        return "exact" if self.network.is_exact else "float64"


def answer(
    network: Network,
    sequence: Sequence[Letter],
    letters: Sequence[Letter],
    *,
    max_states: int,
    seed: int,
) -> Answer:
    """Trace a network, and say what it computes over an alphabet of letters.

    Args:
        network: any.
        sequence: T >= 1 letters.
        letters: what the claim has to hold for; the sequence's own letters are added.
        max_states: an exploration that meets more is stopped.
        seed: of the random sequences that claims are checked on.
    """
    letters = sorted({*letters, *sequence})
    traced = trace(network, sequence)
    closed = closed_form(network)
    finding = recognise(network, closed, letters, max_states=max_states, seed=seed)
    checks = check(network, finding.predict, letters, seed)
    if closed is None:
        found = gradients(network, traced.tail)
    else:
        found = linear_gradients(network, closed, traced.final, MAX_WRITTEN)
    return Answer(network, letters, traced, closed, finding, checks, found)


def report_lines(found: Answer) -> list[str]:
    """Return the answer as lines of text, the sentence first."""
    final = found.traced.final
    return [
        found.finding.statement,
        f"Property: {found.finding.id or 'none with a name'}.",
        f"Evidence: {method_in_words(found.finding, found.checks, found.letters)}",
        *closed_form_lines(found.closed),
        *checks_lines(found.checks),
        f"Gradients: {lesson(found.network, found.gradients)}",
        f"Final: h_T = {vector(final.hidden)}, z_T = {shown(final.preactivation)}, "
        f"y_T = {shown(final.output)}",
        f"Arithmetic: {found.arithmetic}. T = {found.traced.length:,}.",
    ]


def summarise(found: Answer, spec: NetworkSpec, name: str, num_steps: int) -> TraceSummary:
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
            recurrence=tuple(recurrence(network, u, "t") for u in range(network.num_hidden)),
            output=(output_formula(network),),
            start=start_in_words(network),
        ),
        steps=tuple(
            _step(step, network, unrolled_lines(network, found.closed, found.traced, i))
            for i, step in enumerate(found.traced.head[:num_steps])
        ),
        final=_step(found.traced.final),
        property=PropertySummary(
            id=finding.id, statement=finding.statement, here=finding.statement
        ),
        proof=ProofSummary(
            proved=finding.proved,
            kind="none" if finding.method == "sampled" else finding.method,
            scope=method_in_words(finding, found.checks, found.letters),
            lines=(),
            remarks=tuple(finding.remarks),
        ),
        closed_form=None
        if found.closed is None
        else ClosedFormSummary(
            lines=tuple(closed_form_lines(found.closed)),
            coefficients=hidden_in_json(network, found.gradients),
        ),
        machine=None
        if machine is None
        else MachineSummary(
            num_states=machine.num_states,
            letters=tuple(vector(letter) for letter in machine.letters),
            next=machine.transitions,
            outputs=tuple(None if y is None else to_json(y) for y in machine.outputs),
        ),
        checks=ChecksSummary(
            num_exhaustive=found.checks.num_exhaustive,
            num_random=found.checks.num_random,
            num_failed=found.checks.num_failed,
            counterexample=None
            if found.checks.counterexample is None
            else tuple(tuple(map(to_json, letter)) for letter in found.checks.counterexample),
        ),
        gradients=gradients_summary(network, found.gradients),
    )


def gradients_summary(network: Network, found: Gradients) -> GradientsSummary:
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


def hidden_in_json(network: Network, found: Gradients) -> list[Any]:
    """Return dh_T/dx_t, t ascending: of a linear network, the weight of x_t in h_T.

    A number for each t in a network of one input and one hidden unit, else H rows of D.
    """
    if network.num_hidden == network.num_inputs == 1:
        return [to_json(gradient) for ((gradient,),) in found.hidden]
    return [[list(map(to_json, row)) for row in rows] for rows in found.hidden]


def _step(
    step: Step, network: Network | None = None, unrolled: tuple[str, ...] = ()
) -> StepSummary:
    units = () if network is None else range(network.num_hidden)
    return StepSummary(
        t=step.t,
        letter=tuple(map(to_json, step.letter)),
        recurrence=tuple(recurrence(network, u, step.t) for u in units) if network else (),
        unrolled=unrolled,
        hidden=tuple(map(to_json, step.hidden)),
        preactivation=to_json(step.preactivation),
        output=to_json(step.output),
    )

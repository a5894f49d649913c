"""From an answer to the typed summary of a run."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from hwcli.rnn.answer import Answer
from hwcli.rnn.cells import AnyNetwork
from hwcli.rnn.exact import approximately, to_float, to_json
from hwcli.rnn.expectations import Verdict
from hwcli.rnn.gradients import Gradients, lesson
from hwcli.rnn.loss import Loss
from hwcli.rnn.network import Letter
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.spelling import (
    description,
    output_formulas,
    recurrences,
    start_in_words,
    unrolled_lines,
)
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
from hwcli.rnn.tables import closed_form_lines
from hwcli.rnn.trace import Step


def summarize(
    found: Answer,
    spec: NetworkSpec,
    name: str,
    num_steps: int,
    others: Sequence[Answer] = (),
    found_loss: Loss | None = None,
    inputs: str = "",
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
        inputs=inputs,
        arithmetic=found.arithmetic,
        network=NetworkSummary(
            description=description(network),
            spec=spec,
            recurrence=recurrences(network, "t"),
            output=output_formulas(network),
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
        expectation=_expectation(found.verdict),
        more_expectations=tuple(
            expectation for other in others if (expectation := _expectation(other.verdict))
        ),
    )


def _expectation(verdict: Verdict | None) -> ExpectationSummary | None:
    if verdict is None:
        return None
    return ExpectationSummary(
        passed=verdict.passed,
        proved=verdict.proved,
        verdict=verdict.text,
        counterexample=_sequence(verdict.counterexample),
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
        elsewhere=finding.statement.elsewhere(found.traced.length),
        quantity=finding.quantity,
        scale=None if finding.scale is None else to_json(finding.scale),
        margin=finding.margin,
        reason=finding.reason,
    )


def _loss(found: Loss) -> LossSummary:
    return LossSummary(
        total=to_json(found.total),
        errors=tuple(None if step.error is None else to_json(step.error) for step in found.steps),
        output_gradients=tuple(to_json(step.output_gradient) for step in found.steps),
        hidden_gradients=tuple(tuple(map(to_json, s.hidden_gradient)) for s in found.steps),
        weights={name: to_json(gradient) for name, gradient in found.weights.items()},
    )

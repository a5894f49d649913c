"""What a trace found, as ``summary.json`` holds it: all that a report needs to write question 1.

A number is an int or a float as it is and a rational as ``"p/q"``; see
:func:`hwcli.rnn.exact.to_json`. Sentences are plain text. Formulas are plain text too, such as
``h_t = -h_{t-1} + x_t``; ``hwcli.report.templates.in_tex`` spells them for a typesetter.
"""

import builtins
from typing import Any, Literal

from pydantic import Field, field_validator

from hwcli.config import Section
from hwcli.output.run_folder import Summary
from hwcli.rnn.spec import OF_SIMPLE_NETWORKS, NetworkSpec

Value = int | float | str
"""A number of the trace: an int or float as it is, a rational as ``"p/q"``."""

ProofKind = Literal["closed-form", "state-machine", "interval-machine", "none"]


class NetworkSummary(Section):
    """The network that was traced.

    Attributes:
        description: one clause, such as "one linear hidden unit, one input per step, ...".
        spec: its weights as a spec file writes them.
        recurrence: one step of each hidden unit, for a general t.
        output: the output unit, for a general t, a line each for z_t and y_t.
        start: what the network holds before the first step.
    """

    description: str
    spec: NetworkSpec
    recurrence: tuple[str, ...]
    output: tuple[str, ...]
    start: str

    @field_validator("spec", mode="before")
    @classmethod
    def _without_unread_weights(cls, spec: Any) -> Any:
        # Older runs kept the shipped weights beside layers, which they did not read.
        if not isinstance(spec, dict) or not spec.get("layers"):
            return spec
        return {key: value for key, value in spec.items() if key not in OF_SIMPLE_NETWORKS}


class StepSummary(Section):
    """One step of the trace.

    Attributes:
        recurrence, unrolled: a formula for each hidden unit; ``unrolled`` spells h_t by the
            inputs alone where the network is linear, and else puts the numbers in.
    """

    t: int
    letter: tuple[Value, ...]
    recurrence: tuple[str, ...] = ()
    unrolled: tuple[str, ...] = ()
    hidden: tuple[Value, ...]
    preactivation: Value | tuple[Value, ...]
    output: Value | tuple[Value, ...]


class PropertySummary(Section):
    """The property that the output computes.

    Attributes:
        id: a name that ``--expect`` knows, where the output is what that name says; the name of
            the weighted sum ``quantity``, where there is one; else a word for the kind of property,
            None where there is none.
        statement: the whole answer in sentences, for every length.
        here: the sentence that applies at the T of this trace.
        elsewhere: the sentence for the other parity of T; empty where one says it all.
        quantity: the weighted sum of the inputs that z_T is ``scale`` times of, in words; None
            where the property is kept in a finite memory.
        scale: see ``quantity``.
        reason: why the output computes this, where a sentence or two say it.
        margin: how close y_T is to its class off a tie; None where the output is exact, or
            where no bound is known.
    """

    id: str | None
    statement: str
    here: str
    elsewhere: str = ""
    quantity: str | None = None
    scale: Value | None = None
    margin: str | None = None
    reason: str | None = None


class ProofSummary(Section):
    """How the property is known.

    Attributes:
        proved: for every sequence that ``scope`` names.
        kind: the method; ``none`` where the property was checked on sequences only.
        scope: for which inputs and lengths it holds.
        lines: the proof, step by step.
        remarks: what else a reader has to know, such as rounding.
    """

    proved: bool
    kind: ProofKind
    scope: str
    lines: tuple[str, ...]
    remarks: tuple[str, ...] = ()


class ClosedFormSummary(Section):
    """The weighted sums of a linear network.

    Even and odd T stand apart where they differ in more than the sign of the whole.

    Attributes:
        lines: of each hidden unit and of z, in reading order.
        coefficients: of x_t in h_T, t ascending, for up to 2,000 of the last inputs: a number
            where H = D = 1, else H rows of D.
    """

    lines: tuple[str, ...]
    coefficients: list[Value] | list[list[list[Value]]]


class MachineSummary(Section):
    """The minimal state machine over ``letters``; state 0 is the start.

    Attributes:
        letters: how each letter is written, (L,).
        next: the next state of each state and letter, (S, L).
        outputs: what each state shows, (S,); None for a start that is never reached again.
    """

    num_states: int = Field(ge=1)
    letters: tuple[str, ...]
    next: tuple[tuple[int, ...], ...]
    outputs: tuple[Value | None, ...]


class ChecksSummary(Section):
    """Sequences on which the property was compared with the network itself."""

    num_exhaustive: int
    num_random: int
    num_failed: int
    counterexample: tuple[tuple[Value, ...], ...] | None


class GradientsSummary(Section):
    """The gradients of h_T with respect to the inputs, and of y_T.

    Attributes:
        first_step: the t of the first gradient in ``hidden``.
        hidden: dh_T/dx_t, t ascending: a number where H = D = 1, else H rows of D.
        output_derivative: dy_T/dz_T.
        output_largest: the largest absolute dy_T/dx_t.
        meaning: what this means for learning, in sentences.
    """

    first_step: int
    hidden: list[Value] | list[list[list[Value]]]
    hidden_largest: Value
    hidden_smallest: Value
    output_derivative: Value
    output_largest: Value
    meaning: str


class ExpectationSummary(Section):
    """Whether the network computes what ``--expect`` says; see ``verdict`` in words."""

    passed: bool
    proved: bool
    verdict: str
    counterexample: tuple[tuple[Value, ...], ...] | None


class LossSummary(Section):
    """The loss over the steps with a target, and its gradients.

    Attributes:
        total: E, the sum of the errors of the steps.
        errors: E_t, null at a step without a target, (T,).
        output_gradients: dE/dz_t, (T,).
        hidden_gradients: dE/dh_t, (T, H).
        weights: dE/dw of every weight by its name.
    """

    total: Value
    errors: tuple[Value | None, ...]
    output_gradients: tuple[Value, ...]
    hidden_gradients: tuple[tuple[Value, ...], ...]
    weights: dict[str, Value]


class TraceSummary(Summary):
    """What ``hw2 rnn-trace`` found; of a network with several outputs, for the first of them.

    Attributes:
        inputs: what the inputs are an example of, such as random integers; empty if given.
        more_outputs: the properties of the second output and those after it.
        more_expectations: whether these outputs are what is expected; of one output none.
    """

    length: int
    inputs: str = ""
    arithmetic: Literal["exact", "float64"]
    network: NetworkSummary
    steps: tuple[StepSummary, ...]
    final: StepSummary
    property: PropertySummary
    proof: ProofSummary
    closed_form: ClosedFormSummary | None
    machine: MachineSummary | None
    checks: ChecksSummary
    gradients: GradientsSummary | None
    expectation: ExpectationSummary | None = None
    loss: LossSummary | None = None
    more_outputs: tuple[PropertySummary, ...] = ()
    more_expectations: tuple[ExpectationSummary, ...] = ()

    @builtins.property
    def exit_code(self) -> int:
        """Return 1 where an output is not what is expected."""
        judged = (self.expectation, *self.more_expectations)
        missed = any(each is not None and not each.passed for each in judged)
        return int(missed or self.status != "complete")

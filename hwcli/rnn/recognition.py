"""What a network computes: found, stated in a sentence, and proved where that can be done.

In this order: a linear network by its closed form; one whose relu units never clip, too; one with
finitely many exact states by its minimal machine; any other by boxes of intervals that its state
never leaves. Where none of them succeeds, a named property is only checked on sequences.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

from hwcli.output.units import counted
from hwcli.rnn import statements
from hwcli.rnn.activations import Activation, decided
from hwcli.rnn.boxes import bounded_box_machine, box_machine, never_clips
from hwcli.rnn.cells import AnyNetwork, Stack
from hwcli.rnn.closed_form import ClosedForm, WeightedSum, closed_form
from hwcli.rnn.exact import Exact, Number, simplified
from hwcli.rnn.intervals import Box, Interval
from hwcli.rnn.letters import BITS, Alphabet
from hwcli.rnn.named import name_of
from hwcli.rnn.network import Letter, Network, dynamics
from hwcli.rnn.observations import Observations, Prediction, agree, shown_by, shows_values
from hwcli.rnn.proofs import linear_proof, reason
from hwcli.rnn.properties import (
    Offsets,
    Weighed,
    alternating_sum,
    count_ones,
    difference_of_sums,
    last_input,
    last_nonzero_input,
    majority,
    moving_difference,
    offsets_of,
    recognise_weighed,
    running_sum,
)
from hwcli.rnn.state_machine import MooreMachine, TooManyStatesError, network_machine
from hwcli.rnn.statements import Statement
from hwcli.rnn.summary import ProofKind
from hwcli.rnn.words import describe, sentence

# More different letters are not explored.
MAX_LETTERS = 2000
# Names that read the inputs as digits or bits hold for those inputs only.
ABOUT_BITS = frozenset({"majority", "count-ones"})
# The first step of the proof for relu units.
NEVER_CLIPS = (
    "Over this alphabet no hidden unit is ever negative before its relu (each letter keeps the "
    "hidden state in one box, by interval arithmetic). So relu changes nothing, and the network is "
    "linear."
)


@dataclass(frozen=True)
class Finding:
    """What a network computes.

    Attributes:
        id: a name that ``--expect`` knows, where the output is what that name says; the name of
            the weighted sum ``quantity``, where there is one; else a word for the kind of property,
            or None.
        statement: the property, precisely.
        kind: how it is proved.
        scope: for which sequences it is proved.
        proof: the proof in a few sentences.
        predict: what the property says of a sequence, None where nothing is claimed.
        machine: the minimal state machine, where one is known.
        quantity, scale, offsets: the weighted sum Q with z_T = scale * Q + offset, Q in words; the
            offsets are for even and for odd T.
        margin: how close a smooth output is to its class.
        linear: the linear network that this one equals over the alphabet, and its closed form.
        reason: why it computes this, in a sentence or two.
        longest: the proof holds for sequences of up to so many steps; None: of any length.
    """

    id: str | None
    statement: Statement
    kind: ProofKind
    scope: str
    proof: tuple[str, ...]
    predict: Prediction | None
    machine: MooreMachine | None = None
    quantity: str | None = None
    scale: Exact | None = None
    offsets: Offsets = (0, 0)
    margin: str | None = None
    linear: ClosedForm | None = None
    reason: str | None = None
    longest: int | None = None

    @property
    def proved(self) -> bool:
        """Tell whether the property is proved."""
        return self.kind != "none"


def recognise(
    network: AnyNetwork, observations: Observations, alphabet: Alphabet, *, max_states: int
) -> Finding:
    """Say what a network computes.

    Args:
        network: any.
        observations: of it, for what cannot be proved.
        alphabet: what its inputs range over.
        max_states: an exploration that meets more is stopped.
    """
    letters = alphabet.letters
    if not isinstance(network, Stack) and network.is_linear:
        # The machine of a linear network is no proof; a small one is worth a look.
        small = network.output_activation not in ("identity", "relu") or len(letters) <= 4
        machine = _exact_machine(network, letters, min(max_states, 20)) if small else None
        linear_finding = replace(_by_closed_form(network, letters), machine=machine)
        if machine is None or linear_finding.margin is not None:
            return linear_finding
        return replace(linear_finding, margin=_table_classes(network, machine))
    if (linear := _linear_where_it_runs(network, letters)) is not None:
        return _by_closed_form(linear, letters, with_relu=True)
    if (machine := _exact_machine(network, letters, max_states)) is not None:
        return by_machine(network, machine, alphabet, "state-machine")
    if (found := _interval_machine(network, letters, len(observations.sequence))) is not None:
        machine, longest = found
        return by_machine(network, machine, alphabet, "interval-machine", longest)
    return _by_checks(network, observations, letters)


# --------------------------------------------------------------------------------------
# What is said of an output


@dataclass(frozen=True)
class _Claim:
    """What is said of an output: the sentence, and what it predicts.

    The attributes are those of :class:`Finding`.
    """

    id: str | None
    statement: Statement
    predict: Prediction
    quantity: str | None = None
    scale: Exact | None = None
    offsets: Offsets = (0, 0)


def _claim_weighed(
    name: Weighed, scale: Exact, offsets: Offsets, activation: Activation, inputs: str = ""
) -> _Claim:
    """Claim that z_T = scale * Q + offset; see :func:`statements.weighed` for the inputs."""

    def predict(xs: Sequence[Letter]) -> Number:
        z = scale * name.quantity(xs) + offsets[len(xs) % 2]
        return decided(activation, simplified(Fraction(z)))

    statement = statements.weighed(name, scale, offsets, activation, inputs)
    return _Claim(name.id, statement, predict, name.value, scale, offsets)


def _claim_constant(offsets: Offsets, activation: Activation) -> _Claim:
    """Claim that z_T is one number for even T and one for odd T, whatever the inputs are."""
    even, odd = (decided(activation, offset) for offset in offsets)
    sentences = (statements.constant(y, activation).always for y in (even, odd))
    return _Claim(
        "constant" if even == odd else None,
        Statement.by_parity(*sentences),
        lambda xs: odd if len(xs) % 2 else even,
    )


def _claim_formula(weighted: WeightedSum, activation: Activation, inputs: str) -> _Claim:
    """Claim that z_T is a weighted sum without a name."""
    statement = statements.formula(weighted, activation, inputs)
    return _Claim(None, statement, lambda xs: decided(activation, weighted.value(xs)))


# --------------------------------------------------------------------------------------
# Proofs


def _by_closed_form(
    network: Network, letters: Sequence[Letter], *, with_relu: bool = False
) -> Finding:
    """Say what a linear network computes, and prove it.

    Args:
        network: a linear one.
        letters: what it reads.
        with_relu: it stands for a network of relu units that never clip over these letters.
    """
    closed = closed_form(network)
    assert closed is not None
    weighted, activation = closed.preactivation, network.output_activation
    known = recognise_weighed(weighted, letters)
    needed = None if known is None else _needed_inputs(known[0].id, weighted)
    reads_nothing = all(response.order == 0 for response in weighted.responses)
    constant = offsets_of(weighted.offset) if reads_nothing else None
    least = weighted.least_magnitude(letters)
    # The inputs for which a smooth output is near its class; none where it is not.
    inputs = ""
    if constant is None and statements.is_near(activation, least):
        inputs = "inputs of this alphabet" if with_relu else needed or statements.grid(letters)
    if known is not None:
        claim = _claim_weighed(*known, activation, inputs)
    elif constant is not None:
        claim = _claim_constant(constant, activation)
    else:
        claim = _claim_formula(weighted, activation, inputs)
    scope = f"for all {needed or 'real inputs'} and every length"
    proof = linear_proof(network, closed, known)
    margin: str | None = None
    if inputs and least is not None:
        integers = _holds_integers(network, closed, letters)
        margin = statements.margin(activation, least, inputs, holds_integers=integers)
        if needed is None:
            scope = (
                f"for every length; steps 1 to {len(proof)} for all real inputs, step "
                f"{len(proof) + 1} for {inputs}"
            )
        proof = (*proof, statements.distance(activation, least, inputs))
    if with_relu:
        scope = "for every sequence over the alphabet"
        proof = (NEVER_CLIPS, *proof)
    return Finding(
        claim.id,
        claim.statement,
        "closed-form",
        scope,
        proof,
        claim.predict,
        quantity=claim.quantity,
        scale=claim.scale,
        offsets=claim.offsets,
        margin=margin,
        linear=closed,
        reason=None if reads_nothing else reason(network),
    )


def _needed_inputs(id: str, weighted: WeightedSum) -> str | None:
    """Name the inputs without which a name would be wrong, if it needs any."""
    if id in ABOUT_BITS:
        return "inputs of 0 and 1"
    if id.endswith("-number"):
        (base,) = weighted.responses[0].coefficients
        return f"inputs that are digits from 0 to {base - 1}"
    return None


def _holds_integers(network: Network, closed: ClosedForm, letters: Sequence[Letter]) -> bool:
    """Tell whether z is a weight times one hidden unit, which holds any integer."""
    if network.num_hidden > 1 or network.has_feedback or network.output_bias:
        return False
    return closed.hidden[0].least_magnitude(letters) == 1


def _table_classes(network: AnyNetwork, machine: MooreMachine) -> str | None:
    """Say what the outputs in a machine's table mean, where they are not those of the network."""
    activation = network.output_activation
    if activation not in statements.SMOOTH or machine.values == (decided(activation, 0),):
        return None
    return statements.table_classes(activation)


def by_machine(
    network: AnyNetwork,
    machine: MooreMachine,
    alphabet: Alphabet,
    kind: ProofKind,
    longest: int | None = None,
) -> Finding:
    """Say in words, or else by its table, what a machine shows.

    Args:
        network: it shows the same.
        machine: the minimal one.
        alphabet: what both read.
        kind: how it is known that both show the same.
        longest: for sequences of up to so many steps; None: of any length.
    """
    small = machine.without_idle_start()
    words = describe(machine, alphabet)
    found_id = name_of(machine, alphabet) or (None if words is None else words.id)
    if len(machine.values) == 1:
        found_id = "constant"
        statement = statements.constant(machine.values[0], network.output_activation)
    elif words is not None:
        statement = Statement(
            sentence(words, lambda y: statements.output(y, network.output_activation))
        )
    else:
        statement = statements.table_of(small.num_states)
    L, S = len(alphabet.letters), small.num_states
    if kind == "state-machine":
        first = (
            f"From h_0, the {L} letters reach finitely many hidden states: all were visited, in "
            "exact arithmetic."
        )
    else:
        first = (
            "The hidden state stays in finitely many boxes: by interval arithmetic, rounded "
            f"outward, each of the {L} letters leads each box into one box, and within a box the "
            "output does not change class."
        )
    lengths = "of every length" if longest is None else f"of up to {longest:,} steps"
    if longest is not None:
        first += f" The boxes grow a little with each step; they were followed for {longest:,}."
    return Finding(
        found_id,
        statement,
        kind,
        f"for every sequence {lengths} over the {counted(L, 'letter')} of the alphabet",
        (
            first,
            "Merging the states that no continuation distinguishes leaves "
            f"{counted(S, 'state')}: the table of the machine.",
            "The sentence says what this table does with each letter, so it holds for every "
            f"sequence over these letters, {lengths}.",
        ),
        machine.run,
        machine,
        margin=_table_classes(network, machine),
        longest=longest,
    )


def _exact_machine(
    network: AnyNetwork, letters: Sequence[Letter], max_states: int
) -> MooreMachine | None:
    """Explore the exact states; None where they are floats or too many."""
    if not network.is_exact or len(letters) > MAX_LETTERS:
        return None
    try:
        explored = network_machine(
            network,
            letters,
            lambda z: decided(network.output_activation, z),
            limit=max_states,
        )
    except TooManyStatesError:
        return None
    return explored.minimal()


def _interval_machine(
    network: AnyNetwork, letters: Sequence[Letter], length: int
) -> tuple[MooreMachine, int | None] | None:
    """Find a machine by intervals, for every length or else up to a longest one."""
    if len(letters) > MAX_LETTERS // 20:
        return None
    moving = dynamics(network, lambda activation, z: z.activated(activation))
    start: Box = tuple(map(Interval.point, moving.start))

    def classify(box: Box) -> Number | None:
        shown: Number | None = shown_by(network.output_activation, moving.preactivation(box))
        return shown

    with suppress(OverflowError):  # boxes beyond the range of float64 prove nothing
        machine = box_machine(start, letters, moving.advance, classify)
        if machine is not None:
            return machine, None
        return bounded_box_machine(start, letters, moving.advance, classify, max(length, 1000))
    return None


def _linear_where_it_runs(network: AnyNetwork, letters: Sequence[Letter]) -> Network | None:
    """Return the linear network that a relu network equals over the alphabet, if it is one."""
    if isinstance(network, Stack) or network.activation != "relu" or len(letters) > MAX_LETTERS:
        return None
    linear = replace(network, activation="identity")
    if not linear.is_linear:
        return None
    moving = dynamics(linear, lambda activation, z: z.activated(activation))
    start: Box = tuple(map(Interval.point, moving.start))
    with suppress(OverflowError):  # as above
        if never_clips(start, letters, moving.advance, network.num_hidden):
            return linear
    return None


# --------------------------------------------------------------------------------------
# Only checked


def _by_checks(
    network: AnyNetwork, observations: Observations, letters: Sequence[Letter]
) -> Finding:
    """Keep the first named property that no sequence contradicts, and that all of them need."""
    activation = network.output_activation
    observed = list(observations)
    outputs = {output for _, output in observed}
    if len(outputs) == 1:
        (always,) = outputs
        statement = statements.constant(always, activation)
        return _checked(_Claim("constant", statement, lambda xs: always))
    for weighed in _weighed_candidates(network, letters):
        for scale in _scales(weighed, observed, network):
            claim = _claim_weighed(weighed, scale, (0, 0), activation)
            if all(agree(output, claim.predict(xs)) for xs, output in observed):
                return _checked(claim)
    return Finding(None, statements.NOTHING, "none", "no sequence", (), None)


def _checked(claim: _Claim) -> Finding:
    return Finding(
        claim.id,
        Statement(f"Not proved, but true of every sequence tried: {claim.statement.text}"),
        "none",
        "the sequences tried",
        ("No proof was found. The network was compared with the sentence on sequences.",),
        claim.predict,
        quantity=claim.quantity,
        scale=claim.scale,
    )


def _scales(
    name: Weighed, observed: Sequence[tuple[Sequence[Letter], Number]], network: AnyNetwork
) -> list[Exact]:
    """Return the factors worth trying: the one that the first output shows, or the two signs."""
    if not shows_values(network):
        return [1, -1]
    for xs, output in observed:
        quantity = name.quantity(xs)
        if quantity != 0 and output != 0 and not isinstance(output, float):
            return [simplified(Fraction(output) / quantity)]
    return []


def _weighed_candidates(network: AnyNetwork, letters: Sequence[Letter]) -> list[Weighed]:
    # The number of the largest output is neither the sign nor the value of one sum.
    if network.output_activation == "argmax" or len(letters[0]) > 2:
        return []
    if len(letters[0]) == 2:
        return [difference_of_sums()]
    over_bits = set(letters) <= set(BITS)
    return [
        *([count_ones()] if over_bits and shows_values(network) else []),
        *([majority()] if over_bits else []),
        running_sum(),
        alternating_sum(),
        last_input(),
        last_nonzero_input(),
        moving_difference(),
    ]

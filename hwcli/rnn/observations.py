"""Sequences on which a network is compared with what is said of it.

Every short sequence, random longer ones, and the ones that sampling misses: long runs of one
letter, one letter before a long run of another, and the traced sequence itself.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from hwcli.rnn.activations import Activation, decided
from hwcli.rnn.cells import AnyNetwork, make_stepper
from hwcli.rnn.exact import Number, to_float
from hwcli.rnn.intervals import Box, Interval
from hwcli.rnn.network import Letter, State, dynamics
from hwcli.rnn.statements import SHOW_VALUES

Prediction = Callable[[Sequence[Letter]], Number]

MAX_EXHAUSTIVE = 8_000
NUM_RANDOM = 100
MAX_RANDOM_LENGTH = 400
# Exact states that grow cost time that is quadratic in the length.
MAX_GROWING_LENGTH = 60
MAX_RUN_LENGTH = 5000
# So many letters are tried; of those, so many pairs in long runs.
MAX_TRIED = 2000
MAX_PAIRS = 30
# How far a rounded output may lie from the number that is printed for it.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Checks:
    """Sequences on which the network and the property were compared.

    Attributes:
        num_exhaustive: all sequences of up to ``longest_exhaustive`` letters.
        longest_exhaustive: see there.
        num_letters: of so many of the letters.
        num_random: longer ones: drawn at random, long runs, and the traced one.
        num_failed: of all these.
        num_rounded: where float64 rounds to another class than the network's exact one.
        counterexample: the first that failed.
    """

    num_exhaustive: int = 0
    longest_exhaustive: int = 0
    num_letters: int = 0
    num_random: int = 0
    num_failed: int = 0
    num_rounded: int = 0
    counterexample: tuple[Letter, ...] | None = None


@dataclass(frozen=True)
class Observations:
    """A network's decisions after many sequences."""

    network: AnyNetwork
    letters: Sequence[Letter]
    sequence: Sequence[Letter]
    seed: int = 0

    def __iter__(self) -> Iterator[tuple[Sequence[Letter], Number]]:
        yield from self.short()
        yield from self.long()

    @property
    def tried(self) -> Sequence[Letter]:
        """Return the letters that sequences are made of: all, or an even choice of them."""
        return self.letters[:: -(-len(self.letters) // MAX_TRIED)]

    @property
    def longest_short(self) -> int:
        """Return up to which length all sequences are few enough to try; 1 at least."""
        num_letters = len(self.tried)
        if num_letters == 1:
            return self._longest
        length, num = 1, num_letters
        while num + num_letters ** (length + 1) <= MAX_EXHAUSTIVE:
            length += 1
            num += num_letters**length
        return length

    @property
    def _longest(self) -> int:
        return MAX_GROWING_LENGTH if self.network.may_grow else MAX_RANDOM_LENGTH

    def short(self) -> Iterator[tuple[Sequence[Letter], Number]]:
        """Yield every short sequence."""
        stepper, letters = make_stepper(self.network), self.tried
        known: dict[tuple[Letter, ...], State] = {(): stepper.start}
        for _ in range(self.longest_short):
            longer = {}
            for (prefix, state), letter in product(known.items(), letters):
                xs = (*prefix, letter)
                longer[xs] = stepper.advance(state, letter)
                yield from self._decision(stepper, xs, longer[xs])
            known = longer

    def long(self) -> Iterator[tuple[Sequence[Letter], Number]]:
        """Yield random sequences, long runs, and beginnings of the traced sequence."""
        stepper, letters = make_stepper(self.network), self.tried
        generator = random.Random(self.seed)
        for _ in range(NUM_RANDOM):
            xs = generator.choices(letters, k=generator.randint(1, self._longest))
            yield from self._after(stepper, xs, {len(xs)})
        length = min(len(self.sequence), MAX_RUN_LENGTH)
        if self.network.may_grow:
            length = min(length, MAX_GROWING_LENGTH)
        marks = {round(10 ** (k / 8)) for k in range(int(8 * math.log10(length)) + 1)} | {length}
        few = list(letters[:: max(1, len(letters) // 5)])
        for first, then in islice(product(few, few), MAX_PAIRS):
            yield from self._after(stepper, [first, *[then] * (length - 1)], marks)
        yield from self._after(stepper, list(self.sequence[:length]), marks)

    def _after(
        self, stepper: Any, xs: list[Letter], marks: set[int]
    ) -> Iterator[tuple[Sequence[Letter], Number]]:
        state = stepper.start
        for t, letter in enumerate(xs, 1):
            state = stepper.advance(state, letter)
            if t in marks:
                yield from self._decision(stepper, xs[:t], state)

    def _decision(
        self, stepper: Any, xs: Sequence[Letter], state: State
    ) -> Iterator[tuple[Sequence[Letter], Number]]:
        z = stepper.preactivation(state)
        # A float network may leave float64's range: then nothing is observed.
        numbers = z if isinstance(z, tuple) else (z,)
        if all(not isinstance(number, float) or math.isfinite(number) for number in numbers):
            yield xs, decided(self.network.output_activation, z)


def agree(output: Number, predicted: Number) -> bool:
    """Tell whether an output is the predicted one; printed floats are rounded."""
    if output == predicted:
        return True
    if not isinstance(predicted, float):
        return False
    return abs(to_float(output) - predicted) <= ROUNDING * (1 + abs(predicted))


def check(observations: Observations, predict: Prediction | None) -> Checks:
    """Compare a network with what a property predicts.

    Where float64 disagrees, the network is evaluated again on intervals, which rounding cannot
    mislead.
    """
    if predict is None:
        return Checks()
    counts, num_failed, num_rounded, counterexample = [0, 0], 0, 0, None
    for i, kind in enumerate((observations.short(), observations.long())):
        for xs, output in kind:
            counts[i] += 1
            predicted = predict(xs)
            if agree(output, predicted):
                continue
            if not observations.network.is_exact and predicted == on_intervals(
                observations.network, xs
            ):
                num_rounded += 1
            else:
                num_failed += 1
                counterexample = counterexample or tuple(xs)
    return Checks(
        counts[0],
        observations.longest_short,
        len(observations.tried),
        counts[1],
        num_failed,
        num_rounded,
        counterexample,
    )


def on_intervals(network: AnyNetwork, xs: Sequence[Letter]) -> Any:
    """Return what a network decides after a sequence; None where intervals are too wide for it."""
    moving = dynamics(network, lambda activation, z: z.activated(activation))
    box: Box = tuple(map(Interval.point, moving.start))
    for letter in xs:
        box = tuple(interval.rounded() for interval in moving.advance(box, letter))
    return shown_by(network.output_activation, moving.preactivation(box))


def shown_by(activation: Activation, z: Any) -> Any:
    """Return what an output unit decides for all z of an interval, None where they differ."""
    if activation == "argmax":
        return next(
            (
                k
                for k, best in enumerate(z, 1)
                if all(best.low > other.high for j, other in enumerate(z, 1) if j != k)
            ),
            None,
        )
    if activation in SHOW_VALUES:
        y = z.activated(activation)
        if y.low == y.high:
            return y.low
        middle = to_float(y.low) / 2 + to_float(y.high) / 2
        narrow = math.isfinite(middle) and y.width() <= 1e-4 * (1 + abs(middle))
        return float(f"{middle:.4g}") if narrow else None
    if activation == "step-ge":
        return 1 if z.at_least(0) else 0 if z.below(0) else None
    if activation == "step":
        return 1 if z.above(0) else 0 if z.at_most(0) else None
    sign = z.sign()
    return None if sign is None else decided(activation, sign)


def shows_values(network: AnyNetwork) -> bool:
    """Tell whether the output shows how much z is."""
    return network.output_activation in SHOW_VALUES

"""Proofs by intervals: finitely many boxes that a network's state never leaves.

A box is an interval for each number of the state. Where each box, with each letter, leads into one
box, and each box shows one class, the boxes are the states of a machine that shows what the
network shows, for every sequence over the letters. The proof needs no exact state: so it works for
tanh and logistic units, for saturated gates, and for relu units that never clip.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from hwcli.rnn.exact import Exact, Number
from hwcli.rnn.intervals import Box, Interval
from hwcli.rnn.network import Letter
from hwcli.rnn.state_machine import MooreMachine

Advance = Callable[[Any, Letter], Any]
Key = Callable[[Hashable, Letter, Box], Hashable]
"""Names the box that an image belongs to: (key of the box before, letter, image) -> key."""

# A search that needs more than this gives up: what it proves has to fit on a page.
MAX_BOXES = 150
MAX_IMAGES = 30_000
# A box that has grown so often jumps to the next of its landmarks.
PATIENCE = 6
LANDMARKS: tuple[Exact, ...] = (-1, 0, 1)
TOLERANCES = (0.05, 0.3)
START = "start"
# A proof for fewer steps is none worth telling.
SHORTEST_PROOF = 100


def box_machine(
    start: Box,
    letters: Sequence[Letter],
    advance: Advance,
    classify: Callable[[Box], Number | None],
) -> MooreMachine | None:
    """Return a machine that provably shows what the network shows, or None if none is found.

    Args:
        start: the state before the first letter, one point for each number.
        letters: what is read.
        advance: one step on boxes; the image holds every state that can follow.
        classify: what all states of a box show, None where they differ.
    """
    attempts: list[tuple[Key, float]] = [(_same_sign, 0.0)]
    attempts += [(_last_letters(k), 0.0) for k in (1, 2, 3) if len(letters) ** k <= MAX_BOXES]
    attempts += [(_near(tolerance), tolerance) for tolerance in TOLERANCES]
    for key, margin in attempts:
        found = _closed_boxes(start, letters, advance, key, margin)
        if found is None:
            continue
        boxes, transitions = found
        machine = _machine(letters, boxes, transitions, classify)
        if machine is not None:
            return machine
    return None


def bounded_box_machine(
    start: Box,
    letters: Sequence[Letter],
    advance: Advance,
    classify: Callable[[Box], Number | None],
    length: int,
) -> tuple[MooreMachine, int] | None:
    """Return a machine that provably shows what the network shows for so many steps, and how many.

    Gates that are almost closed leak: no box is kept for ever, but each step adds so little that
    boxes which grow with every step still show one class after thousands.
    """
    key = _near(TOLERANCES[0])
    boxes: dict[Hashable, Box] = {START: start}
    transitions: dict[tuple[Hashable, int], Hashable] = {}
    num_images, num_steps = 0, 0
    while num_steps < length and num_images < MAX_IMAGES:
        grown = dict(boxes)
        for name, box in boxes.items():
            for i, letter in enumerate(letters):
                num_images += 1
                image: Box = tuple(interval.rounded() for interval in advance(box, letter))
                target = transitions.get((name, i))
                if target is None:
                    wanted = key(name, letter, image)
                    assert isinstance(wanted, _Nearest)
                    target = transitions[name, i] = wanted.among(grown)
                old = grown.get(target)
                joined = zip(old, image, strict=True) if old is not None else ()
                grown[target] = tuple(a.joined(b) for a, b in joined) or image
        if len(grown) > MAX_BOXES // 5:
            return None
        shown = {name: classify(box) for name, box in grown.items() if name != START}
        if None in shown.values():
            break
        num_steps += 1
        if grown == boxes:
            num_steps = length
        boxes = grown
    if num_steps < SHORTEST_PROOF:
        return None
    # After so many steps no new box is met: where each of them leads is known.
    machine = _machine(letters, boxes, transitions, classify)
    return None if machine is None else (machine, num_steps)


def _machine(
    letters: Sequence[Letter],
    boxes: Mapping[Hashable, Box],
    transitions: Mapping[tuple[Hashable, int], Hashable],
    classify: Callable[[Box], Number | None],
) -> MooreMachine | None:
    """Return the minimal machine whose states are boxes; None where one shows no single class.

    Args:
        letters: what is read.
        boxes: by name, the start first.
        transitions: the box that each one leads to by the letter of each number.
        classify: what all states of a box show.
    """
    outputs = [None if name == START else classify(box) for name, box in boxes.items()]
    if None in outputs[1:]:
        return None
    number = {name: i for i, name in enumerate(boxes)}
    rows = tuple(tuple(number[transitions[n, i]] for i in range(len(letters))) for n in boxes)
    return MooreMachine(tuple(letters), rows, tuple(outputs)).minimal()


def never_clips(start: Box, letters: Sequence[Letter], advance: Advance, num_hidden: int) -> bool:
    """Tell whether a box is kept in which no hidden unit is ever negative before its relu.

    ``advance`` is the step without the relu.
    """

    def one(_: Hashable, __: Letter, ___: Box) -> Hashable:
        return "all"

    found = _closed_boxes(start, letters, advance, one, 0.0)
    if found is None:
        return False
    boxes, _ = found
    images = (advance(box, letter) for box in boxes.values() for letter in letters)
    return all(unit.at_least(0) for image in images for unit in image[:num_hidden])


def _closed_boxes(
    start: Box, letters: Sequence[Letter], advance: Advance, key: Key, margin: float
) -> tuple[dict[Hashable, Box], dict[tuple[Hashable, int], Hashable]] | None:
    """Grow boxes until each image lies in the box that its key names; None beyond the limits."""
    boxes: dict[Hashable, Box] = {START: start}
    transitions: dict[tuple[Hashable, int], Hashable] = {}
    growths: dict[Hashable, int] = {}
    named: dict[Hashable, Box] = boxes
    waiting: list[Hashable] = [START]
    num_images = 0
    while waiting:
        name = waiting.pop(0)
        for i, letter in enumerate(letters):
            num_images += 1
            if num_images > MAX_IMAGES:
                return None
            image: Box = tuple(interval.rounded() for interval in advance(boxes[name], letter))
            target = key(name, letter, image)
            if isinstance(target, _Nearest):
                target = target.among(named)
            transitions[name, i] = target
            if target not in boxes:
                if len(boxes) > MAX_BOXES:
                    return None
                boxes[target] = image
            elif all(map(Interval.holds, boxes[target], image)):
                continue
            else:
                growths[target] = growths.get(target, 0) + 1
                if growths[target] > 4 * PATIENCE:
                    return None
                boxes[target] = _grown(boxes[target], image, growths[target], margin)
            if target not in waiting:
                waiting.append(target)
    return boxes, transitions


def _grown(box: Box, image: Box, num_growths: int, margin: float) -> Box:
    grown = []
    for old, new in zip(box, image, strict=True):
        both = old.joined(new)
        low, low_open, high, high_open = both.low, both.low_open, both.high, both.high_open
        if margin and not old.holds(new):
            # Half of the way to being taken for another box.
            extra = Interval(-1, 1) * Interval.point(Fraction(margin) / 4)
            both = (both + extra).rounded()
        elif num_growths > PATIENCE:
            if not old.holds(Interval(new.low, new.low, new.low_open, new.low_open)):
                low, low_open = _landmark_below(low)
            if not old.holds(Interval(new.high, new.high, new.high_open, new.high_open)):
                high, high_open = _landmark_above(high)
            both = both.joined(Interval(low, high, low_open, high_open))
        grown.append(both)
    return tuple(grown)


def _landmark_below(low: Any) -> tuple[Any, bool]:
    below = [mark for mark in LANDMARKS if mark < low]
    return (max(below), True) if below else (-float("inf"), True)


def _landmark_above(high: Any) -> tuple[Any, bool]:
    above = [mark for mark in LANDMARKS if mark > high]
    return (min(above), True) if above else (float("inf"), True)


# --------------------------------------------------------------------------------------
# Ways to name boxes


def _same_sign(_: Hashable, __: Letter, image: Box) -> Hashable:
    """Put states into one box whose numbers have the same signs."""
    return tuple(interval.sign() for interval in image)


def _last_letters(k: int) -> Key:
    """Put states into one box that follow the same k last letters."""

    def key(before: Hashable, letter: Letter, _: Box) -> Hashable:
        earlier: tuple[Letter, ...] = () if before == START else before  # type: ignore[assignment]
        return (*earlier, letter)[-k:]

    return key


class _Nearest:
    """Asks for the nearest box within a tolerance."""

    def __init__(self, image: Box, tolerance: float):
        self.image, self.tolerance = image, tolerance

    def among(self, boxes: dict[Hashable, Box]) -> Hashable:
        best, nearest = self.tolerance, None
        for name, box in boxes.items():
            if name == START:
                continue
            distance = max(map(Interval.distance, box, self.image))
            if distance <= best:
                best, nearest = distance, name
            if distance == 0:
                break
        return len(boxes) if nearest is None else nearest


def _near(tolerance: float) -> Key:
    """Put states into one box that lie within a tolerance of each other."""
    return lambda _, __, image: _Nearest(image, tolerance)

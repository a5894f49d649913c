"""How long a sweep still takes, and that nothing but its own work counts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwcli.sweep import live
from hwcli.sweep.events import Event
from hwcli.sweep.forecast import makespan
from hwcli.sweep.live import LiveView
from hwcli.training.progress import Progress
from tests.sweep.toy_trials import toy


@pytest.mark.parametrize(
    ("running", "waiting", "num_workers", "end"),
    [
        ([], [], 2, 0.0),
        ([], [46, 46, 46], 2, 92.0),  # not three halves of 46
        ([23, 23], [46], 2, 69.0),
        ([5], [1, 1], 2, 5.0),
        ([3, 1], [4, 2], 2, 5.0),
        ([2.0], [], 8, 2.0),
        ([1, 1, 1], [1], 1, 2.0),  # more run than one command's workers: several commands do
    ],
)
def test_the_last_trial_ends_when_each_free_worker_takes_the_longest(
    running: list[float], waiting: list[float], num_workers: int, end: float
) -> None:
    assert makespan(running, waiting, num_workers) == end


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 3))
def test_longest_first_is_at_most_four_thirds_of_the_best_schedule(
    lengths: list[int], num_workers: int
) -> None:
    best = min(
        max(
            sum(length for length, at in zip(lengths, places, strict=True) if at == worker)
            for worker in range(num_workers)
        )
        for places in itertools.product(range(num_workers), repeat=len(lengths))
    )
    assert best <= makespan([], lengths, num_workers) <= 4 / 3 * best


def at(share: float) -> Progress:
    return Progress(round(100 * share), 100, 0, 1)


def test_the_view_counts_what_its_own_workers_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    long, other, broken, last = (toy(8), toy(8, behaviour="a"), toy(4), toy(2))
    view = LiveView([long, other, broken, last])
    view.show(Event("started", long))
    view.show(Event("started", broken))
    # One goes on from the half that it had.
    view.show(Event("progress", long, progress=at(0.5)))
    view.show(Event("progress", broken, progress=at(0.0)))
    assert view.seconds_left() is None
    now = 60.0
    view.show(Event("progress", long, progress=at(0.75)))
    view.show(Event("progress", broken, progress=at(0.5)))
    # Two workers took 60 s for two units of work each: 30 s a unit. Two units are left of each of
    # those that run, and then one worker has eight units and the other one two.
    assert view.seconds_left() == pytest.approx(30 * 10)
    view.show(Event("failed", broken, reason="ValueError: told to"))
    view.show(Event("started", other))
    view.show(Event("progress", other, progress=at(0.0)))
    # What failed is over, but it was no work done in a moment.
    assert view.seconds_left() == pytest.approx(30 * 8)
    # Another process, or an earlier command, had it: it was no work of these workers.
    view.show(Event("started", last))
    view.show(Event("done", last, result={}))
    assert view.seconds_left() == pytest.approx(30 * 8)
    now = 120.0
    view.show(Event("progress", long, progress=at(1.0)))
    view.show(Event("done", long, result={}))
    view.show(Event("progress", other, progress=at(0.25)))
    assert view.seconds_left() == pytest.approx(30 * 6)


def test_a_worker_that_is_not_replaced_is_not_reckoned_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    trials = [toy(4, behaviour=str(number)) for number in range(4)]
    view = LiveView(trials)
    for trial in trials[:2]:
        view.show(Event("started", trial))
        view.show(Event("progress", trial, progress=at(0.0)))
    now = 60.0
    for trial in trials[:2]:
        view.show(Event("progress", trial, progress=at(0.5)))
    assert view.seconds_left() == pytest.approx(60 + 120)
    view.show(Event("restarted", trials[1], reason="its worker died; now 1 trial at a time"))
    # One worker has all of it: half of two trials and two whole ones.
    assert view.seconds_left() == pytest.approx(60 + 60 + 120 + 120)

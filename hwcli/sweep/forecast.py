"""How long a sweep still takes."""

import heapq
from collections.abc import Iterable


def makespan(running: Iterable[float], waiting: Iterable[float], num_workers: int) -> float:
    """Return when the last trial ends if each worker that is free takes the longest that waits.

    So the runner does it (Graham 1969, "Bounds on multiprocessing timing anomalies").

    Args:
        running: what each running trial still takes.
        waiting: what each of the others takes, in the same unit.
        num_workers: how many trials train at a time; at least as many as run.

    Returns:
        In the unit of the trials; 0 where nothing is left.
    """
    ends = list(running)
    ends += [0.0] * (max(1, num_workers) - len(ends))
    heapq.heapify(ends)
    for length in sorted(waiting, reverse=True):
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)

"""What a running sweep shows: one bar for all of it, one line for each running trial.

Where nobody watches (a file, a pipe), one plain line for each finished epoch instead.
"""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hwcli.output import terminal
from hwcli.sweep.launcher import Event
from hwcli.sweep.trial import Trial

# Drawing takes milliseconds of a core that trains: seldom enough to cost nothing measurable.
SECONDS_BETWEEN_DRAWINGS = 0.5


class LiveView:
    """Shows events; a context manager, since the terminal has to be handed back.

    Args:
        trials: what is going to be trained.
        num_workers: at a time, for the estimate of the time that remains.
    """

    def __init__(self, trials: Sequence[Trial], *, num_workers: int):
        self._costs = {trial.id: trial.cost for trial in trials}
        self._shares: dict[str, float] = dict.fromkeys(self._costs, 0.0)
        self._shares_at_start: dict[str, float] = {}
        self._running: dict[str, tuple[Trial, dict[str, Any]]] = {}
        self._num_workers = num_workers
        self._num_finished = 0
        self._started = time.monotonic()
        self._drawn = 0.0
        console = terminal.progress
        watched = console.is_terminal and not console.quiet
        self._live = Live(console=console, auto_refresh=False, transient=True) if watched else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Take an event in, and draw if it is time."""
        trial, content = event.trial, event.content
        if event.kind == "started":
            self._running[trial.id] = (trial, {})
        elif event.kind == "progress":
            # What a resumed trial had already was not earned by this sweep's time. (Half a second
            # of training, which is in a first report too, is neither here nor there.)
            self._shares_at_start.setdefault(trial.id, content["share"])
            self._shares[trial.id] = max(content["share"], self._shares[trial.id])
            latest = self._running.get(trial.id, (trial, {}))[1]
            self._running[trial.id] = (trial, {**latest, **content})
            if "valid_accuracy" in content:
                self._line(f"{trial}: {describe_epoch(content)}")
        else:
            self._running.pop(trial.id, None)
            if event.kind in ("done", "failed"):
                self._num_finished += 1
                self._shares[trial.id] = 1.0
            if event.kind == "busy":
                self._line(f"{trial}: another program trains it; its result will be used")
            elif event.kind != "done":
                self._line(f"{trial}: {event.kind}: {content['reason']}", always=True)
        now = time.monotonic()
        if self._live and now - self._drawn > SECONDS_BETWEEN_DRAWINGS:
            self._drawn = now
            self._live.update(self._render(), refresh=True)

    def _line(self, text: str, *, always: bool = False) -> None:
        if always or not self._live:
            terminal.log(text)

    def _render(self) -> RenderableType:
        total = sum(self._costs.values())
        done = sum(self._costs[i] * share for i, share in self._shares.items())
        elapsed = time.monotonic() - self._started
        remaining = seconds_left(self._costs, self._shares, self._shares_at_start, elapsed)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{self._num_finished}/{len(self._costs)} trials"),
            ProgressBar(total=total, completed=done, width=40),
            Text(f"{done / total:4.0%}"),
            Text(f"{duration(elapsed)} gone"),
            Text("estimating" if remaining is None else f"about {duration(remaining)} left"),
        )
        lines = Table.grid(padding=(0, 3))
        for trial, latest in self._running.values():
            lines.add_row(f"  {trial}", describe_step(latest))
        return Group(head, lines)


def seconds_left(
    costs: Mapping[str, float],
    shares: Mapping[str, float],
    shares_at_start: Mapping[str, float],
    elapsed_s: float,
) -> float | None:
    """Estimate how long a sweep still takes, or None while too little of it is done to tell.

    Args:
        costs: of each trial, by its id.
        shares: of each trial that are done.
        shares_at_start: of those that are under way or done, what was done when they went on.
        elapsed_s: since the sweep started.
    """
    total = sum(costs.values())
    done = sum(cost * shares[i] for i, cost in costs.items())
    earned = done - sum(costs[i] * share for i, share in shares_at_start.items())
    return (total - done) * elapsed_s / earned if earned > 0.005 * total else None


def describe_step(latest: dict[str, Any]) -> str:
    """Say where a running trial stands, on one line."""
    if "epoch" not in latest:
        return "starting"
    parts = [f"epoch {latest['epoch'] + 1}/{latest['num_epochs']}"]
    if "loss" in latest:
        parts.append(f"loss {latest['loss']:.3f}")
    if "valid_accuracy" in latest:
        parts.append(f"valid {latest['valid_accuracy']:.2%}")
    if "examples_per_s" in latest:
        parts.append(f"{latest['examples_per_s']:.0f} examples/s")
    return "  ".join(parts)


def describe_epoch(epoch: dict[str, Any]) -> str:
    """Say what a finished epoch came to, on one line."""
    return (
        f"epoch {epoch['epoch'] + 1}/{epoch['num_epochs']}  "
        f"loss {epoch['train_loss']:.3f}  valid loss {epoch['valid_loss']:.3f}  "
        f"valid {epoch['valid_accuracy']:.2%}  {epoch['examples_per_s']:.0f} examples/s"
    )


def duration(seconds: float) -> str:
    """Spell a time as people do: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

"""What a running sweep shows: one bar for all of it, one line for each running trial.

Where nobody watches (a file, a pipe), one plain line for each finished epoch instead.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hwcli.locks import Closing
from hwcli.output import terminal
from hwcli.output.units import duration
from hwcli.sweep.events import Event
from hwcli.sweep.forecast import makespan
from hwcli.sweep.trial import Trial
from hwcli.training.progress import Epoch, Progress

# Drawing takes milliseconds of a core that trains: seldom enough to cost nothing measurable.
SECONDS_BETWEEN_DRAWINGS = 0.5
# Of a trial's work, in all: an earlier estimate of a worker's pace would jump about.
LEAST_EARNED = 0.02
# Below this width of the terminal, a running trial is described without its curve.
WIDTH_FOR_CURVES = 100
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass
class _Running:
    """What is known of a trial that trains."""

    trial: Trial
    latest: Progress | None = None
    epochs: list[Epoch] = field(default_factory=list)


class LiveView(Closing):
    """Shows events; a context manager, since the terminal has to be handed back.

    Args:
        trials: what is going to be trained.
    """

    def __init__(self, trials: Sequence[Trial]):
        self._costs = {trial.id: trial.cost for trial in trials}
        self._shares: dict[str, float] = dict.fromkeys(self._costs, 0.0)
        self._shares_at_start: dict[str, float] = {}
        self._running: dict[str, _Running] = {}
        self._ended: set[str] = set()
        self._told_busy: dict[str, str] = {}  # why its owner waits, by the trial's id
        self._started = self._last = time.monotonic()
        # Of all workers together, and the most of them that were seen at a time.
        self._worker_s, self._num_workers = 0.0, 0
        self._drawn = 0.0
        console = terminal.progress
        watched = terminal.is_watched(console) and not console.quiet
        # A terminal that cannot move its cursor (TERM=dumb) gets lines, like a file.
        draws = watched and console.is_interactive
        self._live = Live(console=console, auto_refresh=False, transient=True) if draws else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def close(self, error: BaseException | None) -> None:
        """Hand the terminal back."""
        if self._live:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Take an event in, and draw if it is time."""
        trial, now = event.trial, time.monotonic()
        self._worker_s += len(self._running) * (now - self._last)
        self._last = now
        if event.kind == "started":
            self._running[trial.id] = _Running(trial)
        elif event.progress is not None:
            self._take(trial, event.progress)
        else:
            self._running.pop(trial.id, None)
            if event.kind in ("done", "failed"):
                self._ended.add(trial.id)
            if event.kind == "done":
                self._shares[trial.id] = 1.0
                # What ended without a report was done before, or by another process.
                self._shares_at_start.setdefault(trial.id, 1.0)
            if event.kind == "restarted":  # from now on there may be fewer workers
                self._num_workers = len(self._running)
            if event.kind == "busy":
                told = self._told_busy.get(trial.id)
                if told is None or event.reason not in ("", told):
                    text = f"{trial}: already training in another process; will use its result"
                    self._line(f"{text}{event.reason and f' ({event.reason})'}", always=True)
                self._told_busy[trial.id] = event.reason
            elif event.kind != "done":
                self._line(f"{trial}: {event.kind}: {event.reason}", always=True)
        self._num_workers = max(self._num_workers, len(self._running))
        if self._live and now - self._drawn > SECONDS_BETWEEN_DRAWINGS:
            self._drawn = now
            self._live.update(self._render(terminal.progress.width), refresh=True)

    def seconds_left(self) -> float | None:
        """Estimate how long the sweep still takes, or None while too little is done to tell."""
        shares = self._shares.items()
        left = {i: self._costs[i] * (1 - share) for i, share in shares if i not in self._ended}
        earned = sum(
            self._costs[i] * (self._shares[i] - start) for i, start in self._shares_at_start.items()
        )
        if earned <= LEAST_EARNED * max(self._costs.values()):
            return None
        running = [left.pop(i) for i in self._running if i in left]
        pace = self._worker_s / earned
        return pace * makespan(running, left.values(), self._num_workers)

    def _take(self, trial: Trial, progress: Progress) -> None:
        # What a resumed trial had already was not earned by this sweep's time. (Half a second of
        # training, which is in a first report too, makes no difference.)
        self._shares_at_start.setdefault(trial.id, progress.share)
        self._shares[trial.id] = max(progress.share, self._shares[trial.id])
        running = self._running.setdefault(trial.id, _Running(trial))
        running.latest = progress
        if progress.finished is not None:
            running.epochs.append(progress.finished)
            self._line(f"{trial}: {describe_epoch(progress.finished, progress.num_epochs)}")
        if progress.note is not None:
            self._line(f"{trial}: {progress.note}", always=True)

    def _line(self, text: str, *, always: bool = False) -> None:
        if always or not self._live:
            terminal.log(text)

    def _render(self, width: int) -> RenderableType:
        total = sum(self._costs.values())
        # What a failed trial had left will not be done.
        done = sum(self._costs[i] * (1.0 if i in self._ended else share)
                   for i, share in self._shares.items())  # fmt: skip
        elapsed = time.monotonic() - self._started
        remaining = self.seconds_left()
        texts = [
            f"{len(self._ended)}/{len(self._costs)} trials",
            f"{done / total:4.0%}",
            f"{duration(elapsed)} elapsed",
            "estimating" if remaining is None else f"about {duration(remaining)} left",
        ]
        # Four gaps of two spaces; the bar takes what is left.
        bar = max(4, min(40, width - 8 - sum(map(len, texts))))
        head = Table.grid(padding=(0, 2))
        head.add_row(texts[0], ProgressBar(total=total, completed=done, width=bar), *texts[1:])
        lines = [
            Text(describe_running(r.trial, r.latest, r.epochs, width), no_wrap=True)
            for r in self._running.values()
        ]
        return Group(head, *lines)


def describe_running(
    trial: Trial, latest: Progress | None, epochs: Sequence[Epoch], width: int
) -> str:
    """Describe a running trial on one line that fits the width.

    With room, validation accuracy is drawn as a curve of one character an epoch.
    """
    parts = [f"  {trial}"]
    if latest is None:
        parts.append("starting")
    else:
        parts.append(f"epoch {latest.epoch + 1}/{latest.num_epochs}")
        if epochs:
            parts.append(f"valid {epochs[-1].valid_accuracy:.2%}")
        if latest.loss is not None:
            parts.append(f"loss {latest.loss:.3f}")
        if latest.examples_per_s is not None:
            parts.append(f"{latest.examples_per_s:.0f} examples/s")
        if len(epochs) > 1 and width >= WIDTH_FOR_CURVES:
            parts.append(sparkline([epoch.valid_accuracy for epoch in epochs[-20:]]))
    while len(parts) > 2 and len("  ".join(parts)) > width:
        parts.pop()
    return "  ".join(parts)


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a line of blocks, the least as the lowest and the greatest as the highest."""
    least, greatest = min(values), max(values)
    scale = (len(BLOCKS) - 1) / (greatest - least) if greatest > least else 0.0
    return "".join(BLOCKS[round((value - least) * scale)] for value in values)


def describe_epoch(epoch: Epoch, num_epochs: int) -> str:
    """Describe a finished epoch, on one line."""
    return (
        f"epoch {epoch.epoch + 1}/{num_epochs}  "
        f"loss {epoch.train_loss:.3f}  valid loss {epoch.valid_loss:.3f}  "
        f"valid {epoch.valid_accuracy:.2%}  {epoch.examples_per_s:.0f} examples/s"
    )

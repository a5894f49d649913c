"""Lines that say how far encoding, training and testing are."""

import time

from hwcli.output import terminal
from hwcli.training.progress import Progress

SECONDS_BETWEEN_LINES = 15.0


class ProgressPrinter:
    """Prints how far a long pass over reviews is, every few seconds."""

    def __init__(self, what: str):
        self.what = what
        self.started = self.printed = time.perf_counter()
        self.num_before: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Take note of progress."""
        now = time.perf_counter()
        if self.num_before is None:
            # A resumed pass did not do its first part just now.
            self.num_before, self.started = done, now
        elif now - self.printed > SECONDS_BETWEEN_LINES or done == total:
            self.printed = now
            rate = (done - self.num_before) / (now - self.started)
            terminal.log(f"{self.what}: {done:,} of {total:,} ({rate:.0f}/s)")


class EpochPrinter:
    """Prints what the training loop reports."""

    def __init__(self, epochs: int, steps: int):
        self.epochs, self.steps = epochs, steps
        self.printed = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        """Take note of what the loop reports."""
        now = time.perf_counter()
        done = progress.finished
        if progress.note is not None:
            terminal.log(progress.note)
        elif done is not None:
            self.printed = now
            terminal.log(
                f"epoch {done.epoch + 1} of {self.epochs}: loss {done.train_loss:.4f}, accuracy "
                f"{done.train_accuracy:.2%}; validation loss {done.valid_loss:.4f}, "
                f"accuracy {done.valid_accuracy:.2%}; {done.train_s / 60:.1f} min"
            )
        elif now - self.printed > SECONDS_BETWEEN_LINES:
            self.printed = now
            left = (progress.num_steps - progress.step) / self.steps
            terminal.log(
                f"epoch {progress.epoch + 1} of {self.epochs}: "
                f"step {progress.step - progress.epoch * self.steps} of {self.steps}, "
                f"loss {progress.loss:.4f}, {progress.examples_per_s:.0f} reviews/s, "
                f"{left:.2f} epochs left"
            )

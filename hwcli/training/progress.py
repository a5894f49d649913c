"""What a training run reports while it runs; loads no torch, so that any process can read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """Figures of one finished epoch; losses in nats, accuracies as fractions."""

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    train_s: float
    examples_per_s: float


@dataclass(frozen=True)
class Progress:
    """Where a training run stands. Every trial function of a sweep reports these.

    Attributes:
        step: steps done, of ``num_steps`` in all.
        num_steps: of the whole run.
        epoch: the running epoch, from 0.
        num_epochs: of the whole run.
        loss: mean over the running epoch so far.
        examples_per_s: in the running epoch.
        finished: the epoch that has just ended, if one has.
        note: a line for the user, such as that a damaged checkpoint was not used.
        work: the part of the work that is done, from 0 to 1, where steps are not alike.
    """

    step: int
    num_steps: int
    epoch: int
    num_epochs: int
    loss: float | None = None
    examples_per_s: float | None = None
    finished: Epoch | None = None
    note: str | None = None
    work: float | None = None

    @property
    def share(self) -> float:
        """The part of the run that is done, from 0 to 1."""
        return self.step / self.num_steps if self.work is None else self.work

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Progress":
        """Return what ``dataclasses.asdict`` made a mapping of.

        Raises:
            TypeError: a field is missing or unknown.
        """
        finished = record.get("finished")
        return cls(**{**record, "finished": finished and Epoch(**finished)})

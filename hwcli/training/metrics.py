"""Figures over examples: sums are kept and divided once, and accuracy comes with its error."""

import math
from dataclasses import dataclass


@dataclass
class Mean:
    """Loss and accuracy over examples, fed batch by batch.

    Batches of unequal size count by their examples: averaging their averages would not.
    """

    loss_sum: float = 0.0
    num_correct: int = 0
    num_examples: int = 0

    def add(self, loss_sum: float, num_correct: int, num_examples: int) -> None:
        """Add one batch, its loss summed over its examples."""
        self.loss_sum += loss_sum
        self.num_correct += num_correct
        self.num_examples += num_examples

    @property
    def loss(self) -> float:
        """Mean loss of an example, in nats."""
        return self.loss_sum / self.num_examples

    @property
    def accuracy(self) -> float:
        """Fraction of examples classified correctly."""
        return self.num_correct / self.num_examples


def standard_error(accuracy: float, num_examples: int) -> float:
    """Return the standard error of an accuracy measured on n independent examples.

    It is sqrt(p (1 - p) / n), the binomial's: what another test set of this size would move the
    figure by, the trained network kept as it is.
    """
    return math.sqrt(accuracy * (1.0 - accuracy) / num_examples)


def mean_and_std(values: list[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation (n - 1); one value has no deviation."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))

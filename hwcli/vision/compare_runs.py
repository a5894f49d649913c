"""Two runs over the same grid, side by side: what differs between them, and what that does."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hwcli.output.tables import Column, Table
from hwcli.training.significance import Estimate
from hwcli.vision.grid_statistics import HitsBySeed, Place, compare_pairs, p_text, points


@dataclass(frozen=True)
class Beside:
    """A run beside another.

    Attributes:
        name: of this run.
        other: name of the other.
        epochs: of this run.
        rows: of :func:`compare_runs`, at least one.
        settings: in which they differ: dotted keys, with the other's value and this run's.
        mean: accuracy of this run minus the other's over all networks, None without predictions.
    """

    name: str
    other: str
    epochs: int
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, tuple[Any, Any]]
    mean: Estimate | None

    @property
    def train_s_ratio(self) -> float:
        """How many times the other's training time this run took, over all cells."""
        ours, theirs = (
            math.fsum(row[key] for row in self.rows) for key in ("train_s", "other_train_s")
        )
        return ours / theirs

    @property
    def epochs_at_equal_time(self) -> int:
        """The number of epochs at which this run would have taken as long as the other."""
        return max(1, round(self.epochs / self.train_s_ratio))

    def conclude(self) -> str:
        """Say in one sentence what the difference does to accuracy and to time."""
        mean = self.mean
        value = statistics.fmean(row["difference"] for row in self.rows)
        interval, num_cells = "", len(self.rows)
        if mean is not None:
            value, num_cells = mean.value, sum(row["num_seeds"] > 0 for row in self.rows)
            if mean.low is not None and mean.high is not None:
                interval = f" (95 % interval {points(mean.low)} to {points(mean.high)})"
        num_apart = sum(bool(row["told_apart"]) for row in self.rows)
        if num_cells > 1:
            where, apart = f"on average over {num_cells} cells", f"{num_apart} of them told apart"
        else:
            where, apart = "in one cell", "told apart" if num_apart else "not told apart"
        text = (
            f"{self.name} minus {self.other}: {points(value)} points of test accuracy {where}"
            f"{interval}, {apart} at the 5 % level; "
            f"{self.train_s_ratio:.2f} times the training time"
        )
        if self.epochs_at_equal_time == self.epochs:
            return f"{text}."
        return f"{text}, as long at {self.epochs_at_equal_time} epochs."

    def table(self) -> Table:
        """Return one row for each cell that both runs have."""
        notes = []
        if self.settings:
            texts = [
                f"{key.removeprefix('config.')} {_setting(theirs)} and {_setting(ours)}"
                for key, (theirs, ours) in self.settings.items()
            ]
            notes = [f"Settings in which {self.other} and {self.name} differ: {'; '.join(texts)}."]
        return Table(
            title=f"{self.name} beside {self.other}: the cells of both",
            columns=[
                Column("layers", "layers"),
                Column("heads", "heads"),
                Column("num_seeds", "paired seeds"),
                Column("other_test_accuracy", f"test, {self.other}", "{:.2%}"),
                Column("test_accuracy", f"test, {self.name}", "{:.2%}"),
                Column("difference", "difference, points", points),
                Column("p_value_holm", "p", p_text),
                Column("other_train_s", f"training, {self.other}", "{:.0f} s"),
                Column("train_s", f"training, {self.name}", "{:.0f} s"),
                Column("train_s_ratio", "ratio", "{:.2f}"),
            ],
            rows=self.rows,
            notes=[
                *notes,
                self.conclude(),
                "p: paired on the same test images (one seed: exact McNemar; several: bootstrap "
                "over images and seeds), Holm-corrected over these cells. The interval draws "
                "networks and test images anew, and errs on the wide side. Times were taken in "
                "two runs, not side by side.",
            ],
        )

    def summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` says of it; accuracies are fractions."""
        return {
            "with": self.other,
            "settings": {key: list(values) for key, values in self.settings.items()},
            "mean_difference": self.mean and asdict(self.mean),
            "train_s_ratio": self.train_s_ratio,
            "epochs_at_equal_time": self.epochs_at_equal_time,
            "conclusion": self.conclude(),
            "cells": list(self.rows),
        }


def _setting(value: Any) -> str:
    return "unset" if value is None else str(value)


def compare_runs(
    cells: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    pairs: Mapping[Place, tuple[HitsBySeed, HitsBySeed]],
) -> list[dict[str, Any]]:
    """Return a row for each cell that two runs share: accuracies, paired test, training times.

    Accuracies are over the seeds that both have predictions of, those that are tested; where there
    is none, over all seeds of each, and there is no test.

    Args:
        cells: of this run.
        others: of the other.
        pairs: the hits of this and the other's cell, where there are any.
    """
    by_place = {(other["layers"], other["heads"]): other for other in others}
    tests = compare_pairs(pairs)
    rows = []
    for cell in cells:
        place = (cell["layers"], cell["heads"])
        other = by_place.get(place)
        if other is None or None in (cell["test_accuracy_mean"], other["test_accuracy_mean"]):
            continue
        test = tests.get(place)
        ours, theirs = (
            test.accuracies if test else (cell["test_accuracy_mean"], other["test_accuracy_mean"])
        )
        rows.append(
            {
                "layers": cell["layers"],
                "heads": cell["heads"],
                "num_seeds": test.num_seeds if test else 0,
                "test_accuracy": ours,
                "other_test_accuracy": theirs,
                "difference": ours - theirs,
                "p_value": test and test.p_value,
                "p_value_holm": test and test.p_value_holm,
                "told_apart": test and test.tells_apart,
                "train_s": cell["train_s"],
                "other_train_s": other["train_s"],
                "train_s_ratio": cell["train_s"] / other["train_s"],
            }
        )
    return rows


def find_differences(
    first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two nested mappings differ, with both values."""
    differences: dict[str, tuple[Any, Any]] = {}
    for key in [*first, *(key for key in second if key not in first)]:
        one, two = first.get(key), second.get(key)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            differences |= find_differences(one, two, f"{prefix}{key}.")
        elif one != two:
            differences[f"{prefix}{key}"] = (one, two)
    return differences

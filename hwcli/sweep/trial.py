"""One point of a grid: what decides its numbers, and the name that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwcli.config import Section
from hwcli.output.files import short_digest


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep.

    Attributes:
        config: all that the trial's function gets.
        label: what distinguishes it in the grid, as shown: layers, heads, other axes, seed.
        facts: what decides its numbers besides the config (data digest, recipe version, ...).
        cost: how much work it is, in any unit that all trials of the sweep share.
    """

    config: Section
    label: Mapping[str, Any]
    facts: Mapping[str, Any]
    cost: float

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the trial's numbers, and nothing else."""
        return {"config": self.config.model_dump(mode="json"), **self.facts}

    @property
    def id(self) -> str:
        """Name of the identity and of the trial's folder: one for each recipe, data and seed.

        Trials of one name have equal numbers, bit for bit, on processors of one kind; on another
        kind they differ as much as another seed's do.
        """
        return short_digest(self.identity)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.label.items())

"""One point of a grid: what decides its numbers, and the name that follows from it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwcli.config import Section


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
        """Name of the identity. Equal names mean the same recipe, data and seed.

        Trials of one name have equal numbers, bit for bit, on processors of one kind; on another
        kind they differ as much as another seed's do.
        """
        return identity_id(self.identity)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.label.items())


def identity_id(identity: Mapping[str, Any]) -> str:
    """Return the name of an identity: the folder of its trial is called so."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

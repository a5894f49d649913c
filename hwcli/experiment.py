"""The protocol that every module in ``hwcli/experiments/`` meets, and nothing else.

An experiment is one file ``hwcli/experiments/<module>.py``, one YAML ``configs/<module>.yaml`` with
its schema, and one short function ``<module>`` in ``hwcli/cli/experiments.py``. Its command is the
module's name with hyphens. The command line imports the module when its command runs, builds
``Config`` from the YAML and the flags, and calls ``plan`` for a dry run and ``run`` otherwise. A
test holds every module to this, and CONTRIBUTING.md shows one from beginning to end.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from hwcli.config import RunConfig
from hwcli.output.run_folder import RunFolder, Summary
from hwcli.output.tables import Table
from hwcli.output.units import duration, size

C = TypeVar("C", bound=RunConfig)


# What Python, PyTorch and the project's own code take before anything is computed.
PROGRAM_BYTES = 600 * 10**6


@dataclass(frozen=True)
class Plan:
    """What a run would do, and what that takes on this machine.

    Attributes:
        shown: a table or a line.
        seconds: that the run still takes. ``vit-sweep`` counts from each trial's last checkpoint,
            the others from the beginning. None where it cannot be known here.
        memory_bytes: at the peak, all processes of the run together.
        disk_bytes: of what is written, in the run's folder and in the cache.
        refused: why this machine would refuse the run; empty where it would not.
    """

    shown: Table | str
    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    refused: str = ""

    def needs(self) -> str:
        """Say in a sentence what the run would take."""
        time = "a time that cannot be known here,"
        if self.seconds is not None:
            time = f"about {duration(self.seconds)} on this machine, as busy as it is now,"
        return (
            f"The run would take {time} {size(self.memory_bytes)} of memory and "
            f"{size(self.disk_bytes)} of disk. Nothing was run."
        )


class Experiment(Protocol[C]):
    """What a module in ``hwcli/experiments/`` holds.

    Attributes:
        COMMAND: its command, the module's name with hyphens: ``vit-sweep``.
        Config: every field of its YAML, each with a description and without a default.
        RunSummary: what ``run`` returns and ``summary.json`` holds.
        WHEN_STOPPED: what Ctrl-C leaves, and what the same command then does; where it is left
            out, ``run`` says it itself or is too short to.
    """

    COMMAND: str
    Config: type[C]
    RunSummary: type[Summary]

    def run(self, config: C, folder: RunFolder) -> Summary | None:
        """Claim the folder, compute, write every file but ``summary.json``, return the summary.

        None means that nothing is finished yet, and that the command is to be run again: the work
        was left to a cluster's queue.
        """

    def plan(self, config: C, folder: RunFolder) -> Plan:
        """Return what ``run`` would do and what that takes, by a short timing; write nothing."""

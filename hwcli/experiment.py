"""The protocol that every module in ``hwcli/experiments/`` meets, and nothing else.

An experiment is one file ``hwcli/experiments/<module>.py``, one YAML ``configs/<module>.yaml`` with
its schema, and one short function ``<module>`` in ``hwcli/cli/experiments.py``. Its command is the
module's name with hyphens. The command line imports the module when its command runs, builds
``Config`` from the YAML and the flags, and calls ``plan`` for a dry run and ``run`` otherwise. A
test holds every module to this, and CONTRIBUTING.md shows one from beginning to end.
"""

from typing import Protocol, TypeVar

from hwcli.config import RunConfig
from hwcli.output.run_folder import RunFolder, Summary

C = TypeVar("C", bound=RunConfig)


class Experiment(Protocol[C]):
    """What a module in ``hwcli/experiments/`` holds.

    Attributes:
        COMMAND: its command, the module's name with hyphens: ``vit-sweep``.
        Config: every field of its YAML, each with a description and without a default.
        RunSummary: what ``run`` returns and ``summary.json`` holds.
    """

    COMMAND: str
    Config: type[C]
    RunSummary: type[Summary]

    def run(self, config: C, folder: RunFolder) -> Summary | None:
        """Claim the folder, compute, write every file but ``summary.json``, return the summary.

        None means that nothing is finished yet, and that the command is to be run again: the work
        was left to a cluster's queue.
        """

    def plan(self, config: C, folder: RunFolder) -> None:
        """Show what ``run`` would do and how long it would take; write nothing."""

"""The protocol that every module in ``hwcli/experiments/`` meets, and nothing else.

An experiment is one file ``hwcli/experiments/<module>.py``, one YAML ``configs/<module>.yaml`` and
one short function of the same name in ``hwcli/cli.py``. The command line imports the module when
its command runs, builds ``Config`` from the YAML and the flags, and calls ``plan`` for a dry run
and ``run`` otherwise. CONTRIBUTING.md shows one from beginning to end.
"""

from typing import Any, Protocol

from hwcli.output.run_folder import RunFolder, Summary


class Experiment(Protocol):
    """What a module in ``hwcli/experiments/`` holds.

    Attributes:
        COMMAND: its command, the module's name with hyphens: ``vit-sweep``.
        Config: a subclass of :class:`hwcli.config.RunConfig` with every field of its YAML.
        RunSummary: the subclass of :class:`hwcli.output.run_folder.Summary` that ``run`` returns.
    """

    COMMAND: str
    Config: type[Any]
    RunSummary: type[Summary]

    def run(self, config: Any, folder: RunFolder) -> Summary | None:
        """Compute, write every file but ``summary.json`` into the folder, and return the summary.

        None means that nothing is finished yet, and that the command is to be run again: the work
        was left to a cluster's queue.
        """

    def plan(self, config: Any, folder: RunFolder) -> None:
        """Show what ``run`` would do and how long it would take; write nothing."""

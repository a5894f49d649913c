"""Options that more than one command has."""

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from hwcli.cli.completion import complete_preset, complete_setting
from hwcli.cli.flags import Flag, Text
from hwcli.paths import named_path

RESULTS = Path("results")


def path_option(flag: str, metavar: str, help: str) -> Any:
    """Return an option that takes a path; no shell replaces the ``~`` of ``--out=~/results``."""
    return Option(flag, metavar=metavar, help=help, callback=_with_home)


def _with_home(path: Path | None) -> Path | None:
    return None if path is None else named_path(path)


def out_option(help: str) -> Any:
    """Return the option ``--out``, with what the folder is for."""
    return path_option("--out", "DIR", help)


def settings_option(help: str, **more: Any) -> Any:
    """Return the option ``--set``, with what is set."""
    return Option("--set", metavar="KEY=VALUE", help=help, **more)


Out = Annotated[Path, out_option("Where runs are written.")]
ConfigFile = Annotated[
    Path | None, path_option("--config", "PATH", "YAML file with the settings that you change.")
]
Quiet = Annotated[bool, Option("--quiet", help="Print the result only, no progress.")]
AsJson = Annotated[bool, Option("--json", help="JSON instead of a table.")]
Author = Annotated[
    Text, Option("--author", metavar="NAME", help="Your name, printed below the title and kept.")
]
Acknowledge = Annotated[
    list[str] | None,
    Option(
        "--acknowledge",
        metavar="TEXT",
        help="Collaborators and tools, in your words; kept ('' removes them). Repeatable.",
    ),
]


def preset_option(help: str) -> Any:
    """Return the option ``--preset`` of an experiment."""
    return Option("--preset", metavar="NAME", help=help, autocompletion=complete_preset)


def switch(name: str, help: str) -> Any:
    """Return an option without a value."""
    return Annotated[bool, Option(name, help=help)]


COMMON: dict[str, tuple[Any, Any]] = {
    "config": (ConfigFile, None),
    "preset": (Annotated[Text, preset_option("Preset to use.")], None),
    "settings": (
        Annotated[
            list[str] | None,
            settings_option(
                "Set any config field; repeatable. hw2 config show lists the fields.",
                autocompletion=complete_setting,
            ),
        ],
        None,
    ),
    "name": (Annotated[Text, Flag("name", "NAME")], None),
    "out": (Annotated[Path, out_option("Folder in which run folders are made.")], RESULTS),
    "device": (Annotated[Text, Flag("device", "NAME")], None),
    "replace": (
        switch("--replace", "Replace a finished run of this name that has other settings."),
        False,
    ),
    "dry_run": (
        switch("--dry-run", "Show what would be done and what it needs, and run nothing."),
        False,
    ),
    "quiet": (Quiet, False),
}
"""The options of every experiment: annotation and default by parameter."""

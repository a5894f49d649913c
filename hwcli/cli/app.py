"""The Typer program that the commands register with, and the panels of its help."""

from typing import Annotated

import typer
from typer import Option

from hwcli import __version__
from hwcli.cli.help import Group

EXPERIMENTS = "The four questions"
HAND_IN = "The hand-in"
TOOLS = "Tools"

app = typer.Typer(
    name="hw2",
    cls=Group,
    help="The experiments of a deep-learning homework: exact, measured, resumable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hw2 {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Read the options that come before a command."""

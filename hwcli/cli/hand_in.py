"""The commands that make the hand-in."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from hwcli.cli.app import HAND_IN, app
from hwcli.cli.flags import Text
from hwcli.cli.help import Command
from hwcli.cli.options import RESULTS, Acknowledge, Author, Out, Quiet, out_option, path_option


@app.command(cls=Command, rich_help_panel=HAND_IN)
def homework(
    preset: Annotated[
        str,
        Option(
            metavar="NAME", help="quick (short runs) or standard (long ones, as the reference)."
        ),
    ] = "quick",
    out: Out = RESULTS,
    author: Author = None,
    acknowledge: Acknowledge = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show the time, memory and disk that each part needs.")
    ] = False,
) -> None:
    """Run all four questions, then make the hand-in; finished parts are reused."""
    from hwcli import homework as all_parts

    if dry_run:
        all_parts.plan(preset, out)
        return
    code = all_parts.run(preset, out, author=author, acknowledged=acknowledge or ())
    if code:
        raise typer.Exit(code)


@app.command(cls=Command, rich_help_panel=HAND_IN)
def report(
    runs: Annotated[
        Path | None,
        path_option("--runs", "DIR", "Folder with finished runs (default: --out)."),
    ] = None,
    out: Annotated[Path, out_option("Where report/ is written.")] = RESULTS,
    kind: Annotated[str, Option("--format", metavar="KIND", help="ipynb, pdf, html or all.")] = (
        "all"
    ),
    author: Author = None,
    acknowledge: Acknowledge = None,
    title: Annotated[Text, Option(metavar="TEXT", help="Title of the report; kept.")] = None,
    paper: Annotated[
        Text, Option(metavar="NAME", help="Paper of the PDF: a4 or letter; kept.")
    ] = None,
    reference: Annotated[
        bool,
        Option(
            "--reference",
            help="Show the project's reference runs, marked, for questions you have no run for.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make the hand-in from finished runs: notebook, PDF and page. Keeps what you wrote."""
    from hwcli.output import terminal
    from hwcli.report import make

    if quiet:
        terminal.silence()
    for path in make.build(
        runs or make.own_runs(out),
        out,
        formats=make.chosen_formats(kind),
        title=title,
        author=author,
        acknowledged=acknowledge or (),
        reference=make.reference_runs() if reference else None,
        paper=paper,
        say=terminal.log,
    ):
        terminal.show_path(path)

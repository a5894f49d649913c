"""The commands around the experiments: data, status, export, doctor and config."""

import importlib
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from hwcli.cli.app import TOOLS, app
from hwcli.cli.completion import complete_data, complete_experiment
from hwcli.cli.flags import COMMANDS, Text
from hwcli.cli.help import Command, Group
from hwcli.cli.options import (
    RESULTS,
    AsJson,
    ConfigFile,
    Out,
    out_option,
    path_option,
    preset_option,
)
from hwcli.errors import ConfigError, SourceError

data_app = typer.Typer(cls=Group, help="List the data sets the program can use, or get one.")
app.add_typer(data_app, name="data", rich_help_panel=TOOLS)


@data_app.callback(invoke_without_command=True)
def list_data(context: typer.Context, as_json: AsJson = False) -> None:
    """List data sets and weights: what they are, where hw2 looks for them, what is present."""
    if context.invoked_subcommand is None:
        from hwcli.data.cache import cache_folder
        from hwcli.data.catalogue import CATALOGUE
        from hwcli.output import terminal
        from hwcli.output.tables import Column, Table
        from hwcli.output.units import size

        rows = [entry.to_row() for entry in CATALOGUE.values()]
        if as_json:
            terminal.show_json(rows)
        else:
            columns = [
                Column("name", "name", priority=0),
                Column("num_bytes", "size", size, priority=2),
                Column(
                    "present",
                    "on this machine",
                    lambda places: "\n".join(places) or "nothing",
                    priority=0,
                ),
                Column("sources", "looked for in this order", "\n".join),
                Column("licence", "licence", priority=4),
                Column("description", "description", priority=3),
            ]
            notes = [f"The cache is {cache_folder()}; HW2_CACHE names another folder."]
            terminal.show(Table("Data sets and weights", columns, rows, notes))


@data_app.command(cls=Command)
def fetch(
    name: Annotated[str, typer.Argument(help="A data set, or all.", autocompletion=complete_data)],
) -> None:
    """Get a data set into the cache, and verify it."""
    from hwcli.data.catalogue import CATALOGUE, find
    from hwcli.output import terminal

    if name != "all":
        find(name, log=terminal.log)
        return
    num_failed = 0
    for each in CATALOGUE:
        try:
            find(each, log=terminal.log)
        except SourceError as error:
            num_failed += 1
            terminal.log(str(error))
    if num_failed:
        raise SourceError(
            f"{num_failed} of {len(CATALOGUE)} data sets could not be fetched; see above"
        )


@app.command(cls=Command, rich_help_panel=TOOLS)
def status(
    out: Out = RESULTS,
    trials: Annotated[
        bool, Option("--trials", help="One row per trial instead of per run.")
    ] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, Option("--csv", help="CSV instead of a table.")] = False,
) -> None:
    """Show the state of each run or trial, its accuracy, the time left and where it was trained."""
    from hwcli.output import terminal
    from hwcli.sweep import status

    if as_json and as_csv:
        raise ConfigError("give either --json or --csv, not both")
    if as_json or as_csv:
        records = status.read_trials(out) if trials else status.read_runs(out)
        if as_json:
            terminal.show_json(status.to_json(records))
        else:
            terminal.show_text(status.to_csv(records))
    else:
        terminal.show(status.trials_table(out) if trials else status.status_table(out))


@app.command(cls=Command, rich_help_panel=TOOLS)
def export(
    to: Annotated[str, Option("--to", metavar="KIND", help="tensorboard or trackio.")],
    out: Annotated[Path, out_option("Where runs are.")] = RESULTS,
    into: Annotated[
        Path | None,
        path_option(
            "--into", "DIR", "Folder to write to (default: export/KIND in the folder of --out)."
        ),
    ] = None,
) -> None:
    """Write the metrics of all trials and runs for another tool to show."""
    from hwcli.output import terminal
    from hwcli.sweep.export import export

    terminal.show_path(export(to, out, into or out / "export" / to))


@app.command(cls=Command, rich_help_panel=TOOLS)
def doctor(
    out: Annotated[Path, out_option("Where runs would be written.")] = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Report what hw2 will use on this machine, how fast the machine is, and what is wrong.

    The first time takes longer: kernels are compiled. Paste the output when you ask for help.
    """
    from hwcli import doctor as examination
    from hwcli.output import terminal

    findings = examination.examine(out)
    if as_json:
        terminal.show_json(examination.to_json(findings))
    else:
        terminal.show(examination.to_table(findings))


config_app = typer.Typer(
    cls=Group, help="Show the configs: every field explained, and the presets."
)
app.add_typer(config_app, name="config", rich_help_panel=TOOLS, no_args_is_help=True)

ExperimentName = Annotated[
    Text,
    typer.Argument(
        metavar="[COMMAND]",
        help="An experiment, such as vit-sweep; all of them if none is given.",
        autocompletion=complete_experiment,
    ),
]


def _chosen_commands(command: str | None) -> list[str]:
    if command is not None and command not in COMMANDS:
        raise ConfigError(f"command = {command!r}: unknown; choices: {', '.join(COMMANDS)}")
    return list(COMMANDS) if command is None else [command]


@config_app.command(cls=Command)
def show(
    command: ExperimentName = None,
    preset: Annotated[Text, preset_option("Preset to show.")] = None,
    config: ConfigFile = None,
) -> None:
    """Print a config as YAML, each field with its description: a file to copy."""
    from hwcli.config import resolve
    from hwcli.schema import annotate, read_schema

    for name in _chosen_commands(command):
        values = resolve(name, path=config, preset=preset)
        used = values.pop("name", "default")
        typer.echo(
            f"# hw2 {name}, as in {used}. Save all of it, change what you want, and start it by:\n"
            f"#   hw2 {name} --config FILE\n"
            + annotate({**values, "name": "mine"}, read_schema(name))
        )


@config_app.command(cls=Command)
def presets(command: ExperimentName = None) -> None:
    """List the presets of the experiments and what they are for."""
    from hwcli.config import default_config_path, read_file
    from hwcli.output import terminal
    from hwcli.output.tables import Column, Table

    rows = []
    for name in _chosen_commands(command):
        file = read_file(default_config_path(name))
        rows += [
            {
                "command": name,
                "preset": preset + (" *" if preset == file.preset else ""),
                "about": file.about[preset],
            }
            for preset in file.presets
        ]
    columns = [Column("command", "command"), Column("preset", "preset"), Column("about", "for")]
    terminal.show(Table("Presets", columns, rows, ["* used if no preset is given"]))


@config_app.command(cls=Command, hidden=True)
def schema(command: str) -> None:
    """Print the JSON schema of an experiment's YAML, made from its config model."""
    import json

    from hwcli.schema import make_schema

    module = importlib.import_module(f"hwcli.experiments.{command.replace('-', '_')}")
    typer.echo(json.dumps(make_schema(module.Config), indent=2))

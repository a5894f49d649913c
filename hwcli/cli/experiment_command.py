"""From typed options to a run: an experiment's flags become its config, which it then runs."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer import Option

from hwcli.cli.app import EXPERIMENTS, app
from hwcli.cli.completion import complete_field
from hwcli.cli.flags import COMMANDS, Flag, Flags
from hwcli.cli.help import ExperimentCommand
from hwcli.cli.options import COMMON


def experiment(*examples: str) -> Callable[[Callable[..., Flags | None]], None]:
    """Make an experiment's command of a function whose parameters are its flags.

    Each parameter names its config field by a :class:`Flag`; parameters without one are the
    function's own business, which may return more dotted keys with values. The options that
    every experiment has are added here; a parameter of such a name gets its value. The experiment
    itself is imported only when its command runs.

    Args:
        examples: command lines that end the help.
    """

    def register(function: Callable[..., Flags | None]) -> None:
        module = function.__name__
        name = module.replace("_", "-")
        asked = inspect.signature(function, eval_str=True).parameters
        own = [parameter for key, parameter in asked.items() if key not in COMMON]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in COMMON.items()
        ]
        flags = COMMANDS[name] = {
            parameter.name: flag
            for parameter in (*own, *shared)
            for flag in get_args(parameter.annotation)
            if isinstance(flag, Flag)
        }

        def command(**values: Any) -> None:
            common = {key: values[key] for key in COMMON if key not in flags}
            set_here = {flag.key: values[parameter] for parameter, flag in flags.items()}
            explicit = {key: value for key, value in set_here.items() if value is not None}
            more = function(**{key: values[key] for key in asked}) or {}
            run(module, {**more, **explicit}, **common)

        parameters = [_with_option(name, parameter, flags) for parameter in (*own, *shared)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(
            name,
            help=f"{inspect.getdoc(function)} [dim](configs/{module}.yaml)[/dim]",
            epilog="\n\n".join(["Examples:", *(f"  {example}" for example in examples)]),
            rich_help_panel=EXPERIMENTS,
            cls=ExperimentCommand,
        )(command)

    return register


def _with_option(
    command: str, parameter: inspect.Parameter, flags: dict[str, Flag]
) -> inspect.Parameter:
    """Put Typer's option in the place of a parameter's flag."""
    flag = flags.get(parameter.name)
    if flag is None:
        return parameter
    name = flag.name or "--" + parameter.name.replace("_", "-")
    complete = complete_field(command, flag.key)
    option = Option(name, metavar=flag.metavar, help=flag.key, autocompletion=complete)
    kind = get_args(parameter.annotation)[0]
    assert get_origin(parameter.annotation) is Annotated
    return parameter.replace(annotation=Annotated[kind, option])


def run(
    module: str,
    flags: Flags,
    *,
    config: Path | None,
    preset: str | None,
    settings: list[str] | None,
    out: Path,
    replace: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Build the config, hand it to the experiment, and finish its run folder."""
    from hwcli.config import load
    from hwcli.output import terminal
    from hwcli.output.run_folder import RunFolder

    if quiet:
        terminal.silence()
    chosen = importlib.import_module(f"hwcli.experiments.{module}")
    resolved = load(
        chosen.Config,
        chosen.COMMAND,
        path=config,
        preset=preset,
        flags=flags,
        overrides=settings or (),
    )
    try:
        with RunFolder(out, chosen.COMMAND, resolved.name, terminal.log, replace=replace) as folder:
            if dry_run:
                planned = chosen.plan(resolved, folder)
                terminal.show(planned.shown)
                terminal.log(planned.needs())
                forecast = folder.forecast(resolved)
                if planned.refused:
                    forecast = f"The run would be refused: {planned.refused}."
                terminal.log(forecast)
                return
            # Nothing is shown before it is kept: whoever reads the output may leave early.
            with terminal.held_back():
                summary = chosen.run(resolved, folder)
                if summary is None:
                    return
                path = folder.finish(summary)
            terminal.show_path(path)
    except KeyboardInterrupt:
        if stopped := getattr(chosen, "WHEN_STOPPED", None):
            terminal.log(stopped)
        raise
    if summary.exit_code != 0:
        raise typer.Exit(1)

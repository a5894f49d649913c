"""Commands and their help: an experiment's comes from its YAML and its schema, when asked for."""

import re
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hwcli.cli.flags import COMMANDS, Flag, fields
from hwcli.signals import exit_code_of


def _without_type(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""  # where the help would say <bool>
    return params


# Of all other options an empty value is a slip, such as a shell's variable that is not set.
MAY_BE_EMPTY = {"--acknowledge", "--author", "--text", "--title"}


class Command(TyperCommand):
    """A command that refuses empty values, and whose help shows no type for its switches."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        options = {
            name
            for param in self.get_params(ctx)
            for name in param.opts
            if param.param_type_name == "option" and not param.is_flag
        }
        for name in sorted(options - MAY_BE_EMPTY):
            if (name, "") in pairwise(args) or f"{name}=" in args:
                ctx.fail(f"{name} needs a value, and got an empty one")
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_type(super().get_params(ctx))


class Group(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_type(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a signal that stops it decides the exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            # Typer itself takes every signal for Ctrl-C.
            raise typer.Exit(exit_code_of(error)) from None


class ExperimentCommand(Command):
    """An experiment's command, whose flags are explained by its config."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Put descriptions, defaults and the names of the presets into the help, and write it."""
        from rich.markup import escape

        from hwcli.config import default_config_path, read_file, resolve

        command = self.name or ""
        file, values = read_file(default_config_path(command)), resolve(command)
        for param in self.params:
            flag = COMMANDS[command].get(param.name or "")
            if param.name == "preset":
                last = f" (default: {file.preset})" if file.preset else ""
                text = f"Preset to use: {', '.join(file.presets)}{last}."
            elif flag is not None:
                text = _explain(flag, fields(command).get(flag.key, {}), values)
            else:
                continue
            param.help = escape(text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def _explain(flag: Flag, field: dict[str, Any], values: Any) -> str:
    """Return a field's description with its default, where that says something.

    What null means is for who writes the YAML: of a flag it is what happens without it.
    """
    text = str(field.get("description", ""))
    default = values
    for key in flag.key.split("."):
        default = default.get(key, field.get("default")) if default else None
    if default is None:
        return re.sub(r"; null: (.+)\.$", r". Default: \1.", text)
    if isinstance(default, bool):
        # "false" says nothing about a switch without an opposite.
        words = (flag.name or "").split("/")
        default = words[not default] if len(words) == 2 else None
    return text if default is None or flag.key == "name" else f"{text} Default: {default}."

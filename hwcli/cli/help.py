"""Help texts: an experiment's come from its YAML and its schema, read when help is asked for."""

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

from hwcli.cli.flags import COMMANDS, Flag, fields


def _without_type(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""  # where the help would say <bool>
    return params


class Command(TyperCommand):
    """A command whose help shows no type for its switches."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_type(super().get_params(ctx))


class Group(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_type(super().get_params(ctx))


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

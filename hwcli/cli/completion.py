"""What the shell offers when the user presses Tab."""

from collections.abc import Callable
from pathlib import Path

import typer

from hwcli.cli.flags import COMMANDS, fields


def complete_field(command: str, key: str) -> Callable[[str], list[str]]:
    """Return a function that offers the values of a command's config field."""

    def complete(incomplete: str) -> list[str]:
        from hwcli.schema import choices

        words = ["auto", "cpu", "cuda", "mps"] if key == "device" else []
        if key == "compare_with":
            words = [path.parent.name for path in Path("results").glob(f"{command}/*/summary.json")]
        words = words or choices(fields(command).get(key, {}))
        return [word for word in words if str(word).startswith(incomplete)]

    return complete


def complete_preset(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the presets of a command."""
    from hwcli.config import default_config_path, read_file

    # Of a command line that is not whole yet, arguments are in ``args``.
    words = (context.info_name, context.params.get("command"), *context.args)
    command = next((word for word in words if word in COMMANDS), None)
    presets = read_file(default_config_path(command)).presets if command else ()
    return [name for name in presets if name.startswith(incomplete)]


def complete_setting(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the dotted keys of a command's config."""
    keys = fields(context.info_name or "")
    return [f"{key}=" for key in keys if key.startswith(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """Offer the data sets."""
    from hwcli.data.catalogue import CATALOGUE

    return [name for name in ["all", *CATALOGUE] if name.startswith(incomplete)]


def complete_experiment(incomplete: str) -> list[str]:
    """Offer the experiments."""
    return [name for name in COMMANDS if name.startswith(incomplete)]

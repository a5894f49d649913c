"""The command line: flags to dotted config keys, errors to exit codes, and nothing else.

Importing it loads neither torch nor an experiment, so that help and completion answer at once.
Exit codes: 0 done, 1 finished with failed trials, 2 the user's mistake (one line), 129 hang-up,
130 Ctrl-C, 143 SIGTERM.
"""

import sys
from typing import Any

import typer

# The order of these imports is the order of the commands in the help.
from hwcli.cli import experiments, hand_in, tools  # noqa: F401
from hwcli.cli.app import app
from hwcli.cli.flags import COMMANDS
from hwcli.errors import NO_ROOM, ConfigError, HwError, is_out_of_gpu_memory

__all__ = ["COMMANDS", "app", "main"]

# What Typer raises where an option, an argument or a command is none; it has no name of its own.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
REPORT_PACKAGES = ("nbformat", "nbclient", "jupyter_client", "IPython")


def main() -> None:
    """Run the program."""
    from hwcli import signals
    from hwcli.output import terminal

    terminal.open_closed_streams()
    signals.stop_on_signals()
    signals.stop_with_parent()
    try:
        if any(_is_garbled(argument) for argument in sys.argv):
            raise ConfigError("an argument is not valid UTF-8")
        sys.exit(app(standalone_mode=False) or 0)
    except UsageError as error:
        sys.exit(_show_usage_error(error))
    except KeyboardInterrupt as error:
        sys.exit(signals.exit_code_of(error))
    except HwError as error:
        terminal.show_error(error)
        sys.exit(2)
    except OSError as error:
        # A folder that may not even be searched, or a full disk, wherever that is noticed.
        if error.errno not in NO_ROOM and not isinstance(error, PermissionError):
            raise
        terminal.show_error(HwError(f"{error.filename or 'a file'}: {error.strerror}"))
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in REPORT_PACKAGES:
            raise
        need = f"this needs the package {error.name}; in the checkout: pip install -e '.[report]'"
        terminal.show_error(HwError(need))
        sys.exit(2)
    except (MemoryError, ImportError) as error:
        # What the loader says of a library that does not fit.
        if isinstance(error, ImportError) and "failed to map" not in str(error):
            raise
        why = "out of memory: end other programs, or raise this process's limit (ulimit -v)"
        terminal.show_error(HwError(f"{why}; what is finished is kept"))
        sys.exit(2)
    except RuntimeError as error:
        if not is_out_of_gpu_memory(error):
            raise
        why = (
            "the GPU is out of memory: take smaller batches or shorter texts where the command has "
            "such a setting, end other programs on it, or use --device cpu"
        )
        terminal.show_error(HwError(f"{why}; what is finished is kept"))
        sys.exit(2)
    finally:
        terminal.close()


def _show_usage_error(error: Any) -> int:
    """Say in one line what is wrong with a command line, and return the exit code."""
    from hwcli.output import terminal

    if type(error).__name__ != "NoArgsIsHelpError":  # which has shown the help
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        terminal.show_error(ConfigError(error.format_message().rstrip(".") + where))
    return int(error.exit_code)


def _is_garbled(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False

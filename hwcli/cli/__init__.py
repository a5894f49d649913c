"""The command line: flags to dotted config keys, errors to exit codes, and nothing else.

Importing it loads neither torch nor an experiment, so that help and completion answer at once.
Exit codes: 0 done, 1 finished with failed trials, 2 the user's mistake (one line), 129 hang-up,
130 Ctrl-C, 143 SIGTERM.
"""

import sys

# The order of these imports is the order of the commands in the help.
from hwcli.cli import experiments, hand_in, tools  # noqa: F401
from hwcli.cli.app import app
from hwcli.cli.flags import COMMANDS
from hwcli.errors import ConfigError, HwError

__all__ = ["COMMANDS", "app", "main"]

REPORT_PACKAGES = ("nbformat", "nbclient", "jupyter_client", "IPython")


def main() -> None:
    """Run the program."""
    from hwcli import runtime
    from hwcli.output import terminal

    terminal.open_closed_streams()
    runtime.stop_on_signals()
    try:
        if any(_is_garbled(argument) for argument in sys.argv):
            raise ConfigError("an argument is not valid UTF-8")
        app()
    except KeyboardInterrupt as error:
        sys.exit(getattr(error, "exit_code", 130))
    except HwError as error:
        terminal.show_error(error)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in REPORT_PACKAGES:
            raise
        need = f"this needs the package {error.name}; in the checkout: pip install -e '.[report]'"
        terminal.show_error(HwError(need))
        sys.exit(2)
    finally:
        terminal.close()


def _is_garbled(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False

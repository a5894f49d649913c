"""What a run shows: results on standard output, progress and errors on standard error."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from hwcli.output.tables import Table

output = Console(highlight=False)
progress = Console(stderr=True, highlight=False)

# Where nobody watches, a table keeps its columns instead of folding them at 80 characters.
UNWATCHED_WIDTH = 160
for console in (output, progress):
    if not console.is_terminal:
        console.width = UNWATCHED_WIDTH


def log(line: str) -> None:
    """Print one line of progress; ``--quiet`` silences it."""
    progress.print(line, markup=False, soft_wrap=True)


def show(result: Table | str) -> None:
    """Print a part of the result."""
    output.print(result.to_rich() if isinstance(result, Table) else result, markup=False)


def show_json(value: Any) -> None:
    """Print a result as JSON, for scripts."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_path(path: Path) -> None:
    """Print a path as a whole line, however long it is."""
    sys.stdout.write(f"{path}\n")


def silence() -> None:
    """Show nothing but results from here on."""
    progress.quiet = True

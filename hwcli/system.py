"""What the operating system answers about itself; empty where it does not."""

import subprocess
from contextlib import suppress
from pathlib import Path


def output_of(*command: str) -> str:
    """Return what a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def text_of(path: str) -> str:
    """Return the content of a file, such as those under ``/proc``."""
    with suppress(OSError):
        return Path(path).read_text()
    return ""

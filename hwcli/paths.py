"""Paths as users name them."""

from pathlib import Path


def named_path(name: str | Path) -> Path:
    """Return the path that a user names, with a leading ``~`` as the home folder.

    A shell expands ``~`` only where a word begins with it: not in ``--data=~/reviews``, and not
    in a YAML file.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user: whoever looks for the path says that it is not there
        return Path(name)

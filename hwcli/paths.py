"""Paths as users name them, and what is there of them."""

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


def nearest_folder(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())

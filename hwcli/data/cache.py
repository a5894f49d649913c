"""Where things are kept on this machine, and how a place that was found is described."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwcli.errors import SourceError
from hwcli.paths import named_path

Log = Callable[[str], None]
"""Takes one line that says which source is used."""


@dataclass(frozen=True)
class Found:
    """A data set or an encoder that is on this machine.

    Attributes:
        path: the folder that holds it, or its single file.
        name: what tables and configs call it; never a path of a machine.
        origin: in words, where it was found.
        holds: which part of the data set the source holds; empty where it holds all of it.
        digest: of the content, where every file is known by its digest; otherwise empty.
        files: by name, where every file is known by its digest.
    """

    path: Path
    name: str
    origin: str
    holds: str = ""
    digest: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)


def cache_folder() -> Path:
    """Return the folder for fetched and computed files: ``HW2_CACHE``, or the user's cache.

    Raises:
        SourceError: the user has no home folder.
    """
    named = os.environ.get("HW2_CACHE")
    if named:
        return named_path(named)
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "hw2"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hw2"
    except RuntimeError:
        raise SourceError("there is no home folder for a cache; name one by HW2_CACHE") from None


def data_folder(name: str) -> Path | None:
    """Return the folder that ``HW2_DATA`` gives for a data set, if the variable is set.

    It may hold a folder for each data set, or be the data set's folder itself.
    """
    named = os.environ.get("HW2_DATA")
    if not named:
        return None
    whole = named_path(named)
    folder = whole / name
    return folder if folder.is_dir() else whole

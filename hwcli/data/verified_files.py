"""Files that are known by the digest of their content, wherever a copy of them comes from.

A copy is looked for in a folder of the user's, ``HW2_DATA``, the cache, the mirrors, and last in
Debian's package. What comes from a mirror or the package is put into the cache: written to a
temporary name, verified, then renamed. A damaged file is never read. A source that is silent is
given up within seconds; a slow one is not, and what it has sent is kept for the next attempt.
"""

import gzip
import hashlib
import http
import http.client
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from hwcli.data.cache import Found, Log, cache_folder, data_folder
from hwcli.errors import SourceError, reason_of
from hwcli.paths import named_path

# How long a server may send nothing.
SILENCE_S = 10.0
SECONDS_BETWEEN_LINES = 5.0
# A server that is slower than this from a minute on is given up for the next one.
LEAST_BYTES_PER_S, SLOW_AFTER_S = 1000, 60.0
# A package manager that waits for a lock or a dead mirror would wait for minutes.
PACKAGE_S = 120.0
# A compressed file may be longer than its content, by a header and little more.
SLACK_BYTES = 1024


@dataclass(frozen=True)
class DataFile:
    """One file: its name, and size and SHA-256 of what it decompresses to.

    Only the content counts: distributors compress the same bytes in different ways.
    """

    name: str
    num_bytes: int
    sha256: str

    def damage(self, path: Path) -> str | None:
        """Say what is wrong with a copy (``missing`` or ``damaged``), or return None."""
        try:
            with gzip.open(path) as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except FileNotFoundError:
            return "missing"
        except (OSError, EOFError, zlib.error):
            return "damaged"
        return None if digest == self.sha256 else "damaged"


@dataclass(frozen=True)
class VerifiedFiles:
    """The files of a data set, and who distributes them.

    Attributes:
        files: all of them.
        mirrors: folders on web servers, each ending with a slash.
        debian_package: installs the files under ``/usr/share/datasets/<name>``.
        layout: where another program keeps the same files below a folder of the user's.
    """

    files: tuple[DataFile, ...]
    mirrors: tuple[str, ...]
    debian_package: str
    layout: str = "."

    @property
    def digest(self) -> str:
        """Digest of the content, wherever it came from."""
        whole = "".join(file.sha256 for file in self.files)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    @property
    def names(self) -> tuple[str, ...]:
        """Names by which a user may choose one of the sources: none, all give the same bytes."""
        return ()

    def sources(self, name: str) -> list[str]:
        """Return in words where the files are looked for after the path and ``HW2_DATA``."""
        return [
            f"cache ({cache_folder() / name})",
            *(urlsplit(mirror).netloc for mirror in self.mirrors),
            f"the Debian package {self.debian_package}",
        ]

    def present(self, name: str) -> list[str]:
        """Return what is on this machine, told by file names: files are verified when used."""
        number = sum((cache_folder() / name / file.name).exists() for file in self.files)
        return [f"{number} of {len(self.files)} files in the cache"] if number else []

    def find(self, name: str, given: str | Path | None, log: Log) -> Found:
        """Find the files, or fetch them into the cache, and verify each one.

        Args:
            name: of the data set.
            given: a folder of the user's; then no other place is looked at.
            log: is told when a damaged file is fetched again, and how far a download is.

        Raises:
            SourceError: a file of the user's is missing or damaged, or no source has the data.
        """
        if given is not None:
            return self._in_folder(name, named_path(given), "the path given")
        named = data_folder(name)
        if named is not None:
            # A folder for other data sets alone is passed over.
            has_some = any(self._place(named, file).exists() for file in self.files)
            if has_some or not named.is_dir():
                return self._in_folder(name, named, "HW2_DATA")
            log(f"{name}: HW2_DATA has none of it")
        folder = cache_folder() / name
        if all(file.damage(folder / file.name) is None for file in self.files):
            return self._found(name, folder, "cache")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Whoever comes second finds the files there.
            lock = FileLock(folder / ".lock", fallback_to_soft=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log(f"{name}: another process is fetching it; waiting")
                lock.acquire()
            try:
                return self._found(name, folder, self._fill(name, folder, log))
            finally:
                lock.release()
        except (OSError, NotImplementedError) as error:
            raise SourceError(f"{folder}: cannot write to the cache ({reason_of(error)})") from None

    def _found(self, name: str, folder: Path, what: str) -> Found:
        files = {file.name: folder / file.name for file in self.files}
        return Found(folder, name, f"{folder} ({what})", digest=self.digest, files=files)

    def _place(self, folder: Path, file: DataFile) -> Path:
        """Return where a folder of the user's has a file: as torchvision lays it out, or plain."""
        laid = folder / self.layout / file.name
        return laid if laid.exists() else folder / file.name

    def _in_folder(self, name: str, folder: Path, what: str) -> Found:
        folder = self._place(folder, self.files[0]).parent
        for file in self.files:
            damage = file.damage(folder / file.name)
            if damage:
                raise SourceError(f"{folder / file.name} is {damage} ({what})")
        return self._found(name, folder, what)

    def _fill(self, name: str, folder: Path, log: Log) -> str:
        """Fetch what the cache lacks from the first source that has it; return its name.

        Raises:
            SourceError: no source has it; the line names them all.
        """
        lacking = []
        for file in self.files:
            damage = file.damage(folder / file.name)
            if damage == "damaged":
                log(f"{name}: {folder / file.name} is damaged; fetching it again")
                (folder / file.name).unlink()
            if damage:
                lacking.append(file)
        if not lacking:
            return "cache"
        tried = []
        sources: list[tuple[str, Callable[[], None]]] = [
            *(
                (urlsplit(m).netloc, lambda m=m: _download(m, lacking, folder, log))
                for m in self.mirrors
            ),
            (
                f"the installed package {self.debian_package}",
                lambda: _copy(Path("/usr/share/datasets") / name, lacking, folder),
            ),
            (
                f"apt-get download {self.debian_package}",
                lambda: _unpack_debian(self.debian_package, name, lacking, folder),
            ),
        ]
        for origin, fetch in sources:
            try:
                fetch()
            except SourceError as error:
                tried.append(f"{origin}: {error}")
            else:
                return f"from {origin}"
        names = ", ".join(file.name for file in self.files)
        raise SourceError(
            f"not found; tried {'; '.join(tried)}. "
            f"Put {names} into {folder}, or set HW2_DATA to a folder that has them"
        )


def _part(file: DataFile, folder: Path) -> Path:
    """Return where a file is until it is whole and verified; it outlives a stopped process."""
    return folder / f".{file.name}.part"


def _accept(file: DataFile, folder: Path) -> None:
    """Give a file its name in the cache once it is verified, and delete it otherwise.

    Raises:
        SourceError: it is not the file that was asked for.
    """
    part = _part(file, folder)
    if file.damage(part):
        num_bytes = part.stat().st_size
        part.unlink()
        raise SourceError(f"{file.name} came truncated or altered ({num_bytes:,} bytes)")
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(folder / file.name)


def _download(mirror: str, files: Sequence[DataFile], folder: Path, log: Log) -> None:
    """Download files, each from where an earlier attempt was stopped.

    Raises:
        SourceError: in a few words, why not.
    """
    for file in files:
        part = _part(file, folder)
        is_rest = part.exists()
        if file.damage(part):
            _receive(mirror + file.name, file, part, log)
        if is_rest and file.damage(part):
            # Another server had compressed the first part in another way.
            part.unlink()
            _receive(mirror + file.name, file, part, log)
        _accept(file, folder)


def _receive(url: str, file: DataFile, part: Path, log: Log) -> None:
    """Receive a file, and connect again as long as each attempt gets further than all before.

    Raises:
        SourceError: in a few words, why not; what was received is kept.
    """
    furthest = _size(part)
    while True:
        try:
            _receive_rest(url, file, part, log)
            return
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not furthest:
                raise SourceError(f"{file.name}: answered {error.code}") from None
            part.unlink()  # it is longer than the file
            furthest = 0
        except ConnectionError as error:
            reached = _size(part)
            if not reached:
                part.unlink(missing_ok=True)
                raise SourceError(f"not reachable ({error})") from None
            if reached <= furthest:
                raise SourceError(
                    f"{file.name} stopped after {reached:,} bytes ({error}); the next attempt "
                    "goes on from there"
                ) from None
            furthest = reached


def _receive_rest(url: str, file: DataFile, part: Path, log: Log) -> None:
    """Add to a partial file what it lacks; a server that knows no ranges sends all of it again.

    Raises:
        ConnectionError: the server is not reachable, the connection broke, or nothing came for
            too long.
        urllib.error.HTTPError: the server refused.
        SourceError: the file is too long.
    """
    done = _size(part)
    asked = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    shown = time.monotonic()
    with _on_the_network():
        answer = urllib.request.urlopen(asked, timeout=SILENCE_S)
    with answer, part.open("ab") as kept:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0
        began, received = time.monotonic(), 0
        kept.truncate(done)
        announced = answer.headers["Content-Length"]
        whole = done + int(announced) if announced else None
        while True:
            with _on_the_network():
                block = answer.read1(1 << 16)
            if not block:
                break
            done += len(block)
            received += len(block)
            passed = time.monotonic() - began
            if passed > SLOW_AFTER_S and received < LEAST_BYTES_PER_S * passed:
                kept.write(block)
                raise SourceError(
                    f"{file.name} comes at {received / passed:,.0f} bytes a second; the next "
                    "attempt goes on from there"
                )
            if done > file.num_bytes + SLACK_BYTES:
                part.unlink()
                raise SourceError(f"{file.name} is longer than it should be")
            kept.write(block)
            if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
                shown = time.monotonic()
                of = f" of {whole / 1e6:.1f}" if whole else ""
                log(f"{file.name}: {done / 1e6:.1f}{of} MB")
    if whole is not None and done < whole:
        raise ConnectionError("the connection broke")


@contextmanager
def _on_the_network() -> Iterator[None]:
    """Make every failure but a server's refusal a ConnectionError: a full disk is another thing."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise ConnectionError(reason) from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _copy(source: Path, files: Sequence[DataFile], folder: Path) -> None:
    for file in files:
        try:
            content = (source / file.name).open("rb")
        except OSError:
            raise SourceError("not installed") from None
        with content, _part(file, folder).open("wb") as kept:
            shutil.copyfileobj(content, kept)
        _accept(file, folder)


def _unpack_debian(package: str, name: str, files: Sequence[DataFile], folder: Path) -> None:
    """Let apt download the package, and unpack it without installing it: root is not needed.

    Raises:
        SourceError: this is not a Debian system, or its archive cannot be reached.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SourceError("not a Debian system")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        work = Path(temporary)
        state = []
        if not _apt(work, [], package):
            # The lists of packages may never have been fetched: fetch them to a folder of ours.
            (work / "lists" / "partial").mkdir(parents=True)
            state = ["-o", f"Dir::State::Lists={work / 'lists'}"]
            if not (_apt(work, state, None) and _apt(work, state, package)):
                raise SourceError("the package archive does not answer, or lacks the package")
        (archive,) = work.glob("*.deb")
        done = subprocess.run(
            ["dpkg-deb", "--extract", str(archive), str(work / "root")],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SourceError("the package cannot be unpacked")
        _copy(work / "root" / "usr/share/datasets" / name, files, folder)


def _apt(work: Path, state: list[str], package: str | None) -> bool:
    """Download a package into a folder, or with None the lists of packages."""
    what = ["update"] if package is None else ["download", package]
    limits = ["-o", f"Acquire::http::Timeout={SILENCE_S:.0f}", "-o", "Acquire::Retries=0"]
    try:
        done = subprocess.run(
            ["apt-get", "--quiet", *limits, *state, "-o", f"Dir::Cache={work}", *what],
            cwd=work,
            capture_output=True,
            timeout=PACKAGE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and (package is None or any(work.glob("*.deb")))

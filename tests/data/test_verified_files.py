import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from hwcli.data import catalogue, verified_files
from hwcli.data.cache import Found, cache_folder
from hwcli.data.catalogue import Entry, find
from hwcli.data.verified_files import DataFile, VerifiedFiles
from hwcli.errors import SourceError
from hwcli.vision import fashion_mnist

CONTENTS = {"a.gz": b"seven b", "b.gz": b"eleven byte"}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Entry:
    """A data set of two files that only the test can give."""
    monkeypatch.setattr(verified_files.shutil, "which", lambda name: None)  # not a Debian system
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HW2_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")  # a proxy does not know the test's server
    return entry()


def entry(*mirrors: str, name: str = "tiny") -> Entry:
    files = tuple(DataFile(n, len(c), digest(c)) for n, c in CONTENTS.items())
    source = VerifiedFiles(files, mirrors, "no-such-package", layout="FashionMNIST/raw")
    return Entry(name, "two files", "none", 18, "--data", source)


def is_kept(found: Found, name: str) -> bool:
    return gzip.decompress(found.files[name].read_bytes()) == CONTENTS[name]


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(gzip.compress(content))
    return folder


class Server(ThreadingHTTPServer):
    """Serves CONTENTS, in the way it is told to."""

    manner = "well"
    asked: list[str]
    heard: threading.Event
    # Of each answer the first byte that was sent; an answer breaks off after so many bytes.
    begun: list[int]
    breaks_after: int | None = None
    knows_ranges = True

    @property
    def tiny(self) -> Entry:
        return entry(f"http://127.0.0.1:{self.server_address[1]}/")


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.server.asked.append(name)
        content = PACKED[name]
        if self.server.manner == "altered" and name == "b.gz":
            content = gzip.compress(b"another thing")
        if self.server.manner == "missing":
            self.send_error(404)
            return
        if self.server.manner == "endless":
            content = bytes(10**6)
        begin = 0
        if self.server.knows_ranges and "Range" in self.headers:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.server.begun.append(begin)
        self.send_response(206 if begin else 200)
        rest = content[begin:]
        if self.server.manner != "truncated":
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.server.manner == "truncated":
            rest = rest[:-9]
        if self.server.manner == "silent":
            self.server.heard.wait()
            return
        pieces = [rest[: self.server.breaks_after]]
        trickles = self.server.manner == "trickling" and name == "a.gz"
        if trickles:
            pieces = [rest[at : at + 1] for at in range(len(rest))]
        for piece in pieces:
            try:
                self.wfile.write(piece)
            except OSError:
                return
            if trickles:
                time.sleep(0.05)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tiny: Entry) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.asked, made.begun, made.heard = [], [], threading.Event()
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.heard.set()
        made.shutdown()


def test_a_mirror_fills_the_cache_and_is_not_asked_again(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    found = find(server.tiny, log=said.append)
    assert found.path == tmp_path / "cache" / "tiny"
    assert is_kept(found, "b.gz")
    assert "127.0.0.1" in said[-1]
    again = find(server.tiny, log=said.append)
    assert server.asked == ["a.gz", "b.gz"]
    assert again.digest == found.digest
    assert said[-1].endswith("(cache)")


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("truncated", "a.gz came truncated or altered"),
        ("altered", "b.gz came truncated or altered"),
        ("missing", "a.gz: answered 404"),
        ("silent", "not reachable (timed out)"),
        ("endless", "a.gz is longer than it should be"),
    ],
)
def test_what_a_bad_server_sends_is_never_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, manner: str, reason: str
) -> None:
    server.manner = manner
    if manner == "silent":
        monkeypatch.setattr(verified_files, "SILENCE_S", 0.3)
    with pytest.raises(SourceError) as caught:
        find(server.tiny)
    assert reason in str(caught.value)
    assert "Put a.gz, b.gz into" in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = {path.name for path in (tmp_path / "cache" / "tiny").iterdir()}
    assert kept <= {".lock", "a.gz"}


def test_a_slow_server_may_take_longer_than_a_silent_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.manner = "trickling"
    monkeypatch.setattr(verified_files, "SILENCE_S", 1.0)
    started = time.monotonic()
    assert is_kept(find(server.tiny), "a.gz")
    assert time.monotonic() - started > 1.0


def test_a_server_that_is_far_too_slow_is_given_up_and_its_bytes_are_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.manner = "trickling"  # 20 bytes a second
    monkeypatch.setattr(verified_files, "SLOW_AFTER_S", 0.1)
    with pytest.raises(SourceError, match=r"a.gz comes at .* bytes a second; the next attempt"):
        find(server.tiny)
    (part,) = (tmp_path / "cache" / "tiny").glob(".*.part")
    assert 0 < part.stat().st_size < len(PACKED["a.gz"])
    server.manner = ""
    assert is_kept(find(server.tiny), "a.gz")
    assert server.begun[1] > 0  # it went on from there


def test_who_comes_second_is_told_and_waits(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "tiny"
    folder.mkdir(parents=True)
    first, said = FileLock(folder / ".lock"), list[str]()
    first.acquire()

    def log(line: str) -> None:
        said.append(line)
        first.release()

    assert is_kept(find(server.tiny, log=log), "b.gz")
    assert said[0] == "tiny: another process is fetching it; waiting"


def test_a_broken_download_goes_on_where_it_stopped_and_shows_how_far_it_is(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_files, "SECONDS_BETWEEN_LINES", 0.0)
    server.breaks_after = 10
    said: list[str] = []
    found = find(server.tiny, log=said.append)
    assert [is_kept(found, name) for name in CONTENTS] == [True, True]
    assert server.begun == [at for file in PACKED.values() for at in range(0, len(file), 10)]
    assert said[:2] == ["a.gz: 0.0 of 0.0 MB"] * 2


def test_a_server_without_ranges_is_asked_again_only_while_it_gets_further(
    server: Server, tmp_path: Path
) -> None:
    server.knows_ranges, server.breaks_after = False, 10
    with pytest.raises(SourceError, match=r"a\.gz stopped after 10 bytes \(the connection broke\)"):
        find(server.tiny)
    assert server.begun == [0, 0]
    assert (tmp_path / "cache" / "tiny" / ".a.gz.part").read_bytes() == PACKED["a.gz"][:10]
    server.breaks_after = None
    assert is_kept(find(server.tiny), "a.gz")


@pytest.mark.parametrize(
    ("part", "begun"),
    [
        (PACKED["a.gz"][:12], [12, 0]),
        (PACKED["a.gz"], [0]),  # whole, and not yet renamed: not asked for again
        (b"another's", [9, 0, 0]),
        (bytes(99), [0, 0]),  # longer than the file
    ],
)
def test_what_a_stopped_process_left_is_gone_on_with_or_replaced(
    server: Server, part: bytes, begun: list[int]
) -> None:
    folder = cache_folder() / "tiny"
    folder.mkdir(parents=True)
    (folder / ".a.gz.part").write_bytes(part)
    found = find(server.tiny)
    assert is_kept(found, "a.gz")
    assert server.begun == begun  # the last one is b.gz
    assert {path.name for path in folder.iterdir()} == {".lock", "a.gz", "b.gz"}


def test_a_disk_that_cannot_be_written_is_not_taken_for_the_network(server: Server) -> None:
    folder = cache_folder() / "tiny"
    (folder / ".a.gz.part").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"cannot write to the cache \(Is a directory\)"):
        find(server.tiny)


def test_an_unreachable_mirror_is_given_up_at_once(
    tiny: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def looked_up(host: str, *more: Any, **named: Any) -> Any:
        # A machine without a network may take its time to say so.
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    unreachable = entry("http://127.0.0.1:9/", "http://no-such-host.invalid/")
    started = time.monotonic()
    with pytest.raises(
        SourceError, match=r"tiny: not found; tried 127\.0\.0\.1:9: not reachable .*; no-such-host"
    ):
        find(unreachable)
    assert time.monotonic() - started < verified_files.SILENCE_S / 2


def test_a_damaged_file_in_the_cache_is_named_and_replaced(server: Server, tmp_path: Path) -> None:
    folder = fill(tmp_path / "cache" / "tiny")
    (folder / "b.gz").write_bytes(gzip.compress(b"altered"))
    said: list[str] = []
    found = find(server.tiny, log=said.append)
    assert server.asked == ["b.gz"]
    assert "b.gz is damaged; fetching it again" in said[0]
    assert is_kept(found, "b.gz")


@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"])
def test_an_explicit_path_comes_first_and_a_damaged_file_there_is_refused(
    tiny: Entry, tmp_path: Path, layout: str
) -> None:
    folder = fill(tmp_path / "mine" / layout)
    assert find(tiny, tmp_path / "mine").path == folder
    (folder / "a.gz").write_bytes((folder / "a.gz").read_bytes()[:-5])
    with pytest.raises(SourceError, match=r"a\.gz is damaged \(the path given\)"):
        find(tiny, tmp_path / "mine")
    with pytest.raises(SourceError, match=r"a\.gz is missing"):
        find(tiny, tmp_path / "empty")


def test_a_tilde_is_the_home_folder(
    tiny: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = fill(tmp_path / "mine")
    assert find(tiny, "~/mine").path == folder
    monkeypatch.setenv("HW2_DATA", "~/mine")
    assert find(tiny).path == folder


def test_hw2_data_names_a_folder_of_data_sets(
    tiny: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HW2_DATA", str(tmp_path / "all"))
    fill(tmp_path / "all" / "tiny")
    found = find(tiny)
    assert found.path == tmp_path / "all" / "tiny"
    assert found.origin.endswith("(HW2_DATA)")
    # A folder for other data alone hides no cache; one that is not there is a mistake.
    fill(tmp_path / "cache" / "tiny")
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("HW2_DATA", str(tmp_path / "other"))
    assert find(tiny).origin.endswith("(cache)")
    monkeypatch.setenv("HW2_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match=r"is missing \(HW2_DATA\)"):
        find(tiny)


def test_the_same_data_compressed_in_another_way_is_the_same_data(
    tiny: Entry, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "mine")
    before = find(tiny, folder).digest
    (folder / "a.gz").write_bytes(gzip.compress(CONTENTS["a.gz"], compresslevel=1, mtime=7))
    assert find(tiny, folder).digest == before


def test_a_cache_that_cannot_be_written_is_one_line(
    tiny: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match="cannot write to the cache"):
        find(tiny)


def test_a_row_says_what_is_present(tiny: Entry, tmp_path: Path) -> None:
    assert tiny.to_row()["present"] == []
    fill(tmp_path / "cache" / "tiny")
    assert tiny.to_row()["present"] == ["2 of 2 files in the cache"]


def test_without_a_home_folder_the_cache_is_one_line(
    tiny: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HW2_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(SourceError, match=r"there is no home folder .*; name one by HW2_CACHE"):
        find(tiny)


@pytest.fixture
def one_of_two(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of a data set that is served and one that is not."""
    served = server.tiny
    far = entry("http://127.0.0.1:9/", name="far")
    monkeypatch.setattr(catalogue, "CATALOGUE", {each.name: each for each in (far, served)})


@pytest.mark.usefixtures("one_of_two")
def test_the_command_fetches_one_data_set(
    hw2: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert hw2("data", "fetch", "tiny") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"tiny: {tmp_path / 'cache/tiny'} (from 127.0.0.1:")
    assert shown.err.count("\n") == 1
    assert hw2("data", "fetch", "far") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: far: not found; tried 127.0.0.1:9: not reachable ")
    assert shown.err.count("\n") == 1
    assert hw2("data", "fetch", "near") == 2
    line = "error: data set 'near': unknown; choices: far, tiny\n"
    assert capsys.readouterr().err == line


@pytest.mark.usefixtures("one_of_two")
def test_of_all_data_sets_those_that_can_be_had_are_fetched(
    hw2: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert hw2("data", "fetch", "all") == 2
    far, near, error = capsys.readouterr().err.splitlines()
    assert far.startswith("far: not found; tried 127.0.0.1:9: not reachable ")
    assert near.startswith(f"tiny: {tmp_path / 'cache/tiny'} (from 127.0.0.1:")
    assert error == "error: 1 of 2 data sets could not be fetched; see above"
    assert set(CONTENTS) <= {path.name for path in (tmp_path / "cache/tiny").iterdir()}


@pytest.mark.slow
def test_fashion_mnist_can_be_had_on_this_machine_into_an_empty_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HW2_CACHE", str(tmp_path))
    monkeypatch.delenv("HW2_DATA", raising=False)
    started = time.monotonic()
    try:
        found = find("fashion-mnist", log=print)
    except SourceError as error:
        if "not reachable" not in str(error):
            raise
        pytest.skip(f"no network here: {error}")
    assert time.monotonic() - started < 60
    images, labels, *_ = fashion_mnist.read(found.path)
    assert images.shape == (60_000, 28, 28)
    assert torch.bincount(labels).tolist() == [6000] * 10
    # The second reading maps what the first one kept.
    again = fashion_mnist.read(None)
    assert torch.equal(images, again[0])

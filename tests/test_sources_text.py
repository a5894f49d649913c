"""Reviews and encoders: paths, the hub's cache, an unreachable hub, installed packages."""

import base64
import hashlib
import socket
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from hwcli import sources
from hwcli.errors import SourceError
from hwcli.sources import locate_encoder, locate_reviews, package_files


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, no cache, no package but those that a test makes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(sources, "REVIEWS_PACKAGE", "no-such-reviews")
    monkeypatch.setattr(sources, "ENCODER_PACKAGE", "no-such-encoder")
    monkeypatch.delenv("HW2_DATA", raising=False)


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
        locate_reviews(None)
    assert time.monotonic() - started < 15  # imports included; retrying would take longer
    line = str(caught.value)
    assert "\n" not in line
    assert "stanfordnlp/imdb: not in the cache, and not reachable" in line
    assert "the package no-such-reviews: not installed" in line
    assert "Name a file or folder by --data" in line


@pytest.mark.parametrize("source", ["bert-base-uncased", "all-MiniLM-L6-v2"])
def test_an_encoder_that_cannot_be_had_is_one_line(source: str) -> None:
    with pytest.raises(SourceError) as caught:
        locate_encoder(source)
    assert str(caught.value).startswith(f"encoder '{source}' cannot be had; tried ")
    assert "not reachable" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_no_repository_can_have_is_told() -> None:
    with pytest.raises(SourceError, match="neither a folder nor a repository's name"):
        locate_encoder("bert base")


def test_a_path_comes_first_and_is_not_named_in_full(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    told: list[str] = []
    found = locate_reviews(str(folder), told.append)
    assert (found.path, found.name) == (folder, "reviews")
    assert told == ["reviews: reviews (the path given)"]
    assert locate_encoder(str(folder)).path == folder
    with pytest.raises(SourceError, match=r"no such file or folder; choices: a path, stanfordnlp"):
        locate_reviews(str(tmp_path / "absent"))


def test_hw2_data_comes_before_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_into_hub_cache(
        tmp_path / "hub", "datasets--stanfordnlp--imdb", {"plain_text/train.parquet": b""}
    )
    monkeypatch.setenv("HW2_DATA", str(tmp_path / "data"))
    assert locate_reviews(None).origin == "the hub's cache"
    (tmp_path / "data" / "imdb").mkdir(parents=True)
    assert locate_reviews(None).path == tmp_path / "data" / "imdb"


def test_the_hubs_cache_is_read_without_the_hub(tmp_path: Path) -> None:
    snapshot = put_into_hub_cache(
        tmp_path / "hub", "models--google--bert", {"config.json": b"{}", "model.safetensors": b""}
    )
    found = locate_encoder("google/bert")
    assert (found.path, found.name) == (snapshot, "google/bert")
    assert found.origin == "the hub's cache"


def test_packages_that_carry_the_data_are_found_without_being_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "REVIEWS_PACKAGE", "film-words")
    monkeypatch.setattr(sources, "ENCODER_PACKAGE", "small-encoder")
    site = tmp_path / "site"
    init = {"film_words/__init__.py": b"raise RuntimeError"}
    install(
        site,
        "film-words",
        {**init, "film_words/data/combined_movie_reviews.csv": b"text,label\n"},
        monkeypatch,
    )
    files = {
        "small_encoder/model/pooling/config.json": b"not this one",
        "small_encoder/model/config.json": b"{}",
        "small_encoder/model/model.safetensors": b"weights",
    }
    install(site, "small-encoder", files, monkeypatch)
    reviews = locate_reviews(None)
    assert reviews.path == site / "film_words" / "data" / "combined_movie_reviews.csv"
    assert (reviews.name, reviews.origin) == ("film-words", "the package film-words")
    assert locate_encoder("all-MiniLM-L6-v2").path == site / "small_encoder" / "model"
    assert package_files("small-encoder", ("config.json",))[0].read_text() == "{}"


def test_a_damaged_file_of_a_package_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sources, "ENCODER_PACKAGE", "small-encoder")
    files = {"small_encoder/config.json": b"{}", "small_encoder/model.safetensors": b"weights"}
    install(tmp_path / "site", "small-encoder", files, monkeypatch)
    (tmp_path / "site" / "small_encoder" / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(SourceError, match=r"model\.safetensors is damaged; install the package"):
        locate_encoder("all-MiniLM-L6-v2")


def test_the_inventory_and_fetch_know_reviews_and_encoder() -> None:
    rows = {row["name"]: row for row in sources.inventory()}
    assert rows["imdb"]["present"] == "the package no-such-reviews is not installed"
    assert "the hub's sentence-transformers/all-MiniLM-L6-v2" in rows[sources.ENCODER]["sources"]
    assert set(rows) == set(sources.names())
    for name in ("imdb", sources.ENCODER):
        with pytest.raises(SourceError, match="cannot be had"):
            sources.fetch(name, print)
    with pytest.raises(SourceError, match="unknown; choices: fashion-mnist, imdb, all-MiniLM"):
        sources.fetch("mnist", print)

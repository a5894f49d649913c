import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwcli.errors import KernelError
from hwcli.native import compiler


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of the test's own; what this process has loaded is forgotten, and loaded again."""
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))
    for remembered in (compiler.library, compiler._compiler):
        remembered.cache_clear()
    yield
    for remembered in (compiler.library, compiler._compiler):
        remembered.cache_clear()


def test_what_was_compiled_once_is_found_again(tmp_path: Path) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    made = list((tmp_path / "cache" / "kernels").iterdir())
    assert len(made) == 1
    written = made[0].stat().st_mtime_ns
    compiler.library.cache_clear()
    compiler.library("softmax_attention.cpp", T="16", D="16", Element="float")
    assert [p.stat().st_mtime_ns for p in (tmp_path / "cache" / "kernels").iterdir()] == [written]
    compiler.library("softmax_attention.cpp", T="16", D="32", Element="float")
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 2


@pytest.mark.parametrize(
    ("command", "reason"),
    [("no-such-compiler", "no C++ compiler no-such-compiler"), ("false", "false refuses")],
)
def test_a_compiler_that_is_not_there_or_refuses_is_said_in_a_line(
    command: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", command)
    said = compiler.reason_against()
    assert said is not None
    assert reason in said
    assert "\n" not in said


def test_an_error_in_the_source_names_itself() -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    with pytest.raises(KernelError, match="error"):
        compiler.library("softmax_attention.cpp", T="16", D="not_a_number", Element="float")


def test_no_compiler_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler.reason_against() == "no C++ compiler"


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "file"))
    assert "Not a directory" in str(compiler.reason_against())


def test_use_is_what_the_innermost_says() -> None:
    assert not compiler.in_use()
    with compiler.kernels(True):
        assert compiler.in_use()
        with compiler.kernels(False):
            assert not compiler.in_use()
        assert compiler.in_use()
    assert not compiler.in_use()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("clang++"), reason="Clang is not here")
def test_what_clang_makes_of_the_kernels_passes_their_tests(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", str(Path(__file__).parent)],
        env={**os.environ, "CXX": "clang++", "HW2_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "cache" / "kernels").glob("attention-*.so"))

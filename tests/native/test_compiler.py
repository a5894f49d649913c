import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwcli.errors import ConfigError, KernelError
from hwcli.native import compiler

PROBE = {"HW2_ELEMENT": "float"}


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of the test's own, and a source that takes no time, by the name of the probe's."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "newton_schulz.cpp").write_text(
        'extern "C" HW2_ELEMENT number() { return 7; }'
    )
    monkeypatch.setattr(compiler, "FOLDER", tmp_path / "source")
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "cache"))
    forget()
    yield
    forget()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder in which one kernel has been compiled."""
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    return tmp_path / "cache" / "kernels"


def forget() -> None:
    compiler.library.cache_clear()
    compiler.find_compiler.cache_clear()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def reason() -> str:
    """Return the reason against kernels, which is one line of bearable length."""
    forget()
    said = compiler.reason_against()
    assert said is not None
    assert "\n" not in said
    assert len(said) <= 160
    return said


# --------------------------------------------------------------------------------------
# The cache


def test_what_was_compiled_once_is_found_again(made: Path) -> None:
    (library,) = made.iterdir()
    written = library.stat().st_mtime_ns
    forget()
    compiler.library("newton_schulz.cpp", **PROBE)
    assert [path.stat().st_mtime_ns for path in made.iterdir()] == [written]
    assert compiler.library("newton_schulz.cpp", HW2_ELEMENT="int").number() == 7
    assert len(list(made.iterdir())) == 2
    source = compiler.FOLDER / "newton_schulz.cpp"
    source.write_text(source.read_text().replace("7", "8"))
    forget()
    assert compiler.library("newton_schulz.cpp", HW2_ELEMENT="int").number() == 8


@pytest.mark.parametrize("damage", ["empty", "cut short", "one byte", "another library's"])
def test_a_damaged_library_is_made_again_and_never_loaded(made: Path, damage: str) -> None:
    (library,) = made.iterdir()
    whole = library.read_bytes()
    changed = {
        "empty": b"",
        "cut short": whole[: len(whole) // 2],
        "one byte": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        "another library's": b"\x7fELF" + bytes(1000),
    }[damage]
    # A new file: the process has the old one mapped.
    library.unlink()
    library.write_bytes(changed)
    forget()
    assert compiler.reason_against() is None
    (again,) = made.iterdir()
    assert again.read_bytes() != changed
    assert again.stem.endswith(compiler._digest(again))


def test_what_a_killed_compile_left_is_swept_away_after_an_hour(made: Path) -> None:
    old, new = made / "making-old", made / "making-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "part").write_text("")
    os.utime(old, (0, 0))
    compiler.library("newton_schulz.cpp", HW2_ELEMENT="int")
    assert not old.exists()
    assert new.exists()


def test_a_cache_that_cannot_be_made_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HW2_CACHE", str(tmp_path / "file"))
    assert "Not a directory" in reason()


def test_a_read_only_cache_still_gives_what_it_holds(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    forget()
    assert compiler.reason_against() is None
    with pytest.raises(KernelError, match="Read-only file system"):
        compiler.library("newton_schulz.cpp", HW2_ELEMENT="int")


def test_without_a_home_the_sentence_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HW2_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert "HW2_CACHE" in reason()


# --------------------------------------------------------------------------------------
# The compiler


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("no-such-compiler", "no C++ compiler no-such-compiler"),
        ("false", "false does not run"),
        ("g++ 'x", "CXX = g++ 'x: no closing quotation"),
        ("/", "/ cannot be run"),
    ],
)
def test_a_compiler_that_cannot_be_run_is_a_sentence(
    command: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", command)
    assert expected in reason()


def test_a_refusal_is_the_first_of_many_errors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusing = script(
        tmp_path / "c++",
        'case "$*" in *--version*) echo "c++ 4.2"; exit;; *-dM*) exit;; esac\n'
        'for i in $(seq 99); do echo "/long/path/simd.h:$i:5: error: no vectors in $i" >&2; done\n'
        "exit 1",
    )
    monkeypatch.setenv("CXX", refusing)
    assert reason() == "c++ 4.2 cannot compile newton_schulz.cpp: no vectors in 1"


def test_an_error_in_the_source_names_itself(made: Path) -> None:
    with pytest.raises(KernelError, match=r"cannot compile newton_schulz\.cpp: "):
        compiler.library("newton_schulz.cpp", HW2_ELEMENT="not_a_type")


def test_no_compiler_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C++ compiler" in reason()


def test_a_mac_without_its_tools_is_told_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "c++", "echo 'this opens a window' >&2; exit 1")
    script(tmp_path / "xcode-select", "exit 2")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert reason() == "no C++ compiler; run xcode-select --install"


@pytest.mark.parametrize(
    ("known", "expected"),
    [("-march=native", ("-march=native",)), ("-mcpu=native", ("-mcpu=native",)), ("-O3", ())],
)
def test_a_compiler_is_told_the_processor_in_the_words_it_knows(
    known: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choosy = script(
        tmp_path / "c++",
        'for x; do case "$x" in -m*=*) [ "$x" = "'
        + known
        + '" ] || { echo "error: unknown" >&2; exit 1; };; esac; done\n'
        'echo "#define __ARM_NEON 1"',
    )
    monkeypatch.setenv("CXX", choosy)
    monkeypatch.delenv("HW2_MARCH", raising=False)
    found = compiler.find_compiler()
    assert found.machine_flags == expected
    assert found.extensions == ("NEON",)


def test_other_instructions_are_other_libraries(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HW2_MARCH", "x86-64" if os.uname().machine == "x86_64" else "armv8-a")
    forget()
    if (said := compiler.reason_against()) is not None:
        pytest.skip(said)
    assert len(list(made.iterdir())) == 2
    assert compiler.find_compiler().extensions in ((), ("NEON",))


def test_a_processor_that_is_not_known_or_not_here_is_a_sentence(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HW2_MARCH", "abacus")
    assert "HW2_MARCH = 'abacus'" in reason()
    if "avx2" not in compiler.processor.cpu_flags():
        pytest.skip("not an x86 processor with AVX2")
    monkeypatch.setenv("HW2_MARCH", "haswell")
    monkeypatch.setattr(compiler.processor, "cpu_flags", lambda: frozenset({"sse2", "fma"}))
    assert reason() == "HW2_MARCH = 'haswell': this processor has no AVX2"


def test_use_is_what_the_innermost_says() -> None:
    assert not compiler.in_use()
    with compiler.kernels(True):
        assert compiler.in_use()
        with compiler.kernels(False):
            assert not compiler.in_use()
        assert compiler.in_use()
    assert not compiler.in_use()


@pytest.mark.parametrize(
    ("asked", "device", "lack", "chosen"),
    [
        ("torch", "cpu", None, ("torch", "")),
        ("auto", "cuda", None, ("torch", "")),
        ("auto", "cpu", None, ("compiled", "")),
        ("compiled", "cpu", None, ("compiled", "")),
        ("torch", "cpu", "no C++ compiler", ("torch", "")),
        ("auto", "cpu", "no C++ compiler", ("torch", "kernels: torch's own (no C++ compiler)")),
    ],
)
def test_kernels_are_chosen_where_they_can_be_used_and_a_lack_is_said(
    asked: str, device: str, lack: str | None, chosen: tuple[str, str]
) -> None:
    assert compiler.choose(asked, device, lambda: lack) == chosen


@pytest.mark.parametrize(
    ("device", "said"), [("cpu", "no C++ compiler"), ("cuda", "they run on a CPU only")]
)
def test_kernels_that_were_asked_for_and_cannot_be_used_are_refused(device: str, said: str) -> None:
    line = f"kernels = 'compiled': {said}; choices here: auto, torch"
    with pytest.raises(ConfigError, match=re.escape(line)):
        compiler.choose("compiled", device, lambda: "no C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", ["g++-9", "g++-10", "g++-11", "g++-13", "clang++-14", "clang++-19", "clang++"]
)
def test_what_other_compilers_make_of_the_kernels_passes_their_tests(
    other: str, tmp_path: Path
) -> None:
    if not shutil.which(other):
        pytest.skip(f"{other} is not here")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", str(Path(__file__).parent)],
        env={**os.environ, "CXX": other, "HW2_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "cache" / "kernels").glob("*.so"))

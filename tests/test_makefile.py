"""What ``make install`` says to a machine that lacks something, and which PyTorch it asks for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without what an outer make passes to its children: its settings, and its silence.
    environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    command = ["make", "-C", str(ROOT), "--no-print-directory", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def refused_install(tmp_path: Path):
    """Return the one line that make prints before its own about the error; nothing is made."""

    def check(python: str | Path) -> str:
        venv = tmp_path / "venv"
        done = make("install", f"VENV={venv}", f"PYTHON={python}")
        assert done.returncode != 0
        assert not venv.exists()
        (line,) = done.stdout.splitlines()
        assert done.stderr.startswith("make: ***")
        return line

    return check


def python_that(answers: str, path: Path) -> Path:
    """Write a program that stands for a Python and answers make's questions as told."""
    path.write_text(f'#!/bin/sh\ncase "$2" in {answers} esac\n')
    path.chmod(0o755)
    return path


def test_a_python_that_is_not_there_is_refused_in_one_line(refused_install) -> None:
    assert refused_install("python3.987") == (
        "There is no python3.987 here; install one (apt, brew, or uv python install 3.12) "
        "and name it: make install PYTHON=python3.12"
    )


def test_an_old_python_is_refused_in_one_line(refused_install, tmp_path: Path) -> None:
    old = python_that("*version_info*) exit 1 ;;", tmp_path / "python3.9")
    assert refused_install(old).startswith(f"hw2 needs Python 3.11 or newer, and {old} is older; ")


def test_a_missing_venv_module_names_the_package_of_that_python(
    refused_install, tmp_path: Path
) -> None:
    bare = python_that("*ensurepip*) exit 1 ;;", tmp_path / "python3.13")
    assert refused_install(bare).endswith("on Debian and Ubuntu: sudo apt install python3.13-venv")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["TORCH=cpu"], "uv pip install --python {venv}/bin/python --torch-backend=cpu torch"),
        (["TORCH=cpu", "TORCH_INDEX=file:///wheels"], "--index-url 'file:///wheels' torch"),
    ],
)
def test_pytorch_without_cuda_comes_by_uv_or_from_the_named_index(
    settings: list[str], expected: str, tmp_path: Path
) -> None:
    venv = tmp_path / "venv"
    done = make("--dry-run", "install", f"VENV={venv}", f"PYTHON={sys.executable}", *settings)
    assert done.returncode == 0
    assert expected.format(venv=venv) in done.stdout
    assert ("--torch-backend" in done.stdout) == ("TORCH_INDEX=file:///wheels" not in settings)


def test_the_large_download_lies_beside_the_environment(tmp_path: Path) -> None:
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip"):
        program = programs / name
        program.write_text('#!/bin/sh\ntest -d "$TMPDIR" && echo "downloads lie in $TMPDIR"\n')
        program.chmod(0o755)
    done = make("install", f"VENV={tmp_path / 'venv'}")
    assert done.returncode == 0
    assert f"downloads lie in {tmp_path / 'venv/tmp'}\n" in done.stdout


def test_the_homework_and_the_report_get_the_name_as_it_was_typed(tmp_path: Path) -> None:
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    for name in ("python", "pip", "hw2"):
        program = programs / name
        program.write_text('#!/bin/sh\nfor word; do printf "[%s]" "$word"; done; echo\n')
        program.chmod(0o755)
    for target in ("homework", "report"):
        done = make(target, f"VENV={tmp_path / 'venv'}", "AUTHOR=Ada O'Brien")
        assert done.returncode == 0
        command = done.stdout.splitlines()[-1]
        assert command.startswith(f"[{target}]")
        assert command.endswith("[--author][Ada O'Brien]")
        assert "[--author]" not in make(target, f"VENV={tmp_path / 'venv'}").stdout


def a_mac(machine: str, path: Path) -> Path:
    """Write a program that answers what machine it runs on as a Python on a Mac would."""
    there = f'sys.platform = "darwin"; platform.machine = lambda: "{machine}"'
    code = f"import platform, sys; {there}; exec(sys.argv[1])"
    return python_that(f"*machine*) exec {sys.executable} -c '{code}' \"$2\" ;;", path)


def test_an_intel_mac_is_refused_in_one_line(refused_install, tmp_path: Path) -> None:
    mac = a_mac("x86_64", tmp_path / "python3.12")
    assert refused_install(mac).startswith(
        f"PyTorch has no releases for Intel Macs nor for a Python that Rosetta runs, and {mac} is "
        "such a one; on Apple silicon install one (apt, brew, or uv python install 3.12) "
    )


def test_apple_silicon_is_not_refused(tmp_path: Path) -> None:
    mac = a_mac("arm64", tmp_path / "python3.12")
    done = make("install", f"VENV={tmp_path / 'venv'}", f"PYTHON={mac}")
    # All questions are answered; that program makes no environment.
    assert done.stdout.splitlines()[0] == f"{mac} -m venv {tmp_path / 'venv'}"


def test_a_broken_pyexpat_is_refused_with_a_cure(refused_install, tmp_path: Path) -> None:
    broken = python_that("*pyexpat*) exit 1 ;;", tmp_path / "python3.12")
    line = refused_install(broken)
    assert line.startswith(f"{broken} has no working pyexpat module")
    assert "uv python install 3.12, then make install PYTHON=python3.12" in line


def test_what_macos_hides_is_shown_after_each_editable_install(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    for target in ("install", "report", "dev", "test-slow"):
        done = make("--dry-run", target, f"VENV={venv}", f"PYTHON={sys.executable}")
        lines = done.stdout.splitlines()
        installs = [i for i, line in enumerate(lines) if "--editable" in line]
        assert installs
        for i in installs:
            assert lines[i + 1] == f"chflags -R nohidden {venv} 2>/dev/null || true"

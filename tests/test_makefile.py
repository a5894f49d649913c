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

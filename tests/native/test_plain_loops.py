"""Every kernel against its formula in plain loops: for arm64 under an emulator, and sanitized.

The programs are whole ones, so that no Python stands between a kernel and the emulator or the
sanitizer: see plain_loops.cpp.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hwcli.native import compiler

# A width that fills vectors and one that does not; a layer of each kind of attention.
LAYER = {
    "HW2_TOKENS": "11",
    "HW2_WIDTH": "32",
    "HW2_HEADS": "2",
    "HW2_HEAD_WIDTH": "16",
    "HW2_MLP_WIDTH": "64",
}
UNEVEN_LAYER = LAYER | {"HW2_WIDTH": "21", "HW2_HEAD_WIDTH": "7", "HW2_MLP_WIDTH": "37"}


def linear(width: int, element: str) -> dict[str, str]:
    constants = {"HW2_WIDTH": str(width), "HW2_CHUNK": "32", "HW2_ELEMENT": element}
    return {"kernel": "linear_attention.cpp", "CHECK_LINEAR_ATTENTION": "1", **constants}


def newton_schulz(element: str) -> dict[str, str]:
    own = {"ASKS_FOR_TILES": "1"} if element == "uint16_t" else {}
    source = {"kernel": "newton_schulz.cpp", "CHECK_NEWTON_SCHULZ": "1"}
    return {**source, **own, "HW2_ELEMENT": element}


def layer(precision: str, kind: int, shape: dict[str, str] = LAYER) -> dict[str, str]:
    source = {"kernel": f"encoder_layer_{precision}.cpp", "CHECK_ENCODER_LAYER": "1"}
    own = {"IN_FLOAT32": "1"} if precision == "float32" else {"ASKS_FOR_TILES": "1"}
    return {**source, **own, **shape, "HW2_LINEAR": str(kind)}


CHECKS = {
    "linear attention, 16": linear(16, "float"),
    "linear attention, 5": linear(5, "float"),
    "linear attention, 20, bfloat16": linear(20, "uint16_t"),
    "Newton-Schulz, float32": newton_schulz("float"),
    "Newton-Schulz, bfloat16": newton_schulz("uint16_t"),
    "layer, float32, softmax": layer("float32", 0),
    "layer, float32, softmax, uneven": layer("float32", 0, UNEVEN_LAYER),
    "layer, float32, linear": layer("float32", 1),
    "layer, bfloat16, softmax": layer("bfloat16", 0),
    "layer, bfloat16, linear": layer("bfloat16", 1),
}


def build(command: list[str], check: str, folder: Path, *more: str) -> Path:
    """Compile the program of one check; of two flags that contradict, one of ``more`` wins."""
    constants = dict(CHECKS[check])
    kernel = compiler.FOLDER / constants.pop("kernel")
    flags = [flag for flag in compiler.FLAGS if flag not in ("-shared", "-fPIC")]
    defines = [f"-D{name}={value}" for name, value in constants.items()]
    path = folder / "check"
    done = subprocess.run(
        [*command, *flags, *defines, f'-DHW2_KERNEL="{kernel}"', *more, "-o", str(path),
         str(Path(__file__).with_name("plain_loops.cpp"))],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return path


def run(command: list[str], variables: dict[str, str] | None = None) -> str:
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_on_arm64_a_kernel_is_its_formula(check: str, tmp_path: Path) -> None:
    cross, emulator = "aarch64-linux-gnu-g++", "qemu-aarch64"
    for program, package in ((cross, "g++-aarch64-linux-gnu"), (emulator, "qemu-user")):
        if not shutil.which(program):
            pytest.skip(f"no {program}: install Debian's {package}")
    path = build([cross, "-static"], check, tmp_path)
    assert "0 failures, 4 lanes" in run([emulator, str(path)])


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_under_sanitizers_a_kernel_is_its_formula_and_touches_nothing_else(
    check: str, tmp_path: Path
) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    found = compiler.find_compiler()
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
    command = [*found.command, *found.machine_flags]
    empty = tmp_path / "empty.cpp"
    empty.write_text("int main() {}\n")
    probe = [*command, *sanitizers[:1], str(empty), "-o", str(tmp_path / "empty")]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip(f"{found.command[0]} has no sanitizers here")
    path = build(command, check, tmp_path, *sanitizers)
    assert "0 failures" in run([str(path)], {"UBSAN_OPTIONS": "print_stacktrace=1"})


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("march", ["x86-64", "haswell"])
def test_with_fewer_instructions_a_kernel_is_its_formula(
    check: str, march: str, tmp_path: Path
) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    if march == "haswell" and "avx2" not in compiler.processor.cpu_flags():
        pytest.skip("no AVX2 here")
    if os.uname().machine != "x86_64":
        pytest.skip("not an x86-64 processor")
    path = build([*compiler.find_compiler().command, f"-march={march}"], check, tmp_path)
    assert "0 failures" in run([str(path)])


@pytest.mark.slow
@pytest.mark.parametrize("check", [name for name in CHECKS if CHECKS[name].get("ASKS_FOR_TILES")])
def test_by_emulated_tiles_a_kernel_is_its_formula(check: str, tmp_path: Path) -> None:
    if (reason := compiler.reason_against()) is not None:
        pytest.skip(reason)
    if os.uname().machine != "x86_64":
        pytest.skip("not an x86-64 processor")
    tiles = ["-D__AMX_BF16__", "-include", str(Path(__file__).with_name("emulated_tiles.h"))]
    flags = [*compiler.find_compiler().machine_flags, *tiles, "-UASKS_FOR_TILES"]
    path = build([*compiler.find_compiler().command], check, tmp_path, *flags)
    assert "0 failures" in run([str(path)])

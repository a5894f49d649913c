"""From C++ beside this file to functions in this process: compiled once, kept in the cache.

The machine's compiler knows its processor, so nothing here names one. A library is known by the
digest of everything that decides its code, which is why another processor, compiler or version of
the source never meets it. Whether kernels are used is the caller's to say, as with autocasting::

    with kernels(True):
        model(images)
"""

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hwcli import runtime
from hwcli.data.cache import cache_folder
from hwcli.errors import KernelError

FOLDER = Path(__file__).parent
FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-Wno-psabi",
    "-shared",
    "-fPIC",
    "-pthread",
]
COMPILER_S = 120.0

_in_use = False


@contextmanager
def kernels(use: bool) -> Iterator[None]:
    """Use the compiled kernels inside, or torch's own."""
    global _in_use
    before, _in_use = _in_use, use
    try:
        yield
    finally:
        _in_use = before


def in_use() -> bool:
    """Tell whether compiled kernels are to be used where there is one."""
    return _in_use


def reason_against() -> str | None:
    """Return why kernels cannot be compiled here, in a few words; None if they can."""
    try:
        library("softmax_attention.cpp", T="16", D="16", Element="float")
    except KernelError as error:
        return str(error)
    return None


@functools.cache
def library(source: str, **constants: str) -> ctypes.CDLL:
    """Compile a source of this folder with some names defined, or find it compiled.

    Raises:
        KernelError: no compiler, or it refuses; the text says which.
    """
    compiler, version = _compiler()
    read = [FOLDER / source, *sorted(FOLDER.glob("*.h"))]
    text = b"".join(path.read_bytes() for path in read)
    defines = [f"-D{name}={value}" for name, value in sorted(constants.items())]
    decides = [*compiler, version, *FLAGS, *defines, *sorted(runtime.cpu_flags())]
    digest = hashlib.sha256(text + "\0".join(decides).encode()).hexdigest()[:16]
    folder = cache_folder() / "kernels"
    path = folder / f"{Path(source).stem}-{digest}.so"
    try:
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                made = Path(temporary) / path.name
                _run([*compiler, *FLAGS, *defines, str(FOLDER / source), "-o", str(made)])
                made.replace(path)  # in one step: others compile the same at the same time
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelError(f"{folder}: {error.strerror or error}") from None


@functools.cache
def parallel() -> ctypes.c_void_p:
    """Return what runs a function on torch's own threads, GOMP_parallel; null where it is not.

    It is looked up in torch and what torch is linked with: another library's threads would fight
    torch's, which wait for work with their processors busy.
    """
    try:
        function = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return ctypes.c_void_p()
    return ctypes.cast(function, ctypes.c_void_p)


@functools.cache
def _compiler() -> tuple[tuple[str, ...], str]:
    """Return the command of the C++ compiler, and its version."""
    named = shlex.split(os.environ.get("CXX", ""))
    found = named or [name for name in ("c++", "g++", "clang++") if shutil.which(name)][:1]
    if not found:
        raise KernelError("no C++ compiler")
    return tuple(found), _run([*found, "--version"])


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILER_S, check=True
        ).stdout
    except FileNotFoundError:
        raise KernelError(f"no C++ compiler {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise KernelError(f"{command[0]} took over {COMPILER_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or [""]
        raise KernelError(f"{command[0]} refuses: {lines[0]}") from None

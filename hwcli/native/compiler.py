"""From C++ beside this file to functions in this process: compiled once, kept in the cache.

The machine's own compiler is asked for code for this very processor: none is named here. A
library is known by the digest of everything that decides its code: another processor, compiler or
version of the source never meets it. Two variables of the environment change what is asked for:
``CXX`` is the compiler's command, and ``HW2_MARCH`` the processor, as ``-march`` names it
(``HW2_MARCH=haswell`` leaves out what came after AVX2).

Whether kernels are used is the caller's decision, as with autocasting::

    with kernels(True):
        model(images)
"""

import ctypes
import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from hwcli import processor
from hwcli.data.cache import cache_folder
from hwcli.errors import ConfigError, KernelError, SourceError

FOLDER = Path(__file__).parent
FLAGS = (
    "-std=c++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-Wno-psabi",
    "-shared",
    "-fPIC",
    "-pthread",
)
# What GCC 12 makes for AMD's processors in particular takes up to a fifth longer here.
TUNING = "-mtune=generic"
COMPILER_S = 120.0
# What a compile that was killed leaves behind is swept away after this long.
ABANDONED_S = 3600.0
REASON_CHARACTERS = 160

# Names of the processors' extensions, widest vectors first: the compiler's macro for it, and the
# flag that Linux shows where the processor has it.
EXTENSIONS = {
    "AMX-BF16": ("__AMX_BF16__", "amx_bf16"),
    "AVX512-BF16": ("__AVX512BF16__", "avx512_bf16"),
    "AVX-512": ("__AVX512F__", "avx512f"),
    "AVX2": ("__AVX2__", "avx2"),
    "FMA": ("__FMA__", "fma"),
    "SVE": ("__ARM_FEATURE_SVE", "sve"),
    "NEON": ("__ARM_NEON", "asimd"),
}

_in_use = False
_num_threads: int | None = None


@contextmanager
def kernels(use: bool, *, num_threads: int | None = None) -> Iterator[None]:
    """Use the compiled kernels inside, where they can be compiled, or torch's own.

    Args:
        use: whether to.
        num_threads: of the kernels; None: as many as torch uses.
    """
    global _in_use, _num_threads
    before = _in_use, _num_threads
    _in_use, _num_threads = use and reason_against() is None, num_threads
    try:
        yield
    finally:
        _in_use, _num_threads = before


def in_use() -> bool:
    """Tell whether compiled kernels are to be used where there is one."""
    return _in_use


def num_threads() -> int:
    """Return how many threads kernels compute with: torch's number, unless told another."""
    return _num_threads or torch.get_num_threads()


def choose(
    asked: str, device: str, why_not: Callable[[], str | None]
) -> tuple[Literal["compiled", "torch"], str]:
    """Return whose code computes, and a note for the user; empty where there is nothing to say.

    Args:
        asked: compiled, torch or auto.
        device: the kind that computes, such as cpu or cuda.
        why_not: returns why there is no kernel on a CPU; None if there is one.

    Raises:
        ConfigError: compiled kernels were asked for and cannot be used.
    """
    if asked == "torch" or (asked == "auto" and device != "cpu"):
        return "torch", ""
    reason = why_not() if device == "cpu" else "they run on a CPU only"
    if reason is None:
        return "compiled", ""
    if asked == "compiled":
        raise ConfigError(f"kernels = 'compiled': {reason}; choices here: auto, torch")
    return "torch", f"kernels: torch's own ({reason})"


def reason_against() -> str | None:
    """Return why kernels cannot be compiled here, in one sentence; None if they can."""
    try:
        library("newton_schulz.cpp", HW2_ELEMENT="float")
    except KernelError as error:
        return str(error)
    return None


@functools.cache
def library(source: str, **constants: str) -> ctypes.CDLL:
    """Compile a source of this folder with some names defined, or find it compiled.

    Raises:
        KernelError: no compiler, no place to keep what it makes, or it refuses; one sentence.
    """
    compiler = find_compiler()
    read = [FOLDER / source, *sorted(FOLDER.glob("*.h"))]
    defines = tuple(f"-D{name}={value}" for name, value in sorted(constants.items()))
    decides = (*compiler.decides, *FLAGS, *defines)
    digest = hashlib.sha256("\0".join(decides).encode())
    for path in read:
        digest.update(path.read_bytes())
    folder = _folder()
    name = f"{Path(source).stem}-{digest.hexdigest()[:16]}"
    try:
        path = _find(folder, name) or _compile(compiler, defines, folder, name, source)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelError(_sentence(f"{folder}: {error.strerror or error}")) from None


@functools.cache
def parallel() -> ctypes.c_void_p:
    """Return what runs a function on torch's own threads, GOMP_parallel; null where it is not.

    It is looked up in torch's library and in what that is linked with, and nothing is loaded for
    it: another copy's threads would fight torch's, which wait for work with their processors busy.
    """
    suffix = "dylib" if sys.platform == "darwin" else "so"
    path = Path(torch.__file__).parent / "lib" / f"libtorch_cpu.{suffix}"
    try:
        function = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_NOLOAD).GOMP_parallel
    except (OSError, AttributeError):
        return ctypes.c_void_p()
    return ctypes.cast(function, ctypes.c_void_p)


# --------------------------------------------------------------------------------------
# The compiler


@dataclass(frozen=True)
class Compiler:
    """The machine's C++ compiler, and the processor that it is asked to compile for."""

    command: tuple[str, ...]
    version: str
    # How this compiler is told the processor.
    machine_flags: tuple[str, ...]
    # What it defines when it is told so: every extension of the processor that it will use.
    macros: frozenset[str] = field(repr=False)

    @property
    def decides(self) -> tuple[str, ...]:
        """Return all of it that decides the code; the processor's flags besides the macros."""
        return (
            *self.command,
            self.version,
            *self.machine_flags,
            *sorted(self.macros),
            *sorted(processor.cpu_flags()),
        )

    @property
    def extensions(self) -> tuple[str, ...]:
        """Return the names of the extensions that it compiles for, of those that matter here."""
        return tuple(name for name, (macro, _) in EXTENSIONS.items() if macro in self.macros)


@functools.cache
def find_compiler() -> Compiler:
    """Return the C++ compiler: what ``CXX`` names, or the first that is there.

    Raises:
        KernelError: there is none, or it knows nothing of this processor; one sentence.
    """
    command = _command()
    name = Path(command[0]).name
    version = _run([*command, "--version"], f"{name} does not run").partition("\n")[0]
    asked = os.environ.get("HW2_MARCH")
    # Clang for arm64 wants -mcpu, and older ones know no "native" at all there.
    ways = [(f"-march={asked}",)] if asked else [("-march=native",), ("-mcpu=native",), ()]
    for flags in ways:
        try:
            macros = _macros(command, flags)
        except KernelError:
            continue
        tuning = (TUNING,) if "__x86_64__" in macros else ()
        compiler = Compiler(command, version, (*flags, *tuning), macros)
        if asked:
            _check_processor(compiler, asked)
        return compiler
    raise KernelError(_sentence(f"HW2_MARCH = {asked!r}: {name} does not know this processor"))


def _command() -> tuple[str, ...]:
    named = os.environ.get("CXX", "").strip()
    if named:
        try:
            return tuple(shlex.split(named))
        except ValueError as error:
            raise KernelError(_sentence(f"CXX = {named}: {str(error).lower()}")) from None
    found = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    if found is None:
        raise KernelError("no C++ compiler; install g++ or clang++, or name one by CXX")
    if sys.platform == "darwin" and not _has_command_line_tools():
        # There /usr/bin/c++ is always, and opens a window that offers to install the real one.
        raise KernelError("no C++ compiler; run xcode-select --install")
    return (found,)


def _has_command_line_tools() -> bool:
    try:
        _run(["xcode-select", "-p"], "there are no command line tools")
    except KernelError:
        return False
    return True


def _macros(command: tuple[str, ...], flags: tuple[str, ...]) -> frozenset[str]:
    asking = [*command, *flags, "-dM", "-E", "-x", "c++", os.devnull]
    text = _run(asking, f"{command[0]} knows no such processor")
    return frozenset(line.split()[1] for line in text.splitlines() if len(line.split()) > 1)


def _check_processor(compiler: Compiler, asked: str) -> None:
    """Refuse code that would end the process: what Linux does not list, the processor lacks."""
    flags = processor.cpu_flags()
    lacking = [name for name in compiler.extensions if EXTENSIONS[name][1] not in flags]
    if flags and lacking:
        raise KernelError(f"HW2_MARCH = {asked!r}: this processor has no {', '.join(lacking)}")


def _run(command: list[str], failure: str) -> str:
    """Return what a command prints.

    Raises:
        KernelError: it is not there, takes too long or fails; ``failure`` and the first of its
            errors.
    """
    try:
        # LC_ALL: errors are called errors in every language.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILER_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise KernelError(_sentence(f"no C++ compiler {command[0]}")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise KernelError(_sentence(f"{command[0]} cannot be run: {reason}")) from None
    except subprocess.TimeoutExpired:
        raise KernelError(_sentence(f"{failure} within {COMPILER_S:.0f} s")) from None
    if done.returncode == 0:
        return done.stdout
    errors = [line.partition("error: ")[2] for line in done.stderr.splitlines()]
    first = next((f": {error}" for error in errors if error), "")
    raise KernelError(_sentence(f"{failure}{first}"))


def _sentence(text: str) -> str:
    """Return the text on one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_CHARACTERS else line[: REASON_CHARACTERS - 3] + "..."


# --------------------------------------------------------------------------------------
# The cache
#
# A library is called stem-DECIDES-CONTENT.so: a file whose bytes do not have the digest that its
# name ends with was cut short or damaged, and is never loaded.


def _folder() -> Path:
    try:
        return cache_folder() / "kernels"
    except SourceError as error:
        raise KernelError(str(error)) from None


def _find(folder: Path, name: str) -> Path | None:
    for path in sorted(folder.glob(f"{name}-*.so")):
        if path.stem == f"{name}-{_digest(path)}":
            return path
        with suppress(OSError):  # of others, or on a disk that cannot be written
            path.unlink()
    return None


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return "unreadable"


def _compile(
    compiler: Compiler, defines: tuple[str, ...], folder: Path, name: str, source: str
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    with _alone(folder / f"{name}.lock"):
        if found := _find(folder, name):  # another process made it meanwhile
            return found
        with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as temporary:
            made = Path(temporary) / name
            command = [*compiler.command, *FLAGS, *compiler.machine_flags, *defines]
            _run(
                [*command, str(FOLDER / source), "-o", str(made)],
                f"{compiler.version} cannot compile {source}",
            )
            with made.open("rb+") as file:
                os.fsync(file.fileno())  # no machine that loses power leaves a name without bytes
            path = folder / f"{name}-{_digest(made)}.so"
            made.replace(path)
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time compile a library; where there are no locks, each of them does."""
    with path.open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what compiles that were killed have left."""
    for path in [*folder.glob("making-*"), *folder.glob("*.lock")]:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

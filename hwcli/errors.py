"""What a user can mend: every error here is printed as one line and ends with exit code 2."""

import errno
import reprlib
import sys

# A disk that is full, or that can only be read.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class HwError(Exception):
    """A mistake or a lack that the user can mend; its text is one line naming what and how."""


class ConfigError(HwError):
    """A value of a flag, a YAML file or a spec is wrong; names the key, the value, the choices.

    Its text stays one line of at most 300 characters, whatever a user typed: the middle goes.
    """

    LONGEST = 300

    def __init__(self, text: str):
        line = " ".join(text.split())
        if len(line) > self.LONGEST:
            line = f"{line[: self.LONGEST - 103]} … {line[-100:]}"
        super().__init__(line)


class SourceError(HwError):
    """A data set or weight file is not available; says what was tried and what to do."""


class OutputError(HwError):
    """The results folder cannot be written."""


class KernelError(HwError):
    """Compiled kernels were asked for, and cannot be made on this machine."""


class LauncherError(HwError):
    """A cluster cannot be used as it was asked to be; says what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def reason_of(error: BaseException) -> str:
    """Say in one line why a file cannot be read or written."""
    return str(getattr(error, "strerror", None) or first_line(error))


def is_out_of_gpu_memory(error: BaseException) -> bool:
    """Tell whether a GPU had no room: torch has an error of its own for that, and two texts."""
    torch = sys.modules.get("torch")  # what is not loaded cannot have raised it
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    texts = ("CUDA error: out of memory", "MPS backend out of memory")
    return isinstance(error, RuntimeError) and str(error).startswith(texts)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist, _REPR.maxtuple = 2, 3, 4, 4


def short(value: object) -> str:
    """Spell a value for a message, however large it is."""
    return _REPR.repr(value)

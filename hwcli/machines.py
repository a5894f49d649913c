"""What tells a machine, and a process on it, from all others."""

import functools
import hashlib
import os
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path

from hwcli import system


@functools.cache  # every file that is written asks for it
def machine_id() -> str:
    """Return a name for this machine since it was started, which says nothing about it.

    Containers count as machines of their own: they do not see each other's processes.
    """
    if sys.platform == "darwin":
        boot = system.output_of("sysctl", "-n", "kern.bootsessionuuid")
    else:
        boot = system.text_of("/proc/sys/kernel/random/boot_id")
    return _digest(_machine_name(), boot, _process_space())


@functools.cache
def host_id() -> str:
    """Return what :func:`machine_id` does, but a name that stays when the machine restarts."""
    return _digest(_machine_name(), system.text_of("/etc/machine-id"), _process_space())


@functools.cache
def _machine_name() -> str:
    if sys.platform == "darwin":  # its host name changes with the network
        answer = system.output_of("ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
        if found := re.search(r'"IOPlatformUUID" = "([^"]+)"', answer):
            return found[1]
    return platform.node()


def _process_space() -> str:
    with suppress(OSError):
        return Path("/proc/self/ns/pid").readlink().name
    return ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(filter(None, parts)).encode()).hexdigest()[:16]


ALIVE = "alive"
"""What is known of a process where no more can be seen."""


def process_start(process: int) -> str | None:
    """Return what tells a process from an earlier one of the same number; None if it is gone."""
    try:
        fields = _stat(process)
        return None if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, PermissionError):
        pass  # gone, hidden (another user's, under hidepid), or no /proc at all
    except (OSError, IndexError):
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ALIVE
    return None if Path("/proc/self").exists() else ALIVE


def is_stopped(process: int) -> bool:
    """Tell whether a process of this machine is stopped, as by Ctrl-Z."""
    if sys.platform == "darwin":
        return system.output_of("ps", "-o", "state=", "-p", str(process)).startswith("T")
    with suppress(OSError):
        return _stat(process)[:1] == ["T"]
    return False


def _stat(process: int) -> list[str]:
    """Return what /proc says of a process: first its state, 20th when it started.

    Raises:
        OSError: it is gone or hidden, or there is no /proc.
    """
    # After the program's name, which may hold spaces.
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()

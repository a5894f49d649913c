"""What a run's numbers depend on besides its config: code, command, versions and machine."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from hwcli import __version__, resources, runtime
from hwcli.processor import cpu_name

FINGERPRINTED_PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "datasets",
    "numpy",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pydantic",
)


def fingerprint(
    *, device: str = "cpu", dtype: str = "float32", num_threads: int | None = None
) -> dict[str, Any]:
    """Describe what numbers depend on besides the config: code, command, versions, machine.

    Holds no host name and no absolute path, so that it can be committed.
    """
    from importlib import metadata  # 10 ms, which the help does without

    versions = {}
    for package in FINGERPRINTED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    description = {
        **_commit(),
        "command_line": ["hw2", *map(_without_folders, sys.argv[1:])],
        "hw2": __version__,
        "python": platform.python_version(),
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": resources.num_cores(),
        "memory_bytes": resources.memory_bytes(),
        "device": device,
        "threads": num_threads or resources.num_cores(),
        "dtype": dtype,
    }
    if device == "mps":
        description["gpu"] = f"{description['cpu']} GPU"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():  # a cluster's, and this machine only submits to it
            return description
        description["gpu"] = torch.cuda.get_device_name()
        description["cuda"] = torch.version.cuda
        if dtype == "bfloat16" and not runtime.has_fast_bf16(torch.device(device)):
            description["bfloat16"] = "emulated"
    return description


def _without_folders(argument: str) -> str:
    """Keep the last part of an absolute path: folders of a machine are nobody else's business."""
    flag, equals, value = argument.rpartition("=")
    return flag + equals + (Path(value).name if Path(value).is_absolute() else value)


CODE = (".", "../configs", "../pyproject.toml")
"""What a run's numbers come from, as seen from this folder."""


def _commit() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        here = Path(__file__).parent
        try:
            # GIT_OPTIONAL_LOCKS: asking must not get in the way of the user's own git.
            done = subprocess.run(
                ["git", "-C", str(here), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed wheel may lie inside somebody else's repository: only our own counts.
    if not git("ls-files", "__init__.py"):
        return {"commit": None, "dirty": None}
    # Results and data that lie untracked in the clone do not change what was run.
    dirty = git("status", "--porcelain", "--", *CODE)
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if dirty is None else bool(dirty)}

"""Facts about where an attempt ran: versions, machine, device, commit. What its bits may depend on."""

import json
import os
import platform
import socket
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy", "ray", "mlflow", "pyarrow", "optuna")
GIT_SECONDS = 5.0
SOURCE_FILE = "source.json"
"""Beside a copy of the packages that has left its checkout: the commit, and whether there were changes."""


def collect_environment(*, device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """Describe this process as JSON values.

    Args:
        device: Torch device of the attempt; for a GPU its name is added.
        threads: Torch threads of the attempt, where they are known.
    """
    return {**_machine(), "device": device, "device_name": _device_name(device), "threads": threads}


@lru_cache(maxsize=1)
def _machine() -> dict[str, Any]:
    commit, dirty = source_state()
    return {
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "platform": platform.platform(),
        "processor": _processor(),
        "num_processors": os.cpu_count(),
        "hostname": socket.gethostname(),
        "git_commit": commit,
        "git_dirty": dirty,
    }


@lru_cache(maxsize=1)
def source_state() -> tuple[str | None, bool | None]:
    """Return the commit of this source tree and whether it has changes; `None`s where nobody knows."""
    folder = Path(__file__).resolve().parent.parent
    if (folder / SOURCE_FILE).is_file():
        told = json.loads((folder / SOURCE_FILE).read_text())
        return told["commit"], told["dirty"]
    if not (folder / ".git").exists():
        # Installed somewhere below another project's checkout: that commit would say nothing about this code.
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _device_name(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(torch.device(device)) if torch.cuda.is_available() else None

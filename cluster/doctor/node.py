"""What one node finds out: versions, GPUs, its clock, and how MLflow, the store and Ray's ports answer it.

It runs as a Ray task on every node, or directly on a machine without Ray. It judges nothing.
"""

import contextlib
import ipaddress
import os
import platform
import socket
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import requests

from sweep.invocation import without_password
from sweep.places import sqlite_path
from sweep.storage.files import open_files, public_place
from trainers.errors import SharpflatError

PACKAGES = ("ray", "torch", "mlflow", "numpy", "pyarrow", "sharpflat")
MLFLOW_REQUESTS = 5
TIMEOUT_SECONDS = 10.0
STORE_SECONDS = 30.0
"""A store that cannot be reached is tried for minutes by its client, and everything else waits meanwhile."""

DEVICES = Path("/dev")
_EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one node found out.

    Attributes:
        node: Its host name and address.
        versions: Of Python, the packages and the trainer's numerics.
        gpus: GPUs on which torch computes.
        gpu_devices: Devices of NVIDIA's driver that are there, whether or not they can be used.
        ray_gpus: GPUs that Ray gives out there; `None` without Ray.
        clock_offset: Seconds by which its clock is ahead of the asker's.
        clock_uncertainty: How exactly that is known.
        mlflow_seconds: Median time of a request, `None` where there was no answer or no server to ask.
        mlflow_problem: Why there was no answer.
        mlflow_open: Whether MLflow answers without a login, from an address that others can reach too.
        storage_problem: Why the store could not be written or read.
        marks_seen: Nodes whose mark in the store this one can read.
        open_ports: What answers without Ray's token.
        silence: Why it could not be asked; everything else is empty then.
    """

    node: str
    versions: Mapping[str, str]
    gpus: int
    silence: str | None = None
    gpu_devices: int = 0
    ray_gpus: float | None = None
    clock_offset: float = 0.0
    clock_uncertainty: float = 0.0
    mlflow_seconds: float | None = None
    mlflow_problem: str | None = None
    mlflow_open: bool = False
    storage_problem: str | None = None
    marks_seen: Sequence[str] = ()
    open_ports: Sequence[str] = ()


def get_ready() -> None:
    """Import what takes long, so that what is timed later is not this."""
    import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]


def look(
    node: str, *, tracking_uri: str | None, storage: str | None, token: str, doors: Sequence[str]
) -> Facts:
    """Find out everything that does not need the other nodes, and leave a mark in the store.

    Args:
        node: What to call this node.
        tracking_uri: MLflow; the node's own when left out.
        storage: The checkpoint store; the node's own when left out.
        token: Names this examination in the store.
        doors: Addresses that must refuse who comes without a token.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    seconds, problem, is_open = _ask_mlflow(uri)
    return Facts(
        node=node,
        versions=_versions(),
        gpus=_gpus(),
        gpu_devices=len(list(DEVICES.glob("nvidia[0-9]*"))),
        mlflow_seconds=seconds,
        mlflow_problem=problem,
        mlflow_open=is_open,
        storage_problem=_within(STORE_SECONDS, lambda: _leave_mark(storage, token, node)),
        open_ports=[_base(address) for address in doors if _lets_in(address)],
    )


def marks(storage: str | None, token: str, nodes: Sequence[str]) -> list[str]:
    """Return the nodes whose marks this node can read in the store.

    Each is asked for by its name: a network file system may remember for a minute what was in a folder, and a
    file that is listed may belong to somebody who lets nobody else read it.
    """
    place = _store(storage)
    if not place:
        return []
    files, found = open_files(place), list[str]()
    for node in nodes:
        with contextlib.suppress(SharpflatError, OSError):
            if files.get(f"{_folder(token)}/{node}") == node.encode():
                found.append(node)
    return found


def clean_up(storage: str | None, token: str) -> None:
    """Remove the marks, where the store lets itself be written."""
    place = _store(storage)
    if place:
        with contextlib.suppress(SharpflatError, OSError):
            open_files(place).delete_folder(_folder(token))


def _store(storage: str | None) -> str | None:
    return storage or os.environ.get("SWEEP_STORAGE")


def _folder(token: str) -> str:
    return f"doctor/{token}"


def _leave_mark(storage: str | None, token: str, node: str) -> str | None:
    place = _store(storage)
    if not place:
        return "no store is named: neither --storage nor $SWEEP_STORAGE"
    try:
        files = open_files(place)
        path = f"{_folder(token)}/{node}"
        files.put(path, node.encode())
        if files.get(path) != node.encode():
            return f"{public_place(files.place)}: what was written could not be read again"
    except (SharpflatError, OSError) as error:
        return str(error)
    return None


def _within(seconds: float, try_it: Callable[[], str | None]) -> str | None:
    """Return the problem that a trial has found, which may be that it takes too long."""
    found: list[str | None] = []
    trial = threading.Thread(target=lambda: found.append(try_it()), daemon=True)
    trial.start()
    trial.join(seconds)
    return found[0] if found else f"no answer within {seconds:g} s"


def _ask_mlflow(uri: str | None) -> tuple[float | None, str | None, bool]:
    if not uri:
        return None, "no MLflow is named: neither --tracking-uri nor $MLFLOW_TRACKING_URI", False
    if not uri.startswith("http"):
        # A database: only this machine's driver uses it, so the ledger's own check is the right one.
        return _open_database(uri)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    login = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
    times: list[float] = []
    try:
        with requests.Session() as session:
            for _ in range(MLFLOW_REQUESTS):
                began = time.perf_counter()
                answer = session.get(uri.rstrip("/") + _EXPERIMENTS, auth=login, timeout=TIMEOUT_SECONDS)
                times.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    return (
                        None,
                        f"{without_password(uri)} answers {answer.status_code} {answer.reason}",
                        False,
                    )
        stranger = requests.get(uri.rstrip("/") + _EXPERIMENTS, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        return None, f"{without_password(uri)}: {type(error).__name__}", False
    is_open = stranger.status_code == 200 and not _is_loopback(urlsplit(uri).hostname or "")
    return statistics.median(times), None, is_open


def _open_database(uri: str) -> tuple[float | None, str | None, bool]:
    from sweep.ledger import Ledger

    path = sqlite_path(uri)
    if path is not None and not path.exists():
        # The first sweep makes it.
        return None, None, False
    try:
        ledger = Ledger.open(uri, create=False)
        began = time.perf_counter()
        ledger.list_sweeps()
    except SharpflatError as error:
        return None, str(error), False
    return time.perf_counter() - began, None, False


def _is_loopback(host: str) -> bool:
    """Whether all addresses of a host are this machine's own, of either version of IP."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def _lets_in(address: str) -> bool:
    """Whether a request without a token is served, if only to say that there is nothing at this path."""
    try:
        answer = requests.get(address, timeout=TIMEOUT_SECONDS)
    except requests.RequestException:
        return False
    return answer.status_code not in (401, 403)


def _base(address: str) -> str:
    return "/".join(address.split("/")[:3])


def _versions() -> dict[str, str]:
    from trainers.canonical import NUMERICS_VERSION

    found = {"python": platform.python_version(), "numerics": str(NUMERICS_VERSION)}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _gpus() -> int:
    import torch

    found = 0
    for index in range(torch.cuda.device_count()):
        # With a driver that is too old for this torch, devices are counted and nothing runs on them.
        with contextlib.suppress(RuntimeError):
            torch.ones(1, device=f"cuda:{index}").sum().item()
            found += 1
    return found

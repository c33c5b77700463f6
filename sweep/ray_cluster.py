"""The connection to Ray: a cluster's, or a Ray started here with the processes that are used."""

import contextlib
import gc
import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import ray
from ray._private import node, ray_constants
from ray._private import worker as ray_worker
from ray.exceptions import RayError

from sweep.errors import ClusterError, NoRoomError
from sweep.lanes import free_gpu_bytes
from sweep.progress import count_of

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Tune's own recording and display are off; see `sweep.schedule`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one trial gets.

    Args:
        cpus: CPUs and torch threads.
        gpus: GPUs, fractions allowed.
    """

    cpus: int = 1
    gpus: float = 0.0


SECONDS_TO_CONNECT = 5.0
GCS_PORT = 6379
FOUND_BY_RAY = ("auto", "local")
"""Addresses that name no place."""

SECONDS_FOR_NODES = 900.0
"""How long a cluster is waited for that has no room for a trial yet: a machine takes minutes to come."""

SECONDS_TO_MEASURE = 120.0
"""How long it is waited for a GPU to look at."""

SECONDS_BETWEEN_LOOKS = 3.0

PARTS_OF_A_GPU = 10_000
"""Ray rounds fractions to so many parts."""

UNUSED_PARTS = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods of `ray._private.node.Node` that start the autoscaler, the reader of logs and Ray's web pages.

Nobody asks these on one machine. Each is a Python interpreter of its own that imports Ray, and `ray.init`
waits for the last. Ray has no option for it.
"""


@contextlib.contextmanager
def _only_what_is_used() -> Generator[None]:
    """Start a Ray without its unused parts; a version of Ray that calls them otherwise starts them all."""
    saved = {name: method for name in UNUSED_PARTS if (method := getattr(node.Node, name, None)) is not None}
    for name in saved:
        setattr(node.Node, name, _nothing)
    try:
        yield
    finally:
        for name, method in saved.items():
            setattr(node.Node, name, method)


def _nothing(*_: object, **__: object) -> None:
    """Stands for the start of a process that is not started."""


def require_reachable(address: str | None) -> None:
    """Make sure that something listens at a cluster's address; Ray itself tries for minutes.

    Args:
        address: As `--address` has it; `None` stands for a Ray that is started here.

    Raises:
        ClusterError: Nothing does, or it is the address of something else.
    """
    if address is None or address in FOUND_BY_RAY:
        return
    if address.startswith(("http://", "https://")):
        host = urlsplit(address).hostname
        raise ClusterError(
            f"--address: {address} is a cluster's dashboard, for `sweep submit` and `sweep resume`, which "
            "run failed cells again with all else that is missing (alone: `sweep resume` with --cell); "
            f"expected the address of its control store (GCS), such as {host}:{GCS_PORT}, or auto on "
            "one of its nodes.",
            transient=False,
        )
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ClusterError(
            f"--address: found {address!r}; expected HOST:PORT of a cluster's control store (GCS), such as "
            f"HOST:{GCS_PORT}, or auto on one of its nodes.",
            transient=False,
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray at {address}: {error.strerror or error}. Expected the address of a running cluster's "
            f"control store (GCS), HOST:{GCS_PORT} where it was not chosen otherwise."
        ) from error


def _be_placed() -> None:
    """Take a place on a node, for a moment."""


def fitting(nodes: Iterable[Mapping[str, Any]], resources: Resources) -> int:
    """Return how many trials fit at once on nodes, each of which takes whole trials.

    Args:
        nodes: As `ray.nodes` lists them, those that are gone among them.
        resources: Of one trial. A part of a GPU is one of a single GPU.
    """
    num_trials = 0
    for cpus, gpus in _alive(nodes):
        fits = [int(cpus // resources.cpus)]
        if resources.gpus:
            fits.append(_trials_on(int(gpus), resources.gpus))
        num_trials += min(fits)
    return num_trials


def _alive(nodes: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, float]]:
    """Yield the CPUs and GPUs of each node that is there."""
    for one in nodes:
        if one["Alive"]:
            yield one["Resources"].get("CPU", 0.0), one["Resources"].get("GPU", 0.0)


def _lacking(resources: Resources) -> str:
    shapes = Counter(_alive(ray.nodes()))
    found = ", ".join(
        f"{count_of(count, 'node')} of {cpus:g} CPUs and {gpus:g} GPUs"
        for (cpus, gpus), count in shapes.items()
    )
    return (
        f"a trial asks for {resources.cpus} CPUs and {resources.gpus:g} GPUs of one node; "
        f"the cluster has {found or 'no node'}"
    )


def _trials_on(num_gpus: int, gpus: float) -> int:
    """Return how many trials find a place on so many GPUs: a fraction is one of a single GPU."""
    if gpus >= 1:
        return int(num_gpus // gpus)
    return num_gpus * (PARTS_OF_A_GPU // max(1, round(gpus * PARTS_OF_A_GPU)))


class Cluster:
    """A connection to Ray: a cluster's, or one started here that listens on this machine only.

    Args:
        address: A cluster's address; `None` starts Ray here.
        cpus: CPUs of a Ray started here; `None` is all.
    """

    def __init__(self, address: str | None = None, *, cpus: int | None = None) -> None:
        os.environ.update(TUNE_ENVIRONMENT)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        self._started_here = address is None
        if self._started_here:
            # When all of Ray is killed, a driver is to end soon and not after a minute.
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
            # Ray would replace localhost by the machine's address, and its control store, node manager and
            # workers then listen on every interface. Where it keeps to one machine it does not.
            ray_constants.ENABLE_RAY_CLUSTER = False
            os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
            options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            if cpus is not None:
                options["num_cpus"] = cpus
        else:
            options["address"] = address
        # A Ray that is started here takes SIGTERM for itself and ends the process, without last checkpoints.
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with _only_what_is_used() if self._started_here else contextlib.nullcontext():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = address or "on this machine"
            raise ClusterError(f"no Ray cluster {where}: {error}") from error
        finally:
            if handler is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
        # What fails is recorded and said by the driver.
        for noisy in ("ray.tune", "ray.train"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)

    def is_lost(self) -> bool:
        """Whether the Ray that was started here has died, so that its trials would be waited for without end.

        A cluster's death is found out by Ray itself, which ends the driver.
        """
        # Ray has no other name for what it has started; a version without it is not watched.
        here = getattr(ray_worker, "_global_node", None) if self._started_here else None
        raylets = here.all_processes.get(ray_constants.PROCESS_TYPE_RAYLET, []) if here is not None else []
        return any(info.process.poll() is not None for info in raylets)

    def room(self, resources: Resources) -> int:
        """Return how many trials fit at once on the nodes that are there now."""
        return fitting(ray.nodes(), resources)

    def slots(
        self, resources: Resources, *, say: Callable[[str], None], stopped_within: Callable[[float], bool]
    ) -> int:
        """Return how many trials fit at once; a cluster whose nodes are still to come is waited for.

        Args:
            resources: Of one trial.
            say: Prints a line.
            stopped_within: Waits so many seconds for somebody to ask to stop; returns whether somebody has.

        Returns:
            At least 1; 0 where somebody has asked to stop meanwhile.

        Raises:
            NoRoomError: Not even one does, so that Tune would wait forever.
        """
        if found := self.room(resources):
            return found
        waited = 0.0
        if not self._started_here:
            say(
                f"no node has room for a trial yet: {_lacking(resources)}. Waiting for one, for "
                f"{SECONDS_FOR_NODES / 60:g} minutes at most; a cluster that adds nodes is asked for it"
            )
            # Whatever cannot be placed is what an autoscaler adds nodes for.
            place = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(_be_placed)
            wish = place.remote()
            try:
                while waited < SECONDS_FOR_NODES:
                    if stopped_within(SECONDS_BETWEEN_LOOKS):
                        return 0
                    if found := self.room(resources):
                        return found
                    waited += SECONDS_BETWEEN_LOOKS
            finally:
                ray.cancel(wish)
        raise NoRoomError(
            f"{_lacking(resources)}" + (f", after {waited / 60:g} minutes of waiting." if waited else ".")
        )

    def num_gpus(self) -> int:
        """Return how many GPUs the nodes have that are there now."""
        return int(sum(gpus for _, gpus in _alive(ray.nodes())))

    def free_gpu_bytes(self, gpus: float) -> int | None:
        """Return the free memory of a GPU that a trial may get; `None` where torch can use none there.

        Args:
            gpus: Of a trial.

        Raises:
            ClusterError: None was to be had.
        """
        if self._started_here:
            return free_gpu_bytes()
        # A process that has looked at a GPU holds some of it for as long as it lives.
        look = ray.remote(num_cpus=0, num_gpus=gpus, max_calls=1)(free_gpu_bytes).remote()
        try:
            return ray.get(look, timeout=SECONDS_TO_MEASURE)
        except RayError as error:
            ray.cancel(look)
            why = str(error).strip().splitlines() or [type(error).__name__]
            raise ClusterError(
                f"--lanes: auto looks at a GPU of the cluster, and none answered within "
                f"{SECONDS_TO_MEASURE:g} s ({why[-1]}). Give a number, or wait for a GPU to be free."
            ) from error

    def close(self) -> None:
        """Disconnect, and stop what was started here."""
        # References to Ray that a collection of garbage in another thread drops while Ray is taken down make
        # Ray end the process. So what is garbage goes before, and there is no collection meanwhile.
        gc.collect()
        gc.disable()
        try:
            ray.shutdown()
        finally:
            gc.enable()

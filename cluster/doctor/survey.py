"""Asks every node of a Ray cluster, or this machine alone, what it finds out."""

import contextlib
import json
import logging
import platform
import secrets
import time
from dataclasses import replace
from typing import Any

import ray
import requests
from ray._private.ray_constants import KV_NAMESPACE_DASHBOARD
from ray.dashboard.consts import DASHBOARD_AGENT_ADDR_NODE_ID_PREFIX
from ray.exceptions import RayError
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.doctor.node import TIMEOUT_SECONDS, Facts, clean_up, get_ready, look, marks
from sweep.errors import ClusterError

PATIENCE_SECONDS = 120.0
AGENT = "http://{address}:{port}/api/job_agent/jobs/doctor/logs"
"""Each node's own agent of the dashboard, which starts jobs too."""

DASHBOARD = "http://{address}:{port}/api/version"
AGENT_PORT, DASHBOARD_PORT = 52365, 8265
"""Ray's own choices."""


def ask_this_machine(*, tracking_uri: str | None, storage: str | None) -> list[Facts]:
    """Look at one machine without Ray."""
    token, node = secrets.token_hex(8), platform.node()
    facts = look(node, tracking_uri=tracking_uri, storage=storage, token=token, doors=_doors_here())
    if facts.storage_problem:
        return [facts]
    found = [replace(facts, marks_seen=marks(storage, token, [node]))]
    clean_up(storage, token)
    return found


def ask_cluster(address: str, *, tracking_uri: str | None, storage: str | None) -> list[Facts]:
    """Look at every node of a cluster.

    Args:
        address: As `ray.init` takes it.
        tracking_uri: MLflow; each node's own when left out.
        storage: Checkpoint store; each node's own when left out.

    Raises:
        ClusterError: There is no cluster.
    """
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {error}") from error
    try:
        url = context.dashboard_url
        host, _, port = (url or "").rpartition(":")
        return _ask(tracking_uri, storage, DASHBOARD.format(address=host, port=port) if url else None)
    finally:
        ray.shutdown()


def _ask(tracking_uri: str | None, storage: str | None, dashboard: str | None) -> list[Facts]:
    token = secrets.token_hex(8)
    alive = {_name(node): node for node in ray.nodes() if node["Alive"]}
    doors = [
        AGENT.format(address=node["NodeManagerAddress"], port=_agent_port(node)) for node in alive.values()
    ]
    doors += [dashboard] if dashboard else []
    # Starting a process takes seconds, which would count as the clock's: first, everywhere at once.
    ready = {name: _on(node, get_ready).remote() for name, node in alive.items()}
    found: dict[str, Facts] = {}
    for name, node in alive.items():
        # One after the other: the clocks are compared, and MLflow is timed.
        try:
            ray.get(ready[name], timeout=PATIENCE_SECONDS)
            began = time.time()
            clock: Any = ray.get(_on(node, time.time).remote(), timeout=PATIENCE_SECONDS)
            ended = time.time()
            asked = _on(node, look).remote(
                name, tracking_uri=tracking_uri, storage=storage, token=token, doors=doors
            )
            facts: Any = ray.get(asked, timeout=PATIENCE_SECONDS)
        except RayError as error:
            found[name] = _silent(name, error)
            continue
        found[name] = replace(
            facts,
            clock_offset=clock - (began + ended) / 2,
            clock_uncertainty=(ended - began) / 2,
            ray_gpus=float(node["Resources"].get("GPU", 0.0)),
        )
    writers = [name for name, one in found.items() if one.silence is None and not one.storage_problem]
    seen = {name: _on(alive[name], marks).remote(storage, token, writers) for name in writers}
    for name, reference in seen.items():
        try:
            names: Any = ray.get(reference, timeout=PATIENCE_SECONDS)
        except RayError as error:
            found[name] = _silent(name, error)
            continue
        found[name] = replace(found[name], marks_seen=names)
    # In a store of each node's own everyone has marks to remove; one that stays does no harm.
    cleaned = [_on(alive[name], clean_up).remote(storage, token) for name in writers]
    if cleaned:
        ray.wait(cleaned, num_returns=len(cleaned), timeout=PATIENCE_SECONDS)
    return list(found.values())


def _agent_port(node: dict[str, Any]) -> int:
    """Return where a node's agent listens, as it has told the control store."""
    key = f"{DASHBOARD_AGENT_ADDR_NODE_ID_PREFIX}{node['NodeID']}".encode()
    told = internal_kv._internal_kv_get(  # pyright: ignore[reportPrivateUsage]
        key, namespace=KV_NAMESPACE_DASHBOARD
    )
    return int(json.loads(told)[1]) if told else AGENT_PORT


def _doors_here() -> list[str]:
    """Return what must refuse strangers of a Ray that somebody has started on this machine, if any.

    Anything may listen on these ports; Ray's own tells everybody what it is.
    """
    asked = (
        (DASHBOARD_PORT, "api/authentication_mode", "authentication_mode", DASHBOARD),
        (AGENT_PORT, "api/healthz", "raylet", AGENT),
    )
    found: list[str] = []
    for port, path, marker, door in asked:
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(f"http://127.0.0.1:{port}/{path}", timeout=TIMEOUT_SECONDS)
            if marker in answer.text:
                found.append(door.format(address="127.0.0.1", port=port))
    return found


def _silent(name: str, error: RayError) -> Facts:
    return Facts(node=name, versions={}, gpus=0, silence=type(error).__name__)


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']}-{node['NodeManagerAddress']}"


def _on(node: dict[str, Any], function: Any) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(_plain(function)).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0)


def _plain(function: Any) -> Any:
    """Return a Python function: Ray takes no built-in ones."""

    def call(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return call

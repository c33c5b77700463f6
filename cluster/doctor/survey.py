"""Asks every node of a Ray cluster, or this machine alone, what it finds out."""

import logging
import platform
import secrets
import time
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.doctor.node import Facts, clean_up, look, marks
from sweep.errors import ClusterError

PATIENCE_SECONDS = 120.0
AGENT = "http://{address}:52365/api/job_agent/jobs/doctor/logs"
"""Each node's own agent of the dashboard, which starts jobs too."""


def ask_this_machine(*, tracking_uri: str | None, storage: str | None) -> list[Facts]:
    """Look at one machine without Ray."""
    token, node = secrets.token_hex(8), platform.node()
    facts = look(node, tracking_uri=tracking_uri, storage=storage, token=token, doors=())
    found = [replace(facts, marks_seen=marks(storage, token))]
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
        return _ask(tracking_uri, storage, f"http://{url}" if url else None)
    finally:
        ray.shutdown()


def _ask(tracking_uri: str | None, storage: str | None, dashboard: str | None) -> list[Facts]:
    token = secrets.token_hex(8)
    alive = [node for node in ray.nodes() if node["Alive"]]
    doors = [AGENT.format(address=node["NodeManagerAddress"]) for node in alive]
    doors += [f"{dashboard}/api/version"] if dashboard else []
    found: list[Facts] = []
    for node in alive:
        # One after the other: the clocks are compared, and MLflow is timed.
        name = f"{node['NodeManagerHostname']}-{node['NodeManagerAddress']}"
        task = _on(node, look)
        # A first call, which starts a process there and imports what is needed, would count as the clock's.
        ray.get(_on(node, time.time).remote(), timeout=PATIENCE_SECONDS)
        began = time.time()
        clock: Any = ray.get(_on(node, time.time).remote(), timeout=PATIENCE_SECONDS)
        ended = time.time()
        reference = task.remote(name, tracking_uri=tracking_uri, storage=storage, token=token, doors=doors)
        facts: Any = ray.get(reference, timeout=PATIENCE_SECONDS)
        found.append(
            replace(
                facts,
                clock_offset=clock - (began + ended) / 2,
                clock_uncertainty=(ended - began) / 2,
                ray_gpus=float(node["Resources"].get("GPU", 0.0)),
            )
        )
    seen: Any = ray.get([_on(node, marks).remote(storage, token) for node in alive], timeout=PATIENCE_SECONDS)
    ray.get(_on(alive[0], clean_up).remote(storage, token), timeout=PATIENCE_SECONDS)
    return [replace(facts, marks_seen=names) for facts, names in zip(found, seen, strict=True)]


def _on(node: dict[str, Any], function: Any) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(_plain(function)).options(num_cpus=0, scheduling_strategy=strategy, max_retries=0)


def _plain(function: Any) -> Any:
    """Return a Python function: Ray takes no built-in ones."""

    def call(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return call

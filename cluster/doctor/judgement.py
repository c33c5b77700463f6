"""From what the nodes found out to findings: each says what is wrong, where, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.doctor.node import Facts

MLFLOW_SLOW_SECONDS = 0.25
"""A request that takes longer: recording a cell takes a few, and a lease is renewed by them."""

CLOCK_SKEW_SECONDS = 2.0
"""Times of points in MLflow are the nodes' own; leases go by each process's own clock and do not mind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result.

    Args:
        check: What was looked at.
        good: Whether all is well.
        what: What was found, and where.
        advice: What to do; empty where all is well.
    """

    check: str
    good: bool
    what: str
    advice: str = ""


def judge(nodes: Sequence[Facts]) -> list[Finding]:
    """Return the findings on all nodes together, one at least for every check."""
    told = [node for node in nodes if node.silence is None]
    checks = (_versions, _storage, _mlflow, _gpus, _clocks, _ports)
    return [*_nodes(nodes), *(finding for check in checks for finding in check(told))]


def _nodes(nodes: Sequence[Facts]) -> list[Finding]:
    found = [
        _bad("nodes", f"{node.node} does not answer: {node.silence}", "look at its log, or start it again")
        for node in nodes
        if node.silence is not None
    ]
    return found or [_good("nodes", f"{_count(nodes)} answering")]


def _versions(nodes: Sequence[Facts]) -> list[Finding]:
    found: list[Finding] = []
    for name in sorted({name for node in nodes for name in node.versions}):
        where: dict[str, list[str]] = {}
        for node in nodes:
            where.setdefault(node.versions.get(name, "not installed"), []).append(node.node)
        if len(where) > 1:
            told = "; ".join(f"{version} on {', '.join(who)}" for version, who in where.items())
            advice = f"install one version of {name} on every node (the image, or constraints.txt)"
            found.append(_bad("versions", f"{name}: {told}", advice))
        elif "not installed" in where and name != "sharpflat":
            advice = "in a checkout: pip install -c constraints.txt -e '.[cluster]'"
            found.append(_bad("versions", f"{name} is not installed", advice))
    return found or [_good("versions", f"equal on {_count(nodes)}")]


def _storage(nodes: Sequence[Facts]) -> list[Finding]:
    found = [
        _bad(
            "storage",
            f"{node.node}: {node.storage_problem}",
            "name a store that every node can write (--storage, $SWEEP_STORAGE); for S3, look at the keys",
        )
        for node in nodes
        if node.storage_problem
    ]
    writers = {node.node for node in nodes if not node.storage_problem}
    for node in nodes:
        unseen = sorted(writers - set(node.marks_seen)) if node.node in writers else []
        if unseen:
            what = f"{node.node} does not see what {', '.join(unseen)} wrote"
            advice = "the store is a folder of each node's own; name one that they share (S3, NFS)"
            found.append(_bad("storage", what, advice))
    return found or [_good("storage", f"shared and writable from {_count(nodes)}")]


def _mlflow(nodes: Sequence[Facts]) -> list[Finding]:
    found: list[Finding] = []
    for node in nodes:
        if node.mlflow_problem:
            advice = "start MLflow; or look at the network, its address, and $MLFLOW_TRACKING_USERNAME"
            found.append(_bad("mlflow", f"{node.node}: {node.mlflow_problem}", advice))
        elif node.mlflow_seconds is not None and node.mlflow_seconds > MLFLOW_SLOW_SECONDS:
            what = f"{node.node}: a request takes {node.mlflow_seconds * 1000:.0f} ms"
            advice = "give it and its database more CPU, set auth_cache_ttl_seconds, or move them nearer"
            found.append(_bad("mlflow", what, advice))
    if any(node.mlflow_open for node in nodes):
        advice = "start it with --app-name basic-auth, or let it listen on localhost only"
        found.append(_bad("mlflow", "anybody who reaches MLflow can read and delete without a login", advice))
    slowest = max((node.mlflow_seconds or 0.0 for node in nodes), default=0.0)
    return found or [_good("mlflow", f"reached from {_count(nodes)}, {slowest * 1000:.0f} ms at most")]


def _gpus(nodes: Sequence[Facts]) -> list[Finding]:
    found: list[Finding] = []
    for node in nodes:
        if node.ray_gpus is not None and int(node.ray_gpus) != node.gpus:
            what = f"{node.node}: Ray gives out {node.ray_gpus:g} GPUs, torch can use {node.gpus}"
            advice = "look at the driver and the container's access to the GPUs, or at ray start --num-gpus"
            found.append(_bad("gpus", what, advice))
        elif node.gpu_devices and not node.gpus:
            what = f"{node.node}: {node.gpu_devices} GPUs are there, torch can use none"
            advice = "update NVIDIA's driver to one that this torch wants, or install torch with CUDA"
            found.append(_bad("gpus", what, advice))
    count = sum(node.gpus for node in nodes)
    none = (
        "none, trials get CPUs. If there should be some: workers with GPUs are asked for in docs/cluster.md"
    )
    return found or [_good("gpus", f"{count} in all" if count else none)]


def _clocks(nodes: Sequence[Facts]) -> list[Finding]:
    found: list[Finding] = []
    for node in nodes:
        if abs(node.clock_offset) - node.clock_uncertainty > CLOCK_SKEW_SECONDS:
            ahead = "ahead" if node.clock_offset > 0 else "behind"
            what = f"{node.node} is {abs(node.clock_offset):.1f} s {ahead}"
            found.append(_bad("clocks", what, "let every node keep time by NTP (chrony, systemd-timesyncd)"))
    return found or [_good("clocks", f"within {CLOCK_SKEW_SECONDS:g} s on {_count(nodes)}")]


def _ports(nodes: Sequence[Facts]) -> list[Finding]:
    found = [
        _bad(
            "ports",
            f"{address} runs code for whoever reaches it, from {node.node} for one",
            "start Ray with RAY_AUTH_MODE=token on every node (docs/cluster.md)",
        )
        for node in nodes
        for address in node.open_ports
    ]
    return found or [_good("ports", "none of Ray's that answers without the token")]


def _good(check: str, what: str) -> Finding:
    return Finding(check=check, good=True, what=what)


def _bad(check: str, what: str, advice: str) -> Finding:
    return Finding(check=check, good=False, what=what, advice=advice)


def _count(nodes: Sequence[Facts]) -> str:
    return "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"

"""KubeRay's RayCluster and RayJob, as text (KubeRay 1.6 or newer, for `authOptions.secretName`).

A RayJob starts a cluster, runs one sweep on it and takes it down. A driver that is killed is started again
there (`cluster.keeper`). `backoffLimit` counts every job that fails, so the keeper says of one that came to
its end (stopped, with cells that failed, or by bad input) that it succeeded; after any other a cluster is
begun anew, for what is missing.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from cluster.keeper import STOPPED_IS_DONE
from cluster.spec import ClusterSpec, Workers

SPACES_FOLDER = "/spaces"
SPACE_FILE = "space.yaml"
GRACE_SECONDS = 60
DRAIN_SECONDS = 30
"""A pod that is told to end goes on for so long and takes nothing new; a trial commits every few seconds."""

USER_ID = 1000
"""The account of cluster/Dockerfile."""

DATA_FOLDER = "/data"
"""The data folder of that image, `$SHARPFLAT_DATA`."""

GPU_RESOURCE = "nvidia.com/gpu"
_PORTS = {"gcs-server": 6379, "dashboard": 8265}


def ray_cluster(spec: ClusterSpec) -> str:
    """Return the manifest of a cluster that stays until it is deleted."""
    return _yaml(
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": spec.name},
            "spec": _cluster(spec),
        }
    )


def ray_job(
    spec: ClusterSpec,
    *,
    name: str,
    space: str,
    space_text: str | None = None,
    search: bool = False,
    options: Sequence[str] = (),
) -> str:
    """Return the manifest of a cluster that runs one sweep.

    Args:
        spec: The cluster.
        name: The sweep's name.
        space: A name that the image knows; ignored where there is a text.
        space_text: A space as YAML; it travels in a ConfigMap.
        search: Whether it is searched, and not run.
        options: More options of `sweep run`, or `sweep search`.
    """
    files = [] if space_text is None else [_config_map(spec, space_text)]
    what = space if space_text is None else f"{SPACES_FOLDER}/{SPACE_FILE}"
    verb = "search" if search else "run"
    command = ["python", "-m", "cluster.keeper", STOPPED_IS_DONE, verb, what, "--name", name]
    command += ["--address", "auto"]
    command += ["--gpus-per-trial", "1"] if spec.workers[0].gpus else []
    command += options
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": spec.name},
        "spec": {
            "entrypoint": shlex.join(command),
            "submissionMode": "K8sJobMode",
            "backoffLimit": spec.retries,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": _cluster(spec, with_space=space_text is not None),
        },
    }
    return "---\n".join(_yaml(one) for one in [*files, job])


def _cluster(spec: ClusterSpec, *, with_space: bool = False) -> dict[str, Any]:
    head = _pod(spec, "ray-head", spec.head_cpus, spec.head_memory_gib)
    head["containers"][0]["ports"] = [{"name": name, "containerPort": port} for name, port in _PORTS.items()]
    if with_space:
        _mount(head, "space", SPACES_FOLDER, {"configMap": {"name": _space_name(spec)}})
    return {
        "rayVersion": spec.ray_version,
        "authOptions": {"mode": "token", "secretName": spec.token_secret},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": 300},
        "headGroupSpec": {
            # No CPUs: the head is never busy with trials, and is not lost because of one.
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},
            "serviceType": "ClusterIP",
            "template": {"spec": head},
        },
        "workerGroupSpecs": [_group(spec, group) for group in spec.workers],
    }


def _group(spec: ClusterSpec, group: Workers) -> dict[str, Any]:
    pod = _pod(spec, "ray-worker", group.cpus, group.memory_gib, group.gpus)
    if group.node_selector:
        pod["nodeSelector"] = dict(group.node_selector)
    if group.gpus:
        pod["tolerations"] = [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "groupName": group.name,
        "replicas": group.min_nodes,
        "minReplicas": group.min_nodes,
        "maxReplicas": group.max_nodes,
        "rayStartParams": {},
        "template": {"spec": pod},
    }


def _pod(spec: ClusterSpec, name: str, cpus: int, memory_gib: int, gpus: int = 0) -> dict[str, Any]:
    amounts: dict[str, Any] = {"cpu": str(cpus), "memory": f"{memory_gib}Gi"}
    if gpus:
        amounts[GPU_RESOURCE] = str(gpus)
    container = {
        "name": name,
        "image": spec.image,
        "env": [
            {"name": "MLFLOW_TRACKING_URI", "value": spec.tracking_uri},
            {"name": "SWEEP_STORAGE", "value": spec.storage},
            {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": str(DRAIN_SECONDS)},
            # A worker whose head was started anew finds out so soon, ends, and joins the new one.
            {"name": "RAY_raylet_liveness_self_check_interval_ms", "value": "5000"},
        ],
        "envFrom": [{"secretRef": {"name": spec.environment_secret}}],
        # Equal requests and limits: Ray counts what it was promised.
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod: dict[str, Any] = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
    }
    if spec.data_claim is not None:
        _mount(pod, "data", DATA_FOLDER, {"persistentVolumeClaim": {"claimName": spec.data_claim}})
    return pod


def _mount(pod: dict[str, Any], name: str, folder: str, source: Mapping[str, Any]) -> None:
    """Give the one container of a pod a volume."""
    pod["containers"][0].setdefault("volumeMounts", []).append({"name": name, "mountPath": folder})
    pod.setdefault("volumes", []).append({"name": name, **source})


def _config_map(spec: ClusterSpec, space_text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _space_name(spec)},
        "data": {SPACE_FILE: space_text},
    }


def _space_name(spec: ClusterSpec) -> str:
    return f"{spec.name}-space"


class _PlainDumper(yaml.SafeDumper):
    """Writes equal values out instead of referring back to the first (`&id001`)."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(values: dict[str, Any]) -> str:
    return yaml.dump(values, Dumper=_PlainDumper, sort_keys=False, width=110)

"""Files for `ray up`: a cluster on a cloud (AWS), and one on machines that are there already.

The dashboard stays on the head's localhost (`ray dashboard FILE` opens a tunnel), the token travels as a
file, and the cloud's machines accept SSH from outside and nothing else, which is what Ray's own security
group says.
"""

import shlex
from typing import Any

import yaml

from cluster.spec import ClusterSpec, Workers
from trainers.errors import ConfigError

HEAD_TYPE = "head"
PORT = 6379
_TOKEN, _ENVIRONMENT = "/home/sweep/.ray/auth_token", "/home/sweep/sharpflat.env"
FILES = {_TOKEN: "~/.ray/auth_token", _ENVIRONMENT: "~/sharpflat.env"}
"""In the container, and on the machine that types `ray up`: Ray's token; MLflow's login and the S3 keys."""

_PREPARE = f"ulimit -n 65536; set -a; . {_ENVIRONMENT}; set +a"

DEFAULT_INSTANCE = "m6i.2xlarge"
_DEFAULT_CPUS, _DEFAULT_MEMORY_GIB = 8, 32
"""What a machine of that type has, and no GPU."""


def on_cloud(spec: ClusterSpec) -> str:
    """Return the file for a cluster on AWS that grows and shrinks.

    Raises:
        ConfigError: A group has no `instance_type`, and the default one is less than it says.
    """
    head: dict[str, Any] = {
        # It trains nothing, so that losing a spot machine never loses the head.
        "resources": {"CPU": 0},
        "node_config": {"InstanceType": spec.cloud.head_instance},
    }
    values = _common(spec) | {
        "max_workers": sum(group.max_nodes for group in spec.workers),
        "idle_timeout_minutes": 10,
        "provider": {"type": "aws", "region": spec.cloud.region, "cache_stopped_nodes": False},
        "auth": {"ssh_user": spec.cloud.ssh_user},
        "available_node_types": {HEAD_TYPE: head, **{one.name: _node_type(one) for one in spec.workers}},
        "head_node_type": HEAD_TYPE,
    }
    return _yaml(values)


def on_premise(spec: ClusterSpec) -> str:
    """Return the file for a cluster on given machines.

    Raises:
        ConfigError: It is not said which.
    """
    place = spec.on_premise
    if place.head is None or not place.workers:
        raise ConfigError(
            f"on_premise: found head {place.head!r} and workers {list(place.workers)}; expected the names or "
            "addresses of machines, as in on_premise: {head: 192.168.1.10, workers: [192.168.1.11]}"
        )
    values = _common(spec) | {
        "max_workers": len(place.workers),
        "provider": {"type": "local", "head_ip": place.head, "worker_ips": list(place.workers)},
        "auth": {"ssh_user": place.ssh_user, "ssh_private_key": place.ssh_private_key},
    }
    return _yaml(values)


def _common(spec: ClusterSpec) -> dict[str, Any]:
    return {
        "cluster_name": spec.name,
        "docker": {
            "image": spec.image,
            "container_name": spec.name,
            "pull_before_run": False,
            "run_options": [
                "--ulimit nofile=65536:65536",
                # Where a machine has GPUs Ray takes NVIDIA's runtime, which gives a container none unless it
                # asks for them, as NVIDIA's own images do. Elsewhere these mean nothing.
                "--env NVIDIA_VISIBLE_DEVICES=all",
                "--env NVIDIA_DRIVER_CAPABILITIES=compute,utility",
                "--env RAY_AUTH_MODE=token",
                f"--env RAY_AUTH_TOKEN_PATH={_TOKEN}",
                # Ray puts these into a shell's command line; the address of a store may have `&` in it.
                f"--env {shlex.quote(f'MLFLOW_TRACKING_URI={spec.tracking_uri}')}",
                f"--env {shlex.quote(f'SWEEP_STORAGE={spec.storage}')}",
            ],
        },
        "file_mounts": dict(FILES),
        "head_start_ray_commands": [
            "ray stop",
            f"{_PREPARE}; ray start --head --port={PORT} --dashboard-host=127.0.0.1 "
            "--autoscaling-config=~/ray_bootstrap_config.yaml --disable-usage-stats",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"{_PREPARE}; ray start --address=$RAY_HEAD_IP:{PORT} --disable-usage-stats",
        ],
    }


def _node_type(group: Workers) -> dict[str, Any]:
    config: dict[str, Any] = {"InstanceType": _instance_type(group)}
    if group.spot:
        config["InstanceMarketOptions"] = {"MarketType": "spot"}
    resources = {"CPU": group.cpus} | ({"GPU": group.gpus} if group.gpus else {})
    return {
        "min_workers": group.min_nodes,
        "max_workers": group.max_nodes,
        "resources": resources,
        "node_config": config,
    }


def _instance_type(group: Workers) -> str:
    """Return the cloud's name of a group's machines.

    Raises:
        ConfigError: It is not given, and a machine of the default type has less than the group says, which
            Ray would count on.
    """
    if group.instance_type is not None:
        return group.instance_type
    if group.gpus or group.cpus > _DEFAULT_CPUS or group.memory_gib > _DEFAULT_MEMORY_GIB:
        raise ConfigError(
            f"workers: group {group.name!r}: found no instance_type for machines of {group.cpus} CPUs, "
            f"{group.memory_gib} GiB and {group.gpus} GPUs; expected the cloud's name of such a machine "
            f"(g6.2xlarge has 8 CPUs, 32 GiB and a GPU). The default, {DEFAULT_INSTANCE}, has "
            f"{_DEFAULT_CPUS} CPUs, {_DEFAULT_MEMORY_GIB} GiB and no GPU."
        )
    return DEFAULT_INSTANCE


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, width=110)

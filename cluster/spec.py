"""What a cluster is, in one small value that every renderer takes.

It is read from YAML, so it is checked here: a mistake is answered with its place and what was expected.
"""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainers.errors import ConfigError

# KubeRay appends up to 13 characters of its own, and a Kubernetes name has at most 63.
DnsName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
Place = Annotated[str, Field(pattern=r"^\S+$")]
DEFAULT_IMAGE = "sharpflat:0.1.0"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workers(_Frozen):
    """Machines that train, all alike.

    Attributes:
        name: Of the group.
        min_nodes: Machines that are always there.
        max_nodes: Machines at most; the autoscaler adds them while trials wait.
        cpus: CPUs of one machine.
        memory_gib: Memory of one machine.
        gpus: GPUs of one machine.
        node_selector: Labels of the Kubernetes nodes to use.
        instance_type: The cloud's name of such a machine, for `ray up`; `None` is m6i.2xlarge,
            where that has what the group says.
        spot: Whether the cloud may take the machines back; the work since the last checkpoints is repeated.
    """

    name: DnsName = "workers"
    min_nodes: Annotated[int, Field(ge=0)] = 1
    max_nodes: Annotated[int, Field(ge=1)] = 4
    cpus: Annotated[int, Field(ge=1)] = 8
    memory_gib: Annotated[int, Field(ge=1)] = 16
    gpus: Annotated[int, Field(ge=0)] = 0
    node_selector: dict[str, str] = {}
    instance_type: Place | None = None
    spot: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Workers":
        if self.min_nodes > self.max_nodes:
            raise ValueError(f"min_nodes {self.min_nodes} is above max_nodes {self.max_nodes}")
        return self


class Slurm(_Frozen):
    """What a SLURM job asks for besides its machines.

    Attributes:
        partition: Of the site; `None` is its default.
        account: Who pays; `None` is the user's default.
        time_limit: As SLURM writes it, [days-]hours:minutes:seconds.
        grace_seconds: How long before its end the job is told, so that it can write checkpoints.
        setup: Shell lines that make `sweep` and `ray` callable.
    """

    partition: Place | None = None
    account: Place | None = None
    time_limit: Annotated[str, Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")] = "12:00:00"
    grace_seconds: Annotated[int, Field(ge=30, le=65535)] = 120
    setup: tuple[str, ...] = ("source .venv/bin/activate",)


class Cloud(_Frozen):
    """What `ray up` needs to know of a cloud (AWS).

    Attributes:
        region: Where.
        head_instance: Machine of the head, which trains nothing.
        ssh_user: Account on the machines' image.
    """

    region: Place = "us-west-2"
    head_instance: Place = "m6i.large"
    ssh_user: Place = "ubuntu"


class OnPremise(_Frozen):
    """What `ray up` needs to know of machines that are there already.

    Attributes:
        head: Host name or address of the head, which trains as well. It and `workers` must be given.
        workers: Host names or addresses of the others.
        ssh_user: Account on all of them.
        ssh_private_key: Path of its key on the machine that types `ray up`.
    """

    head: Place | None = None
    workers: tuple[Place, ...] = ()
    ssh_user: Place = "ray"
    ssh_private_key: Place = "~/.ssh/id_ed25519"


class ClusterSpec(_Frozen):
    """A Ray cluster with everything a sweep needs.

    Attributes:
        name: Of the cluster.
        image: The container image, built from cluster/Dockerfile.
        ray_version: Of that image; KubeRay wants to know it.
        tracking_uri: MLflow, as the cluster's machines reach it.
        storage: Checkpoint store, shared by all machines.
        token_secret: Kubernetes Secret with Ray's token under `auth_token`.
        environment_secret: Kubernetes Secret that becomes environment variables: MLflow's login, S3 keys.
        data_claim: Kubernetes PersistentVolumeClaim with data sets, the data folder of every pod; without one
            each pod has an empty folder of its own.
        head_cpus: CPUs of the head, for Ray and the driver; it trains nothing.
        head_memory_gib: Memory of the head.
        workers: Groups of machines that train. SLURM takes the first.
        retries: How often another cluster is begun for a RayJob whose driver did not come to an end: its
            cluster died, it was killed again and again, it could not record, or not download its data. It
            goes on from the checkpoints.
            Cells that failed and bad input are an end.
        slurm: See `Slurm`.
        cloud: See `Cloud`.
        on_premise: See `OnPremise`.
    """

    name: DnsName = "sharpflat"
    image: Place = DEFAULT_IMAGE
    ray_version: Place = "2.60.0"
    tracking_uri: Place = "http://mlflow:5000"
    storage: Place = "s3://sharpflat/storage"
    token_secret: DnsName = "sharpflat-ray"
    environment_secret: DnsName = "sharpflat-environment"
    data_claim: DnsName | None = None
    head_cpus: Annotated[int, Field(ge=1)] = 2
    head_memory_gib: Annotated[int, Field(ge=2)] = 8
    workers: Annotated[tuple[Workers, ...], Field(min_length=1)] = (Workers(),)
    retries: Annotated[int, Field(ge=0)] = 3
    slurm: Slurm = Slurm()
    cloud: Cloud = Cloud()
    on_premise: OnPremise = OnPremise()

    @model_validator(mode="after")
    def _distinct(self) -> "ClusterSpec":
        names = [group.name for group in self.workers]
        if len(set(names)) < len(names):
            raise ValueError(f"workers: two groups have one name: {', '.join(names)}")
        return self


def load_spec(path: Path | None) -> ClusterSpec:
    """Read a spec; without a file every field has its default.

    Raises:
        ConfigError: It cannot be read, or a field is not as it should be.
    """
    if path is None:
        return ClusterSpec()
    try:
        values = yaml.safe_load(path.read_text())
        return ClusterSpec.model_validate({} if values is None else values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}, found {one['input']!r}"
            for one in error.errors()
        )
        raise ConfigError(f"{path}: {told}") from error

"""The files for KubeRay, SLURM and `ray up`: as they were, as their readers want them, and closed."""

import json
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml

from cluster.kuberay import DATA_FOLDER, ray_cluster, ray_job
from cluster.ray_up import on_cloud, on_premise
from cluster.spec import ClusterSpec, OnPremise, Workers, load_spec
from sweep.run_options import RunOptions
from tests.cluster.clusters import GIVEN, GOLDEN, GPUS, PLAIN, SPACE_TEXT, files
from tests.pages import ROOT
from trainers.errors import ConfigError

COMMIT_SECONDS = RunOptions(name="any").commit_seconds


@pytest.mark.parametrize("name", sorted(files()))
def test_files_are_as_they_were(name: str) -> None:
    assert files()[name] == (GOLDEN / name).read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(files())


@pytest.mark.parametrize("name", [name for name in files() if name.startswith("ray-up")])
def test_ray_up_files_pass_ray_s_own_schema(name: str) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load(files()[name]), schema)


@pytest.mark.parametrize("write", [on_cloud, on_premise])
def test_the_store_s_address_survives_the_shell_in_which_ray_starts_the_container(
    write: Callable[[ClusterSpec], str],
) -> None:
    from ray.autoscaler._private.docker import docker_start_cmds

    store = "s3://bucket/a?region=garage&endpoint_override=http%3A%2F%2Fs3:3900;$HOME"
    docker = yaml.safe_load(write(GIVEN.model_copy(update={"storage": store})))["docker"]
    command = docker_start_cmds(
        "ubuntu", docker["image"], {}, "name", docker["run_options"], "cluster", "/home", "docker"
    )
    shown = subprocess.run(
        ["sh", "-c", 'docker() { printf "%s\\n" "$@"; }; ' + command],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert f"SWEEP_STORAGE={store}" in shown
    assert shown[-2:] == [docker["image"], "bash"]


@pytest.mark.parametrize("name", [name for name in files() if name.startswith("ray-up")])
def test_ray_up_files_are_what_ray_makes_its_defaults_for(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(files()[name])
    prepared = prepare_config(config)
    validate_config(prepared)
    assert sum(one.get("max_workers", 0) for one in prepared["available_node_types"].values()) >= 2


@pytest.mark.parametrize(
    "more", [{"gpus": 1}, {"cpus": 16}, {"memory_gib": 64}], ids=lambda more: next(iter(more))
)
def test_a_cloud_s_machine_that_has_less_than_its_group_says_is_not_taken_by_default(
    more: dict[str, int],
) -> None:
    group = Workers(name="large").model_copy(update=more)
    with pytest.raises(ConfigError, match=r"group 'large': found no instance_type"):
        on_cloud(ClusterSpec(workers=(group,)))
    named = ClusterSpec(workers=(group.model_copy(update={"instance_type": "g6.16xlarge"}),))
    types = yaml.safe_load(on_cloud(named))["available_node_types"]
    assert types["large"]["node_config"]["InstanceType"] == "g6.16xlarge"


@pytest.mark.parametrize("place", [OnPremise(), OnPremise(head="here"), OnPremise(workers=("there",))])
def test_machines_that_are_there_already_are_named_and_not_guessed(place: OnPremise) -> None:
    with pytest.raises(ConfigError, match="on_premise: found head .* expected"):
        on_premise(ClusterSpec(on_premise=place))


@pytest.mark.parametrize("write", [on_cloud, on_premise])
def test_a_container_asks_for_the_gpus_of_its_machine(write: Callable[[ClusterSpec], str]) -> None:
    assert "--env NVIDIA_VISIBLE_DEVICES=all" in yaml.safe_load(write(GIVEN))["docker"]["run_options"]


def strict(schema: Any) -> Any:
    """Return a schema that refuses what Kubernetes would drop in silence: fields that it does not know."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        changed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        changed.pop("type", None)
    return changed


@pytest.fixture(scope="module")
def kuberay() -> dict[str, jsonschema.Draft7Validator]:
    """KubeRay's own schemas by kind."""
    text = lzma.decompress((GOLDEN.with_name("schemas") / "kuberay-1.6.0.json.xz").read_bytes())
    return {kind: jsonschema.Draft7Validator(strict(one)) for kind, one in json.loads(text).items()}


@pytest.mark.parametrize("name", [name for name in files() if name.startswith(("ray-cluster", "ray-job"))])
def test_kuberay_files_pass_kuberay_s_own_schema(
    name: str, kuberay: dict[str, jsonschema.Draft7Validator]
) -> None:
    for one in kubernetes_objects(name):
        if one["kind"] == "ConfigMap":
            assert set(one) == {"apiVersion", "kind", "metadata", "data"}
            continue
        kuberay[one["kind"]].validate(one)
        one["spec"]["surprise"] = 1
        assert not kuberay[one["kind"]].is_valid(one), "what it does not know is refused"


def kubernetes_objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(files()[name]))


def clusters_of(name: str) -> list[dict[str, Any]]:
    found = []
    for one in kubernetes_objects(name):
        if one["kind"] == "RayCluster":
            found.append(one["spec"])
        elif one["kind"] == "RayJob":
            found.append(one["spec"]["rayClusterSpec"])
    return found


@pytest.mark.parametrize("name", [name for name in files() if name.startswith(("ray-cluster", "ray-job"))])
def test_kuberay_clusters_want_a_token_and_no_root(name: str) -> None:
    (cluster,) = clusters_of(name)
    assert cluster["authOptions"] == {"mode": "token", "secretName": "sharpflat-ray"}
    assert cluster["enableInTreeAutoscaling"] is True
    head = cluster["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP", "reachable from the cluster only"
    assert head["rayStartParams"]["num-cpus"] == "0"
    for group in (head, *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        values = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        assert float(values["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) > COMMIT_SECONDS
        assert float(values["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]) < pod["terminationGracePeriodSeconds"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_gpus_are_asked_for_where_they_are() -> None:
    (cluster,) = clusters_of("ray-cluster-gpus.yaml")
    pods = {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    with_gpus = pods["gpu-workers"]
    assert with_gpus["nodeSelector"] == {"accelerator": "h200"}
    assert with_gpus["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert "nvidia.com/gpu" not in pods["cpu-workers"]["containers"][0]["resources"]["limits"]


def test_a_space_travels_with_its_job() -> None:
    config_map, job = kubernetes_objects("ray-job-space.yaml")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert head["volumes"][0]["configMap"]["name"] == config_map["metadata"]["name"]
    mounted = head["containers"][0]["volumeMounts"][0]["mountPath"]
    (file,) = config_map["data"]
    assert f"{mounted}/{file}" in job["spec"]["entrypoint"].split()
    assert job["spec"]["backoffLimit"] == 3
    assert "keeper --stopped-is-done run" in job["spec"]["entrypoint"], "`sweep stop` is no failure"


def test_data_of_a_claim_are_the_data_folder_of_every_pod(
    kuberay: dict[str, jsonschema.Draft7Validator],
) -> None:
    spec = GPUS.model_copy(update={"data_claim": "our-data"})
    cluster = yaml.safe_load(ray_cluster(spec))
    _, job = yaml.safe_load_all(ray_job(spec, name="mine", space="mine.yaml", space_text=SPACE_TEXT))
    for one, inner in ((cluster, cluster["spec"]), (job, job["spec"]["rayClusterSpec"])):
        kuberay[one["kind"]].validate(one)
        for group in (inner["headGroupSpec"], *inner["workerGroupSpecs"]):
            pod = group["template"]["spec"]
            claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in pod["volumes"]}
            assert claims["data"] == {"claimName": "our-data"}
            mounts = pod["containers"][0]["volumeMounts"]
            assert {"name": "data", "mountPath": DATA_FOLDER} in mounts
            assert {mount["name"] for mount in mounts} == set(claims), "the space of a job is there too"
    image = (ROOT / "cluster" / "Dockerfile").read_text()
    assert f"SHARPFLAT_DATA={DATA_FOLDER}\n" in image


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: Upper", "name"),
        ("surprise: 1", "surprise"),
        ("workers: []", "workers"),
        ("workers: [{min_nodes: 5, max_nodes: 2}]", "min_nodes 5 is above max_nodes 2"),
        ("workers: [{name: a}, {name: a}]", "two groups have one name"),
        ("slurm: {time_limit: soon}", "slurm.time_limit"),
        ("[", "cannot be read"),
    ],
)
def test_a_bad_spec_is_refused_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=place.replace(".", r"\.")):
        load_spec(path)


def test_a_spec_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("name: mine\nworkers: [{cpus: 4, gpus: 1}]")
    assert load_spec(path) == ClusterSpec(name="mine", workers=(Workers(cpus=4, gpus=1),))
    assert load_spec(None) == PLAIN
    assert "name: mine\n" in ray_cluster(load_spec(path))

"""The files for KubeRay, SLURM and `ray up`: as they were, as their readers want them, and closed."""

import json
import lzma
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml

from cluster.kuberay import ray_cluster
from cluster.ray_up import on_cloud, on_premise
from cluster.slurm import batch_script
from cluster.spec import ClusterSpec, Workers, load_spec
from sweep.run_options import RunOptions
from tests.cluster.clusters import GOLDEN, GPUS, PLAIN, files
from trainers.errors import ConfigError


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
    docker = yaml.safe_load(write(PLAIN.model_copy(update={"storage": store})))["docker"]
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


@pytest.mark.parametrize("name", [name for name in files() if name.endswith(".sbatch")])
def test_batch_scripts_are_bash(name: str) -> None:
    subprocess.run(["bash", "-n"], input=files()[name], text=True, check=True)


COMMIT_SECONDS = RunOptions(name="any").commit_seconds

FAKES = {
    "hostname": "echo 10.0.0.1 192.168.0.1",
    "scontrol": 'echo "scontrol $*" >> "$LOG"',
    "ray": 'echo "ray $*" >> "$LOG"',
    "srun": 'echo "srun $*" >> "$LOG"',
    "mktemp": 'mkdir "$FOLDER/scratch" && echo "$FOLDER/scratch"',
    "squeue": 'echo "$STATE"',
}


NO_SETUP = PLAIN.model_copy(update={"slurm": PLAIN.slurm.model_copy(update={"setup": ()})})


def run_script(
    folder: Path,
    driver: str,
    *,
    signals: int = 0,
    state: str = "RUNNING",
    spec: ClusterSpec = NO_SETUP,
    **fakes: str,
) -> tuple[int, str]:
    """Run a batch script with fakes for what SLURM and Ray have; returns its code and what was called.

    Args:
        folder: For all of it.
        driver: What the driver does, under its keeper's name.
        signals: How often SIGTERM comes, once something has said "started".
        state: What SLURM says of the job.
        spec: What it is written for.
        fakes: Other programs in the place of `FAKES`.
    """
    programs = folder / "bin"
    programs.mkdir()
    for name, body in {**FAKES, "python": driver, **fakes}.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    log = folder / "log"
    log.touch()
    text = batch_script(spec, name="demo", space="demo")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LOG": str(log),
        "FOLDER": str(folder),
        "STATE": state,
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NUM_NODES": "4",
        "SLURMD_NODENAME": "node1",
        "SLURM_CPUS_PER_TASK": "8",
    }
    process = subprocess.Popen([shutil.which("bash") or "bash", "-c", text], env=environment)
    for _ in range(signals):
        while "started" not in log.read_text():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        time.sleep(0.1)
    code = process.wait(timeout=30)
    assert not (folder / "scratch").exists(), "Ray's files are not left on the machine"
    return code, log.read_text()


DRIVER = """
trap 'echo "SIGTERM came" >> "$LOG"; sleep 0.5; echo committed >> "$LOG"; exit 130' TERM
echo "started $*" >> "$LOG"
while :; do sleep 0.05; done"""


def test_a_job_that_is_told_to_end_lets_the_driver_finish_and_goes_back_into_the_queue(
    tmp_path: Path,
) -> None:
    code, log = run_script(tmp_path, DRIVER, signals=1)
    assert code == 130
    assert log.index("committed") < log.index("scontrol requeue 17")
    assert "started -m cluster.keeper run demo --name demo --address 10.0.0.1:20068" in log
    assert (
        "srun --nodes=3 --ntasks=3 --ntasks-per-node=1 --cpus-per-task=8 --exclude=node1 --no-kill "
        "--kill-on-bad-exit=0 bash -c " in log
    )
    assert f"on_a_node {tmp_path}/scratch ray start --address=10.0.0.1:20068" in log


def test_every_machine_has_ray_s_files_for_itself_and_leaves_none(tmp_path: Path) -> None:
    # Each has its own /tmp: the other's folder is out of the way here.
    srun = """mv "$FOLDER/scratch" "$FOLDER/first"
while [[ $1 == --* ]]; do shift; done
echo "step $$" >> "$LOG"
exec "$@\""""
    ray = """[[ $* != *--block* ]] && exit
stat --format="mode %a" "$FOLDER/scratch" >> "$LOG"
mkdir -m 777 "$FOLDER/scratch/r"
trap 'echo "the node ends" >> "$LOG"; exit 3' TERM
echo "joined $$" >> "$LOG"
while :; do sleep 0.05; done"""
    # As SLURM does at the end of a job: everything of a step is told.
    driver = """until grep -q joined "$LOG"; do sleep 0.05; done
step=$(awk '/^step/ {print $2}' "$LOG")
kill -TERM $step $(awk '/^joined/ {print $2}' "$LOG")
while kill -0 $step 2>/dev/null; do sleep 0.05; done
ls "$FOLDER" >> "$LOG"
mv "$FOLDER/first" "$FOLDER/scratch\""""
    code, log = run_script(tmp_path, driver, srun=srun, ray=ray)
    assert code == 0
    assert "mode 700" in log and "the node ends" in log
    assert "scratch" not in log.partition("the node ends")[2].split()


def test_files_that_several_accounts_share_have_the_account_s_own_mode(tmp_path: Path) -> None:
    ray = '[[ $* != *get-auth-token* ]] || umask >> "$LOG"'
    code, log = run_script(tmp_path, 'echo "driver $(umask)" >> "$LOG"', ray=ray)
    told = log.split()
    assert code == 0 and told[0] == "0077"
    assert told[told.index("driver") + 1] != "0077"


@pytest.mark.parametrize(
    ("known", "address"),
    [
        ("127.0.1.1 STREAM node1\n10.1.0.7 STREAM\n10.1.0.7 DGRAM", "10.1.0.7"),
        ("127.0.1.1 STREAM node1", "10.0.0.1"),
        ("", "10.0.0.1"),
    ],
    ids=["by name", "to itself only", "unknown"],
)
def test_the_first_machine_has_the_address_that_its_name_leads_to(
    known: str, address: str, tmp_path: Path
) -> None:
    lines = "; ".join(f"echo {line}" for line in known.splitlines())
    getent = f'[[ $* == "ahostsv4 node1" ]] && {{ {lines}; }}' if known else "exit 2"
    code, log = run_script(tmp_path, 'echo "started $*" >> "$LOG"', getent=getent)
    assert code == 0
    assert (
        f"--node-ip-address={address} " in log
        and f"started -m cluster.keeper run demo --name demo --address {address}:" in log
    )


def test_a_job_that_is_told_twice_tells_its_driver_once(tmp_path: Path) -> None:
    code, log = run_script(tmp_path, DRIVER, signals=3)
    assert code == 130
    assert log.count("SIGTERM came") == 1
    assert "scontrol requeue 17" in log


def test_keeper_and_driver_are_told_together(tmp_path: Path) -> None:
    """As they are processes of one group: a keeper passes nothing on."""
    keeper = f"""
trap : TERM
bash -c {shlex.quote(DRIVER)} & driver=$!
wait $driver; while kill -0 $driver 2>/dev/null; do wait $driver; done
wait $driver; echo "keeper after $?" >> "$LOG"; exit 130"""
    code, log = run_script(tmp_path, keeper, signals=1)
    assert code == 130
    assert log.index("committed") < log.index("keeper after 130") < log.index("requeue")


def test_a_job_that_is_told_while_ray_is_being_started_begins_nothing_and_is_requeued(tmp_path: Path) -> None:
    ray = 'echo "started ray $*" >> "$LOG"; [[ $* != *--head* ]] || sleep 0.5'
    code, log = run_script(tmp_path, 'echo "driver" >> "$LOG"', signals=1, ray=ray)
    assert code == 143
    assert "driver" not in log
    assert "scontrol requeue 17" in log


def test_a_job_that_was_cancelled_stays_cancelled(tmp_path: Path) -> None:
    code, log = run_script(tmp_path, DRIVER, signals=1, state="COMPLETING")
    assert code == 130
    assert "committed" in log
    assert "requeue" not in log


def test_a_job_whose_driver_came_to_its_end_when_told_is_not_requeued(tmp_path: Path) -> None:
    driver = """trap 'exit 0' TERM\necho started >> "$LOG"\nwhile :; do sleep 0.05; done"""
    code, log = run_script(tmp_path, driver, signals=1)
    assert code == 0
    assert "requeue" not in log


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_job_that_ends_by_itself_has_the_driver_s_code_and_is_not_requeued(
    tmp_path: Path, code: int
) -> None:
    found, log = run_script(tmp_path, f'echo "started $*" >> "$LOG"; exit {code}')
    assert found == code
    assert "requeue" not in log


def test_a_site_s_modules_may_read_variables_that_are_not_set(tmp_path: Path) -> None:
    setup = ("[[ -z $NEVER_SET ]]", "export SITE=$NEVER_SET_EITHER")
    spec = PLAIN.model_copy(update={"slurm": PLAIN.slurm.model_copy(update={"setup": setup})})
    assert run_script(tmp_path, "exit 0", spec=spec)[0] == 0


def test_quotes_survive(tmp_path: Path) -> None:
    script = batch_script(GPUS, name="it's mine", space="my spaces/mine.yaml")
    assert (
        "python -m cluster.keeper run 'my spaces/mine.yaml' --name 'it'\"'\"'s mine' --gpus-per-trial 1"
        in script
    )


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

"""docker-compose.yml on hosts of its own: closed to strangers, and a sweep survives what happens to clusters.

The grid takes a minute or so on two workers; in that time a worker's host, MLflow's connection and the head
are lost. What comes out is compared with the same grid on one machine.
"""

import ipaddress
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from pyarrow import fs

from tests.integration.cluster.hosts import Host
from tests.integration.cluster.listening import listeners
from tests.integration.cluster.standins import CLIENT, Cluster
from tests.integration.processes import Home

JOB = ("-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps({"entrypoint": "id"}))
NAME = "little"
SPACE = f"""
name: {NAME}
base:
  model: {{name: mlp, widths: [32], activation: tanh}}
  dataset: mnist-5k
  holdout_size: 100
  evaluate_every: 500
  phases: [{{lr: 0.02, alpha_dom: 2, k: 4, until: 4000}}]
axes:
  lr: [0.01, 0.02, 0.05]
  beta_bulk: [1, 2]
reports:
  - {{kind: heatmap, name: heatmap, x: lr, y: beta_bulk}}
  - {{kind: table, name: table, rows: [lr], columns: beta_bulk}}
"""
NUM_CELLS = 6
EXPERIMENTS = "http://mlflow:5000/api/2.0/mlflow/experiments/search?max_results=1"
CUT_SECONDS = 30.0
GRACE_SECONDS = 60.0
PATIENCE_SECONDS = 150.0


def status(host: Host, url: str, *more: str) -> int:
    """Return the HTTP status that a host gets, 0 where nothing answers."""
    command = ["curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", *more, url]
    return int(host.run(command)[1].strip()[-3:])


def strangers_are_refused_from_every_host(cluster: Cluster) -> None:
    for host in cluster.hosts.values():
        assert status(host, "http://head:8265/api/version") == 401, host.name
        assert status(host, "http://head:8265/api/jobs/", *JOB) == 401, host.name
        wrong = ["-H", "Authorization: Bearer wrong"]
        assert status(host, "http://head:8265/api/jobs/", *JOB, *wrong) in (401, 403), host.name
        assert status(host, "http://mlflow:5000/api/2.0/mlflow/experiments/search?max_results=1") == 401, (
            host.name
        )
        assert status(host, "http://mlflow:5000/", "-H", "Host: elsewhere.example") in (401, 403), host.name


def the_keys_open(cluster: Cluster) -> None:
    values = cluster.environment
    token = ["-H", f"Authorization: Bearer {values['RAY_AUTH_TOKEN']}"]
    login = ["-u", f"{values['MLFLOW_TRACKING_USERNAME']}:{values['MLFLOW_TRACKING_PASSWORD']}"]
    assert status(cluster.client, "http://head:8265/api/version", *token) == 200
    assert status(cluster.client, EXPERIMENTS, *login) == 200
    assert status(cluster.client, EXPERIMENTS, *login, "-H", "Host: elsewhere.example") == 403


METHODS = (
    "ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "ray.rpc.NodeManagerService/GetNodeStats",
    "ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "ray.rpc.ObjectManagerService/FreeObjects",
    "ray.rpc.RuntimeEnvService/GetOrCreateRuntimeEnv",
    "ray.rpc.LogService/ListLogs",
    "ray.rpc.RayletDriver/ClusterInfo",
)
STRANGER = """
import sys, grpc
host, port, methods = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
same = lambda data: data
channel = grpc.insecure_channel(f"{host}:{port}")
for method in methods:
    try:
        channel.unary_unary("/" + method, same, same)(b"", timeout=5)
        print("OK", method)
    except grpc.RpcError as error:
        print(error.code().name, method)
"""


def every_port_of_the_cluster_refuses_a_stranger(cluster: Cluster) -> None:
    """Ray's ports want the token, MLflow its login, PostgreSQL a password; nothing else listens."""
    stranger = {"RAY_AUTH_MODE": "disabled"}
    grpc_ports = 0
    for name, service in cluster.services.items():
        host = cluster.hosts[name]
        found = {
            one.port for one in listeners(host.init) if not ipaddress.ip_address(one.address).is_loopback
        }
        assert found, name
        if service.command[:2] != ("ray", "start"):
            assert found == {int(WELL_KNOWN[name])}, name
            continue
        for port in found - {8265}:
            url = f"http://{name}:{port}"
            script = [sys.executable, "-c", STRANGER, host.address, str(port), *METHODS]
            codes = {line.split()[0] for line in cluster.client.run(script, stranger)[1].splitlines()}
            assert "OK" not in codes, (name, port)
            grpc_ports += "UNAUTHENTICATED" in codes
            if "UNAUTHENTICATED" not in codes:
                # Not gRPC: an agent, which wants the token too, or Prometheus's numbers, which all may read.
                tried = {
                    status(cluster.client, url + path, *JOB)
                    for path in ("/api/jobs/", "/api/job_agent/jobs/")
                }
                is_metrics = cluster.client.run(["curl", "-s", "-m", "10", url + "/metrics"])[1].startswith(
                    "# HELP"
                )
                assert is_metrics or tried <= {0, 401, 404}, (name, port, tried)
    assert grpc_ports >= 3 * 3, "control store, node manager, object manager on three nodes"


WELL_KNOWN = {"database": 5432, "storage": 3900, "mlflow": 5000}


def the_doctor_finds_a_healthy_cluster_healthy_and_planted_faults(cluster: Cluster) -> None:
    code, out = cluster.client.run(["sweep", "doctor", "--address", "http://head:8265"], seconds=120)
    assert code == 0, out
    assert "shared and writable from 3 nodes" in out
    cluster.hosts["worker-1"].cut_from(cluster.hosts["mlflow"])
    try:
        # Each host has a /tmp of its own.
        planted = ["--address", "http://head:8265", "--storage", "/tmp/store"]
        code, out = cluster.client.run(["sweep", "doctor", *planted], seconds=120)
    finally:
        cluster.hosts["worker-1"].mend(cluster.hosts["mlflow"])
    assert code == 1, out
    bad = [line for line in out.splitlines() if line.startswith("BAD")]
    assert sum("storage: " in line and "does not see" in line for line in bad) == 3, out
    assert sum("mlflow: worker-1" in line for line in bad) == 1, out
    assert "4 to be seen to" in out


class Watch:
    """What the sweep has committed, read from the object store by the machine under the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        place = quote(f"http://{cluster.hosts['storage'].address}:3900", safe="")
        keys = f"{cluster.environment['S3_ACCESS_KEY']}:{cluster.environment['S3_SECRET_KEY']}"
        self._files, _ = fs.FileSystem.from_uri(
            f"s3://{keys}@sharpflat?region=garage&endpoint_override={place}"
        )

    def manifests(self) -> dict[str, list[tuple[int, int]]]:
        """Return step and attempt of every commit, by cell."""
        found: dict[str, list[tuple[int, int]]] = {}
        selector = fs.FileSelector("sharpflat/storage/cells", recursive=True, allow_not_found=True)
        for info in self._files.get_file_info(selector):
            if "/manifests/" in info.path and info.path.endswith(".json"):
                cell = info.path.split("/")[3]
                step, attempt = info.base_name.removesuffix(".json").split(".a")
                found.setdefault(cell, []).append((int(step), int(attempt)))
        return found

    def steps(self) -> int:
        """Return how many steps all cells together have committed."""
        return sum(max(step for step, _ in commits) for commits in self.manifests().values())


def wait(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain:\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


def a_sweep_outlives_a_worker_a_connection_and_the_head(cluster: Cluster, tmp_path: Path) -> None:
    client, watch = cluster.client, Watch(cluster)
    (client.home / "space.yaml").write_text(SPACE)
    log = tmp_path / "submit.txt"
    command = ["sweep", "submit", "space.yaml", "--commit-every", "0.5", "--max-failures", "10"]
    submitted = client.popen(command, out=log)
    # A second submission joins the first.
    wait(lambda: watch.steps() > 0, log)
    code, out = client.run([*command, "--detach"])
    assert code == 0, out
    assert f"job sweep-{NAME};" in out

    # A worker's host loses power in mid-training, and is replaced. The driver's host and the other worker are
    # cut off from MLflow, and that worker is told to end, as at a preemption; training goes on.
    cut = [cluster.hosts["head"], cluster.hosts["worker-1"]]
    for host in cut:
        host.cut_from(cluster.hosts["mlflow"])
    since, before = time.monotonic(), watch.steps()
    cluster.hosts["worker-2"].kill()
    cluster.start("worker-2")
    time.sleep(CUT_SECONDS / 3)
    os.kill(cluster.hosts["worker-1"].init, signal.SIGTERM)
    time.sleep(max(0.0, CUT_SECONDS - (time.monotonic() - since)))
    assert watch.steps() > before, log.read_text()
    for host in cut:
        host.mend(cluster.hosts["mlflow"])
    wait(lambda: not cluster.hosts["worker-1"].running, log)
    assert time.monotonic() - since < GRACE_SECONDS, "it ends by itself within the grace period"

    # The head's host loses power, and with it the driver; the workers give up by themselves and start again.
    assert submitted.poll() is None, log.read_text()
    cluster.hosts["head"].kill()
    cluster.start("head")
    cluster.start("worker-1")
    wait(lambda: not cluster.hosts["worker-2"].running, log)
    cluster.start("worker-2")
    assert submitted.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text()[-4000:]
    assert "it goes on as job" in log.read_text()

    attempts = [attempt for commits in watch.manifests().values() for _, attempt in commits]
    assert max(attempts) > 1, "what was lost in mid-training was begun again"
    code, out = client.run(["sweep", "status", NAME, "--json"])
    assert json.loads(out)["counts"] == {"completed": NUM_CELLS}, out

    code, out = client.run(["sweep", "report", NAME, "--out", "report"])
    assert code == 0, out
    home = Home(tmp_path / "one machine")
    try:
        (home.folder / "space.yaml").write_text(SPACE)
        home.run("run", "space.yaml", "--cpus", "2")
        home.run("report", NAME, "--out", "report")
    finally:
        home.close()
    alone, together = tables(home.folder / "report"), tables(client.home / "report")
    assert len(alone) >= 3
    assert together == alone


def tables(report: Path) -> dict[str, bytes]:
    """Return a report's tables, without the caption that names the commit of the code."""
    found = {path.name: path.read_bytes() for path in (report / "tables").iterdir()}
    return {
        name: b"\n".join(line for line in data.split(b"\n") if b" cells: " not in line)
        for name, data in found.items()
    }


def it_can_be_resumed_and_its_log_read(cluster: Cluster) -> None:
    code, out = cluster.client.run(["sweep", "submit", NAME, "--resume"])
    assert code == 0, out
    assert f"{NUM_CELLS} done before, 0 to do" in out
    code, out = cluster.hosts[CLIENT].run(["sweep", "logs", NAME])
    assert code == 0, out
    assert f"{NAME}: {NUM_CELLS} completed" in out


@pytest.mark.timeout(480)
def test_the_compose_file_s_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """One test, because one cluster is enough for a machine however many processes test on it."""
    strangers_are_refused_from_every_host(cluster)
    the_keys_open(cluster)
    every_port_of_the_cluster_refuses_a_stranger(cluster)
    the_doctor_finds_a_healthy_cluster_healthy_and_planted_faults(cluster)
    a_sweep_outlives_a_worker_a_connection_and_the_head(cluster, tmp_path)
    it_can_be_resumed_and_its_log_read(cluster)

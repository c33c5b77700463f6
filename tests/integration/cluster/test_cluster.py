"""docker-compose.yml on hosts of its own: closed to strangers, and a sweep survives what happens to clusters.

The grid takes a minute or so on two workers; in that time a worker's host, MLflow's connection and the head
are lost. What comes out is compared with the same grid on one machine.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from pyarrow import fs

from tests.integration.cluster.hosts import Host
from tests.integration.cluster.standins import CLIENT, Cluster
from tests.integration.processes import Home

NAME = "little"
SPACE = f"""
name: {NAME}
base:
  model: {{name: mlp, widths: [32], activation: tanh}}
  dataset: mnist-5k
  holdout_size: 100
  evaluate_every: 500
  phases: [{{lr: 0.02, alpha_dom: 2, k: 4, until: 2000}}]
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
PATIENCE_SECONDS = 150.0


def status(host: Host, url: str, *more: str) -> int:
    """Return the HTTP status that a host gets, 0 where nothing answers."""
    command = ["curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", *more, url]
    return int(host.run(command)[1].strip()[-3:])


def test_strangers_are_refused_from_every_host(cluster: Cluster) -> None:
    job = ["-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps({"entrypoint": "id"})]
    for host in cluster.hosts.values():
        assert status(host, "http://head:8265/api/version") == 401, host.name
        assert status(host, "http://head:8265/api/jobs/", *job) == 401, host.name
        wrong = ["-H", "Authorization: Bearer wrong"]
        assert status(host, "http://head:8265/api/jobs/", *job, *wrong) in (401, 403), host.name
        assert status(host, "http://mlflow:5000/api/2.0/mlflow/experiments/search?max_results=1") == 401, (
            host.name
        )
        assert status(host, "http://mlflow:5000/", "-H", "Host: elsewhere.example") in (401, 403), host.name


def test_the_keys_open(cluster: Cluster) -> None:
    values = cluster.environment
    token = ["-H", f"Authorization: Bearer {values['RAY_AUTH_TOKEN']}"]
    login = ["-u", f"{values['MLFLOW_TRACKING_USERNAME']}:{values['MLFLOW_TRACKING_PASSWORD']}"]
    assert status(cluster.client, "http://head:8265/api/version", *token) == 200
    assert status(cluster.client, EXPERIMENTS, *login) == 200
    assert status(cluster.client, EXPERIMENTS, *login, "-H", "Host: elsewhere.example") == 403


class Watch:
    """What the sweep has committed, read from the object store as the machine under the cluster reaches it."""

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


@pytest.mark.timeout(420)
def test_a_sweep_outlives_a_worker_a_connection_and_the_head(cluster: Cluster, tmp_path: Path) -> None:
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

    # A worker's host loses power in mid-training, and is replaced.
    begun = watch.manifests()
    cluster.hosts["worker-2"].kill()
    before = watch.steps()
    cluster.start("worker-2")
    wait(lambda: watch.steps() > before, log)

    # The host of the driver and a worker are cut off from MLflow; training goes on.
    cut = [cluster.hosts["head"], cluster.hosts["worker-1"]]
    for host in cut:
        host.cut_from(cluster.hosts["mlflow"])
    before, since = watch.steps(), time.monotonic()
    wait(lambda: watch.steps() > before, log)
    time.sleep(max(0.0, CUT_SECONDS - (time.monotonic() - since)))
    for host in cut:
        host.mend(cluster.hosts["mlflow"])

    # The head's host loses power, and with it the driver; the workers give up and are started again.
    assert submitted.poll() is None, log.read_text()
    cluster.hosts["head"].kill()
    cluster.start("head")
    for name in ("worker-1", "worker-2"):
        cluster.hosts[name].kill()
        cluster.start(name)
    assert submitted.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text()[-4000:]
    assert "it goes on as job" in log.read_text()

    attempts = {cell: {attempt for _, attempt in commits} for cell, commits in watch.manifests().items()}
    assert any(len(attempts[cell]) > 1 for cell in begun), "what was lost in mid-training went on"
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
    alone = {path.name: path.read_bytes() for path in (home.folder / "report" / "tables").iterdir()}
    together = {path.name: path.read_bytes() for path in (client.home / "report" / "tables").iterdir()}
    assert len(alone) >= 3
    assert together == alone


def test_its_log_can_be_read_afterwards(cluster: Cluster) -> None:
    code, out = cluster.hosts[CLIENT].run(["sweep", "logs", NAME])
    assert code == 0, out
    assert f"{NAME}: {NUM_CELLS} completed" in out

"""docker-compose.yml on hosts of its own: closed to strangers, and a sweep survives what happens to clusters.

A worker's host, MLflow's connection, a preempted node, the head and the driver are lost in mid-training, in
this order; which worker and when is drawn. What comes out is compared with the same grid on one machine.
"""

import ipaddress
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import matplotlib.image
import numpy as np
import pytest

from tests.integration.cluster import stranger
from tests.integration.cluster.hosts import Host
from tests.integration.cluster.listening import listeners
from tests.integration.cluster.standins import SMALL_NODE, WORKERS, Cluster, Planted
from tests.integration.cluster.story import FILES, HEAD, NAME, Story
from tests.integration.cluster.watch import PATIENCE_SECONDS
from tests.integration.processes import Home

JOB = ("-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps({"entrypoint": "id"}))
EXPERIMENTS = "http://mlflow:5000/api/2.0/mlflow/experiments/search?max_results=1"


PORTS_OF_A_NODE = 6
"""Of Ray, at least: node manager, object manager, dashboard agent (two), runtime-env agent, Prometheus."""


def status(host: Host, url: str, *more: str) -> int:
    """Return the HTTP status that a host gets, 0 where nothing answers."""
    command = ["curl", "-s", "-o", "/dev/null", "-m", "30", "-w", "%{http_code}", *more, url]
    return int(host.run(command)[1].strip()[-3:])


def strangers_are_refused_from_every_host(cluster: Cluster) -> None:
    for host in cluster.hosts.values():
        assert status(host, "http://head:8265/api/version") == 401, host.name
        assert status(host, "http://head:8265/api/jobs/", *JOB) == 401, host.name
        wrong = ["-H", "Authorization: Bearer wrong"]
        assert status(host, "http://head:8265/api/jobs/", *JOB, *wrong) in (401, 403), host.name
        assert status(host, EXPERIMENTS) == 401, host.name
        assert status(host, EXPERIMENTS, "-u", "admin:wrong") == 401, host.name
        assert status(host, "http://mlflow:5000/", "-H", "Host: elsewhere.example") in (401, 403), host.name


def the_keys_open(cluster: Cluster) -> None:
    values = cluster.environment
    token = ["-H", f"Authorization: Bearer {values['RAY_AUTH_TOKEN']}"]
    login = ["-u", f"{values['MLFLOW_TRACKING_USERNAME']}:{values['MLFLOW_TRACKING_PASSWORD']}"]
    assert status(cluster.client, "http://head:8265/api/version", *token) == 200
    assert status(cluster.client, EXPERIMENTS, *login) == 200
    assert status(cluster.client, EXPERIMENTS, *login, "-H", "Host: elsewhere.example") == 403


def open_ports(host: Host) -> list[int]:
    """Return the ports that a host listens on for others."""
    found = {one.port for one in listeners(host.init) if not ipaddress.ip_address(one.address).is_loopback}
    return sorted(found)


def every_port_is_closed_to_a_stranger(cluster: Cluster) -> None:
    """The object store's is left out: its stand-in takes any key, the one of the compose file does not."""
    # Ray's agents come up after the node that they belong to counts as healthy.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while min(len(open_ports(cluster.hosts[name])) for name in ("head", *WORKERS)) < PORTS_OF_A_NODE:
        assert time.monotonic() < deadline, {name: open_ports(one) for name, one in cluster.hosts.items()}
        time.sleep(0.5)
    found = {name: open_ports(host) for name, host in cluster.hosts.items()}
    assert not found.pop(cluster.client.name)
    assert found.pop("storage") == [3900]
    script = ["python", str(Path(stranger.__file__)), json.dumps(found)]
    code, out = cluster.client.run(script, {"RAY_AUTH_MODE": "disabled"})
    assert code == 0, out
    kinds: dict[str, str] = json.loads(out)
    assert kinds.pop("database:5432") == "password"
    assert kinds.pop("mlflow:5000") == "key"
    assert {one.partition(":")[0] for one in kinds} == {"head", *WORKERS}, "the rest are Ray's"
    assert set(kinds.values()) == {"key", "metrics"}, kinds
    for node in ("head", *WORKERS):
        closed = [one for one, kind in kinds.items() if one.startswith(f"{node}:") and kind == "key"]
        assert len(closed) >= PORTS_OF_A_NODE - 1, "all but the one for Prometheus"


CLOCK_AHEAD = """\
import time
real = time.time
time.time = lambda: real() + 5
"""


def odd_node(folder: Path) -> Planted:
    """Return a host with another version of this package, a GPU that is not there, and a fast clock."""
    facts = folder / "sharpflat-0.0.1.dist-info" / "METADATA"
    facts.parent.mkdir(parents=True)
    facts.write_text("Metadata-Version: 2.1\nName: sharpflat\nVersion: 0.0.1\n")
    # Python's clock, before anything else is imported: namespaces have none of their own.
    (folder / "sitecustomize.py").write_text(CLOCK_AHEAD)
    return Planted(options=("--num-gpus=1",), packages=(str(folder),))


def examined(cluster: Cluster, *more: str) -> tuple[int, str, list[str]]:
    """Return what `sweep doctor` ends with, says, and finds wrong."""
    code, out = cluster.client.run(["sweep", "doctor", *HEAD, *more], seconds=120)
    lines = out.splitlines()
    bad = [line for line in lines if line.startswith("BAD")]
    assert sum(line.startswith("     -> ") for line in lines) == len(bad), "each with what to do"
    return code, out, bad


def the_doctor_finds_what_was_planted(cluster: Cluster, odd: str, cut: str) -> None:
    """One host is odd; another does not reach MLflow, and has a file in the place of the store."""
    host = cluster.hosts[cut]
    host.cut_from(cluster.hosts["mlflow"])
    # Each host has a /tmp of its own.
    assert host.run(["touch", "/tmp/store"])[0] == 0
    try:
        code, out, bad = examined(cluster, "--storage", "/tmp/store")
    finally:
        host.mend(cluster.hosts["mlflow"])
    assert code == 1, out
    head, other, cut = (f"{name}-{cluster.hosts[name].address}" for name in ("head", odd, cut))
    for begins, holds in (
        (f"storage: {cut}", "/tmp/store"),
        (f"storage: {head}", f"does not see what {other} wrote"),
        (f"storage: {other}", f"does not see what {head} wrote"),
        (f"mlflow: {cut}", "ConnectionError"),
        ("versions: sharpflat", f"0.0.1 on {other}"),
        (f"gpus: {other}", "Ray gives out 1 GPUs, torch can use 0"),
        (f"clocks: {other}", "s ahead"),
    ):
        found = [line for line in bad if line.startswith(f"BAD  {begins}") and holds in line]
        assert len(found) == 1, (begins, holds, out)
    assert len([line for line in bad if "a request takes" not in line]) == 7, out


def the_doctor_finds_nothing_else(cluster: Cluster) -> None:
    _, out, bad = examined(cluster)
    # MLflow may be slow here: the tests beside this one have the processors too.
    assert not [line for line in bad if "a request takes" not in line], out
    assert "shared and writable from 3 nodes" in out, out
    assert "none of Ray's that answers without the token" in out, out


def the_doctor_finds_an_open_cluster_open(cluster: Cluster) -> None:
    """Another cluster, of one node on the seventh host, with no token and no MLflow."""
    client = cluster.client
    environment = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(cluster.code), "PYTHONWARNINGS": "ignore"}
    start = ["ray", "start", "--head", "--num-cpus=1", "--dashboard-host=0.0.0.0", *SMALL_NODE]
    code, out = client.run(start, environment)
    assert code == 0, out
    code, out = client.run(
        ["sweep", "doctor", "--address", f"http://{client.name}:8265", "--storage", "/tmp/store"],
        environment,
        seconds=120,
    )
    assert code == 1, out
    bad = [line for line in out.splitlines() if line.startswith("BAD")]
    for port in (8265, 52365):
        assert sum(f":{port} runs code for whoever reaches it" in line for line in bad) == 1, out
    assert sum("no MLflow is named" in line for line in bad) == 1, out
    assert len(bad) == 3, out
    client.run(["ray", "stop", "--force"], environment)


def assert_equal(alone: Path, together: Path) -> None:
    """Tables byte for byte, figures pixel for pixel."""
    for kind in ("tables", "figures"):
        names = sorted(path.name for path in (alone / kind).iterdir())
        assert names == sorted(path.name for path in (together / kind).iterdir())
        assert len(names) >= 2
        for name in names:
            first, second = alone / kind / name, together / kind / name
            if name.endswith(".png"):
                assert np.array_equal(matplotlib.image.imread(first), matplotlib.image.imread(second)), name
            else:
                assert first.read_bytes() == second.read_bytes(), name


def test_nobody_gets_in_without_a_key(cluster: Cluster) -> None:
    cluster.up()
    strangers_are_refused_from_every_host(cluster)
    the_keys_open(cluster)
    every_port_is_closed_to_a_stranger(cluster)


@pytest.mark.skipif(
    os.environ.get("CLUSTER_TESTS") != "1", reason="takes four minutes; `make cluster-tests` runs it"
)
@pytest.mark.timeout(900)
def test_a_sweep_survives_what_happens_to_clusters(cluster: Cluster, chance: Random, tmp_path: Path) -> None:
    killed, preempted = chance.sample(WORKERS, 2)
    began = time.monotonic()

    def passed(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}")

    cluster.up(planted={killed: odd_node(cluster.folder / "packages")})
    passed("up")
    home = Home(tmp_path / "one machine", {"PYTHONPATH": str(cluster.code)})
    # What is looked at from outside is looked at while the sweep starts, waits or ends.
    with ThreadPoolExecutor() as beside:
        try:
            story = Story(cluster, chance, tmp_path)
            the_doctor_finds_what_was_planted(cluster, killed, preempted)
            passed("examined")
            story.is_left_and_rejoined()
            passed("rejoined")
            for file in FILES:
                shutil.copy(file, home.folder)
            alone = home.start("run", FILES[0].name, "--cpus", "1")
            story.loses_a_worker_and_mlflow_and_is_preempted(killed, preempted)
            passed("worker and MLflow lost")
            story.loses_its_head()
            passed("head lost")
            story.loses_its_driver()
            passed("driver lost")
            opened = beside.submit(the_doctor_finds_an_open_cluster_open, cluster)
            story.is_stopped_and_resumed()
            passed("stopped and resumed")
            looked = beside.submit(story.is_looked_at)
            opened.result()
            healthy = beside.submit(the_doctor_finds_nothing_else, cluster)
            story.went_on_from_checkpoints()
            out, err = alone.communicate(timeout=PATIENCE_SECONDS)
            assert alone.returncode == 0, out + err
            home.run("report", NAME, "--out", "report")
            assert_equal(home.folder / "report", story.report())
            looked.result()
            passed("compared")
            healthy.result()
            passed("examined again")
        finally:
            home.close()

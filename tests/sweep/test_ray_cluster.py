"""The connection to Ray: taken down with no collection of garbage meanwhile, and missed when it dies.

And whether it has room: what is still to come is waited for.
"""

import gc
import socket
import subprocess
import sys
import time
import weakref
from types import SimpleNamespace

import pytest
import ray
from ray._private import node, ray_constants
from ray._private import worker as ray_worker
from ray.exceptions import GetTimeoutError

from sweep import ray_cluster
from sweep.errors import ClusterError
from sweep.ray_cluster import UNUSED_PARTS, Cluster, Resources, fitting, require_reachable


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_garbage_goes_before_ray_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda **options: None)
    seen: list[tuple[bool, bool]] = []
    cluster = Cluster("an address")
    garbage = weakref.ref(Cycle())
    monkeypatch.setattr(ray, "shutdown", lambda: seen.append((garbage() is None, gc.isenabled())))
    cluster.close()
    assert seen == [(True, False)]
    assert gc.isenabled()


def test_a_ray_of_ones_own_that_died_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda **options: None)
    raylet = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    processes = {ray_constants.PROCESS_TYPE_RAYLET: [SimpleNamespace(process=raylet)]}
    monkeypatch.setattr(ray_worker, "_global_node", SimpleNamespace(all_processes=processes))
    own, joined = Cluster(), Cluster("an address")
    assert not own.is_lost() and not joined.is_lost()
    raylet.kill()
    raylet.communicate()
    assert own.is_lost() and not joined.is_lost()


def test_a_ray_of_ones_own_has_no_parts_that_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [getattr(node.Node, name) for name in UNUSED_PARTS]
    seen: list[bool] = []

    def init(**options: object) -> None:
        seen.append(any(getattr(node.Node, name) in before for name in UNUSED_PARTS))

    monkeypatch.setattr(ray, "init", init)
    Cluster("an address")
    Cluster()
    assert seen == [True, False]
    assert [getattr(node.Node, name) for name in UNUSED_PARTS] == before


def test_where_nothing_listens_there_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for nowhere in (None, "auto", "local"):
        require_reachable(nowhere)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"no Ray at {address}: Connection refused"):
            require_reachable(address)
        listening.listen()
        require_reachable(address)
        require_reachable(f"ray://{address}")
    monkeypatch.setattr(ray_cluster, "SECONDS_TO_CONNECT", 0.2)
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=r"no Ray at 192\.0\.2\.1:6379"):
        require_reachable("192.0.2.1:6379")
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", r"dashboard, .*run failed cells again.* such as 127\.0\.0\.1:6379"),
        ("somewhere", "expected HOST:PORT"),
        ("somewhere:99999", "expected HOST:PORT"),
        (":6379", "expected HOST:PORT"),
    ],
)
def test_what_is_no_address_of_a_cluster_is_refused(address: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        require_reachable(address)


class Placing:
    """Stands for Ray where a cluster's nodes are still to come; notes what waits for a place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: list[list[dict[str, float]]]) -> None:
        self._looks = looks
        self.wanted: list[dict[str, object]] = []
        self.cancelled = 0
        monkeypatch.setattr(ray, "init", lambda **options: None)
        monkeypatch.setattr(ray, "nodes", self.nodes)
        monkeypatch.setattr(ray, "remote", self.remote)
        monkeypatch.setattr(ray, "cancel", self.cancel)

    def nodes(self) -> list[dict[str, object]]:
        return nodes(*(self._looks[0] if len(self._looks) == 1 else self._looks.pop(0)))

    def remote(self, **options: object) -> object:
        self.wanted.append(options)
        return lambda function: SimpleNamespace(remote=function)

    def cancel(self, _: object) -> None:
        self.cancelled += 1


def nodes(*resources: dict[str, float], alive: bool = True) -> list[dict[str, object]]:
    """Nodes as Ray lists them."""
    return [{"Alive": alive, "Resources": one} for one in resources]


TRIAL = Resources(cpus=1, gpus=1.0)
HEAD = {"memory": 1.0}
"""What a head of KubeRay has that trains nothing."""


def test_nodes_that_are_still_to_come_are_asked_for_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    placing, said = Placing(monkeypatch, [[HEAD]] * 3 + [[HEAD, {"CPU": 8.0, "GPU": 2.0}]]), list[str]()
    slots = Cluster("an address").slots(TRIAL, say=said.append, stopped_within=lambda _: False)
    assert slots == 2
    assert placing.wanted == [{"num_cpus": 1, "num_gpus": 1.0, "max_retries": 0}] and placing.cancelled == 1
    assert len(said) == 1
    assert "1 CPUs and 1 GPUs of one node; the cluster has 1 node of 0 CPUs and 0 GPUs" in said[0]
    assert "15 minutes" in said[0]


def test_nodes_that_do_not_come_are_waited_for_until_somebody_asks_to_stop_or_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placing, said = Placing(monkeypatch, [[HEAD]]), list[str]()
    assert Cluster("an address").slots(TRIAL, say=said.append, stopped_within=lambda _: True) == 0
    assert placing.cancelled == 1
    with pytest.raises(ClusterError, match="after 15 minutes of waiting"):
        Cluster("an address").slots(TRIAL, say=said.append, stopped_within=lambda _: False)
    assert placing.cancelled == 2


def test_a_ray_of_ones_own_gets_no_more_than_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    placing, said = Placing(monkeypatch, [[{"CPU": 2.0}]]), list[str]()
    with pytest.raises(ClusterError, match="2 CPUs and 0 GPUs"):
        Cluster().slots(TRIAL, say=said.append, stopped_within=lambda _: False)
    assert not said and not placing.wanted
    assert Cluster().slots(Resources(), say=said.append, stopped_within=lambda _: False) == 2


CPUS, GPUS = {"CPU": 8.0}, {"CPU": 1.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("cpus", "gpus", "there", "fit"),
    [
        (2, 1.0, [CPUS, GPUS], 0),
        (1, 1.0, [CPUS, GPUS], 1),
        (3, 0.0, [CPUS, CPUS, GPUS], 4),
        (1, 2.0, [{**CPUS, "GPU": 3.0}] * 2, 2),
        (1, 0.6, [{**CPUS, "GPU": 2.0}], 2),
        (1, 0.3, [{**CPUS, "GPU": 2.0}], 6),
        (1, 0.1, [{"CPU": 16.0, "GPU": 1.0}], 10),
        (1, 1e-9, [{"CPU": 16.0, "GPU": 1.0}], 16),
        (1, 0.0, [], 0),
    ],
)
def test_each_node_takes_whole_trials(
    cpus: int, gpus: float, there: list[dict[str, float]], fit: int
) -> None:
    found = [*nodes(*there), *nodes(*there, alive=False)]
    assert fitting(found, Resources(cpus=cpus, gpus=gpus)) == fit


def test_a_trial_that_fits_no_single_node_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Placing(monkeypatch, [[CPUS, CPUS, GPUS]])
    said = list[str]()
    trial = Resources(cpus=2, gpus=1.0)
    assert Cluster("an address").slots(trial, say=said.append, stopped_within=lambda _: True) == 0
    assert "2 nodes of 8 CPUs and 0 GPUs, 1 node of 1 CPUs and 4 GPUs" in said[0]


@pytest.mark.parametrize(
    ("num_gpus", "gpus", "trials"),
    [
        (4, 0.6, 4),
        (4, 0.5, 8),
        (3, 0.4, 6),
        (1, 0.1, 10),
        (2, 0.3, 6),
        (2, 1 / 3, 6),
        (1, 0.7, 1),
        (3, 2.0, 1),
        (4, 1.0, 4),
        (0, 0.5, 0),
    ],
)
def test_a_fraction_is_one_of_a_single_gpu(
    num_gpus: int, gpus: float, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Placing(monkeypatch, [[{"CPU": 64.0, "GPU": float(num_gpus)}]])
    assert Cluster("an address").room(Resources(gpus=gpus)) == trials


def test_a_gpu_is_looked_at_where_the_trials_are(monkeypatch: pytest.MonkeyPatch) -> None:
    placing = Placing(monkeypatch, [[HEAD]])
    monkeypatch.setattr(ray_cluster, "free_gpu_bytes", lambda: 2**30)
    monkeypatch.setattr(ray, "get", lambda found, timeout: found)
    assert Cluster("an address").free_gpu_bytes(0.5) == 2**30
    assert placing.wanted == [{"num_cpus": 0, "num_gpus": 0.5, "max_calls": 1}]
    assert Cluster().free_gpu_bytes(0.5) == 2**30
    assert len(placing.wanted) == 1

    def busy(found: object, timeout: float) -> None:
        raise GetTimeoutError("Get timed out")

    monkeypatch.setattr(ray, "get", busy)
    with pytest.raises(ClusterError, match="none answered within 120 s .*Give a number"):
        Cluster("an address").free_gpu_bytes(1.0)
    assert placing.cancelled == 1

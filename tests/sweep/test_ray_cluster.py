"""The connection to Ray: taken down with no collection of garbage meanwhile, and missed when it dies."""

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

from sweep import ray_cluster
from sweep.errors import ClusterError
from sweep.ray_cluster import UNUSED_PARTS, Cluster, require_reachable


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
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", r"dashboard, .* such as 127\.0\.0\.1:6379"),
        ("somewhere", "expected HOST:PORT"),
        ("somewhere:99999", "expected HOST:PORT"),
        (":6379", "expected HOST:PORT"),
    ],
)
def test_what_is_no_address_of_a_cluster_is_refused(address: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        require_reachable(address)

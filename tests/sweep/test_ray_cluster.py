"""Taking Ray down: no collection of garbage in another thread may drop references to it meanwhile."""

import gc
import weakref

import pytest
import ray

from sweep.ray_cluster import Cluster


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

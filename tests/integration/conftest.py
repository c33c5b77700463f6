"""One Ray for the tests to which Ray's own start and end do not matter: they take longer than small cells."""

from collections.abc import Iterator

import pytest

from tests.integration.forked_workers import ROOT, WorkerForks
from tests.integration.ray_head import RayHead


@pytest.fixture(scope="session")
def forks() -> Iterator[str]:
    """Address of what forks Ray's workers."""
    made = WorkerForks()
    yield made.address
    made.close()


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory: pytest.TempPathFactory, forks: str) -> Iterator[RayHead]:
    # Other tests hold Ray's authentication.
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    head = RayHead(tmp_path_factory.mktemp("ray"), cpus=1, environment=environment, forks=forks)
    head.start()
    yield head
    head.kill()


@pytest.fixture
def ray(ray_head: RayHead, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Options with which a command takes that Ray."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return "--address", ray_head.address

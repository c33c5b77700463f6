"""Every kind of checkpoint store and of MLflow, behind one fixture each."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweep.grid_table import grid_table
from sweep.ledger import Ledger, Sweep
from sweep.storage import Storage
from tests.fresh_database import fresh_database
from tests.integration.servers import (
    S3_ENVIRONMENT,
    MlflowServer,
    PostgresCluster,
    S3Server,
    programs_of_postgres,
)
from tests.sweep.small_sweep import FakeSpace, make_cell
from trainers.canonical import cell_id
from trainers.cell import Cell

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkpoint store that does not exist yet."""
    if request.param == "folder":
        return str(tmp_path / "a store")
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    server: S3Server = request.getfixturevalue("s3")
    return server.make_bucket(f"bucket-{next(_numbers)}").replace("?", "/a%20prefix?", 1)


@pytest.fixture
def storage(place: str) -> Storage:
    return Storage.open(place)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    if programs_of_postgres() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    cluster = PostgresCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("mlflow server")
    (folder / "server.db").write_bytes(fresh_database())
    server = MlflowServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session", params=["sqlite", "server", "postgresql"])
def tracking_uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store of each kind, shared by all tests: each uses a sweep and a cell of its own."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("sqlite") / "mlflow.db"
        path.write_bytes(fresh_database())
        return f"sqlite:///{path}"
    if request.param == "server":
        return request.getfixturevalue("mlflow_server").address
    return request.getfixturevalue("postgres").make_database("record")


@pytest.fixture
def ledger(tracking_uri: str, tmp_path: Path) -> Ledger:
    return Ledger.open(tracking_uri, artifacts_root=tmp_path / "artifacts")


@dataclass(frozen=True)
class Task:
    """A sweep of one cell that no other test has."""

    space: FakeSpace
    cell: Cell
    cell_id: str
    axes: dict[str, float]


@pytest.fixture
def task() -> Task:
    number = next(_numbers)
    cell = make_cell(0.1, seed=number)
    return Task(FakeSpace(name=f"sweep {number}"), cell, cell_id(cell), {"lr": 0.1})


@pytest.fixture
def sweep(ledger: Ledger, task: Task) -> Sweep:
    plan = grid_table(["grid"], [dict(task.axes)], [task.cell_id])
    sweep = ledger.open_sweep(task.space, plan)
    ledger.write_plan(sweep, task.space, plan)
    return sweep

"""MLflow's server stopped, and its PostgreSQL restarted, while cells train: only the record waits."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.faults.grid import SPACE, Grid, wait_for
from tests.integration.faults.matrix import MATRIX
from tests.integration.servers import MlflowServer, PostgresCluster, programs_of_postgres

AWAY_SECONDS = 8.0 if MATRIX == 1 else 60.0
STEPS = 6000 if MATRIX == 1 else 20_000


@pytest.fixture
def postgres() -> Iterator[PostgresCluster]:
    if programs_of_postgres() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    cluster = PostgresCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def server(postgres: PostgresCluster, tmp_path: Path) -> Iterator[MlflowServer]:
    made = MlflowServer(tmp_path, postgres.make_database("record"))
    made.start()
    yield made
    made.kill()


@pytest.mark.timeout(600)
def test_the_server_is_stopped_and_its_database_restarted(
    make_grid: Callable[..., Grid], server: MlflowServer, postgres: PostgresCluster, ray: tuple[str, str]
) -> None:
    # Two longer cells do as well as four, and a server is asked half as often.
    space = SPACE.replace("beta_bulk: [1, 0.9]", "beta_bulk: [0.9]") if MATRIX == 1 else SPACE
    grid = make_grid(steps=STEPS, space=space, tracking_uri=server.address, options=ray)
    process = grid.start()
    wait_for(grid.mid_training, process)
    postgres.stop()
    grid.kills.append("PostgreSQL restarted")
    postgres.start()
    before = grid.committed()
    wait_for(lambda: grid.committed() != before and grid.mid_training(), process)
    before = grid.committed()
    server.kill()
    grid.kills.append(f"MLflow's server away for {AWAY_SECONDS:g} s")
    time.sleep(AWAY_SECONDS)
    assert grid.committed() != before, "training stood still"
    server.start()
    grid.finish(process)
    grid.assert_complete()

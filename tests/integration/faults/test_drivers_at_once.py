"""Two drivers of one sweep, two sweeps with the same cells, and a driver that wakes up too late."""

import os
import random
import re
import shlex
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.faults.grid import SPACE, Grid, wait_for
from tests.integration.faults.matrix import MATRIX
from tests.integration.servers import MlflowServer, PostgresCluster, programs_of_postgres

ODD_NAME = 'größe/λ=½: "a\'b" 100% #1 ?x&y; ../up 🙂'
STALE_SECONDS = 3.0
SHORT_LEASE = {"lease": [0.3, STALE_SECONDS]}


@pytest.fixture(params=["sqlite", "postgresql"][:MATRIX])
def tracking_uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """A record for two drivers; `make test` has the one on SQLite only."""
    if request.param == "sqlite":
        yield None
        return
    if programs_of_postgres() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    cluster = PostgresCluster()
    try:
        cluster.start()
        server = MlflowServer(tmp_path, cluster.make_database("record"))
        server.start()
        yield server.address
        server.kill()
    finally:
        cluster.close()


def test_two_drivers_start_one_sweep_at_once_while_clocks_jump(
    make_grid: Callable[..., Grid], tracking_uri: str | None, draw: random.Random
) -> None:
    clock = {"clock": draw.randrange(2**32)}
    grid = make_grid(
        name=ODD_NAME,
        home="a home, with späces & more",
        tampering=clock,
        tracking_uri=tracking_uri,
        makes_database=True,
    )
    drivers = [grid.start(), grid.start()]
    said = {driver.pid: driver.communicate(timeout=200) for driver in drivers}
    codes = {driver.pid: driver.returncode for driver in drivers}
    assert sorted(codes.values()) == [0, 2], said
    winner, loser = sorted(codes, key=codes.__getitem__)
    complaint = "".join(said[loser])
    assert (
        f"is being run by process {winner} on" in complaint
        and f"sweep stop {shlex.quote(ODD_NAME)}" in complaint
    ), complaint
    assert "Traceback" not in complaint
    assert ODD_NAME in "".join(said[winner])
    grid.assert_complete()
    assert grid.attempts() == [1] * len(grid.cells), "a cell was begun twice"


def test_two_drivers_start_one_sweep_at_once_in_one_cluster(
    make_grid: Callable[..., Grid], tracking_uri: str | None, ray: tuple[str, str]
) -> None:
    grid = make_grid(options=ray, tracking_uri=tracking_uri)
    drivers = [grid.start(), grid.start()]
    said = [driver.communicate(timeout=200) for driver in drivers]
    assert sorted(driver.returncode for driver in drivers) == [0, 2], said
    assert "is being run by process" in "".join(out + err for out, err in said)
    grid.assert_complete()
    assert grid.attempts() == [1] * len(grid.cells), "a cell was begun twice"


@pytest.mark.skipif(MATRIX == 1, reason="`make faults`; `make test` has integration/test_sharing.py")
def test_two_sweeps_share_cells_at_once(make_grid: Callable[..., Grid], tracking_uri: str | None) -> None:
    first = make_grid(home="one", name="first", tracking_uri=tracking_uri)
    second = make_grid(
        home="two",
        name="second",
        space=SPACE.replace("seed: [0, 1]", "seed: [1, 2]"),
        tracking_uri=first.tracking_uri,
        storage=first.storage,
    )
    processes = [grid.start() for grid in (first, second)]
    for grid, process in zip((first, second), processes, strict=True):
        out, err = process.communicate(timeout=200)
        assert "Traceback" not in out + err, out + err
        if process.returncode == 1:
            # Cells that the other had to run: they are there when it has ended.
            assert re.search(r"are being run by|run again when", out + err), out + err
            grid.resume()
        else:
            assert process.returncode == 0, out + err
    runs = first.runs()
    assert len(runs) == 6 and first.statuses() == {"completed": 6}
    assert first.attempts() == [1] * len(first.cells), "a shared cell was begun twice"


def test_a_driver_that_was_stopped_past_its_lease_writes_nothing_more(
    make_grid: Callable[..., Grid], forks: str
) -> None:
    # Each has a Ray of its own: in a common one the stopped driver's trial would keep its CPU.
    grid = make_grid(tampering=SHORT_LEASE, forks=forks)
    sleeper = grid.start()
    wait_for(grid.mid_training, sleeper)
    stop_between_transactions(grid, sleeper.pid)
    successor = grid.start()
    grid.finish(successor)
    grid.assert_complete()
    before = everything_recorded(grid)
    os.kill(sleeper.pid, signal.SIGCONT)
    said = grid.finish(sleeper, code=1)
    assert f"was taken over by process {successor.pid}" in said
    assert everything_recorded(grid) == before, "the one that woke up wrote"


def stop_between_transactions(grid: Grid, pid: int) -> None:
    """Stop a driver where it holds no lock of SQLite's, which nobody can take from a stopped process.

    Stopped inside a transaction it keeps all others out, or, while it reads, their commits: they are told
    that the database is locked.
    """
    while True:
        grid.kill(pid, "driver", signal.SIGSTOP)
        # A thread inside the kernel may still take a lock before it stops.
        while any(state != "T" for state in thread_states(pid)):
            time.sleep(0.01)
        connection = sqlite3.connect(grid.home.database, timeout=0.2, isolation_level=None)
        try:
            connection.execute("begin exclusive")
            connection.execute("rollback")
            return
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)
        finally:
            connection.close()


def thread_states(pid: int) -> list[str]:
    """Return the state of every thread of a process: T where it is stopped."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]


def everything_recorded(grid: Grid) -> tuple[list[str], dict[str, bytes]]:
    """Return the database as SQL text, and the content of every artifact.

    Without hidden files: a driver that is stopped while it writes one removes it when it wakes up.
    """
    with sqlite3.connect(grid.home.database) as connection:
        text = list(connection.iterdump())
    connection.close()
    artifacts = grid.home.folder / "results" / "artifacts"
    files = [path for path in artifacts.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return text, {str(path): path.read_bytes() for path in files}

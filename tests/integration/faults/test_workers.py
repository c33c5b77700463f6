"""Workers, Ray and drivers killed while cells train: the sweep goes on, or `resume` does."""

import random
import time
from collections.abc import Callable

import pytest

from tests.integration.faults.grid import PATIENCE_SECONDS, RAYLET, Grid, wait_for
from tests.integration.faults.matrix import MATRIX
from tests.integration.processes import Running

WORKER_KILLS = 2 if MATRIX == 1 else 5
DRIVER_KILLS = 20


@pytest.mark.parametrize("all_of_ray", [True, False][:MATRIX], ids=["all", "raylet"][:MATRIX])
def test_ray_is_killed_and_then_workers_again_and_again(
    all_of_ray: bool, make_grid: Callable[..., Grid], draw: random.Random
) -> None:
    grid = make_grid(options=["--max-failures", str(2 * WORKER_KILLS)], own_forks=True)
    process = grid.start()
    wait_at_random(grid, process, draw)
    before = grid.committed()
    victims = ray_processes(grid, process, all_of_ray=all_of_ray)
    assert victims
    for pid in victims:
        grid.kill(pid, "Ray")
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode != 0:
        # Without its GCS Ray's own library ends the driver, with a line that says so.
        assert process.returncode in (1, 130), out + err
        assert "Failed to connect to GCS" in err or "sweep resume grid" in out, out + err
        assert all_of_ray or "stopped because Ray on this machine has died" in out, out + err
        # A worker that was only just starting ends by itself, once it misses its Ray.
        wait_until_none(grid.training_workers)
        resumed = grid.start("--max-failures", str(2 * WORKER_KILLS))
        kill_workers(grid, resumed, draw)
        assert "4 completed" in grid.finish(resumed)
    else:
        # The workers that were there already need no raylet to go on, and were done before it was missed.
        assert not all_of_ray
    assert all(grid.committed()[address] >= step for address, step in before.items())
    grid.assert_complete()


def wait_at_random(grid: Grid, process: Running, draw: random.Random) -> None:
    """Return at a random moment at which a cell is in mid-training."""
    while True:
        wait_for(grid.mid_training, process)
        time.sleep(draw.uniform(0, 0.6))
        # In the meantime it may have ended, and the next one may not have begun.
        if grid.mid_training():
            return


def kill_workers(grid: Grid, process: Running, draw: random.Random) -> None:
    """Kill workers that train; each time the sweep goes on from the last commits, in new attempts."""
    attempts = grid.attempts()
    for _ in range(WORKER_KILLS):
        workers: list[int] = []
        wait_for(lambda found=workers: found.extend(grid.training_workers()) or found, process)
        wait_at_random(grid, process, draw)
        before = grid.committed()
        grid.kill(draw.choice(workers), "worker")
        wait_for(lambda before=before: goes_on(grid, before), process)
    assert sum(grid.attempts()) > sum(attempts)


def wait_until_none(processes: Callable[[], list[int]]) -> None:
    """Return once the processes have ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while processes():
        assert time.monotonic() < deadline, "workers outlive their Ray"
        time.sleep(0.05)


def goes_on(grid: Grid, before: dict[str, int]) -> bool:
    """Whether something was committed since, and nothing that was committed is lost."""
    after = grid.committed()
    assert all(after.get(address, -1) >= step for address, step in before.items())
    return after != before


def ray_processes(grid: Grid, driver: Running, *, all_of_ray: bool) -> list[int]:
    """Return the raylet, or everything that Ray has started."""
    if not all_of_ray:
        return grid.processes(RAYLET)
    assert grid.forks is not None
    return [pid for pid in grid.processes("ray") if pid not in (driver.pid, grid.forks.pid)]


@pytest.mark.skipif(MATRIX == 1, reason="`make faults`; `make test` has integration/test_kill_and_resume.py")
def test_drivers_that_are_killed_twenty_times(make_grid: Callable[..., Grid], draw: random.Random) -> None:
    grid = make_grid(steps=12_000)
    hits = 0
    for kill in range(DRIVER_KILLS):
        process = grid.start()
        committed = grid.committed()
        # Anywhere between the start of a driver and some time after its first commit.
        if draw.random() < 0.5:
            wait_for(lambda committed=committed: grid.committed() != committed, process)
            time.sleep(draw.uniform(0, 0.5))
        else:
            time.sleep(draw.uniform(1, 12))
        hits += bool(grid.cells_in_mid_training())
        assert process.poll() is None, f"the grid was complete after {kill} kills"
        grid.kill(process.pid, "driver")
        process.communicate()
        after = grid.committed()
        assert all(after[address] >= step for address, step in committed.items()), "a commit was lost"
    assert hits, "no kill hit a cell in mid-training"
    grid.resume()
    grid.assert_complete()

"""Workers, Ray and drivers killed while cells train: the sweep goes on, or `resume` does."""

import random
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.integration.faults.grid import PATIENCE_SECONDS, RAYLET, Grid, wait_for
from tests.integration.faults.matrix import MATRIX

WORKER_KILLS = 2 if MATRIX == 1 else 5
DRIVER_KILLS = 20


def test_workers_that_are_killed_again_and_again(make_grid: Callable[..., Grid], draw: random.Random) -> None:
    grid = make_grid(options=["--max-failures", str(2 * WORKER_KILLS)])
    process = grid.start()
    for _ in range(WORKER_KILLS):
        wait_for(lambda: grid.training_workers() and grid.mid_training(), process)
        before = grid.committed()
        victim = draw.choice(grid.training_workers())
        time.sleep(draw.uniform(0, 0.6))
        grid.kill(victim, "worker")
        wait_for(lambda before=before: goes_on(grid, before), process)
    said = grid.finish(process)
    assert "4 completed" in said
    grid.assert_complete()
    assert more_attempts_than_cells(grid)


def goes_on(grid: Grid, before: dict[str, int]) -> bool:
    """Whether something was committed since, and nothing that was committed is lost."""
    after = grid.committed()
    assert all(after.get(address, -1) >= step for address, step in before.items())
    return after != before


def more_attempts_than_cells(grid: Grid) -> bool:
    """Whether some cell was begun more than once: the kills hit."""
    attempts = [
        len(list((grid.storage / "cells" / address / "attempts").iterdir())) for address in grid.cells
    ]
    return sum(attempts) > len(attempts)


def ray_processes(grid: Grid, driver: "subprocess.Popen[str]", *, all_of_ray: bool) -> list[int]:
    """Return the raylet, or everything that Ray has started."""
    if not all_of_ray:
        return grid.processes(RAYLET)
    return [pid for pid in grid.processes("ray") if pid != driver.pid]


@pytest.mark.parametrize("all_of_ray", [True, False][:MATRIX], ids=["all", "raylet"][:MATRIX])
def test_ray_is_killed_and_the_sweep_resumed(
    all_of_ray: bool, make_grid: Callable[..., Grid], draw: random.Random
) -> None:
    grid = make_grid()
    process = grid.start()
    wait_for(grid.mid_training, process)
    time.sleep(draw.uniform(0, 0.6))
    before = grid.committed()
    assert grid.cells_in_mid_training(), "killed while no cell was in mid-training"
    victims = ray_processes(grid, process, all_of_ray=all_of_ray)
    assert victims
    for pid in victims:
        grid.kill(pid, "Ray")
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode == 0:
        # Workers that were there already need no raylet to go on.
        assert not all_of_ray
        grid.assert_complete()
        return
    assert process.returncode == 1, out + err
    # Without its GCS Ray's own library ends the driver, with a line that says so.
    assert "Failed to connect to GCS" in err or "sweep resume grid" in out, out + err
    grid.resume()
    assert all(grid.committed()[address] >= step for address, step in before.items())
    grid.assert_complete()


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

"""Workers and Ray itself killed while cells train: the sweep goes on, or `resume` does."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

from tests.integration.faults.grid import RAYLET, Grid, wait_for

KILLS = 3


def test_workers_that_are_killed_again_and_again(make_grid: Callable[..., Grid], draw: random.Random) -> None:
    grid = make_grid(options=["--max-failures", str(2 * KILLS)])
    process = grid.start()
    for _ in range(KILLS):
        wait_for(lambda: grid.training_workers() and grid.mid_training(), process)
        before = grid.committed()
        victim = draw.choice(grid.training_workers())
        time.sleep(draw.uniform(0, 0.6))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
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


def test_the_raylet_is_killed_and_the_sweep_resumed(
    make_grid: Callable[..., Grid], draw: random.Random
) -> None:
    grid = make_grid()
    process = grid.start()
    wait_for(grid.mid_training, process)
    time.sleep(draw.uniform(0, 1))
    before = grid.committed()
    assert grid.cells_in_mid_training(), "killed while no cell was in mid-training"
    for pid in grid.processes(RAYLET):
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "Ray" in out + err
    assert "sweep resume grid" in out + err
    assert "Traceback" not in out + err
    assert "running" not in grid.statuses()
    grid.resume()
    assert all(grid.committed()[address] >= step for address, step in before.items())
    grid.assert_complete()

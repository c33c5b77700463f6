"""A factory of grids whose processes are gone when a test ends, and the seeds of kill moments."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.grid import Grid
from tests.integration.faults.matrix import MATRIX

KILL = "kill"
"""Under this name tests note their kills, for the report."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "draw" in metafunc.fixturenames:
        seeds = [random.SystemRandom().randrange(2**32) for _ in range(MATRIX)]
        metafunc.parametrize("draw", seeds, indirect=True, ids=[f"seed={seed}" for seed in seeds])


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """Kill moments; the seed is in the test's name."""
    return random.Random(request.param)


@pytest.fixture
def make_grid(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Grid]]:
    made: list[Grid] = []

    def make(*, home: str | None = None, **options: Any) -> Grid:
        made.append(Grid(tmp_path / (home or f"home {len(made)}"), **options))
        return made[-1]

    yield make
    for grid in made:
        grid.close()
        request.node.user_properties.extend((KILL, kill) for kill in grid.kills)

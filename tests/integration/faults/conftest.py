"""A factory of grids whose processes are gone when a test ends, and the seeds of kill moments."""

import os
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.faults.grid import Grid
from tests.integration.faults.matrix import MATRIX, REPORT_VARIABLE, SEED_VARIABLE
from tests.integration.faults.report import KILL, Report


def pytest_configure(config: pytest.Config) -> None:
    if REPORT_VARIABLE in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Report())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "draw" in metafunc.fixturenames:
        # Other seeds in every run; the same ones in all processes of a run that is shared among several.
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(8)
        draw = random.Random(f"{run} {metafunc.function.__name__}")
        seeds = [draw.randrange(2**32) for _ in range(MATRIX)]
        if (printed := os.environ.get(SEED_VARIABLE)) is not None:
            seeds = [int(printed)]
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

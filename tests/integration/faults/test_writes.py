"""Killed between any two durable writes: what was there before is used, and nothing half-written is read."""

import itertools
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search_spaces import load_space_text
from sweep.forks import fork_at
from sweep.storage import Storage
from tests.forked import FORKED
from tests.fresh_database import fresh_database
from tests.integration.faults.killed_writes import BEGUN, RESUMED, SPACE, STARTS, answer
from tests.integration.faults.matrix import MATRIX
from tests.integration.faults.records import DATABASE, assert_equal_records
from tests.integration.faults.report import KILL

MOMENTS_OF_ONE_SEED = 6
NOT_KILLED = 0
_MANIFEST = re.compile(r"rename storage/cells/(\w+)/manifests/(\d+)\.a\d+\.json")
_START = re.compile(rf"(\w+) {STARTS} (\d+)")


class Grids:
    """Homes of grids, each killed at a moment of its own and run to its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._said = folder / "said"
        self._requests, theirs = FORKED.Pipe()
        self._process = FORKED.Process(target=answer, args=(theirs, self._said), daemon=True)
        self._process.start()
        theirs.close()
        (folder / DATABASE).write_bytes(fresh_database())

    def kill_at(self, moment: int, home: Path | None = None) -> Path:
        """Kill a grid, run it to its end and return its home; an empty one when it is given."""
        if home is None:
            # A name of its own: MLflow's client remembers databases by their names.
            home = self._folder / f"{next(self._numbers)} killed at {moment}"
            home.mkdir()
            shutil.copy(self._folder / DATABASE, home)
        self._requests.send((moment, home))
        try:
            ended = self._requests.recv()
        except EOFError:
            ended = None
        expected = (0 if moment == NOT_KILLED else -signal.SIGKILL, 0)
        assert ended == expected, f"{home}: {ended}\n{self._said.read_text()}"
        return home

    def close(self) -> None:
        if self._process.is_alive():
            assert self._process.pid is not None
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grids]:
    made = Grids(tmp_path_factory.mktemp("killed"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(grids: Grids) -> Path:
    return grids.kill_at(NOT_KILLED)


def writes_of(trace: Path) -> list[str]:
    return [line for line in trace.read_text().splitlines() if line[0].isdigit() and ": " in line]


def starts_of(trace: Path) -> dict[str, int]:
    return {match[1]: int(match[2]) for match in _START.finditer(trace.read_text())}


def committed_in(trace: Path) -> dict[str, int]:
    """The newest step of each cell whose manifest was in place."""
    found: dict[str, int] = {}
    for match in _MANIFEST.finditer(trace.read_text().partition("killed before")[0]):
        found[match[1]] = max(found.get(match[1], 0), int(match[2]))
    return found


def test_killed_between_two_durable_writes(
    grids: Grids, undisturbed: Path, draw: random.Random, record_property: Callable[..., None]
) -> None:
    every = range(1, len(writes_of(undisturbed / BEGUN)) + 1)
    for moment in draw.sample(every, MOMENTS_OF_ONE_SEED):
        record_property(KILL, kill_and_compare(grids, undisturbed, moment))


@pytest.mark.skipif(MATRIX == 1, reason="takes minutes: `make faults`")
@pytest.mark.timeout(1800)
def test_killed_between_every_two_durable_writes(
    grids: Grids, undisturbed: Path, record_property: Callable[..., None]
) -> None:
    for moment in range(1, len(writes_of(undisturbed / BEGUN)) + 1):
        record_property(KILL, kill_and_compare(grids, undisturbed, moment))


def kill_and_compare(grids: Grids, undisturbed: Path, moment: int) -> str:
    """Returns between which writes the kill was."""
    expected = writes_of(undisturbed / BEGUN)
    home = grids.kill_at(moment)
    trace = (home / BEGUN).read_text().splitlines()
    assert writes_of(home / BEGUN) == expected[: moment - 1]
    assert trace[-1] == f"killed before: {expected[moment - 1].partition(': ')[2]}"
    assert "storage:" not in (home / "said.txt").read_text(), "something half-written was read"
    committed = committed_in(home / BEGUN)
    for cell, step in starts_of(home / RESUMED).items():
        assert step >= committed.get(cell, 0), "a step that a commit covers was trained again"
    assert_equal_records(home, undisturbed)
    assert_ends_are_told(home)
    shutil.rmtree(home)
    return f"{expected[moment - 2] if moment > 1 else 'the start'} | {trace[-1]}"


def assert_ends_are_told(home: Path) -> None:
    """A longer run of each cell could go on from where that has ended."""
    storage = Storage.open(home / "storage", create=False)
    for point in load_space_text(SPACE).points():
        fork = fork_at(point.cell, point.cell.num_steps)
        end, problems = storage.latest(fork.line, max_step=fork.step)
        assert end is not None and end.step == fork.step and problems == []


def test_killed_while_mlflow_makes_its_database(
    grids: Grids, undisturbed: Path, draw: random.Random, tmp_path: Path
) -> None:
    moment = draw.randint(5, 65)
    home = grids.kill_at(moment, tmp_path)
    assert "alembic_version" in writes_of(home / BEGUN)[-1], "the database was made before"
    assert_equal_records(home, undisturbed)

"""Where cells can begin, by the names of what is stored: packs are of cells that begin at one step."""

import threading
from pathlib import Path

import pytest

from sweep.forks import fork_at, lines_of
from sweep.packs import make_packs
from sweep.starting_points import starting_points
from sweep.storage import Storage
from tests.sweep.test_forks import bulk, cell, sgd
from trainers.cell import Cell


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path)


def leave(storage: Storage, one: Cell, step: int) -> None:
    """Leave a state on a cell's line; what is in it does not matter here."""
    line = fork_at(one, step).line
    storage.commit(
        line,
        attempt=storage.begin_attempt(line),
        step=step,
        checkpoint=b"a state",
        part=None,
        previous=None,
    )


def test_a_cell_begins_at_the_furthest_state_on_its_lines(storage: Storage) -> None:
    one = cell(sgd(30), bulk(60))
    cells = {"branch": one, "other seed": cell(sgd(30), bulk(60), seed=1), "longer": cell(sgd(100))}
    assert set(starting_points(cells, storage, {}, lanes=2).values()) == {0}
    for step in (10, 30, 40):
        leave(storage, cells["longer"], step)
    # The trunk's state at 40 is beyond the branch's part of that line.
    assert starting_points(cells, storage, {}, lanes=2) == {"branch": 30, "other seed": 0, "longer": 40}
    leave(storage, one, 50)
    committed = {"branch": 45, "longer": 90}
    assert starting_points(cells, storage, committed, lanes=2) == {
        "branch": 50,
        "other seed": 0,
        "longer": 90,
    }
    # Alone in its pack a cell begins wherever it can, and nobody needs to know where.
    assert starting_points(cells, storage, committed, lanes=1) == committed


def test_a_cell_with_a_state_is_not_beside_one_that_begins_anew(storage: Storage) -> None:
    # Old seeds have an end from which longer runs go on; a new one has nothing.
    cells = {str(seed): cell(sgd(200), seed=seed) for seed in range(4)}
    for seed, step in ((0, 100), (1, 100), (2, 50)):
        leave(storage, cell(sgd(step), seed=seed), step)
    begins = starting_points(cells, storage, {}, lanes=4)
    assert make_packs(cells, {}, lanes=4, begins=begins) == [("0", "1"), ("2",), ("3",)]


def test_each_line_is_looked_at_once_and_several_at_a_time(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {str(seed): cell(sgd(30), bulk(60 + seed), seed=seed % 8) for seed in range(16)}
    lines = {line for one in cells.values() for line, _, _ in lines_of(one)}
    together, looked, steps = threading.Barrier(8), list[str](), Storage.steps

    def waiting(store: Storage, line: str) -> list[int]:
        looked.append(line)
        together.wait(60.0)
        return steps(store, line)

    monkeypatch.setattr(Storage, "steps", waiting)
    starting_points(cells, storage, {}, lanes=2)
    assert len(lines) == 16 and sorted(looked) == sorted(lines)

"""States that were left for others are removed when the last of them has ended, and not before."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import pytest

from sweep.errors import LedgerError
from sweep.forks import Fork, fork_at, plan_sharing
from sweep.retention import Retention
from sweep.storage import Storage
from sweep.storage.files import open_files
from tests.sweep.test_forks import bulk, cell, sgd
from trainers.cell import Cell


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path)


def leave(storage: Storage, *forks: Fork) -> None:
    for fork in forks:
        storage.commit(
            fork.line, attempt=1, step=fork.step, checkpoint=b"state %d" % fork.step, part=None, previous=None
        )


def steps(storage: Storage, line: str) -> list[int]:
    return sorted(manifest.step for manifest in storage.manifests(line))


def keep(
    storage: Storage,
    cells: dict[str, Cell],
    *,
    others: Iterable[Cell] = (),
    elsewhere: Callable[[], Collection[str]] = tuple,
) -> Retention:
    return Retention(storage, cells, plan_sharing(cells), others=others, elsewhere=elsewhere)


def named(*cells: Cell) -> dict[str, Cell]:
    return {str(number): one for number, one in enumerate(cells)}


def test_a_state_stays_until_every_cell_that_starts_from_it_has_ended(storage: Storage) -> None:
    cells = named(cell(sgd(500)), *(cell(sgd(20), bulk(500, k=k)) for k in (1, 2)), cell(sgd(300), bulk(500)))
    trunk = cells["0"]
    forks = [fork_at(trunk, 20), fork_at(trunk, 300)]
    leave(storage, *forks)
    retention = keep(storage, cells)
    line = forks[0].line
    retention.ended("1")
    retention.remove()
    assert steps(storage, line) == [20, 300]
    retention.ended("2")
    assert steps(storage, line) == [20, 300], "nothing is touched before `remove`"
    retention.remove()
    assert steps(storage, line) == [300]
    assert storage.read_checkpoint(next(storage.manifests(line))) == b"state 300"
    retention.ended("3")
    retention.ended("0")
    retention.remove()
    assert steps(storage, line) == []


def test_where_a_cell_ends_its_state_stays(storage: Storage) -> None:
    cells = named(cell(sgd(500)), cell(sgd(200)))
    end = fork_at(cells["0"], 200)
    leave(storage, end)
    retention = keep(storage, cells)
    retention.ended("1")
    retention.remove()
    assert steps(storage, end.line) == [200]


def test_a_store_that_cannot_be_written_does_not_stop_a_sweep(storage: Storage, tmp_path: Path) -> None:
    cells = named(cell(sgd(500)), cell(sgd(20), bulk(500)))
    fork = fork_at(cells["0"], 20)
    leave(storage, fork)
    retention = keep(storage, cells)
    retention.ended("1")
    manifests = tmp_path / "cells" / fork.line / "manifests"
    (manifests / "000000020.a1.json").rename(manifests / "kept")
    (manifests / "000000020.a1.json").mkdir()
    retention.remove()


def test_where_a_cell_of_another_plan_has_ended_a_longer_run_can_still_go_on(storage: Storage) -> None:
    cells = named(*(cell(sgd(20), bulk(500, k=k)) for k in (1, 2)))
    (fork,) = {one.start for one in plan_sharing(cells).values() if one.start is not None}
    own = storage.commit("ended", attempt=1, step=20, checkpoint=b"the end", part=None, previous=None)
    leave(storage, fork)
    storage.commit(fork.line, attempt=2, step=20, checkpoint=None, part=None, previous=own)
    retention = keep(storage, cells)
    for cell_id in cells:
        retention.ended(cell_id)
    retention.remove()
    (found,) = storage.manifests(fork.line)
    assert storage.read_checkpoint(found) == b"the end"
    assert [path for path, _ in open_files(storage.place).sizes(f"cells/{fork.line}")] == [found.file]


@pytest.mark.parametrize(
    ("other", "left"),
    [
        (cell(sgd(20), bulk(500, k=3)), [20]),
        (cell(sgd(500)), [20]),
        (cell(sgd(19), bulk(500, k=3)), []),
    ],
)
def test_a_state_stays_from_which_a_cell_can_start_that_is_not_trained_now(
    other: Cell, left: list[int], storage: Storage
) -> None:
    cells = named(*(cell(sgd(20), bulk(500, k=k)) for k in (1, 2)))
    (fork,) = {one.start for one in plan_sharing(cells).values() if one.start is not None}
    leave(storage, fork)
    retention = keep(storage, cells, others=[other])
    for cell_id in cells:
        retention.ended(cell_id)
    retention.remove()
    assert steps(storage, fork.line) == left


def test_a_state_stays_that_another_sweep_needs_and_where_nobody_can_tell(storage: Storage) -> None:
    cells = named(*(cell(sgd(20), bulk(500, k=k)) for k in (1, 2)))
    (fork,) = {one.start for one in plan_sharing(cells).values() if one.start is not None}
    leave(storage, fork)

    def away() -> Collection[str]:
        raise LedgerError("away", transient=True)

    for elsewhere, left in ((lambda: {fork.line}, [20]), (away, [20]), (lambda: {"another"}, [])):
        retention = keep(storage, cells, elsewhere=elsewhere)
        for cell_id in cells:
            retention.ended(cell_id)
        retention.remove()
        assert steps(storage, fork.line) == left

"""Looking up the runs of cells: what is found, and how much is read of a store that holds many more."""

from collections.abc import Sequence
from typing import Any

import pytest

from sweep.ledger import Ledger, Sweep
from sweep.names import Status
from tests.sweep.small_sweep import FakeSpace, make_cell, make_plan
from tests.sweep.test_ledger import start
from trainers.canonical import cell_id

MINE = [0.01 * number for number in range(1, 11)]
THEIRS = [0.01 * number for number in range(101, 131)]


def open_sweep(ledger: Ledger, name: str, *, shares: bool = True) -> Sweep:
    return ledger.open_sweep(FakeSpace(name=name), make_plan(0.1), shares=shares)


def made(
    ledger: Ledger, sweep: Sweep, lrs: Sequence[float], status: Status = Status.COMPLETED
) -> dict[str, str]:
    """Make runs of cells that end like this; returns them by cell."""
    runs = [start(ledger, sweep, lr) for lr in lrs]
    for run in runs:
        ledger.finish_cell(run.run_id, status)
    return {run.cell_id: run.run_id for run in runs}


def found(ledger: Ledger, lrs: Sequence[float], sweep: Sweep | None = None) -> dict[str, str]:
    runs = ledger.lookup([cell_id(make_cell(lr)) for lr in lrs], sweep)
    return {cell: run.run_id for cell, run in runs.items()}


@pytest.fixture
def read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that MLflow has given, as often as it has."""
    search, given = ledger.client.search_runs, list[str]()

    def counted(*arguments: Any, **named: Any) -> Any:
        page = search(*arguments, **named)
        given.extend(run.info.run_id for run in page)
        return page

    monkeypatch.setattr(ledger.client, "search_runs", counted)
    return given


def test_of_a_sweep_whose_cells_have_ended_nothing_else_is_read(ledger: Ledger, read: list[str]) -> None:
    made(ledger, open_sweep(ledger, "other"), THEIRS)
    sweep = open_sweep(ledger, "mine")
    mine = made(ledger, sweep, MINE)
    read.clear()
    assert found(ledger, MINE, sweep) == mine
    assert sorted(read) == sorted(mine.values())


def test_what_has_not_ended_here_may_have_elsewhere(ledger: Ledger) -> None:
    other, sweep = open_sweep(ledger, "other"), open_sweep(ledger, "mine")
    mine = made(ledger, sweep, MINE[:8])
    failed = made(ledger, sweep, MINE[8:9], Status.FAILED)
    theirs = made(ledger, other, MINE[8:9])
    begun = start(ledger, other, MINE[9])
    assert found(ledger, MINE, sweep) == mine | theirs | {begun.cell_id: begun.run_id}
    assert found(ledger, MINE[8:], sweep) == theirs | {begun.cell_id: begun.run_id}
    assert found(ledger, MINE, other) == found(ledger, MINE, sweep)
    # Nor does a sweep that shares nothing see them, or is it seen.
    apart = open_sweep(ledger, "apart", shares=False)
    own = made(ledger, apart, MINE[:1])
    assert found(ledger, MINE, apart) == own != mine
    assert set(failed.values()).isdisjoint(found(ledger, MINE).values())


@pytest.mark.parametrize("num_cells", [1, len(MINE)])
def test_of_two_that_have_ended_a_sweep_has_its_own(ledger: Ledger, num_cells: int) -> None:
    first, second = open_sweep(ledger, "first"), open_sweep(ledger, "second")
    runs = [made(ledger, sweep, MINE[:1]) for sweep in (first, second)]
    assert [found(ledger, MINE[:num_cells], sweep) for sweep in (first, second)] == runs
    assert found(ledger, MINE[:num_cells]) == runs[0]


@pytest.mark.parametrize(
    ("limit", "value", "num_read"),
    [
        # All of them, once.
        ("RUNS_PER_REQUEST", 10, len(THEIRS)),
        # Enough to see that there are too many, then a request for each cell.
        ("RUNS_PER_REQUEST", 1, 2 * len(MINE) + 1),
        ("MANY_CELLS", len(MINE) - 1, len(THEIRS)),
    ],
)
def test_a_few_cells_are_found_without_reading_a_large_store(
    ledger: Ledger,
    read: list[str],
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    num_read: int,
) -> None:
    monkeypatch.setattr(f"sweep.ledger.cells.{limit}", value)
    wanted = THEIRS[5 : 5 + len(MINE)]
    runs = made(ledger, open_sweep(ledger, "other"), THEIRS)
    read.clear()
    assert found(ledger, wanted) == {cell_id(make_cell(lr)): runs[cell_id(make_cell(lr))] for lr in wanted}
    assert len(read) == num_read

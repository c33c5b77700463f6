"""What a report says in words: outcomes, where the best loss and accuracy lie, and what diverged."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sweep.best import find_best
from sweep.finding import findings
from sweep.names import Status
from sweep.record import Record
from sweep.search.account import Account
from sweep.standing_view import show
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid
from tests.sweep.report.test_search_figures import SEARCH


@pytest.fixture(scope="module")
def record(store: Store) -> Record:
    """Grids that share their axes' values, and one that has no axis but the seed, as two SGDs may."""
    points = [
        *grid("long", {"method": ["bulk", "dom"], "seed": [0, 1]}),
        *grid("short", {"method": ["bulk", "dom"], "seed": [0, 1]}),
        *grid("sgd", {"seed": [0, 1]}),
    ]
    losses = {("long", "bulk"): 0.2, ("short", "bulk"): 0.6, ("short", "dom"): 0.5, ("sgd", None): 0.3}
    cells = {
        cell: ended(9.0, status=Status.DIVERGED)
        if (grid_name, axes.get("method")) == ("long", "dom")
        else ended(losses[grid_name, axes.get("method")] + 0.02 * axes["seed"], 0.9 - 0.1 * len(grid_name))
        for grid_name, axes, cell in points
    }
    return store.record(points, cells)


def test_configurations_of_several_grids_are_told_apart(record: Record) -> None:
    first, loss, accuracy, diverged = findings(record)
    assert first.endswith(": 10 grid points, 10 distinct cells: 8 completed, 2 diverged.")
    assert loss == "lowest training loss: 0.21 at grid=long method=bulk."
    assert accuracy == "best test accuracy: 0.6 at grid=sgd."
    assert diverged == "diverged: grid=long method=dom."
    _, [best] = find_best(record)
    assert (best.place, best.to_json()["grid"]) == ({"grid": "long", "method": "bulk"}, "long")


def test_the_grids_of_a_search_are_its_own_and_not_told_apart(record: Record) -> None:
    search = Account(search=SEARCH, trials=(), cells=0, steps=0, seconds=0.0)
    assert not any("grid=" in line for line in findings(replace(record, search=search)))


def test_one_is_said_as_one(store: Store) -> None:
    points = grid("g", {"lr": [1, 2]})
    points[1] = (*points[1][:2], points[0][2])
    found = store.record(points, {points[0][2]: ended(0.1)})
    first, shared, *_ = findings(found)
    assert first.endswith(": 2 grid points, 1 distinct cell: 1 completed.")
    assert shared == "1 grid point shares a cell with another one (the same experiment, run once)."
    console = Console(file=io.StringIO(), width=120)
    show(found, console, pictures=False)
    assert ": 1 cell, 2 grid points" in console.file.getvalue()

"""Tables: their places, the reference beside them, and how they are written."""

import csv
import io

import numpy as np
import pytest

from search_spaces.reports import TableSpec
from sweep.names import Status
from sweep.record import Record
from sweep.report.states import State
from sweep.report.table import table_csv, table_data, table_markdown
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import StoredCell, ended, grid

TABLE = TableSpec(kind="table", name="table", rows=("lr", "holdout_size"), columns="k", reference="sgd")


def table_record(store: Store, **changes: StoredCell) -> Record:
    points = grid("bulk", {"lr": [0.1, 0.01], "holdout_size": [200, 500], "k": [5, 1], "seed": [0, 1]})
    points += grid("sgd", {"lr": [0.01, 0.1], "seed": [0, 1]})
    cells: dict[str, StoredCell] = {}
    for _, v, cell in points:
        accuracy = 0.30 + 0.01 * v.get("k", 9) - v["lr"] + 0.002 * v["seed"]
        cells[cell] = ended(0.1, accuracy, seed=v["seed"])
        if v["lr"] == 0.1 and v.get("k") == 5 and v["holdout_size"] == 200:
            cells[cell] = ended(0.1, 0.99, status=Status.DIVERGED, seed=v["seed"])
        if v["lr"] == 0.1 and v.get("k") == 5 and v["holdout_size"] == 500 and v["seed"]:
            cells[cell] = ended(0.1, 0.99, status=Status.DIVERGED, seed=v["seed"])
    return store.record(points, cells, **changes)


def test_table_arrays_reference_and_best(store: Store) -> None:
    data = table_data(table_record(store), TABLE)
    assert data.row_keys == ((0.01, 200), (0.01, 500), (0.1, 200), (0.1, 500))
    assert data.columns == (1, 5, None)
    assert data.pools[0][0].mean == pytest.approx(0.301)
    assert data.pools[0][2] == data.pools[1][2]
    assert data.pools[0][2].mean == pytest.approx(0.381)
    assert data.pools[2][1].state is State.DIVERGED
    assert data.pools[3][1].state is State.PARTLY_DIVERGED
    # 99 % of a diverged run is not the best of its block.
    assert data.best == {(0, 2), (1, 2), (2, 2), (3, 2)}


def test_table_markdown(store: Store) -> None:
    record = table_record(store)
    lines = table_markdown(record, TABLE, table_data(record, TABLE)).splitlines()
    assert "| η | l | k = 1 | k = 5 | SGD |" in lines
    assert "| 0.01 | 200 | 30.10 ± 0.14 | 34.10 ± 0.14 | **38.10 ± 0.14** |" in lines
    assert "| 0.01 | 500 | 30.10 ± 0.14 | 34.10 ± 0.14 | 〃 |" in lines
    diverged = '<span style="color:red">99.00 ± 0.00†</span>'
    assert f"| 0.1 | 200 | 21.10 ± 0.14 | {diverged} | **29.10 ± 0.14** |" in lines
    assert "| 0.1 | 500 | 21.10 ± 0.14 | 25.00‡ | 〃 |" in lines
    assert any(line.startswith("† the loss diverged") for line in lines)


def test_points_without_a_column_are_counted(store: Store) -> None:
    record = table_record(store)
    assert table_data(record, TABLE).left_out == 0
    alone = TABLE.model_copy(update={"reference": None})
    data = table_data(record, alone)
    assert (data.left_out, data.columns) == (4, (1, 5))
    assert "4 grid points without k are not shown" in table_markdown(record, alone, data)


def test_a_reference_has_a_column_for_each_experiment_that_the_rows_do_not_tell_apart(store: Store) -> None:
    points = grid("bulk", {"lr": [0.1, 0.2], "k": [5], "seed": [0, 1]})
    points += grid("sgd", {"lr": [0.1, 0.2], "batch_size": [10, 50], "seed": [0, 1]})
    cells = {
        cell: ended(0.1, axes["lr"] + axes.get("batch_size", 30) / 100, seed=axes["seed"])
        for _, axes, cell in points
    }
    record = store.record(points, cells)
    spec = TABLE.model_copy(update={"rows": ("lr",)})
    data = table_data(record, spec)
    assert (data.columns, data.reference_keys) == ((5, None, None), ((10,), (50,)))
    assert [[place.mean for place in row] for row in data.pools] == [
        pytest.approx([0.4, 0.2, 0.6]),
        pytest.approx([0.5, 0.3, 0.7]),
    ]
    assert {place.num_cells for row in data.pools for place in row} == {2}
    text = table_markdown(record, spec, data)
    assert "| η | k = 5 | SGD, batch size = 10 | SGD, batch size = 50 |" in text
    metric = "final/test_accuracy"
    assert [line.split(",")[:4] for line in table_csv(data).splitlines()[1:4]] == [
        ["0.1", "5", metric, "0"], ["0.1", "batch size = 10", metric, "1"],
        ["0.1", "batch size = 50", metric, "1"],
    ]  # fmt: skip
    only = spec.model_copy(update={"where": {"batch_size": (50, None)}})
    assert table_data(record, only).reference_keys == ((),)


def test_a_reference_stands_beside_rows_that_name_their_grids(store: Store) -> None:
    points = [p for name in ("bulk", "dom") for p in grid(name, {"lr": [0.1], "k": [5]})]
    points += grid("sgd", {"lr": [0.1]})
    accuracy = {"bulk": 0.25, "dom": 0.5, "sgd": 0.75}
    record = store.record(points, {cell: ended(0.1, accuracy[name]) for name, _, cell in points})
    for rows, where in ((("lr",), {}), (("grid", "lr"), {"grid": ("bulk", "dom")})):
        data = table_data(record, TABLE.model_copy(update={"rows": rows, "where": where}))
        assert [[place.mean for place in row] for row in data.pools] == [[0.25, 0.75], [0.5, 0.75]]


def test_table_csv_is_raw(store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(table_data(table_record(store), TABLE)))))
    assert len(rows) == 12
    first = rows[0]
    assert (first["lr"], first["holdout_size"], first["k"], first["status"]) == (
        "0.01",
        "200",
        "1",
        "completed",
    )
    assert float(first["mean"]) == np.mean([0.30 + 0.01 - 0.01, 0.30 + 0.01 - 0.01 + 0.002])
    assert [row["status"] for row in rows if row["lr"] == "0.1" and row["k"] == "5"] == [
        "diverged",
        "some seeds diverged",
    ]


def test_a_place_that_is_in_no_grid_is_not_missing(store: Store) -> None:
    points = [*grid("bulk", {"lr": [0.1], "k": [5]}), *grid("bulk", {"lr": [0.2], "k": [1]})]
    points += grid("sgd", {"lr": [0.1]})
    spec = TABLE.model_copy(update={"rows": ("lr",)})
    data = table_data(store.record(points, {cell: ended(0.1) for _, _, cell in points}), spec)
    assert [[place.state for place in row] for row in data.pools] == [
        [State.ABSENT, State.OK, State.OK],
        [State.OK, State.ABSENT, State.ABSENT],
    ]


def test_table_csv_counts_the_seeds_of_the_mean_beside_all(store: Store) -> None:
    points = grid("bulk", {"lr": [0.1], "k": [5], "seed": [0, 1, 2]})
    fates = Status.COMPLETED, Status.FAILED, Status.COMPLETED
    cells = {
        cell: ended(0.1, status=fate, seed=axes["seed"])
        for (_, axes, cell), fate in zip(points, fates, strict=True)
    }
    spec = TABLE.model_copy(update={"rows": ("lr",), "reference": None})
    (row,) = csv.DictReader(io.StringIO(table_csv(table_data(store.record(points, cells), spec))))
    assert (row["seeds"], row["of_seeds"], row["diverged"]) == ("2", "3", "0")

"""A recorded sweep as data frames."""

import subprocess
import sys

import pytest

from sweep import load_sweep
from sweep.notebook import LoadedSweep
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import ended, grid
from trainers.errors import ConfigError


@pytest.fixture(scope="module")
def loaded(store: Store) -> LoadedSweep:
    points = grid("g", {"k": [1, 2, 3]})
    # The third point asks for the cell of the second.
    points[2] = (*points[2][:2], points[1][2])
    cells = {cell: ended(0.1 * (1 + row), seed=0) for row, (_, _, cell) in enumerate(points[:2])}
    for row, cell in enumerate(cells.values()):
        cell.histories["train/loss"] = [(0, 1.0), (10, 0.5 - row / 10)]
        cell.histories["test/accuracy"] = [(10, 0.25)]
    return load_sweep(store.put(points, cells), tracking_uri=store.uri)


def test_one_row_a_point_and_one_row_a_cell(loaded: LoadedSweep) -> None:
    assert loaded.points["k"].tolist() == [1, 2, 3]
    assert loaded.points["cell_id"].nunique() == 2
    assert loaded.cells["k"].tolist() == [1, 2]
    assert loaded.cells["final/train_loss"].tolist() == pytest.approx([0.1, 0.2])
    assert loaded.cells["status"].tolist() == ["completed"] * 2


def test_it_shows_itself_in_a_line(loaded: LoadedSweep) -> None:
    assert repr(loaded) == f"<sweep {loaded.record.name!r}: 3 grid points, 2 cells: 2 completed>"


def test_histories_by_cell(loaded: LoadedSweep) -> None:
    frame = loaded.history(["train/loss", "test/accuracy"])
    assert frame.columns.tolist() == ["cell_id", "step", "train/loss", "test/accuracy"]
    second = frame[frame["cell_id"] == loaded.cells.index[1]]
    assert second["step"].tolist() == [0, 10]
    assert second["train/loss"].tolist() == [1.0, 0.4]
    assert second["test/accuracy"].isna().tolist() == [True, False]
    one = loaded.history("train/loss", cells=[loaded.cells.index[0]])
    assert one["train/loss"].tolist() == [1.0, 0.5]


def test_unknown_names_get_the_nearest_one(loaded: LoadedSweep, store: Store) -> None:
    with pytest.raises(ConfigError, match="train/loss"):
        loaded.history("train/los")
    with pytest.raises(ConfigError, match="unknown cell"):
        loaded.history("train/loss", cells=["nothing"])
    with pytest.raises(ConfigError, match="nowhere"):
        load_sweep("nowhere", tracking_uri=store.uri)


def test_importing_sweep_alone_stays_light() -> None:
    code = "import sys, sweep; print(sorted({'mlflow', 'ray', 'torch', 'pandas'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

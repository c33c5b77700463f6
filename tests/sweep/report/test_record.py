"""Reading a sweep back from a real MLflow store."""

import math
from pathlib import Path

import numpy as np
import pytest

from sweep import names
from sweep.errors import LedgerError, LedgerUnavailableError
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.record import load_record
from sweep.report.canvas import caption
from tests.sweep.report.conftest import Store
from tests.sweep.report.stored_sweep import COMMIT, StoredCell, ended, grid, store_cell
from trainers.errors import ConfigError

HEAT = {"kind": "heatmap", "name": "heat", "x": "alpha_dom", "y": "k"}


def test_points_axes_and_reports_come_back(store: Store) -> None:
    points = grid("main", {"alpha_dom": [0.5, math.inf], "k": [5, 10]}) + grid("plain", {"lr": [0.1]})
    cells = {cell: ended(0.1, seed=0) for _, _, cell in points}
    record = store.record(points, cells, [HEAT])
    assert record.grids == ("main",) * 4 + ("plain",)
    assert record.axes["alpha_dom"] == (0.5, 0.5, math.inf, math.inf, None)
    assert record.axes["k"] == (5, 10, 5, 10, None)
    assert all(isinstance(k, int) for k in record.axes["k"][:4])
    assert record.commit == COMMIT
    assert [report.name for report in record.reports] == ["heat"]
    assert len(record.space_sha256) == 64


def test_changes_to_the_commit_are_said_in_captions(store: Store) -> None:
    points = grid("g", {"k": [1]})
    record = store.record(points, {points[0][2]: ended(0.1, seed=0)})
    assert f" · planned at commit {COMMIT[:7]} · " in caption(record, [0])
    record.client.set_tag(record.parent_run_id, names.TAG_GIT_DIRTY, "true")
    changed = caption(load_record(store.uri, record.name), [0])
    assert f" · planned at commit {COMMIT[:7]}, with changes · " in changed


def test_statuses_are_those_of_the_runs_not_the_stored_table(store: Store) -> None:
    points = grid("g", {"k": [1, 2, 3, 4, 5, 6, 7]})
    statuses = [
        Status.COMPLETED, Status.DIVERGED, Status.STOPPED, Status.FAILED,
        Status.INTERRUPTED, Status.RUNNING, Status.PENDING,
    ]  # fmt: skip
    cells = {
        cell: ended(0.1, status=status, seed=0) if status is not Status.PENDING else StoredCell(status=status)
        for (_, _, cell), status in zip(points, statuses, strict=True)
    }
    cells[points[3][2]].reason = "out of memory"
    record = store.record(points, cells)
    # Nobody holds the sweep's lease, so what was running has been interrupted.
    seen = [Status.INTERRUPTED if status is Status.RUNNING else status for status in statuses]
    assert [record.outcome(point).status for point in range(7)] == seen
    assert record.outcome(3).reason == "out of memory"
    assert record.outcome(0).metrics[names.FINAL_TRAIN_LOSS] == 0.1
    assert record.outcome(6).run_id is None


def test_a_run_that_is_newer_than_the_table_is_found_by_its_cell(store: Store) -> None:
    points = grid("g", {"k": [1, 2]})
    name = store.put(points, {cell: StoredCell(status=Status.PENDING) for _, _, cell in points})
    experiment = store.client.get_experiment_by_name(name)
    store_cell(store.client, experiment.experiment_id, "p", name, points[1][2], ended(0.25, seed=0))
    record = load_record(store.uri, name)
    assert [record.outcome(point).status for point in range(2)] == [Status.PENDING, Status.COMPLETED]
    assert record.outcome(1).metrics[names.FINAL_TRAIN_LOSS] == 0.25


def test_cells_of_another_sweep_are_read_through_their_run_id(store: Store) -> None:
    points = grid("g", {"k": [1, 2]})
    first = store.record(points[:1], {points[0][2]: ended(0.125, seed=0)})
    run = first.outcome(0).run_id
    record = store.record(points, {points[1][2]: ended(0.5, seed=0)}, referred={points[0][2]: run})
    assert record.outcome(0).run_id == run
    assert record.outcome(0).metrics[names.FINAL_TRAIN_LOSS] == 0.125


def test_a_deleted_run_leaves_its_cell_without_a_status(store: Store) -> None:
    points = grid("g", {"k": [1]})
    name = store.put(points, {points[0][2]: ended(0.1, seed=0)})
    store.client.delete_run(load_record(store.uri, name).outcome(0).run_id)
    assert load_record(store.uri, name).outcome(0).status is None


def test_histories_are_sorted_and_non_finite_values_survive(store: Store) -> None:
    points = grid("g", {"k": [1]})
    cell = ended(0.1, seed=0)
    cell.histories = {"train/loss": [(20, math.inf), (0, 0.5), (10, math.nan), (30, -math.inf)]}
    record = store.record(points, {points[0][2]: cell})
    run = record.outcome(0).run_id
    series = record.histories([run, run], ["train/loss", "absent"])
    found = series[run, "train/loss"]
    assert found.steps.tolist() == [0, 10, 20, 30]
    np.testing.assert_array_equal(found.values, [0.5, math.nan, math.inf, -math.inf])
    assert series[run, "absent"].steps.size == 0


def test_an_unknown_sweep_is_answered_with_the_nearest_name(store: Store) -> None:
    name = store.put(grid("g", {"k": [1]}), {})
    with pytest.raises(ConfigError, match="Did you mean") as caught:
        load_record(store.uri, name + "x")
    assert caught.value.exit_code == 2


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(LedgerUnavailableError, match="no MLflow database") as caught:
        load_record(f"sqlite:///{path}", "demo")
    assert caught.value.exit_code == 2
    assert not path.exists()


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is no database " * 200)
    with pytest.raises(LedgerError):
        load_record(f"sqlite:///{path}", "demo")
    assert path.read_text() == "this is no database " * 200


def test_a_damaged_table_of_cells_is_one_clear_error(store: Store) -> None:
    name = store.put(grid("g", {"k": [1]}), {})
    parent = store.client.search_runs([store.client.get_experiment_by_name(name).experiment_id])[0]
    store.client.log_text(parent.info.run_id, "PAR1 damaged", names.ARTIFACT_CELLS)
    with pytest.raises(LedgerError, match="damaged"):
        load_record(store.uri, name)


def test_a_cell_that_another_sweep_left_is_not_running_for_ever(store: Store) -> None:
    points = grid("g", {"k": [1]})
    ((_, _, cell),) = points
    maker = store.put(points, {cell: ended(0.1, status=Status.RUNNING, seed=0)})
    run = load_record(store.uri, maker).outcome(0).run_id
    assert run is not None
    reader = store.put(points, {}, referred={cell: run})

    def status() -> Status | None:
        return load_record(store.uri, reader).outcome(0).status

    assert status() is Status.INTERRUPTED
    ledger = Ledger.open(store.uri, create=False)
    # Whoever made the run may be training it, and so may this sweep, which has taken it up.
    for name in (maker, reader):
        with Lease.acquire(ledger, ledger.find_sweep(name)):
            assert status() is Status.RUNNING
    assert status() is Status.INTERRUPTED

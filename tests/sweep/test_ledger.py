"""The ledger on a real SQLite store: names as agreed, repetition harmless, refusals clear."""

import json
import math
import multiprocessing
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pytest
from mlflow import MlflowClient

from sweep import names
from sweep.errors import LedgerError, SweepExistsError
from sweep.grid_table import AxisValue, decode_table, encode_table, grid_table, with_fates
from sweep.ledger import Ledger, Sweep
from sweep.names import Status
from tests.forked import FORKED
from tests.sweep.small_sweep import FakeSpace, make_cell, make_plan, open_ledger
from trainers.canonical import cell_id
from trainers.cell import Cell, Probe
from trainers.cell_json import cell_from_json
from trainers.errors import ConfigError
from trainers.options import Choice


def start(ledger: Ledger, sweep: Sweep, lr: float = 0.1, axes: Mapping[str, AxisValue] | None = None):
    cell = make_cell(lr)
    return ledger.start_cell(sweep, cell_id=cell_id(cell), cell=cell, axes=axes or {"lr": lr}, epoch=3)


def test_a_sweep_is_made_once_and_found_again(ledger: Ledger) -> None:
    space, plan = FakeSpace(), make_plan(0.1, 0.2)
    sweep = ledger.open_sweep(space, plan)
    ledger.write_plan(sweep, space, plan)
    again = ledger.open_sweep(space, plan)
    assert again.run_id == sweep.run_id
    assert again.space_sha256 == space.sha256
    assert ledger.find_sweep("little") == again
    assert [one.name for one in ledger.list_sweeps()] == ["little"]
    assert ledger.read_space(sweep) == space.text
    stored = ledger.read_cells(sweep)
    assert stored is not None
    assert stored["axis/lr"].to_pylist() == [0.1, 0.2]
    assert stored["status"].to_pylist() == ["pending", "pending"]
    tags = ledger.client.get_run(sweep.run_id).data.tags
    assert tags[names.TAG_ROLE] == "sweep"
    assert tags["mlflow.note.content"] == space.description
    assert tags["mlflow.runName"] == "little"


def test_a_plan_may_grow_but_not_lose_cells(ledger: Ledger) -> None:
    space = FakeSpace()
    sweep = ledger.open_sweep(space, make_plan(0.1, 0.2))
    ledger.write_plan(sweep, space, make_plan(0.1, 0.2))
    grown = make_plan(0.2, 0.1, 0.3)
    assert ledger.open_sweep(space, grown) == ledger.find_sweep("little")
    ledger.write_plan(sweep, space, grown)
    ledger.finish_cell(start(ledger, sweep, 0.1).run_id, Status.COMPLETED)
    begun = start(ledger, sweep, 0.2)
    ledger.client.set_tag(begun.run_id, names.TAG_RECORDED_UNTIL, "50")
    with pytest.raises(
        SweepExistsError, match=r"2 grid points .*\n  grid: lr=0.2 .*\n  grid: lr=0.1 "
    ) as info:
        ledger.open_sweep(FakeSpace(text="other"), make_plan(0.3))
    assert "--name" in str(info.value) and "keep the old axis values" in str(info.value)
    assert info.value.exit_code == 2
    assert ledger.read_space(sweep) == space.text


def test_cells_that_another_version_addresses_otherwise_are_run_anew_where_that_is_accepted(
    ledger: Ledger,
) -> None:
    space = FakeSpace()
    sweep = ledger.open_sweep(space, make_plan(0.1))
    ledger.write_plan(sweep, space, make_plan(0.1))
    ledger.finish_cell(start(ledger, sweep, 0.1).run_id, Status.COMPLETED)
    # As if the cell of the space's one point had this address now.
    now = make_plan(0.3)
    with pytest.raises(SweepExistsError, match=r"(?s)1 grid points .*other addresses .*--accept-version"):
        ledger.open_sweep(space, now)
    with pytest.raises(SweepExistsError, match="keep the old axis values"):
        ledger.open_sweep(FakeSpace(text="other"), now, accept_version=True)
    # What is read back is written in another way where fields came since.
    again = FakeSpace(text="spelled out", recorded_sha256=space.sha256)
    assert ledger.open_sweep(again, now, accept_version=True).run_id == sweep.run_id
    ledger.write_plan(ledger.open_sweep(space, now, accept_version=True), space, now, accept_version=True)
    assert ledger.open_sweep(space, now).run_id == sweep.run_id


def test_what_has_failed_or_was_never_run_may_be_replaced(ledger: Ledger) -> None:
    space, plan = FakeSpace(), make_plan(0.1, 0.2, 0.3)
    sweep = ledger.open_sweep(space, plan)
    ledger.write_plan(sweep, space, plan)
    ledger.finish_cell(start(ledger, sweep, 0.1).run_id, Status.FAILED, "ConfigError: probe: failed")
    start(ledger, sweep, 0.2)
    corrected = make_plan(0.4, 0.3)
    ledger.write_plan(ledger.open_sweep(space, corrected), space, corrected)
    stored = ledger.read_cells(sweep)
    assert stored is not None and stored["cell_id"].to_pylist() == corrected["cell_id"].to_pylist()


def test_a_result_that_another_sweep_made_is_not_lost_either(ledger: Ledger) -> None:
    space, plan = FakeSpace(), make_plan(0.1)
    sweep = ledger.open_sweep(space, plan)
    ledger.write_plan(sweep, space, plan)
    other = ledger.open_sweep(FakeSpace(name="other"), plan)
    ledger.finish_cell(start(ledger, other).run_id, Status.DIVERGED)
    with pytest.raises(SweepExistsError, match="1 grid points"):
        ledger.open_sweep(space, make_plan(0.2))


def test_a_file_of_the_users_own_that_has_changed_is_named(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "my_probe.py"

    def planned(text: str) -> tuple[Cell, pa.Table]:
        path.write_text(text)
        probe = Probe(name="file", options=Choice.of("file", path=str(path)).options)
        cell = replace(make_cell(), probes=(probe,))
        return cell, grid_table(["grid"], [{"lr": 0.1}], [cell_id(cell)])

    cell, plan = planned("first")
    sweep = ledger.open_sweep(FakeSpace(), plan)
    ledger.write_plan(sweep, FakeSpace(), plan)
    run = ledger.start_cell(sweep, cell_id=cell_id(cell), cell=cell, axes={"lr": 0.1})
    ledger.finish_cell(run.run_id, Status.COMPLETED)
    with pytest.raises(SweepExistsError, match=r"(?s)Changed .*my_probe\.py.*delete little") as info:
        ledger.open_sweep(FakeSpace(), planned("second")[1], accept_version=True)
    assert "axis values" not in str(info.value)


def test_without_a_readable_plan_the_runs_say_what_must_be_kept(ledger: Ledger, folder: Path) -> None:
    space, plan = FakeSpace(), make_plan(0.1)
    sweep = ledger.open_sweep(space, plan)
    run = start(ledger, sweep)
    ledger.artifacts.put(sweep.run_id, names.ARTIFACT_CELLS, encode_table(plan)[:-7])
    with pytest.raises(LedgerError, match="damaged"):
        ledger.read_cells(sweep)
    ledger.finish_cell(run.run_id, Status.COMPLETED)
    with pytest.raises(SweepExistsError, match=run.cell_id):
        ledger.open_sweep(space, make_plan(0.2))
    assert ledger.open_sweep(space, make_plan(0.1, 0.2)).run_id == sweep.run_id


def test_a_deleted_sweep_keeps_its_name(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    ledger.client.delete_experiment(sweep.experiment_id)
    with pytest.raises(SweepExistsError, match="was deleted in MLflow"):
        ledger.open_sweep(FakeSpace(), make_plan(0.1))
    with pytest.raises(ConfigError, match="unknown sweep"):
        ledger.find_sweep("little")


def test_an_unknown_sweep_is_answered_with_the_nearest(ledger: Ledger) -> None:
    ledger.open_sweep(FakeSpace(), make_plan(0.1))
    with pytest.raises(ConfigError, match="Did you mean 'little'"):
        ledger.find_sweep("litle")


@pytest.mark.parametrize("name", ["with space", "ünïcode/and%#?:slash", "a'quote"])
def test_odd_names_work(ledger: Ledger, folder: Path, name: str) -> None:
    space, plan = FakeSpace(name=name), make_plan(0.1)
    sweep = ledger.open_sweep(space, plan)
    ledger.write_plan(sweep, space, plan)
    assert ledger.find_sweep(name).run_id == sweep.run_id
    start(ledger, sweep)
    # A stranger's client finds the same files.
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    listed = {entry.path for entry in client.list_artifacts(sweep.run_id)}
    assert listed == {names.ARTIFACT_SPACE, names.ARTIFACT_CELLS}
    local = client.download_artifacts(sweep.run_id, names.ARTIFACT_SPACE, str(folder))
    assert Path(local).read_text() == space.text


def test_a_cells_run_has_the_agreed_names(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    cell = make_cell(0.1)
    axes: dict[str, AxisValue] = {"lr": 0.1, "switch_step": 20, "method": "bulk", "alpha_dom": math.inf}
    found = ledger.start_cell(sweep, cell_id=cell_id(cell), cell=cell, axes=axes, epoch=3)
    run = ledger.client.get_run(found.run_id)
    assert run.info.run_name == "lr=0.1 switch_step=20 method=bulk alpha_dom=inf"
    assert run.info.status == "RUNNING"
    expected_tags = {
        "sweep.role": "cell",
        "sweep.name": "little",
        "sweep.cell_id": cell_id(cell),
        "sweep.status": "running",
        "mlflow.parentRunId": sweep.run_id,
        "sweep.epoch": "3",
    }
    assert expected_tags.items() <= run.data.tags.items()
    assert run.data.params == {
        "model": "mlp",
        "dataset": "mnist-5k",
        "loss": "mse",
        "seed": "0",
        "batch_size": "50",
        "num_steps": "100",
        "holdout_size": "500",
        "refresh_every": "10",
        "init": "pytorch",
        "phase.0.optimizer": "sgd",
        "phase.0.lr": "0.1",
        "phase.0.alpha_dom": "1.0",
        "phase.0.beta_bulk": "1.0",
        "phase.0.k": "10",
        "phase.0.until": "20",
        "phase.1.optimizer": "sgd",
        "phase.1.lr": "0.1",
        "phase.1.alpha_dom": "inf",
        "phase.1.beta_bulk": "1.0",
        "phase.1.k": "3",
        "phase.1.until": "100",
        "lr": "0.1",
        "k": "3",
        "switch_step": "20",
        "alpha_dom": "inf",
        "beta_bulk": "1.0",
        "optimizer": "sgd",
        "method": "bulk",
    }
    assert run.data.metrics == {"hp/lr": 0.1, "hp/k": 3.0, "hp/switch_step": 20.0, "hp/beta_bulk": 1.0}
    document = ledger.artifacts.get(found.run_id, names.ARTIFACT_CELL)
    assert document is not None
    assert cell_from_json(json.loads(document)["stated"]) == cell


@pytest.mark.parametrize(
    ("status", "run_status"),
    [
        (Status.COMPLETED, "FINISHED"),
        (Status.DIVERGED, "FINISHED"),
        (Status.STOPPED, "FINISHED"),
        (Status.FAILED, "FAILED"),
        (Status.INTERRUPTED, "KILLED"),
    ],
)
def test_how_a_cell_ended_is_recorded(ledger: Ledger, status: Status, run_status: str) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    run = start(ledger, sweep)
    for _ in range(2):
        ledger.finish_cell(
            run.run_id, status, "because", finals={"final/steps": 100.0}, step=100, timestamp_ms=77
        )
    found = ledger.lookup([run.cell_id])[run.cell_id]
    assert (found.status, found.reason, found.run_status) == (status, "because", run_status)
    assert found.metrics["final/steps"] == 100.0
    assert len(ledger.client.get_metric_history(run.run_id, "final/steps")) == 1


def test_a_resumed_run_is_completed_and_has_nothing_twice(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    cell = make_cell(0.1)
    # As a kill right after the run was made leaves it.
    tags = {names.TAG_ROLE: "cell", names.TAG_CELL_ID: cell_id(cell), names.TAG_NAME: "little"}
    ledger.client.create_run(sweep.experiment_id, tags=tags)
    (known,) = ledger.lookup([cell_id(cell)]).values()
    assert known.status is Status.RUNNING
    ledger.finish_cell(known.run_id, Status.INTERRUPTED, "killed")
    for axes in ({"lr": 0.1}, {"lr": 0.1}, {"lr": 0.7}):
        resumed = ledger.resume_cell(known, cell=cell, axes=axes, epoch=4)
    assert (resumed.run_id, resumed.status, resumed.run_status) == (known.run_id, Status.RUNNING, "RUNNING")
    run = ledger.client.get_run(known.run_id)
    assert run.data.params["lr"] == "0.1"
    assert run.data.params["phase.1.k"] == "3"
    assert run.data.tags[names.TAG_EPOCH] == "4"
    assert len(ledger.client.get_metric_history(known.run_id, "hp/k")) == 1


def test_cells_are_found_in_other_sweeps(ledger: Ledger) -> None:
    first = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    second = ledger.open_sweep(FakeSpace(name="second"), make_plan(0.1))
    run = start(ledger, first)
    many = [cell_id(make_cell(lr)) for lr in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    for wanted in (many[:1], many):
        found = ledger.lookup(wanted)
        assert list(found) == [run.cell_id]
        assert found[run.cell_id].sweep == "little"
    assert ledger.cells_of(second) == {}


def test_of_duplicates_the_ended_run_is_kept(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    runs = [start(ledger, sweep) for _ in range(3)]
    assert (
        ledger.lookup([runs[0].cell_id])[runs[0].cell_id].run_id
        == min(runs, key=lambda run: (run.started_ms, run.run_id)).run_id
    )
    ledger.finish_cell(runs[1].run_id, Status.COMPLETED)
    assert ledger.lookup([runs[0].cell_id])[runs[0].cell_id].run_id == runs[1].run_id
    assert sorted(ledger.remove_duplicates(sweep)) == sorted([runs[0].run_id, runs[2].run_id])
    assert ledger.remove_duplicates(sweep) == []
    assert list(ledger.cells_of(sweep)) == [runs[0].cell_id]


@pytest.mark.parametrize("empty", [min, max])
def test_of_twins_of_one_request_that_is_kept_to_which_something_was_written(
    empty: Callable[[list[str]], str], ledger: Ledger
) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    cell, tags = cell_id(make_cell(0.1)), {names.TAG_ROLE: names.ROLE_CELL, names.TAG_STATUS: "running"}
    tags |= {names.TAG_CELL_ID: cell, names.TAG_NAME: sweep.name}
    made = [ledger.client.create_run(sweep.experiment_id, start_time=1000, tags=tags) for _ in range(2)]
    runs = [run.info.run_id for run in made]
    (kept,) = {*runs} - {empty(runs)}
    ledger.client.log_param(kept, "lr", "0.1")
    ledger.finish_cell(kept, Status.FAILED, "it raised")
    assert ledger.remove_duplicates(sweep) == [empty(runs)]
    assert (ledger.lookup([cell])[cell].run_id, ledger.lookup([cell])[cell].reason) == (kept, "it raised")


def test_a_stop_request_stays_until_it_is_cleared(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    assert not ledger.requests(sweep).stop
    ledger.request_stop(sweep)
    assert ledger.requests(sweep).stop
    ledger.clear_stop(sweep)
    assert not ledger.requests(sweep).stop


def test_the_table_of_the_plan_follows_the_cells() -> None:
    table = grid_table(
        ["a", "a", "b"],
        [{"alpha": 1, "mode": "x"}, {"alpha": math.inf, "mode": 2}, {"seed": 3}],
        ["one", "two", "one"],
    )
    assert table.schema.field("axis/alpha").type == pa.float64()
    assert table.schema.field("axis/mode").type == pa.string()
    assert table.schema.field("axis/seed").type == pa.int64()
    assert table["axis/alpha"].to_pylist() == [1.0, math.inf, None]
    assert table["axis/seed"].to_pylist() == [None, None, 3]

    @dataclass
    class Fate:
        run_id: str
        status: Status
        reason: str
        metrics: dict[str, float]

    fates = {"one": Fate("r1", Status.DIVERGED, "left", {"final/steps": 7.0})}
    filled = with_fates(with_fates(table, fates), fates)
    assert filled["run_id"].to_pylist() == ["r1", None, "r1"]
    assert filled["status"].to_pylist() == ["diverged", "pending", "diverged"]
    assert filled["final_steps"].to_pylist() == [7.0, None, 7.0]
    assert decode_table(encode_table(filled)).equals(filled)


def _open_sweep(folder: Path, barrier: Barrier, results: "multiprocessing.Queue[str]") -> None:
    ledger = open_ledger(folder)
    barrier.wait()
    results.put(ledger.open_sweep(FakeSpace(), make_plan(0.1)).run_id)


def test_drivers_that_open_a_sweep_at_once_agree_on_the_parent(folder: Path) -> None:
    barrier, results = FORKED.Barrier(3), FORKED.Queue()
    workers = [FORKED.Process(target=_open_sweep, args=(folder, barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    parents = {results.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(parents) == 1
    with sqlite3.connect(folder / "mlflow.db") as database:
        (count,) = database.execute("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()
    assert count == 1


def test_a_parent_that_was_left_behind_is_removed(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    tags = {names.TAG_ROLE: names.ROLE_SWEEP, names.TAG_NAME: "little"}
    extra = ledger.client.create_run(sweep.experiment_id, tags=tags)
    assert ledger.open_sweep(FakeSpace(), make_plan(0.1)).run_id == sweep.run_id
    assert ledger.remove_duplicate_parents(sweep) == [extra.info.run_id]


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a\nb", "n" * 256])
def test_what_cannot_be_a_folder_is_no_name(ledger: Ledger, name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"--name: found {re.escape(repr(name[:40]))}, .* expected printable"
    ):
        ledger.open_sweep(FakeSpace(), make_plan(0.1), name=name)


def test_a_write_to_a_run_that_is_gone_is_permanent(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    run = start(ledger, sweep)
    ledger.client.delete_run(run.run_id)
    with pytest.raises(LedgerError) as info:
        ledger.finish_cell(run.run_id, Status.COMPLETED)
    assert not info.value.transient

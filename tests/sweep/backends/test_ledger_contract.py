"""What every MLflow does alike: embedded on SQLite, a server over HTTP, and PostgreSQL."""

import itertools
import math
import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
import sqlalchemy
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from sweep.errors import LeaseHeldError, LeaseLostError, LedgerError
from sweep.holder import Holder
from sweep.lease import Lease, current_holder
from sweep.ledger import Entries, Ledger, Sweep
from sweep.names import Status
from tests.forked import FORKED
from tests.sweep.backends.conftest import Task
from tests.sweep.small_sweep import FakeSpace, make_plan, take_over
from trainers.errors import ConfigError

WRITERS = 8
PARAMS = ("once.0", "once.1", "once.2", "once.3")


def entries_of(metrics: list[Metric], *, recorded_until: int) -> Entries:
    entries = Entries()
    entries.add_history(metrics, recorded_until=recorded_until)
    return entries


def start(ledger: Ledger, sweep: Sweep, task: Task):
    return ledger.start_cell(sweep, cell_id=task.cell_id, cell=task.cell, axes=task.axes)


def test_a_sweep_and_its_files_are_found_again(ledger: Ledger, sweep: Sweep, task: Task) -> None:
    assert ledger.find_sweep(task.space.name).run_id == sweep.run_id
    assert ledger.read_space(sweep) == task.space.text
    table = ledger.read_cells(sweep)
    assert table is not None
    assert table["cell_id"].to_pylist() == [task.cell_id]
    assert sweep.run_id in [one.run_id for one in ledger.list_sweeps()]


@pytest.mark.parametrize("name", ["x" * 250, "学习率与批大小扫描", "шаг-обучения-и-пачка", "it's ä" * 12])
def test_a_name_may_be_long_however_it_is_written(ledger: Ledger, name: str) -> None:
    space, plan = FakeSpace(name=name), make_plan(0.1)
    sweep = ledger.open_sweep(space, plan)
    try:
        ledger.write_plan(sweep, space, plan)
        assert ledger.find_sweep(name).run_id == sweep.run_id
        assert ledger.read_space(sweep) == space.text
        twin = ledger.open_sweep(FakeSpace(name=name[:-1] + "y"), plan)
        assert ledger.read_cells(twin) is None
        ledger.delete_sweep(twin)
    finally:
        ledger.delete_sweep(sweep)
    with pytest.raises(ConfigError, match="unknown sweep"):
        ledger.find_sweep(name)


def test_a_cell_is_followed_from_its_start_to_its_end(ledger: Ledger, sweep: Sweep, task: Task) -> None:
    run = start(ledger, sweep, task)
    assert ledger.lookup([task.cell_id])[task.cell_id].run_id == run.run_id
    assert ledger.client.get_run(run.run_id).data.params["lr"] == "0.1"
    ledger.finish_cell(run.run_id, Status.FAILED, "it raised: 'quoted' – ünïcode")
    failed = ledger.lookup([task.cell_id])[task.cell_id]
    assert (failed.status, failed.run_status) == (Status.FAILED, "FAILED")
    assert failed.reason == "it raised: 'quoted' – ünïcode"
    ledger.finish_cell(run.run_id, Status.FAILED, "\0 and \udce9")
    assert ledger.lookup([task.cell_id])[task.cell_id].reason == r"\x00 and \udce9"
    again = ledger.resume_cell(failed, cell=task.cell, axes=task.axes)
    assert (again.run_id, again.status, again.run_status) == (run.run_id, Status.RUNNING, "RUNNING")
    for _ in range(2):
        ledger.finish_cell(
            run.run_id, Status.COMPLETED, finals={"final/steps": 100.0}, step=100, timestamp_ms=77
        )
    assert ledger.cells_of(sweep)[task.cell_id].status is Status.COMPLETED
    assert len(ledger.client.get_metric_history(run.run_id, "final/steps")) == 1


def test_points_sent_twice_are_kept_once(ledger: Ledger, sweep: Sweep, task: Task) -> None:
    run = start(ledger, sweep, task)
    values = [0.25, math.nan, math.inf, -math.inf, 1e-300]
    points = [Metric("train/loss", value, 1000 + step, step) for step, value in enumerate(values)]
    many = [Metric("many", float(step), 1000 + step, step) for step in range(2500)]
    for _ in range(2):
        ledger.send(run.run_id, entries_of(points + many, recorded_until=2500))
    found = ledger.client.get_metric_history(run.run_id, "train/loss")
    assert len(found) == len(values)
    stored = {one.step: one.value for one in found}
    assert (stored[0], stored[4]) == (0.25, 1e-300)
    assert math.isnan(stored[1])
    # MLflow stores infinities as the largest numbers.
    assert stored[2] > 1e300 and stored[3] < -1e300
    assert len(ledger.client.get_metric_history(run.run_id, "many")) == 2500
    assert ledger.lookup([task.cell_id])[task.cell_id].recorded_until == 2500


def test_an_artifact_is_replaced_and_read_back(ledger: Ledger, sweep: Sweep) -> None:
    assert ledger.artifacts.get(sweep.run_id, "history/a part.parquet") is None
    for data in (b"first", bytes(range(256)) * 100):
        ledger.artifacts.put(sweep.run_id, "history/a part.parquet", data)
        assert ledger.artifacts.get(sweep.run_id, "history/a part.parquet") == data


def test_one_of_several_files_is_removed(ledger: Ledger, sweep: Sweep) -> None:
    assert ledger.artifacts.paths(sweep.run_id, "history") == []
    for path in ("history/a.parquet", "history/b.parquet"):
        ledger.artifacts.put(sweep.run_id, path, b"rows")
    whole = ledger.artifacts.read_folder(sweep.run_id, "history")
    assert whole == {"history/a.parquet": b"rows", "history/b.parquet": b"rows"}
    assert ledger.artifacts.read_folder(sweep.run_id, "figures") == {}
    ledger.artifacts.clear(sweep.run_id, "history/a.parquet")
    assert ledger.artifacts.paths(sweep.run_id, "history") == ["history/b.parquet"]


def _write_once(
    uri: str, run_id: str, number: int, barrier: Barrier, results: "multiprocessing.Queue[tuple[str, int]]"
) -> None:
    ledger = Ledger.open(uri)
    for name in PARAMS:
        barrier.wait()
        try:
            ledger.client.log_param(run_id, name, str(number))
        except MlflowException:
            continue
        results.put((name, number))
    barrier.wait()
    sweep = ledger.sweep_of(ledger.client.get_run(run_id))
    try:
        lease = Lease.acquire(ledger, sweep)
    except LeaseHeldError:
        results.put(("refused", number))
    else:
        results.put(("taken", lease.epoch))
    # Who holds it lives until all have asked.
    barrier.wait()


def test_of_many_writers_one_writes_a_param_and_one_gets_the_lease(
    ledger: Ledger, sweep: Sweep, tracking_uri: str
) -> None:
    """Write-once params are what the lease rests on."""
    barrier, results = FORKED.Barrier(WRITERS), FORKED.Queue()
    workers = [
        FORKED.Process(target=_write_once, args=(tracking_uri, sweep.run_id, number, barrier, results))
        for number in range(WRITERS)
    ]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=200) for _ in range(len(PARAMS) + WRITERS)]
    for worker in workers:
        worker.join()
    params = ledger.client.get_run(sweep.run_id).data.params
    for name in PARAMS:
        assert [number for key, number in answers if key == name] == [int(params[name])]
    assert [epoch for key, epoch in answers if key == "taken"] == [1]
    assert len([key for key, _ in answers if key == "refused"]) == WRITERS - 1


def elsewhere() -> Holder:
    return Holder(host="far", machine="another", pid=1, process_started="1", since_ms=0, token="t")


def test_a_lease_is_held_renewed_released_and_lost(ledger: Ledger, sweep: Sweep) -> None:
    with Lease.acquire(ledger, sweep, renew_seconds=0.1) as lease:
        assert current_holder(ledger.parent_run(sweep)) == lease.holder
        with pytest.raises(LeaseHeldError, match=f"process {lease.holder.pid} on "):
            Lease.acquire(ledger, sweep)
    assert current_holder(ledger.parent_run(sweep)) is None
    second = Lease.acquire(ledger, sweep, renew_seconds=0.1)
    assert second.epoch == 2
    take_over(ledger, sweep, 3, elsewhere().to_text())
    deadline = time.monotonic() + 20
    while second.held:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(LeaseLostError, match="process 1 on far"):
        second.check()
    second.release()
    with Lease.acquire(ledger, sweep, stale_seconds=1.0) as third:
        assert third.epoch == 4


def test_what_a_lost_lease_no_longer_covers_is_not_written(
    ledger: Ledger, sweep: Sweep, task: Task, tracking_uri: str
) -> None:
    """Stopped between a look at the lease and a write, and woken after another has taken over."""
    run = start(ledger, sweep, task)
    served = tracking_uri.startswith("http")
    with Lease.acquire(ledger, sweep, renew_seconds=3600, stale_seconds=3600) as lease:
        ledger.client.set_tag(run.run_id, "before", "1")
        take_over(ledger, sweep, 2, elsewhere().to_text())
        # The last look was a moment ago, so only the database can know.
        lease.check()
        if served:
            # A server cannot look as part of a write, so there an old look is repeated.
            lease._looked -= 3600
        writes: list[Callable[[], object]] = [
            lambda: ledger.client.set_tag(run.run_id, "after", "1"),
            lambda: ledger.client.create_run(sweep.experiment_id),
            lambda: ledger.client.set_terminated(run.run_id),
            lambda: ledger.client.log_batch(run.run_id, metrics=[Metric("after", 1.0, 1, 1)]),
        ]
        for write in writes:
            with pytest.raises(MlflowException, match="taken"):
                write()
        lease._looked -= 3600
        with pytest.raises(LedgerError, match="taken") as info:
            ledger.artifacts.put(run.run_id, "after.txt", b"after")
        assert info.value.transient
        assert ledger.artifacts.get(run.run_id, "after.txt") is None
        # Reading goes on, and says who has it.
        found = ledger.client.get_run(run.run_id)
        assert "before" in found.data.tags and "after" not in {*found.data.tags, *found.data.metrics}
        assert found.info.status == "RUNNING"
        lease._seen -= 3600
        with pytest.raises(LeaseLostError, match="process 1 on far"):
            lease.check()
    ledger.client.set_tag(run.run_id, "after", "1")


def test_a_database_ends_a_transaction_that_is_held_up_before_its_commit(
    ledger: Ledger, sweep: Sweep, tracking_uri: str
) -> None:
    """Stopped between the look of the fence and the commit."""
    if not tracking_uri.startswith("postgresql"):
        pytest.skip("SQLite keeps all others out meanwhile, and a server carries out what it was sent")

    def hold_up(_: sqlalchemy.Connection) -> None:
        time.sleep(1.0)

    store: Any = ledger.client._tracking_client.store
    with Lease.acquire(ledger, sweep, renew_seconds=3600, stale_seconds=1.0):
        sqlalchemy.event.listen(store.engine, "commit", hold_up)
        try:
            with pytest.raises(MlflowException):
                ledger.client.set_tag(sweep.run_id, "late", "1")
        finally:
            sqlalchemy.event.remove(store.engine, "commit", hold_up)
        assert "late" not in ledger.parent_run(sweep).data.tags
        ledger.client.set_tag(sweep.run_id, "in time", "1")


def test_a_deleted_sweep_cannot_be_leased(ledger: Ledger, sweep: Sweep) -> None:
    ledger.client.delete_run(sweep.run_id)
    with pytest.raises(LedgerError) as info:
        Lease.acquire(ledger, sweep)
    assert not info.value.transient


def test_many_threads_record_at_once(ledger: Ledger, sweep: Sweep, task: Task) -> None:
    """What a driver does: the recorder, the lease and the watch write through one client."""
    run = start(ledger, sweep, task)
    failures: list[BaseException] = []
    numbers = itertools.count()

    def work() -> None:
        try:
            for _ in range(5):
                number = next(numbers)
                ledger.send(run.run_id, entries_of([Metric("m", 1.0, number, number)], recorded_until=number))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(ledger.client.get_metric_history(run.run_id, "m")) == 15

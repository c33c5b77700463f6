"""A recorder that is killed before any write, on every MLflow: SQLite, a server, and PostgreSQL."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweep import names
from sweep.cell_records import CellRecords
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.names import Status
from sweep.recorder import Recorder
from sweep.storage import Manifest, Storage
from tests.sweep.backends.conftest import Task

WAIT_SECONDS = 60.0
END = 100


def history(start_step: int, stop: int) -> pa.Table:
    steps = list(range(start_step, stop + (stop == END)))
    return pa.table(
        {
            "step": steps,
            "timestamp_ms": [1_000_000 + 7 * step if step % 10 == 0 else None for step in steps],
            "train/batch_loss": [1.0 / (1 + step) for step in steps],
            "train/loss": [2.0 / (1 + step) if step % 10 == 0 else None for step in steps],
        }
    )


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path / "storage")


def commits(storage: Storage, task: Task) -> list[Manifest]:
    made: list[Manifest] = []
    for step in (35, 70, END):
        made.append(
            storage.commit(
                task.cell_id,
                attempt=1,
                step=step,
                checkpoint=b"state",
                part=history(made[-1].step if made else 0, step),
                previous=made[-1] if made else None,
                outcome={"status": "completed", "reason": ""} if step == END else None,
                summary={"finals": {names.FINAL_TRAIN_LOSS: 2.0 / (1 + step)}},
            )
        )
    return made


class Killed(BaseException):
    """Stands for a kill: nothing catches it, nothing is tidied up."""


WRITES = ("create_run", "log_batch", "set_tag", "set_terminated", "update_run")


@pytest.fixture
def broken_off(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Arrange for a kill before the write of a given number; returns a list that holds their count."""
    plain = {name: getattr(ledger.client, name) for name in WRITES}
    put = ledger.artifacts.put

    def arrange(deadly: int) -> list[int]:
        counter = [0]

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                counter[0] += 1
                if counter[0] == deadly:
                    raise Killed
                return real(*arguments, **named)

            return call

        for name, real in plain.items():
            monkeypatch.setattr(ledger.client, name, counted(real))
        monkeypatch.setattr(ledger.artifacts, "put", counted(put))
        return counter

    return arrange


def record(ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease, task: Task) -> None:
    recorder = Recorder(
        CellRecords(
            ledger,
            storage,
            sweep,
            lease,
            describe=lambda _: (task.cell, task.axes),
            runs=ledger.lookup([task.cell_id]),
        )
    )
    try:
        done = recorder.reconcile([task.cell_id])
        recorder.start()
        if not done:
            recorder.started(task.cell_id)
        recorder.submit(task.cell_id, step=END, attempt=1)
        assert recorder.drain(WAIT_SECONDS) == []
    finally:
        recorder.close()


def recorded(ledger: Ledger, task: Task) -> tuple[Any, ...]:
    """All that is recorded of a cell, apart from what differs between any two runs."""
    (run,) = ledger.lookup([task.cell_id]).values()
    kept = ledger.client.get_run(run.run_id)
    points = [
        (one.key, one.step, one.timestamp, one.value)
        for name in kept.data.metrics
        if not name.startswith(names.AXIS_METRIC_PREFIX)
        for one in ledger.client.get_metric_history(run.run_id, name)
    ]
    files = {
        entry.path: ledger.artifacts.get(run.run_id, entry.path)
        for folder in (None, names.ARTIFACT_HISTORY)
        for entry in ledger.client.list_artifacts(run.run_id, folder)
        if not entry.is_dir and entry.path != names.ARTIFACT_CELL
    }
    status = (run.status, run.reason, run.run_status, run.recorded_until)
    # The seed is the cell's own number.
    params = {name: value for name, value in kept.data.params.items() if name != "seed"}
    return sorted(points), status, params, files


def test_broken_off_before_any_write_the_record_becomes_the_same(
    ledger: Ledger,
    storage: Storage,
    sweep: Sweep,
    task: Task,
    broken_off: Callable[[int], list[int]],
) -> None:
    commits(storage, task)
    lease = Lease.acquire(ledger, sweep, renew_seconds=3600, stale_seconds=3600)

    def afresh() -> None:
        for run in ledger.lookup([task.cell_id]).values():
            ledger.client.delete_run(run.run_id)

    counter = broken_off(0)
    record(ledger, storage, sweep, lease, task)
    writes, undisturbed = counter[0], recorded(ledger, task)
    points, status = undisturbed[:2]
    assert status == (Status.COMPLETED, "", "FINISHED", END + 1)
    assert len([one for one in points if one[0] == "train/loss"]) == 11
    assert writes >= 8
    for deadly in range(1, writes + 1):
        afresh()
        broken_off(deadly)
        with pytest.raises(Killed):
            record(ledger, storage, sweep, lease, task)
        broken_off(0)
        record(ledger, storage, sweep, lease, task)
        assert recorded(ledger, task) == undisturbed, f"killed before write {deadly}"
        found = ledger.client.search_runs(
            [sweep.experiment_id], f"tags.`{names.TAG_CELL_ID}` = '{task.cell_id}'"
        )
        assert len(found) == 1
    lease.release()

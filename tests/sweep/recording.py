"""A cell with its commits, a recorder for it, and all that is recorded of it."""

import sqlite3
from pathlib import Path
from typing import Any

from sweep import names
from sweep.cell_records import CellRecords
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.recorder import Recorder
from sweep.storage import Manifest, Storage
from tests.sweep.small_sweep import history, make_cell
from trainers.canonical import cell_id

CELL = make_cell(0.1)
CELL_ID = cell_id(CELL)
END = CELL.num_steps
WAIT_SECONDS = 60.0


def new_recorder(ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease) -> Recorder:
    return Recorder(
        CellRecords(
            ledger,
            storage,
            sweep,
            lease,
            describe=lambda _: (CELL, {"lr": 0.1}),
            runs=ledger.lookup([CELL_ID]),
        )
    )


def commit(
    storage: Storage, step: int, previous: Manifest | None, *, attempt: int = 1, every: int = 10
) -> Manifest:
    start, last = previous.step if previous else 0, step == END
    return storage.commit(
        CELL_ID,
        attempt=attempt,
        step=step,
        checkpoint=f"state {step}".encode(),
        part=history(start, step, last=last, every=every),
        previous=previous,
        outcome={"status": "completed", "reason": ""} if last else None,
        summary={
            "finals": {names.FINAL_TRAIN_LOSS: 2.0 / (1 + step), names.FINAL_STEPS: float(step)},
            "environment": {"hostname": f"host {attempt}"},
        },
    )


def submit(recorder: Recorder, manifest: Manifest) -> None:
    recorder.submit(CELL_ID, step=manifest.step, attempt=manifest.attempt)


def record_all(
    ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease, manifests: list[Manifest]
) -> None:
    """Record the cell's commits one after another, as far as they are not recorded yet."""
    recorder = new_recorder(ledger, storage, sweep, lease)
    try:
        done = recorder.reconcile([CELL_ID])
        recorder.start()
        if not done:
            recorder.started(CELL_ID)
            recorder.drain(WAIT_SECONDS)
            for manifest in manifests:
                submit(recorder, manifest)
                recorder.drain(WAIT_SECONDS)
        assert recorder.drain(WAIT_SECONDS) == []
    finally:
        recorder.close()


def points(ledger: Ledger, run_id: str, name: str) -> list[tuple[int, int, float]]:
    return [(one.step, one.timestamp, one.value) for one in ledger.client.get_metric_history(run_id, name)]


def record_of(ledger: Ledger, folder: Path) -> dict[str, Any]:
    """All that the database holds of the cell, apart from what differs between any two runs."""
    (run,) = ledger.lookup([CELL_ID]).values()
    with sqlite3.connect(folder / "mlflow.db") as database:
        metrics = database.execute(
            "SELECT key, step, timestamp, value, is_nan FROM metrics "
            "WHERE run_uuid = ? AND key NOT LIKE 'hp/%'",
            [run.run_id],
        ).fetchall()
        (runs,) = database.execute("SELECT count(*) FROM tags WHERE key = ?", [names.TAG_CELL_ID]).fetchone()
    assert runs == 1
    artifacts = {
        entry.path: ledger.artifacts.get(run.run_id, entry.path)
        for folder_name in (None, names.ARTIFACT_HISTORY)
        for entry in ledger.client.list_artifacts(run.run_id, folder_name)
        if not entry.is_dir
    }
    return {
        "metrics": sorted(metrics),
        "status": (run.status, run.reason, run.run_status, run.recorded_until),
        "params": ledger.client.get_run(run.run_id).data.params,
        "artifacts": artifacts,
    }

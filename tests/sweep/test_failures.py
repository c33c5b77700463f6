"""Why a cell failed is what its worker said last, and what is recorded in the end is not called refused."""

import threading
from collections.abc import Iterator

import pytest

from sweep.cell_records import CellRecords
from sweep.errors import LedgerError
from sweep.failures import has_lost_worker
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.recorder import Recorder
from sweep.storage import Storage
from sweep.wanted import Wanted
from tests.sweep.recording import CELL_ID, END, WAIT_SECONDS, commit, new_recorder, submit
from tests.sweep.small_sweep import FakeSpace, make_plan

DIED = """Failure # 1 (occurred at 2026-01-01_00-00-00)
The actor died unexpectedly before finishing this task.
\tclass_name: PackTrial
The actor is dead because its worker process has died.
"""
RAISED = """Failure # 2 (occurred at 2026-01-01_00-00-01)
ray::PackTrial.train() (pid=1, ip=127.0.0.1)
trainers.errors.DataError: mnist is not there
"""
LAST_LINE = "Worker exit type: SYSTEM_ERROR"
HUNG = "hung: no progress for 5 s in step\n\nThread 1"


@pytest.fixture
def recorder(ledger: Ledger, storage: Storage) -> Iterator[Recorder]:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    with Lease.acquire(ledger, sweep) as lease:
        recorder = new_recorder(ledger, storage, sweep, lease)
        recorder.start()
        yield recorder
        recorder.close()


def test_a_worker_is_lost_where_the_last_failure_says_so() -> None:
    assert has_lost_worker(DIED) and has_lost_worker(RAISED + DIED)
    assert not has_lost_worker(RAISED) and not has_lost_worker(DIED + RAISED) and not has_lost_worker("")


@pytest.mark.parametrize(
    ("reason", "log", "recorded"),
    [
        (LAST_LINE, DIED, "hung: no progress for 5 s in step"),
        ("DataError: mnist is not there", DIED + RAISED, "DataError: mnist is not there"),
        ("DataError: mnist is not there", "", "DataError: mnist is not there"),
    ],
)
def test_what_a_worker_left_is_the_reason_only_where_it_is_gone(
    reason: str, log: str, recorded: str, ledger: Ledger, storage: Storage, recorder: Recorder
) -> None:
    storage.begin_attempt(CELL_ID)
    storage.leave_note(CELL_ID, HUNG)
    recorder.ended(CELL_ID, Status.FAILED, reason, log=log)
    assert recorder.drain(WAIT_SECONDS) == []
    assert ledger.lookup([CELL_ID])[CELL_ID].reason == recorded


def test_what_was_recorded_after_all_is_not_refused(
    storage: Storage, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, queued = CellRecords.write, threading.Event()

    def refuses_once(records: CellRecords, cell_id: str, wanted: Wanted) -> None:
        if not queued.is_set():
            submit(recorder, commit(storage, END, None))
            queued.set()
            raise LedgerError("refused")
        write(records, cell_id, wanted)

    monkeypatch.setattr(CellRecords, "write", refuses_once)
    recorder.ended(CELL_ID, Status.INTERRUPTED, "stopped")
    assert recorder.drain(WAIT_SECONDS) == []
    assert recorder.refused == {}

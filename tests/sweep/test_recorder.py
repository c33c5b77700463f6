"""The recorder between a real store and a real MLflow: complete, without duplicates, whatever breaks off."""

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from sweep import names
from sweep.cell_records import CellRecords
from sweep.errors import LeaseLostError, LedgerError, StorageError
from sweep.forks import fork_at
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.names import Status
from sweep.recorder import LOST_REASON, Recorder
from sweep.storage import Storage
from sweep.storage.files import LocalFiles
from tests.sweep.recording import (
    CELL,
    CELL_ID,
    END,
    WAIT_SECONDS,
    commit,
    new_recorder,
    points,
    record_all,
    record_of,
    submit,
)
from tests.sweep.small_sweep import FakeSpace, history, make_cell, make_plan, take_over
from trainers.canonical import cell_id


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.recorder.FIRST_RETRY_SECONDS", 0.01)


@pytest.fixture
def recorder(ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease) -> Iterator[Recorder]:
    recorder = new_recorder(ledger, storage, sweep, lease)
    recorder.start()
    yield recorder
    recorder.close()


def test_open_runs_are_those_that_this_recorder_took_up(
    ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease
) -> None:
    other = ledger.open_sweep(FakeSpace(name="other"), make_plan(0.1, 0.2))
    cells = [make_cell(lr) for lr in (0.1, 0.2)]
    left, running = (
        ledger.start_cell(other, cell_id=cell_id(cell), cell=cell, axes={"lr": 0.1}) for cell in cells
    )
    recorder = new_recorder(ledger, storage, sweep, lease)
    # One that another sweep left, and one that it is running; the recorder is given the first.
    recorder.admit(ledger.lookup([left.cell_id, running.cell_id]), [left.cell_id])
    assert recorder.runs.keys() == {left.cell_id} and recorder.open_runs == []
    recorder.start()
    try:
        recorder.started(left.cell_id)
        assert recorder.drain(WAIT_SECONDS) == []
        assert [run.run_id for run in recorder.open_runs] == [left.run_id]
        recorder.ended(left.cell_id, Status.FAILED, "no luck")
        assert recorder.drain(WAIT_SECONDS) == []
        assert recorder.open_runs == []
    finally:
        recorder.close()


def test_a_cell_is_recorded_as_it_goes(
    ledger: Ledger, storage: Storage, recorder: Recorder, folder: Path
) -> None:
    recorder.started(CELL_ID)
    assert recorder.drain(WAIT_SECONDS) == []
    run = ledger.lookup([CELL_ID])[CELL_ID]
    assert run.status is Status.RUNNING
    first = commit(storage, 35, None)
    submit(recorder, first)
    assert recorder.drain(WAIT_SECONDS) == []
    assert points(ledger, run.run_id, "train/loss") == [
        (step, 1_000_000 + 7 * step, 2.0 / (1 + step)) for step in (0, 10, 20, 30)
    ]
    assert points(ledger, run.run_id, "train/batch_loss") == []
    last = commit(storage, END, first, attempt=2)
    submit(recorder, last)
    assert recorder.drain(WAIT_SECONDS) == []
    assert [step for step, *_ in points(ledger, run.run_id, "train/loss")] == list(range(0, 101, 10))
    chi = points(ledger, run.run_id, "curvature/chi")
    assert math.isnan(chi[2][2])
    assert chi[3][2] == 0.5
    found = ledger.lookup([CELL_ID])[CELL_ID]
    assert (found.run_id, found.status, found.run_status) == (run.run_id, Status.COMPLETED, "FINISHED")
    assert found.metrics[names.FINAL_TRAIN_LOSS] == 2.0 / 101
    assert found.metrics[names.FINAL_STEPS] == 100.0
    assert found.metrics[names.STATUS_DIVERGED] == 0.0
    assert recorder.runs[CELL_ID].status is Status.COMPLETED
    assert recorder.runs[CELL_ID].metrics[names.FINAL_STEPS] == 100.0
    artifacts = record_of(ledger, folder)["artifacts"]
    parts = sorted(path for path in artifacts if path.startswith("history/"))
    assert parts == ["history/part-000000000-000000035.parquet", "history/part-000000035-000000100.parquet"]
    steps = [parquet.read_table(pa.BufferReader(artifacts[path]))["step"].to_pylist() for path in parts]
    assert list(itertools.chain(*steps)) == list(range(101))
    assert b"host 1" in artifacts[names.ARTIFACT_ENVIRONMENT]
    assert b"host 2" in artifacts[names.ARTIFACT_ENVIRONMENT]


def test_a_cell_that_ends_without_an_outcome(ledger: Ledger, storage: Storage, recorder: Recorder) -> None:
    recorder.started(CELL_ID)
    submit(recorder, commit(storage, 35, None))
    recorder.ended(CELL_ID, Status.FAILED, "it raised", log="Traceback")
    assert recorder.drain(WAIT_SECONDS) == []
    run = ledger.lookup([CELL_ID])[CELL_ID]
    assert (run.status, run.reason, run.run_status) == (Status.FAILED, "it raised", "FAILED")
    assert ledger.artifacts.get(run.run_id, names.ARTIFACT_ERROR) == b"Traceback"
    assert names.FINAL_STEPS not in run.metrics
    # It is tried again in the same session.
    recorder.started(CELL_ID)
    assert recorder.drain(WAIT_SECONDS) == []
    again = ledger.lookup([CELL_ID])[CELL_ID]
    assert (again.run_id, again.status, again.run_status) == (run.run_id, Status.RUNNING, "RUNNING")


def test_a_failure_whose_text_cannot_be_stored_is_recorded(
    ledger: Ledger, storage: Storage, recorder: Recorder
) -> None:
    # A file's name that is no UTF-8, as Python has it; and a zero byte, which PostgreSQL refuses.
    text = "OSError: /data/\udce9\0.npz"
    recorder.ended(CELL_ID, Status.FAILED, text, log=f"Traceback\n{text}")
    assert recorder.drain(WAIT_SECONDS) == []
    run = ledger.lookup([CELL_ID])[CELL_ID]
    assert (run.status, run.reason) == (Status.FAILED, r"OSError: /data/\udce9\x00.npz")
    assert recorder.runs[CELL_ID].reason == run.reason
    log = ledger.artifacts.get(run.run_id, names.ARTIFACT_ERROR)
    assert log == rb"Traceback" + b"\n" + rb"OSError: /data/\udce9\x00.npz"


def test_a_start_overtakes_an_earlier_end_but_a_commit_does_not(
    ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease
) -> None:
    manifest = commit(storage, 35, None)
    for restarted, expected in ((False, Status.INTERRUPTED), (True, Status.RUNNING)):
        recorder = new_recorder(ledger, storage, sweep, lease)
        recorder.started(CELL_ID)
        recorder.ended(CELL_ID, Status.INTERRUPTED, "stopped")
        submit(recorder, manifest)
        if restarted:
            recorder.started(CELL_ID)
        recorder.start()
        assert recorder.drain(WAIT_SECONDS) == []
        recorder.close()
        assert ledger.lookup([CELL_ID])[CELL_ID].status is expected


def test_a_pruned_commit_is_replaced_by_the_newest(
    ledger: Ledger, storage: Storage, recorder: Recorder
) -> None:
    first = commit(storage, 35, None)
    commit(storage, END, first)
    storage.prune(CELL_ID, keep=1)
    submit(recorder, first)
    assert recorder.drain(WAIT_SECONDS) == []
    assert ledger.lookup([CELL_ID])[CELL_ID].status is Status.COMPLETED


def test_a_damaged_part_is_not_recorded_as_final(
    ledger: Ledger, storage: Storage, recorder: Recorder
) -> None:
    manifest = commit(storage, END, None)
    path = Path(storage.place) / manifest.parts[0].stored.file
    path.write_bytes(path.read_bytes()[:-1])
    submit(recorder, manifest)
    assert recorder.drain(WAIT_SECONDS) == [CELL_ID]
    assert "damaged" in recorder.refused[CELL_ID]
    assert ledger.lookup([CELL_ID])[CELL_ID].status is Status.RUNNING


def test_a_moment_without_the_store_leaves_no_end_unrecorded(
    ledger: Ledger, storage: Storage, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit(storage, 35, None)
    recorder.started(CELL_ID)
    submit(recorder, first)
    assert recorder.drain(WAIT_SECONDS) == []
    last = commit(storage, END, first)
    get, failures = LocalFiles.get, iter(("manifests", "manifests", "history", "history"))
    failing = next(failures)

    def hiccup(files: LocalFiles, path: str) -> bytes | None:
        nonlocal failing
        if failing and failing in path:
            failing = next(failures, "")
            raise StorageError(f"storage: {path} could not be read: try again.")
        return get(files, path)

    monkeypatch.setattr(LocalFiles, "get", hiccup)
    submit(recorder, last)
    assert recorder.drain(WAIT_SECONDS) == [] and recorder.refused == {} and not failing
    (run,) = ledger.lookup([CELL_ID]).values()
    assert run.status is Status.COMPLETED and recorder.away is None


def test_while_mlflow_is_away_nothing_waits_and_nothing_is_lost(
    ledger: Ledger, storage: Storage, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = threading.Event()
    real: Callable[..., Any] = ledger.client.log_batch

    def log_batch(*args: Any, **kwargs: Any) -> Any:
        if away.is_set():
            raise ConnectionError("nobody there")
        return real(*args, **kwargs)

    monkeypatch.setattr(ledger.client, "log_batch", log_batch)
    away.set()
    first = commit(storage, 35, None)
    recorder.started(CELL_ID)
    submit(recorder, first)
    assert recorder.drain(0.5) == [CELL_ID]
    assert recorder.away is not None
    assert "nobody there" in recorder.away
    submit(recorder, commit(storage, END, first))
    away.clear()
    assert recorder.drain(WAIT_SECONDS) == []
    assert recorder.away is None
    (run,) = ledger.lookup([CELL_ID]).values()
    assert run.status is Status.COMPLETED
    assert len(points(ledger, run.run_id, "train/loss")) == 11
    assert len(ledger.client.search_runs([run.experiment_id], f"tags.`{names.TAG_ROLE}` = 'cell'")) == 1


def test_a_run_that_a_lost_driver_left_is_shown_as_interrupted(
    ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease
) -> None:
    run = ledger.start_cell(sweep, cell_id=CELL_ID, cell=CELL, axes={"lr": 0.1})
    commit(storage, 35, None)
    recorder = new_recorder(ledger, storage, sweep, lease)
    assert recorder.reconcile([CELL_ID, "feedfacefeedface"]) == set()
    found = ledger.lookup([CELL_ID])[CELL_ID]
    assert (found.run_id, found.status, found.reason) == (run.run_id, Status.INTERRUPTED, LOST_REASON)
    assert found.run_status == "KILLED"


@pytest.mark.parametrize("until", ["seen", "given up"])
def test_a_commit_of_another_node_that_is_not_seen_yet_is_waited_for(
    ledger: Ledger,
    storage: Storage,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    until: str,
) -> None:
    """A network file system remembers for a while that there was nothing when the driver looked."""
    last = commit(storage, END, commit(storage, 40, None))
    hidden, get, listed = threading.Event(), LocalFiles.get, LocalFiles.names
    hidden.set()

    def seen(path: str) -> bool:
        return not (hidden.is_set() and f"{CELL_ID}/manifests" in path)

    monkeypatch.setattr(LocalFiles, "get", lambda files, path: get(files, path) if seen(path) else None)
    monkeypatch.setattr(LocalFiles, "names", lambda files, path: listed(files, path) if seen(path) else [])
    submit(recorder, last)
    deadline = time.monotonic() + WAIT_SECONDS
    while recorder.away is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "is not to be seen here yet" in (recorder.away or "") and not recorder.refused
    if until == "given up":
        monkeypatch.setattr("sweep.cell_records.SECONDS_UNSEEN", 1.5)
        monkeypatch.setattr("sweep.recorder.LONGEST_RETRY_SECONDS", 0.05)
        # The store answers, so that is no reason not to wait longer than for an answer.
        assert recorder.drain(0.5) == [CELL_ID]
        assert "no commit of cell" in recorder.refused[CELL_ID]
        return
    hidden.clear()
    assert recorder.drain(WAIT_SECONDS) == []
    assert ledger.lookup([CELL_ID])[CELL_ID].status is Status.COMPLETED


def test_an_outcome_in_the_store_needs_no_training_and_is_recorded(
    ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease
) -> None:
    commit(storage, END, None)
    recorder = new_recorder(ledger, storage, sweep, lease)
    assert recorder.reconcile([CELL_ID]) == {CELL_ID}
    # A longer run is told where it ended: the worker may have been killed before it did.
    fork = fork_at(CELL, END)
    told, problems = storage.latest(fork.line)
    assert told is not None and told.step == END and problems == []
    recorder.start()
    assert recorder.drain(WAIT_SECONDS) == []
    recorder.close()
    assert ledger.lookup([CELL_ID])[CELL_ID].status is Status.COMPLETED
    assert new_recorder(ledger, storage, sweep, lease).reconcile([CELL_ID]) == {CELL_ID}


def test_without_the_lease_nothing_is_written(
    ledger: Ledger, storage: Storage, sweep: Sweep, recorder: Recorder, lease: Lease
) -> None:
    take_over(ledger, sweep, lease.epoch + 1)
    lease._renew()  # pyright: ignore[reportPrivateUsage]
    submit(recorder, commit(storage, END, None))
    with pytest.raises(LeaseLostError):
        recorder.drain(WAIT_SECONDS)
    with pytest.raises(LeaseLostError):
        recorder.check()
    assert ledger.lookup([CELL_ID]) == {}


def test_what_takes_long_to_record_is_waited_for_and_what_is_away_is_not(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(_: CellRecords, cell_id: str, wanted: object) -> None:
        time.sleep(0.2)
        if cell_id == "away":
            raise LedgerError("away", transient=True)

    monkeypatch.setattr(CellRecords, "write", slowly)
    for number in range(12):
        recorder.submit(f"cell {number}", step=1, attempt=1)
    # All of them take longer than that, each of them does not.
    assert recorder.drain(2.0) == []
    recorder.submit("away", step=1, attempt=1)
    assert recorder.drain(0.1) == ["away"]


def test_a_document_that_was_lost_is_there_before_the_final_status(
    ledger: Ledger, storage: Storage, recorder: Recorder
) -> None:
    recorder.submit(CELL_ID, step=35, attempt=commit(storage, 35, None).attempt)
    assert recorder.drain(WAIT_SECONDS) == []
    run = ledger.lookup([CELL_ID])[CELL_ID]
    before = ledger.artifacts.get(run.run_id, names.ARTIFACT_CELL)
    ledger.artifacts.clear(run.run_id, names.ARTIFACT_CELL)
    recorder.submit(CELL_ID, step=END, attempt=commit(storage, END, storage.latest(CELL_ID)[0]).attempt)
    assert recorder.drain(WAIT_SECONDS) == []
    assert ledger.lookup([CELL_ID])[CELL_ID].status is Status.COMPLETED
    assert ledger.artifacts.get(run.run_id, names.ARTIFACT_CELL) == before is not None


def test_the_history_of_a_stop_that_was_undone_stays_until_the_whole_one_is_there(
    ledger: Ledger, storage: Storage, recorder: Recorder
) -> None:
    recorder.submit(CELL_ID, step=35, attempt=commit(storage, 35, None).attempt)
    assert recorder.drain(WAIT_SECONDS) == []
    run = ledger.lookup([CELL_ID])[CELL_ID]
    ledger.artifacts.put(run.run_id, "history/part-000000000-000000020.parquet", b"as of the stop")
    recorder.submit(CELL_ID, step=END, attempt=commit(storage, END, storage.latest(CELL_ID)[0]).attempt)
    assert recorder.drain(WAIT_SECONDS) == []
    manifest, _ = storage.latest(CELL_ID)
    assert manifest is not None
    wanted = [f"history/part-{part.start:09d}-{part.stop:09d}.parquet" for part in manifest.parts]
    assert sorted(ledger.artifacts.paths(run.run_id, names.ARTIFACT_HISTORY)) == wanted


def test_a_cell_that_was_stopped_at_a_point_and_goes_on_has_that_point_once(
    ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease
) -> None:
    rows = history(0, 20, last=False, every=10)
    stopped = {"status": "stopped", "reason": "asked"}
    ended = storage.commit(
        CELL_ID, attempt=1, step=20, checkpoint=b"20", part=rows, previous=None, outcome=stopped
    )
    record_all(ledger, storage, sweep, lease, [ended])
    run = ledger.lookup([CELL_ID])[CELL_ID]
    assert (run.status, [step for step, _, _ in points(ledger, run.run_id, "train/loss")]) == (
        Status.STOPPED,
        [0, 10],
    )
    goes_on = storage.commit(CELL_ID, attempt=2, step=20, checkpoint=b"20", part=rows, previous=None)
    ledger.finish_cell(run.run_id, Status.INTERRUPTED, "to be continued")
    record_all(ledger, storage, sweep, lease, [commit(storage, END, goes_on, attempt=2)])
    steps = [step for step, _, _ in points(ledger, run.run_id, "train/loss")]
    assert steps == sorted({*range(0, END, 10), END})

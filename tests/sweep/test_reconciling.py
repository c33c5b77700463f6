"""What a driver finds in the store when it begins, while somebody asks to stop or the store takes long."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.names import Status
from sweep.packs import Formed
from sweep.recorder import Recorder
from sweep.storage import Manifest, Storage
from sweep.storage.joining import SHARE
from tests.sweep.recording import (
    CELL_ID,
    END,
    WAIT_SECONDS,
    commit,
    new_recorder,
    points,
    record_all,
    submit,
)
from tests.sweep.small_sweep import history

UNKNOWN = ["feedfacefeedface", "0000000000000000"]


@pytest.fixture
def recorder(ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease) -> Recorder:
    return new_recorder(ledger, storage, sweep, lease)


def test_a_stop_does_not_wait_for_the_store(
    recorder: Recorder, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(storage, END, None)
    asked, answers, latest = threading.Event(), threading.Event(), Storage.latest

    def slow(store: Storage, cell_id: str, **more: Any) -> tuple[Manifest | None, list[str]]:
        if cell_id in UNKNOWN:
            asked.set()
            assert answers.wait(WAIT_SECONDS)
        return latest(store, cell_id, **more)

    monkeypatch.setattr(Storage, "latest", slow)
    try:
        assert recorder.reconcile([CELL_ID, *UNKNOWN], stop=asked.is_set) <= {CELL_ID}
        assert not answers.is_set()
    finally:
        answers.set()


def test_what_has_ended_in_mlflow_is_known_without_the_store(
    ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease
) -> None:
    record_all(ledger, storage, sweep, lease, [commit(storage, END, None)])
    again = new_recorder(ledger, storage, sweep, lease)
    assert again.reconcile([CELL_ID, *UNKNOWN], stop=lambda: True) == {CELL_ID}


def test_how_far_it_is_is_said_where_the_store_takes_long(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    recorder.reconcile(UNKNOWN, say=said.append)
    assert said == []
    monkeypatch.setattr("sweep.recorder.SECONDS_BETWEEN_LINES", -1.0)
    recorder.reconcile(UNKNOWN, say=said.append)
    assert [line.rpartition(": ")[2] for line in said] == ["1 of 2", "2 of 2"]


def test_how_a_cell_ended_is_known_with_the_look(recorder: Recorder, storage: Storage) -> None:
    commit(storage, END, None)
    assert recorder.reconcile([CELL_ID, *UNKNOWN]) == {CELL_ID}
    assert recorder.ends == {CELL_ID: Status.COMPLETED} and recorder.committed == {CELL_ID: END}


def test_parts_that_have_become_one_while_they_were_read_are_recorded(
    recorder: Recorder, ledger: Ledger, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest: Manifest | None = None
    for number in range(1, SHARE):
        newest = commit(storage, 5 * number, newest)
    assert newest is not None
    pruned, read = newest, Storage.read_parts
    later: list[Manifest] = []

    def overtaken(store: Storage, manifest: Manifest, **more: Any) -> pa.Table:
        if not later:
            later.append(commit(storage, pruned.step + 5, pruned))
            later.append(commit(storage, pruned.step + 10, later[0]))
            storage.remove([pruned], later)
        return read(store, manifest, **more)

    monkeypatch.setattr(Storage, "read_parts", overtaken)
    recorder.start()
    submit(recorder, pruned)
    assert recorder.drain(WAIT_SECONDS) == [] and recorder.refused == {}
    recorder.close()
    assert not (Path(storage.place) / pruned.parts[0].stored.file).exists()
    run = ledger.lookup([CELL_ID])[CELL_ID]
    assert run.recorded_until == later[-1].step
    assert [step for step, *_ in points(ledger, run.run_id, "train/loss")] == list(range(0, 85, 10))


@pytest.mark.parametrize(
    ("attempt", "lanes", "expected"),
    [(1, 3, {CELL_ID: Formed(name="abc", lanes=3)}), (1, 1, {}), (2, 3, {})],
    ids=["of a pack", "alone", "a stop undone"],
)
def test_the_pack_that_made_a_commit_is_known(
    ledger: Ledger,
    storage: Storage,
    sweep: Sweep,
    lease: Lease,
    attempt: int,
    lanes: int,
    expected: dict[str, Formed],
) -> None:
    """Not that of a commit that undoes a stop: others of that pack are elsewhere, and would begin anew."""
    storage.commit(
        CELL_ID,
        attempt=attempt,
        step=20,
        checkpoint=b"state",
        part=history(0, 20),
        previous=None,
        summary={"environment": {"attempt": 1, "pack": "abc", "lanes": lanes}},
    )
    recorder = new_recorder(ledger, storage, sweep, lease)
    recorder.reconcile([CELL_ID])
    assert recorder.packs == expected and recorder.committed == {CELL_ID: 20}

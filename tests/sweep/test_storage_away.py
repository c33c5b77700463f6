"""A store that does not answer for a moment: nothing of it is taken for damaged, forgotten or refused."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.errors import StorageError
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.storage import Storage
from sweep.storage.files import LocalFiles
from tests.sweep.recording import CELL_ID, END, WAIT_SECONDS, commit, new_recorder, submit
from tests.sweep.small_sweep import FakeSpace, make_plan

LetFail = Callable[..., list[str]]
KINDS = ("manifests", "checkpoints", "history")


@pytest.fixture
def let_fail(monkeypatch: pytest.MonkeyPatch) -> LetFail:
    """Lets the next reads of files fail whose path has a part; returns those that have failed so far."""
    get = LocalFiles.get

    def let(part: str, *, times: int = 1) -> list[str]:
        failed: list[str] = []

        def away(files: LocalFiles, path: str) -> bytes | None:
            if part in path and len(failed) < times:
                failed.append(path)
                raise StorageError(f"storage: {path} could not be read: try again.")
            return get(files, path)

        monkeypatch.setattr(LocalFiles, "get", away)
        return failed

    return let


@pytest.mark.parametrize("kind", KINDS)
def test_the_newest_commit_is_not_passed_over(kind: str, storage: Storage, let_fail: LetFail) -> None:
    newest = commit(storage, 20, commit(storage, 10, None))
    let_fail(f"/{kind}/")
    with pytest.raises(StorageError, match="try again"):
        storage.latest(CELL_ID)
    assert storage.latest(CELL_ID) == (newest, [])


def test_no_manifest_is_left_out_of_a_list(storage: Storage, let_fail: LetFail) -> None:
    first = commit(storage, 10, None)
    commit(storage, 20, first)
    let_fail(first.file)
    with pytest.raises(StorageError, match="try again"):
        list(storage.manifests(CELL_ID))
    # What is to be removed is decided by all of them, or not at all.
    let_fail(first.file)
    with pytest.raises(StorageError, match="try again"):
        storage.prune(CELL_ID, keep=1)
    assert storage.steps(CELL_ID) == [20, 10]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_its_disk_has_lost_is_damaged(
    kind: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit(storage, 10, None)
    second = commit(storage, 20, first)
    assert second.checkpoint is not None
    lost = {
        "manifests": second.file,
        "checkpoints": second.checkpoint.file,
        "history": second.parts[-1].stored.file,
    }[kind]
    read = Path.read_bytes

    def unreadable(path: Path) -> bytes:
        if path.as_posix().endswith(lost):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    found, (problem,) = storage.latest(CELL_ID)
    assert found == first and lost in problem and os.strerror(errno.EIO) in problem


def test_no_commit_is_forgotten_where_a_driver_begins(
    ledger: Ledger, storage: Storage, let_fail: LetFail
) -> None:
    commit(storage, 35, None)
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    with Lease.acquire(ledger, sweep) as lease:
        recorder = new_recorder(ledger, storage, sweep, lease)
        let_fail("/manifests/")
        with pytest.raises(StorageError, match="try again"):
            recorder.reconcile([CELL_ID])
        recorder.reconcile([CELL_ID])
        assert recorder.committed == {CELL_ID: 35}


def test_a_commit_that_was_pruned_is_not_refused_for_a_moment_without_its_successor(
    ledger: Ledger, storage: Storage, let_fail: LetFail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.recorder.FIRST_RETRY_SECONDS", 0.01)
    first = commit(storage, 35, None)
    last = commit(storage, END, first)
    storage.prune(CELL_ID, keep=1)
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    with Lease.acquire(ledger, sweep) as lease:
        recorder = new_recorder(ledger, storage, sweep, lease)
        failed = let_fail(last.file)
        recorder.start()
        submit(recorder, first)
        assert recorder.drain(WAIT_SECONDS) == [] and recorder.refused == {}
        recorder.close()
    assert failed == [last.file]
    assert ledger.lookup([CELL_ID])[CELL_ID].status is Status.COMPLETED

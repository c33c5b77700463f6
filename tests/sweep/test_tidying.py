"""What the commits of an attempt make superfluous goes without a look at the store, and nothing else does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.errors import StorageError
from sweep.storage import Manifest, Storage, Tidying
from sweep.storage.files import LocalFiles
from sweep.storage.joining import SHARE
from tests.sweep.test_storage import CELL, commit

Look = Callable[[LocalFiles, str], object]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of the store: folders and files."""
    found: list[str] = []

    def noted(look: Look) -> Look:
        def ask(files: LocalFiles, path: str) -> object:
            found.append(path)
            return look(files, path)

        return ask

    for name in ("names", "get", "sizes"):
        monkeypatch.setattr(LocalFiles, name, noted(getattr(LocalFiles, name)))
    return found


def files(storage: Storage, folder: str) -> set[str]:
    return {path.name for path in (Path(storage.place) / "cells" / CELL / folder).iterdir()}


class Attempt:
    """Commits every two steps."""

    def __init__(self, storage: Storage, newest: Manifest | None = None) -> None:
        self._storage = storage
        self.tidying = Tidying(storage, CELL)
        self.number = storage.begin_attempt(CELL)
        self.newest = newest

    def commit(self, times: int = 1, *, needed: int | None = None) -> Manifest:
        for _ in range(times):
            step = (self.newest.step if self.newest else 0) + 2
            self.newest = commit(self._storage, step, self.newest, attempt=self.number)
            self.tidying.after(self.newest, needed=needed)
        assert self.newest is not None
        return self.newest


def test_two_commits_and_the_needed_one_are_kept(storage: Storage) -> None:
    attempt = Attempt(storage)
    attempt.commit()
    attempt.commit(5, needed=2)
    assert storage.steps(CELL) == [12, 10, 2]
    assert len(files(storage, "checkpoints")) == 3
    attempt.commit(needed=12)
    assert storage.steps(CELL) == [14, 12]


def test_only_the_first_commit_of_an_attempt_looks_at_the_store(storage: Storage, asked: list[str]) -> None:
    attempt = Attempt(storage)
    attempt.commit()
    asked.clear()
    attempt.commit(SHARE - 2)
    assert asked == []
    # With the parts that are joined and those that are removed for it: a read each, and one look for rivals.
    attempt.commit(2)
    assert [path for path in asked if "/history/" not in path] == [f"cells/{CELL}/attempts"]


def test_what_is_joined_is_there_once(storage: Storage) -> None:
    last = Attempt(storage).commit(3 * SHARE)
    # The commit before the last one lists the parts that the last one has joined.
    before = storage.manifest(CELL, last.step - 2, last.attempt)
    listed = {Path(part.stored.file).name for manifest in (before, last) for part in manifest.parts}
    assert files(storage, "history") == listed
    assert storage.latest(CELL) == (last, [])


def test_what_an_earlier_attempt_left_goes_with_the_first_commits(storage: Storage) -> None:
    left = Attempt(storage).commit(3)
    temporary = Path(storage.place) / "cells" / CELL / "history" / ".part.a1.parquet.00ff00ff.tmp"
    temporary.write_bytes(b"half")
    again = Attempt(storage, left)
    again.commit()
    assert not temporary.exists() and storage.steps(CELL) == [8, 6]
    again.commit()
    assert storage.steps(CELL) == [10, 8]


def test_a_worker_that_was_cut_off_takes_nothing_from_its_successor(storage: Storage) -> None:
    cut_off = Attempt(storage)
    known = cut_off.commit(SHARE - 1)
    # It goes on from a commit whose parts the other one is about to join and to remove.
    successor = Attempt(storage, known)
    cut_off.commit(4)
    newest = successor.commit()
    storage.verify(newest)
    assert storage.read_parts(newest)["step"].to_pylist() == list(range(newest.step))


def test_what_could_not_be_removed_goes_with_the_next_commit(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(storage)
    attempt.commit(2)

    def away(files: LocalFiles, path: str) -> None:
        raise StorageError(f"storage: {path} could not be written: away.")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "delete", away)
        attempt.commit(2)
    assert storage.steps(CELL) == [8, 6, 4, 2]
    attempt.commit()
    assert storage.steps(CELL) == [10, 8]
    assert len(files(storage, "checkpoints")) == 2


def test_the_end_leaves_one_commit(storage: Storage) -> None:
    attempt = Attempt(storage)
    newest = attempt.commit(3)
    ended = commit(storage, 20, newest, attempt=attempt.number, outcome={"status": "completed"})
    attempt.tidying.after(ended, needed=newest.step)
    assert storage.steps(CELL) == [20]

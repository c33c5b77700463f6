"""What every checkpoint store does alike: a folder and S3."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from sweep.errors import StorageUnavailableError
from sweep.storage import Manifest, Storage
from sweep.storage.files import Files, open_files

CELL = "0123456789abcdef"
ATTEMPTS = 8
FILES_OF_A_COMMIT = 3


def rows(start: int, stop: int) -> pa.Table:
    steps = range(start, stop)
    return pa.table({"step": steps, "train/batch_loss": [1.0 / (1 + step) for step in steps]})


def commit(
    storage: Storage, step: int, previous: Manifest | None = None, *, attempt: int = 1, ended: bool = False
) -> Manifest:
    return storage.commit(
        CELL,
        attempt=attempt,
        step=step,
        checkpoint=f"state {step} of {attempt}".encode(),
        part=rows(previous.step if previous else 0, step),
        previous=previous,
        outcome={"status": "completed", "reason": ""} if ended else None,
    )


def chain(storage: Storage, *steps: int) -> list[Manifest]:
    made: list[Manifest] = []
    for step in steps:
        made.append(commit(storage, step, made[-1] if made else None))
    return made


def test_an_empty_store_has_nothing(storage: Storage) -> None:
    assert storage.latest(CELL) == (None, [])
    assert (storage.usage(), storage.usage(CELL), storage.prune(CELL), storage.delete(CELL)) == (0, 0, 0, 0)
    assert storage.next_attempt(CELL) == 1


def test_a_commit_is_read_back_by_another_process(storage: Storage, place: str) -> None:
    first, second = chain(storage, 10, 25)
    again = Storage.open(storage.place)
    assert again.latest(CELL) == (second, [])
    assert again.latest(CELL, max_step=24) == (first, [])
    assert again.read_checkpoint(second) == b"state 25 of 1"
    assert again.read_parts(second)["step"].to_pylist() == list(range(25))
    assert again.read_parts(second, from_step=11)["step"].to_pylist() == list(range(10, 25))
    code = (
        "import sys; from sweep.storage import Storage; print(Storage.open(sys.argv[1]).latest(sys.argv[2]))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, place, CELL], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == repr((second, []))


def test_the_store_can_only_be_opened_as_what_it_is(storage: Storage, place: str) -> None:
    assert Storage.open(place).place == storage.place
    open_files(place).put("storage.json", b'{"format": "something else"}')
    with pytest.raises(StorageUnavailableError, match="another format"):
        Storage.open(place)


@pytest.mark.parametrize("folder", ["checkpoints", "history", "manifests"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "deleted"])
def test_damage_is_reported_by_name_and_the_commit_before_is_used(
    storage: Storage, place: str, folder: str, damage: str
) -> None:
    first, second = chain(storage, 10, 20)
    files = open_files(place)
    path = newest_file(files, folder, second)
    spoil(files, path, damage)
    found, problems = storage.latest(CELL)
    assert found == first
    if folder == "manifests" and damage == "deleted":
        # What no manifest names was never committed.
        assert problems == []
    else:
        assert len(problems) == 1
        assert path.rpartition("/")[2] in problems[0]
    # The next attempt goes on from there and is not disturbed by what lies about.
    attempt = storage.begin_attempt(CELL)
    third = commit(storage, 20, first, attempt=attempt, ended=True)
    assert storage.latest(CELL)[0] == third
    storage.prune(CELL, keep=1)
    assert storage.latest(CELL) == (third, [])
    assert storage.read_parts(third).num_rows == 20


def newest_file(files: Files, folder: str, manifest: Manifest) -> str:
    assert manifest.checkpoint is not None
    return {
        "checkpoints": manifest.checkpoint.file,
        "history": manifest.parts[-1].stored.file,
        "manifests": manifest.file,
    }[folder]


def spoil(files: Files, path: str, damage: str) -> None:
    data = bytearray(files.get(path) or b"")
    assert data
    if damage == "deleted":
        files.delete(path)
        return
    data[len(data) // 2] ^= 1
    files.put(path, bytes(data[: len(data) // 2] if damage == "truncated" else data))


def test_prune_keeps_what_the_newest_commits_need(storage: Storage, place: str) -> None:
    manifests = chain(storage, 10, 20, 30, 40)
    before = storage.usage(CELL)
    freed = storage.prune(CELL, keep=2)
    assert freed > 0
    assert storage.usage(CELL) == before - freed
    assert storage.prune(CELL, keep=2) == 0
    assert storage.latest(CELL) == (manifests[-1], [])
    assert storage.latest(CELL, max_step=39) == (manifests[-2], [])
    assert storage.latest(CELL, max_step=29) == (None, [])
    assert storage.read_parts(manifests[-1]).num_rows == 40
    assert len(open_files(place).names(f"cells/{CELL}/checkpoints")) == 2


def test_delete_leaves_the_others_alone(storage: Storage) -> None:
    chain(storage, 10)
    storage.commit("other", attempt=1, step=5, checkpoint=b"other", part=rows(0, 5), previous=None)
    others, mine = storage.usage("other"), storage.usage(CELL)
    assert storage.usage() == others + mine
    assert storage.delete(CELL) == mine
    assert storage.usage() == others
    assert storage.latest(CELL) == (None, [])
    assert storage.latest("other")[0] is not None


def test_an_attempt_that_was_overtaken_overwrites_nothing(storage: Storage) -> None:
    (first,) = chain(storage, 10)
    slow, fast = storage.begin_attempt(CELL), storage.begin_attempt(CELL)
    assert fast > slow > first.attempt
    ahead = commit(storage, 20, first, attempt=fast)
    late = commit(storage, 20, first, attempt=slow)
    assert storage.latest(CELL) == (ahead, [])
    assert storage.read_checkpoint(ahead) == f"state 20 of {fast}".encode()
    assert storage.read_checkpoint(late) == f"state 20 of {slow}".encode()


def test_attempt_numbers_that_are_asked_for_at_once_differ(storage: Storage, place: str) -> None:
    stores = [Storage.open(place) for _ in range(ATTEMPTS)]
    with ThreadPoolExecutor(ATTEMPTS) as pool:
        numbers = list(pool.map(lambda store: store.begin_attempt(CELL), stores))
    assert len(set(numbers)) == ATTEMPTS
    assert storage.next_attempt(CELL) > max(numbers)


KILLED = """
import os, signal, sys
import pyarrow as pa
from sweep.storage import Storage

place, deadly, after = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "after"
storage = Storage.open(place)
files = storage._files
put, count = files.put, 0

def counted(path, data):
    global count
    count += 1
    if count == deadly and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    put(path, data)
    if count == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

rows = lambda start, stop: pa.table({"step": range(start, stop)})
first = storage.commit("cell", attempt=1, step=10, checkpoint=b"ten", part=rows(0, 10), previous=None)
files.put = counted
storage.commit("cell", attempt=1, step=20, checkpoint=b"twenty", part=rows(10, 20), previous=first)
print(count)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_any_write_leaves_a_whole_commit(place: str, when: str) -> None:
    fresh = numbered(place)
    assert killed_writer(fresh(0), 0, when) == (0, str(FILES_OF_A_COMMIT))
    for deadly in range(1, FILES_OF_A_COMMIT + 1):
        store = fresh(deadly)
        assert killed_writer(store, deadly, when) == (-9, "")
        found, problems = Storage.open(store).latest("cell")
        assert problems == []
        assert found is not None
        assert found.step == (20 if deadly == FILES_OF_A_COMMIT and when == "after" else 10)


def numbered(place: str) -> Callable[[int], str]:
    """Return a store of its own for every number, in the same place."""
    base, mark, query = place.partition("?")
    return lambda number: f"{base}-{number}{mark}{query}"


def killed_writer(place: str, deadly: int, when: str) -> tuple[int, str]:
    command = [sys.executable, "-c", KILLED, place, str(deadly), when]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Error" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


def test_what_cannot_be_reached_is_one_clear_error(place: str) -> None:
    if place.startswith("s3:"):
        nowhere = place.replace("bucket-", "no-bucket-")
    else:
        Path(f"{place} is a file").touch()
        nowhere = f"{place} is a file/store"
    with pytest.raises(StorageUnavailableError, match="could not be|cannot be"):
        Storage.open(nowhere)

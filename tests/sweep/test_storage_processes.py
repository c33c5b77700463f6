"""A store in several processes: numbers that no two get, and a writer that is killed."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweep.storage import Storage
from tests.forked import FORKED

CELL = "0123456789abcdef"


def _begin(place: str, barrier: Barrier, results: "multiprocessing.Queue[int]") -> None:
    storage = Storage.open(place)
    barrier.wait()
    results.put(storage.begin_attempt(CELL))


def test_attempt_numbers_are_never_shared(tmp_path: Path) -> None:
    barrier, results = FORKED.Barrier(4), FORKED.Queue()
    workers = [FORKED.Process(target=_begin, args=(str(tmp_path), barrier, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    numbers = [results.get(timeout=200) for _ in workers]
    for worker in workers:
        worker.join()
    assert len(set(numbers)) == 4
    assert Storage.open(tmp_path).begin_attempt(CELL) > max(numbers)


def _table(start: int, stop: int) -> pa.Table:
    return pa.table({"step": list(range(start, stop))})


def _commit_twice(place: str, deadly: int) -> None:
    """Commit twice, but for a kill before the second's write number `deadly`; exit with how many it has."""
    storage = Storage.open(place)
    first = storage.commit("cell", attempt=1, step=10, checkpoint=b"ten", part=_table(0, 10), previous=None)
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return call

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    storage.commit("cell", attempt=1, step=20, checkpoint=b"twenty", part=_table(10, 20), previous=first)
    sys.exit(count)


def test_a_kill_between_any_two_writes_leaves_the_previous_commit(tmp_path: Path) -> None:
    def run(deadly: int) -> int | None:
        process = FORKED.Process(target=_commit_twice, args=(str(tmp_path / str(deadly)), deadly))
        process.start()
        process.join()
        return process.exitcode

    writes = run(0)
    # Three files, each fsync, rename, fsync of the folder.
    assert writes == 9
    for deadly in range(1, writes + 1):
        assert run(deadly) == -signal.SIGKILL
        storage = Storage.open(tmp_path / str(deadly))
        found, problems = storage.latest("cell")
        assert problems == []
        assert found is not None
        # The ninth write is the sync of the folder after the manifest's rename.
        assert found.step == (20 if deadly == writes else 10)
        storage.verify(found)

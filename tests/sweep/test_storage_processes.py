"""A store in several processes: numbers that no two get, and a writer that is killed."""

import multiprocessing
import signal
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

from sweep.storage import Storage

CELL = "0123456789abcdef"


def _begin(place: str, barrier: Barrier, results: "multiprocessing.Queue[int]") -> None:
    storage = Storage.open(place)
    barrier.wait()
    results.put(storage.begin_attempt(CELL))


def test_attempt_numbers_are_never_shared(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_begin, args=(str(tmp_path), barrier, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    numbers = [results.get(timeout=200) for _ in workers]
    for worker in workers:
        worker.join()
    assert len(set(numbers)) == 4
    assert Storage.open(tmp_path).begin_attempt(CELL) > max(numbers)


KILLED_WRITER = """
import os, signal, sys
from sweep.storage import Storage
import sweep.storage.files as files
import pyarrow as pa

place, deadly = sys.argv[1], int(sys.argv[2])
storage = Storage.open(place)
table = lambda start, stop: pa.table({"step": list(range(start, stop))})
first = storage.commit("cell", attempt=1, step=10, checkpoint=b"ten", part=table(0, 10), previous=None)
count = 0
real_fsync, real_replace = os.fsync, os.replace
def counted(real):
    def call(*args):
        global count
        count += 1
        if count == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    return call
os.fsync, os.replace = counted(real_fsync), counted(real_replace)
storage.commit("cell", attempt=1, step=20, checkpoint=b"twenty", part=table(10, 20), previous=first)
print(count)
"""


def test_a_kill_between_any_two_writes_leaves_the_previous_commit(tmp_path: Path) -> None:
    def run(deadly: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", KILLED_WRITER, str(tmp_path / str(deadly)), str(deadly)],
            capture_output=True,
            text=True,
            check=False,
        )

    undisturbed = run(0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    writes = int(undisturbed.stdout)
    # Three files, each fsync, rename, fsync of the folder.
    assert writes == 9
    for deadly in range(1, writes + 1):
        assert run(deadly).returncode == -signal.SIGKILL
        storage = Storage.open(tmp_path / str(deadly))
        found, problems = storage.latest("cell")
        assert problems == []
        assert found is not None
        # The ninth write is the sync of the folder after the manifest's rename.
        assert found.step == (20 if deadly == writes else 10)
        storage.verify(found)

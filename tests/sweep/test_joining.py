"""Parts of a history become one as there come more of them: few are left, and little is written again."""

import math
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from sweep.errors import StorageDamagedError
from sweep.storage import Manifest, Part, Storage, StoredFile
from sweep.storage.joining import SHARE, num_to_join
from tests.sweep.test_storage import CELL, commit

COMMITS = 5000


def lengths_of(kind: str) -> Iterator[int]:
    draw = random.Random(0)
    for number in range(COMMITS):
        yield {
            "equal": 7,
            "random": draw.randint(50, 150),
            "ten times as long for a while": 1000 if number % 1000 < 50 else 100,
            "ever longer": number + 1,
            "ever shorter": COMMITS - number,
        }[kind]


@pytest.mark.parametrize(
    "kind", ["equal", "random", "ten times as long for a while", "ever longer", "ever shorter"]
)
def test_there_are_few_parts_and_each_step_is_written_again_a_few_times(kind: str) -> None:
    parts: list[Part] = []
    stop = again = most = 0
    for length in lengths_of(kind):
        start, stop = stop, stop + length
        if parts and (joined := num_to_join(parts, stop)):
            again += start - parts[-joined].start
            start = parts[-joined].start
            del parts[-joined:]
        parts.append(Part(stored=StoredFile(file="", sha256="", size=0), start=start, stop=stop))
        most = max(most, len(parts))
    assert parts[0].start == 0 and all(one.stop == later.start for one, later in pairwise(parts))
    levels = math.log(stop, SHARE)
    assert again <= levels * stop
    assert most <= 3 * SHARE * levels


def test_equal_parts_are_joined_like_digits_are_carried() -> None:
    parts: list[Part] = []
    for stop in range(1, SHARE**2 + SHARE + 3):
        start = stop - 1
        if parts and (joined := num_to_join(parts, stop)):
            start = parts[-joined].start
            del parts[-joined:]
        parts.append(Part(stored=StoredFile(file="", sha256="", size=0), start=start, stop=stop))
    assert [part.stop - part.start for part in parts] == [SHARE**2, SHARE, 1, 1]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path)


def chain(storage: Storage, num_commits: int, previous: Manifest | None = None) -> Manifest:
    for _ in range(num_commits):
        previous = commit(storage, (previous.step if previous else 0) + 2, previous)
    assert previous is not None
    return previous


def test_a_history_of_many_commits_is_the_same_in_few_files(storage: Storage) -> None:
    last = chain(storage, SHARE**2 + 5)
    assert len(last.parts) == 6
    assert storage.latest(CELL) == (last, [])
    table = storage.read_parts(last)
    assert table["step"].to_pylist() == list(range(last.step))
    assert table["loss"].to_pylist() == [0.5 + step for step in range(last.step)]
    assert storage.read_parts(last, from_step=last.step - 1)["step"].to_pylist() == [
        last.step - 2,
        last.step - 1,
    ]


def test_a_commit_that_joins_leaves_the_one_before_it_whole(storage: Storage) -> None:
    before = chain(storage, SHARE - 1)
    assert len(before.parts) == SHARE - 1
    joined = chain(storage, 1, before)
    assert len(joined.parts) == 1
    # As a kill leaves it after the part and before its manifest.
    (Path(storage.place) / joined.file).unlink()
    assert storage.latest(CELL) == (before, [])
    assert chain(storage, 1, before) == joined
    assert storage.latest(CELL) == (joined, [])


def test_damaged_parts_are_not_joined(storage: Storage) -> None:
    before = chain(storage, SHARE - 1)
    file = before.parts[3].stored.file
    (Path(storage.place) / file).write_bytes(b"PAR1")
    with pytest.raises(StorageDamagedError, match=Path(file).name):
        chain(storage, 1, before)

"""The commits of a pack: few files however many there are, and a watchdog that hears of each cell."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from sweep.forks import lines_of
from sweep.pack import Pack
from sweep.storage import Storage
from sweep.storage.files import LocalFiles
from sweep.storage.joining import SHARE
from tests.sweep.test_pack import assert_same
from tests.trainers.small_cells import bulk, made_data, sgd, small_cell
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.objective import unheard

STEPS = 60
CELL = small_cell(sgd(20), bulk(STEPS))


def pack_of(*cells: Cell, storage: Storage) -> Pack:
    return Pack(cells, storage, data_folder=Path("unused"), data=made_data())


def test_a_cell_that_commits_at_each_step_has_few_files_and_the_same_record(tmp_path: Path) -> None:
    storage, alone = Storage.open(tmp_path / "storage"), Storage.open(tmp_path / "alone")
    pack = pack_of(CELL, storage=storage)
    for step in range(1, 3 * SHARE + 2):
        pack.train(60.0, pauses=[step])
        pack.commit()
    newest, problems = storage.latest(cell_id(CELL))
    assert newest is not None and newest.step == 3 * SHARE + 1 and problems == []
    assert len(newest.parts) == 4
    root = Path(storage.place) / "cells" / cell_id(CELL)
    # What had become one is gone, with the commits that listed it.
    assert len(list((root / "history").iterdir())) == 4
    assert len(list((root / "manifests").iterdir())) == len(list((root / "checkpoints").iterdir())) == 2
    # A kill, and what is resumed goes on to the end; another one is not disturbed.
    for store in (storage, alone):
        resumed = pack_of(CELL, storage=store)
        while not resumed.finished:
            resumed.train(60.0)
        resumed.commit()
    assert_same(CELL, storage, alone)


def test_a_watchdog_hears_of_each_cell_that_is_looked_up_or_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [replace(CELL, seed=seed) for seed in range(3)]
    lanes = {
        address: lane
        for lane, cell in enumerate(cells)
        for address in (cell_id(cell), *(line for line, *_ in lines_of(cell)))
    }
    # The lane that each request to the store is for, and None for a beat.
    log: list[int | None] = []

    def noted(name: str) -> None:
        request = getattr(LocalFiles, name)

        def ask(files: LocalFiles, path: str, *data: bytes) -> object:
            if path.startswith("cells/"):
                log.append(lanes[path.split("/")[1]])
            return request(files, path, *data)

        monkeypatch.setattr(LocalFiles, name, ask)

    storage = Storage.open(tmp_path)
    for name in ("get", "put", "names", "delete"):
        noted(name)
    for step in (10, 30, STEPS):
        begun = len(log)
        pack = Pack(
            cells,
            storage,
            data_folder=Path("unused"),
            data=made_data(),
            leaves=[[20], [], []],
            beat=lambda: log.append(None),
        )
        pack.train(60.0, pauses=[step])
        pack.commit()
        assert {0, 1, 2} <= set(log[begun:])
    unheard = [pair for pair in pairwise(log) if None not in pair and pair[0] != pair[1]]
    assert unheard == []
    assert pack.finished


def test_a_watchdog_hears_of_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[int] = []
    pack = Pack(
        [CELL],
        Storage.open(tmp_path),
        data_folder=Path("unused"),
        data=made_data(),
        beat=lambda: beats.append(1),
    )
    beats.clear()
    # As in a replay, where only the steps are heard.
    monkeypatch.setattr(pack.trainer._objective, "beat", unheard)
    pack.train(1e9)
    assert pack.finished and len(beats) == STEPS

"""What a cell took, over all the attempts and neighbours that it had."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sweep.attempts import attempts_of, environments
from sweep.costs import cost_of
from sweep.pack import Pack
from sweep.reopening import reopen_stored
from sweep.storage import Storage
from sweep.storage.manifest import encode_manifest
from tests.trainers.small_cells import bulk, made_data, sgd, small_cell
from trainers.canonical import cell_id
from trainers.cell import Cell

STEPS = 60
CELL = small_cell(sgd(20), bulk(STEPS))
ADDRESS = cell_id(CELL)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path)


def pack_of(cells: Sequence[Cell], storage: Storage, host: str) -> Pack:
    return Pack(cells, storage, data_folder=Path("unused"), data=made_data(), environment={"hostname": host})


def train(storage: Storage, host: str, stop: int = STEPS, *, cell: Cell = CELL) -> Pack:
    """An attempt at a cell, up to a step, with a commit."""
    pack = pack_of([cell], storage, host)
    while pack.trainer.step < stop:
        pack.train(60.0, pauses=[stop])
    pack.commit()
    return pack


def test_a_resumed_cell_keeps_where_its_attempts_ran_and_costs_what_all_took(storage: Storage) -> None:
    for host, stop in (("a", 27), ("b", 41), ("c", STEPS)):
        pack = train(storage, host, stop)
    assert pack.finished
    (final,) = storage.manifests(ADDRESS)
    attempts = environments(storage, final)["attempts"]
    assert [(ran["hostname"], ran["start"], ran["stop"]) for ran in attempts] == [
        ("a", 0, 27),
        ("b", 27, 41),
        ("c", 41, STEPS),
    ]
    assert [ran["attempt"] for ran in attempts] == sorted({ran["attempt"] for ran in attempts})
    assert all(ran["device_seconds"] > 0 for ran in attempts)
    cost = cost_of(CELL, final, attempts)
    assert cost.seconds == pytest.approx(sum(ran["device_seconds"] for ran in attempts))
    assert sum(cost.work.values()) == STEPS and cost.device.endswith("on c")


def test_a_cell_that_was_stopped_and_let_go_on_counts_each_attempt_once(storage: Storage) -> None:
    pack = pack_of([CELL], storage, "a")
    pack.train(60.0, pauses=[20])
    pack.stop(ADDRESS, "asked")
    pack.commit()
    reopen_stored(ADDRESS, storage)
    train(storage, "b")
    (final,) = storage.manifests(ADDRESS)
    assert [ran["hostname"] for ran in environments(storage, final)["attempts"]] == ["a", "b"]


def test_what_was_committed_before_attempts_were_handed_on_is_one_of_them(storage: Storage) -> None:
    train(storage, "new", 20)
    early, _ = storage.latest(ADDRESS)
    assert early is not None
    environment = {"hostname": "old", "train_seconds": 3.0, "lanes": 2}
    old = dataclasses.replace(early, summary={"environment": environment})
    (Path(storage.place) / early.file).write_bytes(encode_manifest(old))
    train(storage, "new")
    (final,) = storage.manifests(ADDRESS)
    first, second = environments(storage, final)["attempts"]
    assert first == {"attempt": early.attempt, **environment}
    assert cost_of(CELL, final, [first, second]).seconds == pytest.approx(1.5 + second["device_seconds"])


def test_a_fork_has_its_own_attempts_alone(storage: Storage) -> None:
    trunk = small_cell(sgd(20))
    train(storage, "a", 20, cell=trunk)
    train(storage, "b")
    (final,) = storage.manifests(ADDRESS)
    (ran,) = environments(storage, final)["attempts"]
    assert (ran["hostname"], ran["start"], ran["stop"]) == ("b", 20, STEPS)
    assert sum(cost_of(CELL, final, [ran]).work.values()) == STEPS - 20


def test_lanes_share_the_time_in_which_they_train(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three diverge at once, and the last trains on alone: it costs more than a quarter of the time."""
    cells = [*(small_cell(sgd(STEPS, lr=1e9), seed=seed) for seed in range(3)), CELL]
    pack = pack_of(cells, storage, "a")
    clock, advance = [0.0], pack.trainer.advance

    def a_second_a_step(stop: int, *, pause: Callable[[], bool]) -> None:
        def paused() -> bool:
            clock[0] = float(pack.trainer.step)
            return pause()

        advance(stop, pause=paused)
        clock[0] = float(pack.trainer.step)

    monkeypatch.setattr(pack.trainer, "advance", a_second_a_step)
    monkeypatch.setattr("sweep.pack.time.monotonic", lambda: clock[0])
    pack.train(1000.0)
    pack.commit()
    assert pack.finished and clock[0] == STEPS
    costs: list[float] = []
    for cell in cells:
        manifest, _ = storage.latest(cell_id(cell))
        assert manifest is not None
        costs.append(cost_of(cell, manifest, attempts_of(manifest)).seconds)
    assert sum(costs) == pytest.approx(STEPS)
    assert costs[-1] > 0.8 * STEPS and max(costs[:-1]) < 0.1 * STEPS

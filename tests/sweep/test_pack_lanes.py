"""Lanes that have ended while others of their pack go on: what they left and where they ended is told."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sweep.forks import fork_at
from sweep.pack import Pack
from sweep.storage import Storage
from tests.sweep.test_pack import cell, sgd
from trainers.cell import Phase


def test_where_a_lane_ended_is_told_after_a_kill_though_the_others_are_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, short = Storage.open(tmp_path), cell(sgd(20))
    cells = [short, replace(cell(sgd(60)), seed=1)]

    def pack() -> Pack:
        return Pack(cells, storage, leaves=[[20], []], data_folder=tmp_path)

    with monkeypatch.context() as patch:
        # As if it had been killed between its last commit and saying so.
        patch.setattr("sweep.pack.publish_end", lambda *_: False)
        first = pack()
        first.trainer.advance(20)
        first.trainer.advance(40)
        first.commit()
    fork = fork_at(short, 20)
    assert storage.latest(fork.line)[0] is None
    again = pack()
    assert again.trainer.step == 40
    again.commit()
    told, _ = storage.latest(fork.line)
    assert told is not None and told.step == 20


def test_a_lane_that_ended_before_it_left_its_state_has_not_left_it(tmp_path: Path) -> None:
    storage = Storage.open(tmp_path)
    cells = [cell(Phase(lr=1e9, until=60)), replace(cell(sgd(60)), seed=1)]

    def pack() -> Pack:
        return Pack(cells, storage, leaves=[[50], []], data_folder=tmp_path)

    first = pack()
    first.trainer.advance(55)
    first.commit()
    again = pack()
    assert again.trainer.step == 55
    diverged, _ = again.commit()
    assert (diverged.status, diverged.left) == ("diverged", ())


def test_a_pack_that_begins_anew_though_some_had_gone_on_says_so(tmp_path: Path) -> None:
    storage, said = Storage.open(tmp_path), list[str]()
    further = cell(sgd(60))
    alone = Pack([further], storage, data_folder=tmp_path)
    alone.trainer.advance(20)
    alone.commit()
    pack = Pack([further, replace(further, seed=1)], storage, data_folder=tmp_path, report=said.append)
    assert pack.trainer.step == 0
    assert said == [
        "a pack of 2 cells begins at step 0: there is no step of which each of them has a state; "
        "1 had one, at step 20 at most."
    ]


def test_what_had_ended_before_is_told_as_the_commit_that_it_is(tmp_path: Path) -> None:
    """An attempt that finds it so has made no commit of its own, which the recorder would wait for."""
    storage = Storage.open(tmp_path)
    cells = [cell(sgd(20)), replace(cell(sgd(60)), seed=1)]
    first = Pack(cells, storage, data_folder=tmp_path)
    first.trainer.advance(30)
    made = first.commit()
    again = Pack(cells, storage, data_folder=tmp_path).commit()
    assert [(one.step, one.attempt) for one in again] == [(one.step, one.attempt) for one in made]
    for one in again:
        assert storage.manifest(one.cell_id, one.step, one.attempt).step == one.step


def test_what_had_ended_is_not_trained_again_where_the_others_begin_anew(tmp_path: Path) -> None:
    """A worker was lost within its first commit, of which the diverged cell was already written."""
    storage, said = Storage.open(tmp_path / "lost"), list[str]()
    cells = [cell(Phase(lr=1e9, until=60)), replace(cell(sgd(60)), seed=1)]
    first = Pack(cells, storage, data_folder=tmp_path)
    first.trainer.advance(30)
    ended = first._commit_lane(0, first.trainer.lanes[0])
    again = Pack(cells, storage, data_folder=tmp_path, report=said.append)
    assert again.trainer.step == 0 and said == []
    assert again.trainer.lanes[0].outcome == first.trainer.lanes[0].outcome
    again.train(60.0)
    told, other = again.commit()
    assert again.finished and told == ended and other.status == "completed"
    assert len(list(storage.manifests(ended.cell_id))) == 1
    alone = Pack(cells[1:], Storage.open(tmp_path / "alone"), data_folder=tmp_path)
    alone.train(60.0)
    assert torch.equal(again.trainer.weights(1), alone.trainer.weights(0))
    assert torch.equal(again.trainer.weights(0).nan_to_num(), first.trainer.weights(0).nan_to_num())


def test_what_had_ended_is_kept_where_the_others_have_no_step_in_common(tmp_path: Path) -> None:
    storage, said = Storage.open(tmp_path), list[str]()
    cells = [cell(sgd(20)), *(replace(cell(sgd(60)), seed=seed) for seed in (1, 2))]
    for gone, one in zip((20, 30, 0), cells, strict=True):
        if gone:
            alone = Pack([one], storage, leaves=[[5]], data_folder=tmp_path)
            alone.trainer.advance(5)
            alone._leave()
            alone.trainer.advance(gone)
            alone.commit()
    again = Pack(cells, storage, leaves=[[5], [], []], data_folder=tmp_path, report=said.append)
    assert again.trainer.step == 0
    assert [lane.outcome is not None for lane in again.trainer.lanes] == [True, False, False]
    assert said == [
        "a pack of 2 cells begins at step 0: there is no step of which each of them has a state; "
        "1 had one, at step 30 at most."
    ]
    again.train(60.0)
    assert again.finished
    told = again.commit()
    assert [one.status for one in told] == ["completed"] * 3
    # What it had left is not left again, and those that wait for it may have it.
    assert told[0].left == (5, 20)

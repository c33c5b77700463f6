"""How many cells go into a trial, and what happens to a trial that has run out of memory."""

import contextlib
import math
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from sweep import lanes
from sweep.errors import StorageError, StorageRefusedError
from sweep.forks import plan_sharing
from sweep.lanes import (
    AUTO,
    gpus_to_plan,
    lanes_at_hand,
    parse_lanes,
    require_gpu_to_look_at,
    trials_at_a_time,
)
from sweep.names import Status
from sweep.pack_events import PackEvents
from sweep.packs import make_packs
from sweep.schedule import _Queue
from sweep.trial import RESULT_FAILURE, PackTrial
from tests.sweep.test_forks import cell, sgd
from trainers.cell import Cell, Phase
from trainers.errors import ConfigError
from trainers.memory import USABLE, WORKSPACE_BYTES, footprint

CELLS = {str(seed): cell(sgd(100), seed=seed) for seed in range(5)}


def with_room_for(count: int, monkeypatch: pytest.MonkeyPatch, one: Cell) -> None:
    free = int((WORKSPACE_BYTES + footprint(one).peak_bytes(count)) / USABLE) + 2**10
    monkeypatch.setattr(lanes, "free_gpu_bytes", lambda: free)


def test_a_number_is_taken_as_it_is() -> None:
    assert parse_lanes("7") == 7 and parse_lanes("auto") == AUTO
    assert lanes_at_hand(7, CELLS.values(), gpus_per_trial=1.0) == 7
    for wrong in ("0", "-1", "none", "1.5", "²", ""):
        with pytest.raises(ValueError, match="or auto"):
            parse_lanes(wrong)


def test_auto_is_what_the_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with_room_for(3, monkeypatch, CELLS["0"])
    assert lanes_at_hand(AUTO, CELLS.values(), gpus_per_trial=1.0) == 3
    assert lanes_at_hand(AUTO, CELLS.values(), gpus_per_trial=0.25) < 3
    assert gpus_to_plan(AUTO, None) == 1 and gpus_to_plan(AUTO, 0.25) == 0.25
    assert gpus_to_plan(2, None) == gpus_to_plan(AUTO, 0.0) == 0
    with_room_for(300, monkeypatch, CELLS["0"])
    assert lanes_at_hand(AUTO, CELLS.values(), gpus_per_trial=1.0) == len(CELLS)


def test_auto_is_one_on_a_cpu_and_refused_where_the_gpu_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "free_gpu_bytes", lambda: None)
    assert gpus_to_plan(AUTO, None) == 0
    assert lanes_at_hand(AUTO, CELLS.values(), gpus_per_trial=0.0) == 1
    with pytest.raises(ConfigError, match="of this machine, and there is none"):
        lanes_at_hand(AUTO, CELLS.values(), gpus_per_trial=1.0)
    with pytest.raises(ConfigError, match="of this machine, and there is none"):
        require_gpu_to_look_at(AUTO, gpus_per_trial=1.0)
    require_gpu_to_look_at(AUTO, gpus_per_trial=0.0)
    require_gpu_to_look_at(4, gpus_per_trial=1.0)


@pytest.mark.parametrize(
    ("gpus", "per_trial", "trials"),
    [(2, 1.0, 2), (2, 0.5, 4), (1, 0.3, 3), (5, 2.0, 2), (1, 2.0, 1), (0, 1.0, 1)],
)
def test_trials_of_gpus_are_as_many_as_those_hold(
    gpus: int, per_trial: float, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert trials_at_a_time(per_trial) == trials
    assert trials_at_a_time(0.0) == 7


def test_auto_looks_where_the_trials_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with_room_for(3, monkeypatch, CELLS["0"])
    there = lanes.free_gpu_bytes
    monkeypatch.setattr(lanes, "free_gpu_bytes", lambda: None)
    assert lanes_at_hand(AUTO, CELLS.values(), gpus_per_trial=1.0, look=there) == 3
    with pytest.raises(ConfigError, match="of the node that a trial gets, and there is none"):
        lanes_at_hand(AUTO, CELLS.values(), gpus_per_trial=1.0, look=lambda: None)


def failure_of(error: Exception, monkeypatch: pytest.MonkeyPatch, *, num_cells: int = 5) -> str | None:
    """What a trial of so many cells reports that meets this error."""

    def raises(trial: PackTrial) -> None:
        raise error

    trial = PackTrial.__new__(PackTrial)
    trial._cells, trial._problems = list(CELLS.values())[:num_cells], []
    trial._watchdog = SimpleNamespace(watching=contextlib.nullcontext)  # type: ignore[assignment]
    trial.config = {"gpu": False}
    monkeypatch.setattr(PackTrial, "_train_and_commit", raises)
    result = trial.step()
    assert result["done"]
    return result[RESULT_FAILURE]


def test_one_cell_is_tried_again_unless_it_fails_whenever_it_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="by chance"):
        failure_of(ValueError("by chance"), monkeypatch, num_cells=1)
    log = failure_of(ConfigError("k: found 3"), monkeypatch, num_cells=1)
    assert log is not None
    recorder, packs = Mock(), [("0",)]
    events = PackEvents(CELLS, packs, plan_sharing(CELLS), recorder, Mock(), Mock(), Mock())
    assert events.failed(0, "reason", log) == []
    recorder.ended.assert_called_once_with("0", Status.FAILED, "reason", log=log)


def test_a_store_that_takes_nothing_is_no_cells_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tune tries the whole pack again.
    with pytest.raises(StorageError, match="no space"):
        failure_of(StorageRefusedError("no space"), monkeypatch)


@pytest.mark.parametrize(
    ("error", "sizes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), [3, 2]),
        (MemoryError(), [3, 2]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), [3, 2]),
        (RuntimeError("Triton Error [CUDA]: out of memory"), [3, 2]),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), [3, 2]),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), [3, 2]),
        (ValueError("no memory of that"), [1, 1, 1, 1, 1]),
    ],
    ids=["torch", "python", "cpu", "driver", "library", "cuDNN", "another error"],
)
def test_a_pack_without_room_is_halved(
    error: Exception, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = failure_of(error, monkeypatch)
    assert log is not None
    sharing = plan_sharing(CELLS)
    packs = make_packs(CELLS, sharing, lanes=5)
    said: list[str] = []
    events = PackEvents(CELLS, packs, sharing, Mock(), Mock(), Mock(), said.append)
    numbers = events.failed(0, "reason", log)
    parts = [list(events.plan(number).cells) for number in numbers]
    assert [len(part) for part in parts] == sizes
    assert sorted(name for part in parts for name in part) == sorted(CELLS)
    assert len(said) == 1 and "reason" in said[0]
    if sizes == [3, 2]:
        # Until one is left, which has no room by itself.
        further = events.failed(numbers[1], "reason", log)
        assert [len(events.plan(number).cells) for number in further] == [1, 1]
        assert events.failed(further[0], "reason", log) == []


def test_the_last_of_a_pack_is_tried_by_itself_before_it_fails() -> None:
    sharing = plan_sharing(CELLS)
    recorder, said = Mock(), list[str]()
    events = PackEvents(
        CELLS, make_packs(CELLS, sharing, lanes=5), sharing, recorder, Mock(), Mock(), said.append
    )
    for name in list(CELLS)[:4]:
        events.reported(0, [commit_of(name, "completed")], [])
    [alone] = events.failed(0, "a passing error", "log")
    assert list(events.plan(alone).cells) == ["4"] and len(said) == 1
    recorder.ended.assert_not_called()
    assert events.failed(alone, "a passing error", "log") == []
    recorder.ended.assert_called_once_with("4", Status.FAILED, "a passing error", log="log")


def commit_of(name: str, status: str) -> dict[str, object]:
    return {"cell_id": name, "status": status, "step": 100, "num_steps": 100, "attempt": 1, "left": []}


def test_auto_of_a_search_goes_by_what_it_is_to_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    like = CELLS["0"]
    with_room_for(3, monkeypatch, like)
    # Nothing to be trained yet, or less than there is room for, says nothing of what is asked for later.
    assert lanes_at_hand(AUTO, [], gpus_per_trial=1.0, like=like) == 3
    assert lanes_at_hand(AUTO, [like], gpus_per_trial=1.0, like=like) == 3
    assert lanes_at_hand(AUTO, [like], gpus_per_trial=1.0) == 1
    assert lanes_at_hand(AUTO, [], gpus_per_trial=0.0, like=like) == 1
    assert lanes_at_hand(4, [], gpus_per_trial=1.0, like=like) == 4


def test_cells_for_which_no_state_was_left_do_not_take_the_others_of_their_pack_back() -> None:
    trunk, branch = Phase(lr=0.1, until=20), Phase(lr=0.1, alpha_dom=math.inf, k=3, until=100)
    leaders = {str(seed): replace(CELLS["0"], seed=seed) for seed in range(2)}
    others = {f"{seed}+": replace(CELLS["0"], seed=seed, phases=(trunk, branch)) for seed in range(2)}
    cells = leaders | others | {"0++": replace(others["0+"], phases=(trunk, replace(branch, k=4)))}
    sharing = plan_sharing(cells)
    packs = make_packs(cells, sharing, lanes=4)
    assert packs == [("0", "1"), ("0+", "1+", "0++")]
    events = PackEvents(cells, packs, sharing, Mock(), Mock(), Mock(), Mock())
    queue = _Queue(range(len(packs)), events)

    def given(trial: str) -> list[str]:
        config = queue.suggest(trial)
        if config is None:
            return []
        queue.begun(trial)
        return config["ids"]

    assert given("first") == ["0", "1"] and given("second") == []
    events.reported(0, [{**commit_of("0", "running"), "step": 30, "left": [20]}], [])
    assert given("second") == []
    events.reported(0, [{**commit_of("1", "diverged"), "step": 10}], [])
    # One seed's trunk has diverged on the way: its branch begins at 0 and the others at 20.
    assert given("second") == ["0+", "0++"]
    assert given("third") == ["1+"]
    for trial in ("first", "second", "third"):
        queue.on_trial_complete(trial)
    assert queue.suggest("fourth") == "FINISHED"

"""A trial's failure as Tune is told of it, and what a trial does not train: another cell than was planned."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from sweep.errors import StorageError
from sweep.forks import plan_sharing
from sweep.names import Status
from sweep.pack import Committed, Pack
from sweep.pack_events import PackEvents
from sweep.packs import pack_of
from sweep.storage import Storage
from sweep.storage.files import LocalFiles, _write_error
from sweep.storage.stop_marks import StopMarks
from sweep.trial import RESULT_CELLS, RESULT_FAILURE, RESULT_PROBLEMS, TRAINING_PER_COMMIT, PackTrial
from trainers import canonical
from trainers.canonical import cell_id
from trainers.cell import Cell, Phase, Probe
from trainers.options import Choice

MODEL = """
from torch import nn

def build(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, outputs))
"""
PROBE = "def measure(view):\n    return {'largest': view.params_P.abs().max()}\n"


@pytest.mark.parametrize("name", ["mine.npz", "\udce9.npz"])
def test_a_failure_is_told_as_text_that_can_be_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(trial: PackTrial) -> list[object]:
        raise OSError(f"cannot read {name}")

    monkeypatch.setattr(PackTrial, "_train_and_commit", fails)
    trial = object.__new__(PackTrial)
    trial._watchdog, trial.config = SimpleNamespace(watching=nullcontext), {"gpu": False}
    trial._problems, trial._node = [], SimpleNamespace(look=lambda: ("here", {}))
    trial._cells = ["one"]
    with pytest.raises((OSError, RuntimeError)) as info:
        trial.step()
    last = str(info.value).encode().splitlines()[-1]
    assert last.endswith(b"cannot read " + name.encode(errors="backslashreplace"))
    assert isinstance(info.value, OSError) == name.isascii()
    trial._cells = ["one", "another"]
    assert "cannot read" in trial.step()[RESULT_FAILURE]


def own_cell(folder: Path) -> Cell:
    (folder / "my_model.py").write_text(MODEL)
    (folder / "my_probe.py").write_text(PROBE)
    return Cell(
        model=Choice.of("file", path=str(folder / "my_model.py")),
        dataset=Choice("mnist-5k"),
        phases=(Phase(lr=0.1, until=3),),
        probes=(Probe(name="file", every=1, options=(("path", str(folder / "my_probe.py")),)),),
    )


def config_of(cells: dict[str, Cell], folder: Path, *, seconds: float) -> dict[str, Any]:
    return pack_of(list(cells), cells, plan_sharing(cells)).to_config() | {
        "sweep": "run-id",
        "storage": Storage.open(folder / "storage").place,
        "data_folder": str(folder / "data"),
        "seconds": seconds,
        "hang_seconds": 600.0,
        "threads": 1,
        "gpu": False,
    }


def result_of(cells: dict[str, Cell], folder: Path, *, seconds: float = 60.0) -> dict[str, Any]:
    """Return what a worker reports that is given these cells, by their planned addresses."""
    trial = object.__new__(PackTrial)
    trial.config = config_of(cells, folder, seconds=seconds)
    trial.setup(trial.config, trial.config["storage"])
    try:
        return trial.step()
    finally:
        trial.cleanup()


class Outage:
    """A store that does not answer for so many requests from the n-th on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, after: int, requests: int, code: int) -> None:
        self._left, self._answers, self._error = requests, after, OSError(code, os.strerror(code))
        for name in ("get", "put"):
            monkeypatch.setattr(LocalFiles, name, self._failing(getattr(LocalFiles, name)))

    def _failing(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        def asked(files: LocalFiles, path: str, *data: bytes) -> Any:
            self._answers -= 1
            if self._answers < 0 < self._left:
                self._left -= 1
                raise _write_error(path, self._error)
            return answer(files, path, *data)

        return asked


def reports(config: dict[str, Any], *, times: int) -> Iterator[dict[str, Any]]:
    """Yield what a worker reports that nobody restarts, until it is done."""
    trial = object.__new__(PackTrial)
    trial.config = config
    trial.setup(config, config["storage"])
    try:
        for _ in range(times):
            yield (result := trial.step())
            if result["done"]:
                return
    finally:
        trial.cleanup()


@pytest.mark.parametrize("after", [0, 1, 3, 4, 6])
def test_a_store_that_is_away_for_a_while_fails_no_cell(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = replace(own_cell(tmp_path), phases=(Phase(lr=0.001, until=3),))
    cells, patience = {cell_id(cell): cell}, 20
    config = config_of(cells, tmp_path, seconds=60.0)
    monkeypatch.setattr("sweep.trial.SECONDS_BETWEEN_TRIES", 0.01)
    Outage(monkeypatch, after=after, requests=10, code=errno.ETIMEDOUT)
    *waits, last = reports(config, times=patience)
    assert [one["status"] for one in last[RESULT_CELLS]] == [Status.COMPLETED]
    assert 0 < len(waits) < patience and not any(one[RESULT_CELLS] or one["done"] for one in waits)
    # The user hears of it once.
    (said,) = [problem for one in waits for problem in one[RESULT_PROBLEMS]]
    assert os.strerror(errno.ETIMEDOUT) in said and "Trying again for 10 minutes" in said
    newest, problems = Storage.open(tmp_path / "storage").latest(*cells)
    assert newest is not None and newest.outcome is not None and problems == []
    history = Storage.open(tmp_path / "storage").read_parts(newest)
    assert history["step"].to_pylist() == [0, 1, 2, 3], "what could not be committed is not left out"


@pytest.mark.parametrize(("code", "seconds"), [(errno.ETIMEDOUT, 0.0), (errno.ENOSPC, 600.0)])
def test_a_store_that_stays_away_or_takes_nothing_fails_the_trial(
    code: int, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = own_cell(tmp_path)
    config = config_of({cell_id(cell): cell}, tmp_path, seconds=60.0)
    monkeypatch.setattr("sweep.trial.SECONDS_FOR_STORE", seconds)
    Outage(monkeypatch, after=4, requests=1000, code=code)
    with pytest.raises(StorageError, match="could not be written"):
        list(reports(config, times=1))


def test_something_is_trained_however_long_the_store_takes_to_list_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(marks: StopMarks) -> set[str]:
        time.sleep(0.1)
        return set()

    monkeypatch.setattr(StopMarks, "all", slow)
    cell = own_cell(tmp_path)
    (committed,) = result_of({cell_id(cell): cell}, tmp_path, seconds=0.05)[RESULT_CELLS]
    assert committed["step"] > 0


@pytest.mark.parametrize("changed", ["my_model.py", "my_probe.py"])
@pytest.mark.parametrize("worker", ["reused", "fresh"])
def test_a_file_that_changed_since_it_was_planned_is_not_trained(
    changed: str, worker: str, tmp_path: Path
) -> None:
    cell = own_cell(tmp_path)
    planned = {cell_id(cell): cell}
    file = tmp_path / changed
    before = file.read_text()
    file.write_text(before + "# another\n")
    if worker == "fresh":
        # It has not seen the file as it was.
        canonical._shape_form.cache_clear()
    failure = result_of(planned, tmp_path)[RESULT_FAILURE]
    assert failure is not None and "ConfigError" in failure
    assert changed in failure and "has changed since the cell was planned" in failure
    store = Storage.open(tmp_path / "storage")
    assert store.latest(next(iter(planned)))[0] is None, "nothing is under the address of the file as it was"
    # As it was planned it is trained, in the same worker too.
    file.write_text(before)
    canonical._shape_form.cache_clear()
    result = result_of(planned, tmp_path)
    assert result[RESULT_FAILURE] is None
    assert [one["cell_id"] for one in result[RESULT_CELLS]] == list(planned)


def test_what_nobody_planned_is_passed_over_and_nobody_waits_for_it() -> None:
    cells = {"0": Cell(model=Choice("mlp"), dataset=Choice("mnist-5k"), phases=(Phase(lr=0.1, until=3),))}
    recorder, said = Mock(), list[str]()
    events = PackEvents(cells, [("0",)], plan_sharing(cells), recorder, Mock(), Mock(), said.append)
    stranger = {"cell_id": "ffff", "step": 3, "attempt": 1, "status": "completed", "num_steps": 3, "left": ()}
    for _ in range(2):
        events.reported(0, [stranger], [])
    recorder.submit.assert_not_called()
    assert len(said) == 1 and "ffff, which is not in the plan" in said[0]
    events.reported(0, [{**stranger, "cell_id": "0", "status": Status.COMPLETED.value}], [])
    recorder.submit.assert_called_once_with("0", step=3, attempt=1)


@pytest.mark.parametrize("lost", [False, True])
def test_a_process_that_has_lost_its_gpu_gets_no_other_pack(
    lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(trial: PackTrial) -> list[object]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def synchronize() -> None:
        if lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(PackTrial, "_train_and_commit", fails)
    monkeypatch.setattr("torch.cuda.synchronize", synchronize)
    trial = object.__new__(PackTrial)
    trial._watchdog, trial.config = SimpleNamespace(watching=nullcontext), {"gpu": True}
    trial._problems, trial._node = [], SimpleNamespace(look=lambda: ("here", {}))
    trial._cells = ["one", "another"]
    if lost:
        # Tune ends the process and tries the pack again in a new one.
        with pytest.raises(RuntimeError, match="illegal memory access"):
            trial.step()
    else:
        assert "illegal memory access" in trial.step()[RESULT_FAILURE]


@pytest.mark.parametrize("longest", [60.0, 0.0])
def test_a_commit_that_took_long_is_followed_by_more_training(
    longest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, taken = Pack.commit, 0.1

    def slow(pack: Pack) -> list[Committed]:
        time.sleep(taken)
        return commit(pack)

    monkeypatch.setattr(Pack, "commit", slow)
    monkeypatch.setattr("sweep.trial.LONGEST_STRETCH_SECONDS", longest)
    cell = replace(own_cell(tmp_path), phases=(Phase(lr=0.001, until=10**6),), probes=())
    trained = [0.0]
    for _ in reports(config_of({cell_id(cell): cell}, tmp_path, seconds=0.05), times=2):
        newest, _ = Storage.open(tmp_path / "storage").latest(cell_id(cell))
        assert newest is not None
        trained.append(newest.summary["environment"]["train_seconds"])
    _, second = (after - before for before, after in pairwise(trained))
    assert (second > 0.8 * TRAINING_PER_COMMIT * taken) == (longest > 0)


def test_many_cells_on_a_slow_store_do_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of their commits together take longer than the watchdog waits, each of them does not."""
    put, killed = LocalFiles.put, list[int]()
    one = replace(own_cell(tmp_path), phases=(Phase(lr=0.001, until=3),))
    first, *others = (replace(one, seed=seed) for seed in range(9))
    # What is slow the first time in a process is none of the store's doing.
    result_of({cell_id(first): first}, tmp_path)

    def slow(files: LocalFiles, path: str, data: bytes) -> None:
        time.sleep(0.1)
        put(files, path, data)

    monkeypatch.setattr(LocalFiles, "put", slow)
    monkeypatch.setattr("sweep.watchdog.os._exit", killed.append)
    cells = {cell_id(other): other for other in others}
    config = config_of(cells, tmp_path, seconds=60.0) | {"hang_seconds": 2.0}
    (last,) = reports(config, times=1)
    assert [one["status"] for one in last[RESULT_CELLS]] == [Status.COMPLETED] * len(cells)
    assert killed == []

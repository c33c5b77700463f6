"""A trial's failure as Tune is told of it, and what a trial does not train: another cell than was planned."""

import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from sweep.forks import plan_sharing
from sweep.names import Status
from sweep.pack_events import PackEvents
from sweep.packs import pack_of
from sweep.storage import Storage
from sweep.storage.stop_marks import StopMarks
from sweep.trial import RESULT_CELLS, RESULT_FAILURE, PackTrial
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


def result_of(cells: dict[str, Cell], folder: Path, *, seconds: float = 60.0) -> dict[str, Any]:
    """Return what a worker reports that is given these cells, by their planned addresses."""
    sharing = plan_sharing(cells)
    config = pack_of(list(cells), cells, sharing).to_config() | {
        "sweep": "run-id",
        "storage": Storage.open(folder / "storage").place,
        "data_folder": str(folder / "data"),
        "seconds": seconds,
        "hang_seconds": 600.0,
        "threads": 1,
        "gpu": False,
    }
    trial = object.__new__(PackTrial)
    trial.config = config
    trial.setup(config)
    try:
        return trial.step()
    finally:
        trial.cleanup()


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

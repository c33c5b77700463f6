"""A trial's failure as Tune is told of it."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from sweep.trial import RESULT_FAILURE, PackTrial


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

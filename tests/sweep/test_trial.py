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
    trial._watchdog = SimpleNamespace(watching=nullcontext)
    trial._problems, trial._node = [], SimpleNamespace(look=lambda: ("here", {}))
    trial._cells = ["one"]
    with pytest.raises((OSError, RuntimeError)) as info:
        trial.step()
    last = str(info.value).encode().splitlines()[-1]
    assert last.endswith(b"cannot read " + name.encode(errors="backslashreplace"))
    assert isinstance(info.value, OSError) == name.isascii()
    trial._cells = ["one", "another"]
    assert "cannot read" in trial.step()[RESULT_FAILURE]

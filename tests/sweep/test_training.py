"""The thread beside Tune's loop: what is away is waited for, what fails ends the training."""

import io
import itertools
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console

from sweep import training
from sweep.errors import LeaseLostError, LedgerError, StorageError
from sweep.names import Status
from sweep.progress import Display, Progress
from sweep.stopping import Stop
from tests.sweep.test_forks import bulk, cell, sgd

WAIT_SECONDS = 60.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SECONDS_BETWEEN_POLLS", 0.01)


def display() -> Display:
    return Display(Progress(name="little", total_steps=1, statuses={}), Console(file=io.StringIO()))


@pytest.mark.parametrize(
    "error", [LedgerError("away", transient=True), StorageError("no space"), LeaseLostError("taken over")]
)
def test_what_may_come_back_is_looked_at_again(error: Exception) -> None:
    stop, looks, again = Stop(), itertools.count(), threading.Event()

    def look() -> None:
        if next(looks) == 0:
            raise error
        again.set()

    with training._Watch(look, stop, display()):
        assert again.wait(WAIT_SECONDS)
    assert stop.asked() == isinstance(error, LeaseLostError)


@pytest.mark.parametrize("failure", [KeyError("unforeseen"), LedgerError("unforeseen", transient=False)])
def test_a_failure_ends_the_training_and_is_raised(failure: Exception) -> None:
    stop = Stop()

    def look() -> None:
        raise failure

    with pytest.raises(type(failure), match="unforeseen"), training._Watch(look, stop, display()):
        assert stop.wait(WAIT_SECONDS)
    assert "unforeseen" in stop.why


def test_a_failure_of_the_training_itself_comes_first() -> None:
    stop = Stop()

    def look() -> None:
        raise KeyError("unforeseen")

    with pytest.raises(OSError, match="of its own"), training._Watch(look, stop, display()):
        assert stop.wait(WAIT_SECONDS)
        raise OSError("of its own")


def test_cells_of_the_plan_that_are_not_trained_now_and_have_not_ended_are_not_forgotten() -> None:
    cells = {str(k): cell(sgd(20), bulk(500, k=k)) for k in range(1, 5)}
    statuses = dict.fromkeys(cells, Status.PENDING) | {"3": Status.COMPLETED}
    trains = object.__new__(training.Training)
    trains._plan = SimpleNamespace(cells=cells)  # type: ignore[assignment]
    left = trains._others({"1": cells["1"]}, Progress(name="little", total_steps=1, statuses=statuses))
    assert left == [cells["2"], cells["4"]]

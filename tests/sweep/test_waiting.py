"""Waiting for cells of other sweeps: said only where there is something to wait for, and counted."""

from unittest.mock import Mock

import pytest

from sweep.errors import LeaseLostError, LedgerError
from sweep.ledger import CellRun
from sweep.names import Status
from sweep.stopping import Stop
from sweep.waiting import Waiting


class Others:
    """Two cells that another sweep runs; each look at them may find another status."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: dict[str, Status] | Exception) -> None:
        monkeypatch.setattr("sweep.waiting.SECONDS_BETWEEN_LOOKS", 0.01)
        self.said: list[str] = []
        self.stop = Stop()
        self.spending, self.claims, self.lease, ledger = Mock(), Mock(), Mock(), Mock()
        ledger.requests.return_value.stop = False
        ledger.lookup.side_effect = [
            look
            if isinstance(look, Exception)
            else {cell: run(cell, status) for cell, status in look.items()}
            for look in looks
        ]
        self.ledger = ledger
        self.claims.others.side_effect = lambda cells: dict.fromkeys(cells, "grid")
        self.waiting = Waiting(
            Mock(cells=["a", "b", "mine"]),
            sweep=Mock(),
            ledger=ledger,
            lease=self.lease,
            claims=self.claims,
            spending=self.spending,
            stop=self.stop,
            say=self.said.append,
        )


def run(cell: str, status: Status) -> CellRun:
    return CellRun(cell_id=cell, run_id=cell, sweep="grid", experiment_id="1", status=status)


def test_what_has_ended_meanwhile_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(monkeypatch, {"a": Status.COMPLETED, "b": Status.DIVERGED})
    others.waiting.wait_for(["a", "b"])
    assert others.said == [] and not others.claims.queue.called


def test_whoever_waits_says_so_once_goes_behind_and_counts_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"a": Status.COMPLETED, "b": Status.RUNNING}
    away = LedgerError("away", transient=True)
    others = Others(monkeypatch, away, one, away, one, {"b": Status.COMPLETED})
    others.waiting.wait_for(["a", "b"])
    assert others.said == ["waiting for 1 cell that sweep 'grid' is running; Ctrl-C stops the waiting"]
    others.claims.queue.assert_called_once_with(["a", "b", "mine"])
    assert others.spending.keep.call_count == 5


def test_a_cell_that_is_free_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(monkeypatch, {"a": Status.RUNNING}, {"a": Status.FAILED})
    held = iter([{"a": "grid"}, {}])
    others.claims.others.side_effect = lambda cells: next(held)
    others.waiting.wait_for({"a": "grid"})
    assert len(others.said) == 1 and not others.stop.asked()


def test_a_lost_lease_and_a_request_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(monkeypatch)
    others.lease.check.side_effect = LeaseLostError("taken")
    others.waiting.wait_for(["a"])
    assert others.stop.why == "because another process has taken over"
    others = Others(monkeypatch, {})
    others.ledger.requests.return_value.stop = True
    others.waiting.wait_for(["a"])
    assert others.stop.why == "as `sweep stop` asked"


def test_what_mlflow_refuses_for_good_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(monkeypatch, LedgerError("the run is deleted", transient=False))
    with pytest.raises(LedgerError, match="the run is deleted"):
        others.waiting.wait_for(["a"])

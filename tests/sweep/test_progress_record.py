"""How a sweep stands, in its own run: what was recorded last is what MLflow shows."""

from types import SimpleNamespace

import pytest

from sweep import names
from sweep.grid_table import CellFate
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.overview import all_sweeps
from sweep.progress_record import ProgressRecord
from tests.sweep.small_sweep import FakeSpace, make_plan


def fates(*statuses: Status, loss: float = 0.5) -> list[CellFate]:
    metrics = {names.FINAL_TRAIN_LOSS: loss}
    return [SimpleNamespace(status=status, metrics=metrics) for status in statuses]  # type: ignore[misc]


def test_counts_that_fall_are_the_latest_too(ledger: Ledger) -> None:
    sweep, uri = ledger.open_sweep(FakeSpace(), make_plan(0.1)), ledger.client.tracking_uri
    record = ProgressRecord(ledger, sweep)
    before = fates(*[Status.STOPPED] * 3, *[Status.COMPLETED] * 2, Status.FAILED, loss=0.1)
    assert record.has_news(before)
    record.record(before)
    assert not record.has_news([*before, *fates(Status.RUNNING)])
    assert all_sweeps(uri)[0].counts == {"completed": 2, "stopped": 3, "failed": 1}
    # Another driver, whose cells are all made again.
    again = ProgressRecord(ledger, sweep)
    for count in range(3):
        now = fates(*[Status.COMPLETED] * count, *[Status.RUNNING] * (6 - count), loss=0.2)
        assert again.has_news(now)
        again.record(now)
        assert all_sweeps(uri)[0].counts == ({"completed": count} if count else {})
    assert all_sweeps(uri)[0].best == {names.FINAL_TRAIN_LOSS: 0.2}
    steps = [point.step for point in ledger.client.get_metric_history(sweep.run_id, "cells/completed")]
    assert steps == [5, 5, 5, 5]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
def test_what_ends_or_fails_is_news(ledger: Ledger, status: Status) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    record = ProgressRecord(ledger, sweep)
    record.record(fates(Status.RUNNING))
    assert not record.has_news(fates(Status.RUNNING, Status.RUNNING))
    assert record.has_news(fates(Status.RUNNING, status))

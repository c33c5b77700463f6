"""The ledger beside others: experiments that are no sweeps, runs deleted while they are read, columns."""

import itertools
import time
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DataError

from sweep import names
from sweep.errors import LedgerError, SweepExistsError
from sweep.ledger import Ledger
from sweep.ledger.connection import translated
from sweep.ledger.sweeps import PARENT_PATIENCE_SECONDS
from tests.sweep.small_sweep import FakeSpace, make_plan
from tests.sweep.test_ledger import start


def test_somebody_elses_experiment_is_left_alone(ledger: Ledger) -> None:
    experiment = ledger.client.create_experiment("little")
    ledger.client.create_run(experiment)
    with pytest.raises(SweepExistsError, match="not a sweep"):
        ledger.open_sweep(FakeSpace(), make_plan(0.1))


@pytest.mark.parametrize("name", ["Default", "empty"])
def test_somebody_elses_empty_experiment_is_left_alone(ledger: Ledger, name: str) -> None:
    client = ledger.client
    if name == "Default":
        # MLflow's page may have given it this kind.
        client.set_experiment_tag("0", names.TAG_EXPERIMENT_KIND, names.EXPERIMENT_KIND)
    else:
        client.create_experiment(name)
    begun = time.monotonic()
    with pytest.raises(SweepExistsError, match=f"experiment '{name}' that is not a sweep"):
        ledger.open_sweep(FakeSpace(name=name), make_plan(0.1))
    assert time.monotonic() - begun < PARENT_PATIENCE_SECONDS
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None and not client.search_runs([experiment.experiment_id])


def test_a_sweep_of_before_experiments_had_a_kind_goes_on(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    ledger.client.delete_experiment_tag(sweep.experiment_id, names.TAG_EXPERIMENT_KIND)
    assert ledger.open_sweep(FakeSpace(), make_plan(0.1)) == sweep


def test_more_runs_than_a_page_are_found(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.ledger.runs.RUNS_PER_PAGE", 2)
    lrs = [0.1 * index for index in range(1, 13)]
    sweep = ledger.open_sweep(FakeSpace(), make_plan(*lrs))
    made = {start(ledger, sweep, lr).cell_id for lr in lrs}
    assert set(ledger.lookup(made)) == made


def test_a_run_that_is_deleted_between_pages_hides_no_other(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.ledger.runs.RUNS_PER_PAGE", 4)
    times = itertools.count(1000)
    monkeypatch.setattr("sweep.ledger.cells.now_ms", lambda: next(times) // 2)
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    runs = [start(ledger, sweep, 0.1 * number) for number in range(1, 13)]
    search, doomed = ledger.client.search_runs, iter(runs[:3])

    def deleting(*arguments: Any, **named: Any) -> Any:
        page = search(*arguments, **named)
        if run := next(doomed, None):
            ledger.client.delete_run(run.run_id)
        return page

    monkeypatch.setattr(ledger.client, "search_runs", deleting)
    assert {run.run_id for run in runs[3:]} <= {run.run_id for run in ledger.cells_of(sweep).values()}


def test_more_runs_of_one_moment_than_a_page_are_found(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.ledger.runs.RUNS_PER_PAGE", 2)
    monkeypatch.setattr("sweep.ledger.cells.now_ms", lambda: 1000)
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    runs = {start(ledger, sweep, 0.1 * number).run_id for number in range(1, 6)}
    assert {run.run_id for run in ledger.cells_of(sweep).values()} == runs


def test_what_a_database_never_takes_is_not_tried_again() -> None:
    for error, transient in (
        (DataError("insert", {}, Exception("too long")), False),
        (OSError("away"), True),
    ):
        with pytest.raises(LedgerError) as info, translated("writing"):
            raise MlflowException("it failed") from error
        assert info.value.transient == transient

"""A whole run of a small grid by its driver, with packs trained in this process in Ray's place."""

import io
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

from search_spaces import load_space_text
from sweep import names, training
from sweep.claims import Claims, queued_cells
from sweep.driver import RunOptions, run_sweep
from sweep.errors import LedgerError, StorageError
from sweep.grid_table import grid_table
from sweep.lease import Lease
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.places import Places
from sweep.plan import make_plan
from sweep.recorder import Recorder
from sweep.steering_requests import request_stop
from sweep.stopping import AS_ASKED
from sweep.sweep_run import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, SweepRun
from tests.integration.faults.killed_writes import SPACE, HereCluster, packs_here
from tests.integration.faults.records import assert_clean
from tests.sweep.small_sweep import FakeSpace
from trainers.errors import SharpflatError


@pytest.fixture
def places(places: Places, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Where a sweep runs without Ray."""
    monkeypatch.setattr(training, "Cluster", HereCluster)
    monkeypatch.setattr(training, "run_packs", packs_here(SimpleNamespace(note=lambda _: None)))  # type: ignore[arg-type]
    return places


def test_a_request_that_was_repeated_on_its_way_leaves_one_run_a_cell(
    folder: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run, made = MlflowClient.create_run, list[str]()

    def twice(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        # The first answer is lost, and whoever is on the way asks again.
        lost = create_run(client, *arguments, **named)
        if named["tags"][names.TAG_ROLE] != names.ROLE_CELL:
            return lost
        made.append(lost.info.run_id)
        return create_run(client, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    said = io.StringIO()
    code = run_sweep(load_space_text(SPACE), places, RunOptions(name="writes"), Console(file=said))
    assert code == EXIT_DONE, said.getvalue()
    assert len(made) == 2
    assert_clean(folder / "mlflow.db")


def test_a_cell_that_was_stopped_early_is_left_to_the_sweep_that_runs_it(
    ledger: Ledger, places: Places
) -> None:
    space = load_space_text(SPACE)
    plan = make_plan(space)
    table = grid_table(plan.grids, plan.axes, plan.cell_ids)
    sweep = ledger.open_sweep(space, table)
    theirs, ours = plan.cells
    for cell in plan.cells:
        run = ledger.start_cell(sweep, cell_id=cell, cell=plan.cells[cell], axes=plan.axes_of(cell))
        ledger.finish_cell(run.run_id, Status.STOPPED, "fell behind")
    other = ledger.open_sweep(FakeSpace(name="other"), table)
    ledger.write_plan(other, FakeSpace(name="other"), grid_table(["grid"], [{}], [theirs]))
    options = RunOptions(name="writes", continue_stopped=True)

    def standing() -> dict[str, Status]:
        said = io.StringIO()
        assert run_sweep(space, places, options, Console(file=said)) == EXIT_DONE, said.getvalue()
        return {cell: run.status for cell, run in ledger.lookup(list(plan.cells)).items()}

    with Lease.acquire(ledger, other) as lease:
        Claims(ledger, other, lease)
        assert standing() == {theirs: Status.STOPPED, ours: Status.COMPLETED}
    assert standing() == {theirs: Status.COMPLETED, ours: Status.COMPLETED}


def test_a_stop_that_was_asked_while_there_was_no_driver(ledger: Ledger, places: Places) -> None:
    space = load_space_text(SPACE)
    plan = make_plan(space)
    sweep = ledger.open_sweep(space, grid_table(plan.grids, plan.axes, plan.cell_ids))

    def ran(*, restarted: bool) -> tuple[int, str, int]:
        said = io.StringIO()
        code = run_sweep(space, places, RunOptions(name="writes", restarted=restarted), Console(file=said))
        return code, said.getvalue(), len(ledger.lookup(list(plan.cells)))

    assert "It has no driver now" in request_stop(places.tracking_uri, "writes", ())
    code, said, runs = ran(restarted=True)
    assert (code, runs) == (EXIT_INTERRUPTED, 0) and "stopped as `sweep stop` asked" in said
    # It has been met: whoever is started next goes on, also where nobody knows by whom.
    assert not ledger.requests(sweep).stop
    assert ran(restarted=True)[0] == EXIT_DONE
    ledger.request_stop(sweep)
    assert ran(restarted=False)[0] == EXIT_DONE
    assert not ledger.requests(sweep).stop
    with Lease.acquire(ledger, sweep):
        assert "its driver does so" in request_stop(places.tracking_uri, "writes", ())


@pytest.mark.parametrize("signalled", [False, True])
def test_a_stop_that_was_asked_before_a_signal_is_kept_for_the_driver_that_follows(
    signalled: bool, ledger: Ledger, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(run: SweepRun, looked: object) -> dict[str, str]:
        run._ledger.request_stop(run._sweep)
        run._stop.ask(AS_ASKED)
        run._stop.signalled = signalled
        return {}

    monkeypatch.setattr(SweepRun, "_make_missing", stopped)
    space, said = load_space_text(SPACE), Console(file=io.StringIO())
    assert run_sweep(space, places, RunOptions(name="writes"), said) == EXIT_INTERRUPTED
    assert ledger.requests(ledger.find_sweep("writes")).stop == signalled


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("away", ["at the look", "at the end", "while it records"])
def test_who_is_told_to_stop_while_mlflow_is_away_is_to_go_on(
    away: str, asked: bool, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LedgerError("MLflow is away", transient=True)

    def train(run: SweepRun, looked: object) -> dict[str, str]:
        if asked:
            run._stop.ask("by SIGTERM")
        if away == "while it records":
            run._unrecorded = ["a cell"]
        return fail() or {} if away == "at the look" else {}

    monkeypatch.setattr(SweepRun, "_make_missing", train)
    if away == "at the end":
        monkeypatch.setattr(Ledger, "finish_sweep", fail)
    said = io.StringIO()

    def ran() -> int:
        return run_sweep(load_space_text(SPACE), places, RunOptions(name="writes"), Console(file=said))

    if away == "at the look" and not asked:
        with pytest.raises(LedgerError, match="is away"):
            ran()
        return
    assert ran() == (EXIT_INTERRUPTED if asked else EXIT_FAILED)
    assert "resume writes" in " ".join(said.getvalue().split())


@pytest.mark.parametrize(
    ("end", "goes_on"),
    [("not recorded", True), ("left", True), ("by SIGTERM", True), (AS_ASKED, False), ("failed", False)],
)
def test_a_rayjob_says_whether_another_cluster_is_begun_by_itself(
    end: str, goes_on: bool, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run: SweepRun, looked: object) -> dict[str, str]:
        run._unrecorded = list(run._plan.cells) if end == "not recorded" else []
        run._stop.signalled = end == "by SIGTERM"
        if end in ("by SIGTERM", AS_ASKED):
            run._stop.ask(end)
        for cell in run._plan.cells if end == "failed" else ():
            axes = run._plan.axes_of(cell)
            begun = run._ledger.start_cell(run._sweep, cell_id=cell, cell=run._plan.cells[cell], axes=axes)
            run._ledger.finish_cell(begun.run_id, Status.FAILED, "broke")
        return {}

    monkeypatch.setattr(SweepRun, "_make_missing", train)
    monkeypatch.setenv("SWEEP_FAILED_IS_DONE", "1")
    said = io.StringIO()
    options = RunOptions(name="writes", failed_is_done=True)
    run_sweep(load_space_text(SPACE), places, options, Console(file=said, width=1000))
    told = said.getvalue().rpartition("with: ")[2]
    assert told.startswith("another cluster, begun by itself") == goes_on
    assert "deleting the RayJob" in told


@pytest.mark.parametrize("error", [LedgerError("away", transient=True), StorageError("away")])
def test_a_driver_that_waits_for_another_sweep_waits_for_what_is_away_too(
    error: SharpflatError, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looked, theirs = SweepRun._look, list[str](), [{"a cell": "another"}, {}]

    def away_once(run: SweepRun) -> Any:
        looked.append("once")
        if len(looked) == 2:
            raise error
        return look(run)

    monkeypatch.setattr(SweepRun, "_look", away_once)
    monkeypatch.setattr(SweepRun, "_make_missing", lambda run, _: theirs.pop(0))
    monkeypatch.setattr("sweep.waiting.Waiting.wait_for", lambda waiting, others: None)
    monkeypatch.setattr("sweep.waiting.Waiting.pause", lambda waiting: None)
    code = run_sweep(load_space_text(SPACE), places, RunOptions(name="writes"), Console(file=io.StringIO()))
    assert (code, len(looked), theirs) == (EXIT_FAILED, 3, [])


def _run_by_another(ledger: Ledger, cell: str) -> Lease:
    """Return the lease of another sweep that is running a cell."""
    other = ledger.open_sweep(FakeSpace(name="other"), grid_table(["grid"], [{}], [cell]))
    ledger.write_plan(other, FakeSpace(name="other"), grid_table(["grid"], [{}], [cell]))
    lease = Lease.acquire(ledger, other)
    Claims(ledger, other, lease)
    return lease


def test_a_driver_that_waits_for_another_sweep_holds_nothing_itself(
    ledger: Ledger, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.waiting.SECONDS_BETWEEN_LOOKS", 0.05)
    space = load_space_text(SPACE)
    plan = make_plan(space)
    theirs, ours = plan.cells
    lease = _run_by_another(ledger, theirs)
    behind: set[str] = set()

    def give_back() -> None:
        sweep = ledger.find_sweep("writes")
        end = time.monotonic() + 60.0
        while not behind and time.monotonic() < end:
            time.sleep(0.05)
            behind.update(queued_cells(ledger, ledger.parent_run(sweep)))
        lease.release()

    lookup, failed = Ledger.lookup, list[int]()

    def away_after_the_wait(
        known: Ledger, cells: Collection[str], sweep: Sweep | None = None
    ) -> dict[str, CellRun]:
        # While waiting it is asked for those of the other sweep; the first of all comes after that.
        if behind and len(cells) == len(plan.cells) and len(failed) < 3:
            failed.append(len(cells))
            raise LedgerError("MLflow is away for a moment", transient=True)
        return lookup(known, cells, sweep)

    monkeypatch.setattr(Ledger, "lookup", away_after_the_wait)
    ledger.open_sweep(space, grid_table(plan.grids, plan.axes, plan.cell_ids))
    giver = threading.Thread(target=give_back)
    giver.start()
    said = io.StringIO()
    assert run_sweep(space, places, RunOptions(name="writes"), Console(file=said)) == EXIT_DONE
    giver.join()
    assert len(failed) == 3
    assert "waiting for 1 cell that sweep 'other' is running" in said.getvalue()
    # Also what it has tried itself, which would be free if it had failed.
    assert behind == {theirs, ours}
    assert {run.status for run in ledger.lookup(list(plan.cells)).values()} == {Status.COMPLETED}


def test_what_ended_and_is_not_recorded_counts_as_done_everywhere(ledger: Ledger, places: Places) -> None:
    space = load_space_text(SPACE)
    first = next(iter(make_plan(space).cells))
    only = RunOptions(name="writes", only=frozenset({first}))
    assert run_sweep(space, places, only, Console(file=io.StringIO())) == EXIT_DONE
    # As a driver leaves it that is killed between the last commit and its record.
    ledger.finish_cell(ledger.lookup([first])[first].run_id, Status.INTERRUPTED, "killed")
    said = io.StringIO()
    assert run_sweep(space, places, RunOptions(name="writes"), Console(file=said)) == EXIT_DONE
    lines = said.getvalue().splitlines()
    assert lines[0] == "writes: 2 cells, 1 done before (1 of them recorded only now), 1 to do"
    assert [line for line in lines if "of steps" in line][-1] == "writes: 100% of steps; 2 completed"


def test_a_cell_of_another_sweep_that_failed_here_is_not_tried_twice(
    ledger: Ledger, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a search does with cells that another sweep was to run, and that were left to it."""
    space = load_space_text(SPACE)
    plan = make_plan(space)
    theirs, ours = plan.cells
    lease = _run_by_another(ledger, theirs)
    trained: list[list[str]] = []

    def train(known: training.Training, missing: list[str], recorder: Recorder, *_: Any, **__: Any) -> None:
        trained.append(list(missing))
        lease.release()
        recorder.admit({}, [theirs])
        for cell in plan.cells:
            recorder.started(cell)
            recorder.ended(cell, Status.FAILED, "broke")

    monkeypatch.setattr(training.Training, "train", train)
    said = io.StringIO()
    assert run_sweep(space, places, RunOptions(name="writes"), Console(file=said)) == EXIT_FAILED
    assert trained == [[ours]]
    assert "waiting for" not in said.getvalue()

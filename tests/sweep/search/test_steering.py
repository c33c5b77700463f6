"""The steering of a search, with a real ledger and store: what MLflow's absence and other sweeps do to it."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from sweep.claims import Claims
from sweep.errors import LedgerError
from sweep.lease import Lease
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import FINAL_STEPS, FINAL_TRAIN_LOSS, Status
from sweep.plan import Plan
from sweep.search.asking import Asking
from sweep.search.events import Asked, Corrected, Event, Taken, Told
from sweep.search.journal import Journal, read_events
from sweep.search.points import plan_of
from sweep.storage import Storage
from tests.sweep.search.one_search import SPACE, Search, table, wait_until
from tests.sweep.small_sweep import FakeSpace


def test_a_question_outlives_a_moment_without_mlflow(
    ledger: Ledger, searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searching()
    lookup, looks = ledger.lookup, list[int]()

    def away_once(*arguments: Any) -> dict[str, CellRun]:
        looks.append(len(looks))
        if len(looks) == 2:
            raise LedgerError("away for a moment", transient=True)
        return lookup(*arguments)

    monkeypatch.setattr(ledger, "lookup", away_once)
    search.begin(slots=3)
    taken = search.take(3)
    search.stack.close()
    asked = search.asked()
    assert [event.number for event in asked] == [0, 1, 2]
    assert [cell for event in asked for cell in event.cells] == taken
    # The next command finds a plan that goes on with what is stored, and a study that replays.
    stored = plan_of(SPACE, list(asked))
    ledger.open_sweep(SPACE, table(stored), name="search")
    assert Asking(SPACE.search, asked).is_exact


def test_a_cluster_that_has_taken_its_last_node_away_is_asked_for_one(
    searching: Callable[..., Search],
) -> None:
    search = searching()
    search.begin(slots=0)
    for _ in range(2):
        [waiting] = search.take()
        search.train(waiting)
    assert len(search.asked()) >= 2


def test_nothing_is_told_in_front_of_a_question_that_is_kept(
    ledger: Ledger, searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searching()
    lookup, looks, is_back = ledger.lookup, list[int](), threading.Event()

    def away_for_a_while(*arguments: Any) -> dict[str, CellRun]:
        looks.append(len(looks))
        if len(looks) >= 2 and not is_back.is_set():
            raise LedgerError("away", transient=True)
        return lookup(*arguments)

    monkeypatch.setattr(ledger, "lookup", away_for_a_while)
    search.begin(slots=2)
    [failed] = search.take(1)
    search.guide.reported(failed, 0, Status.FAILED)
    before = len(looks)
    assert wait_until(lambda: len(looks) > before + 1)
    is_back.set()
    search.take(1)
    events = read_events(ledger, search.sweep)
    # The order in which the study saw them, which is that of a replay.
    assert [(type(one), one.number) for one in events if isinstance(one, Asked | Told)][:3] == [
        (Asked, 0),
        (Asked, 1),
        (Told, 0),
    ]


def test_a_question_that_could_not_be_looked_up_is_in_no_stored_plan(
    ledger: Ledger, searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searching()
    lookup, looks = ledger.lookup, list[int]()

    def away_from_then_on(*arguments: Any) -> dict[str, CellRun]:
        looks.append(len(looks))
        if len(looks) >= 2:
            raise LedgerError("away", transient=True)
        return lookup(*arguments)

    monkeypatch.setattr(ledger, "lookup", away_from_then_on)
    search.begin(slots=3)
    taken = search.take(1)
    search.stack.close()
    assert list(search.plan.cells) == taken
    assert stored_cells(ledger, search.sweep) == set(taken)


def test_what_the_plan_has_is_written_down_at_the_end(
    ledger: Ledger, searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver stores the plan then, with a question that another sweep may have run."""
    search = searching()

    def away(_: Journal, events: Sequence[Event]) -> None:
        if events:
            raise LedgerError("away", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", away)
        search.begin(slots=1)
        assert wait_until(lambda: bool(search.plan.cells))
        search.guide.close()
        with pytest.raises(LedgerError):
            search.guide.settle()
    assert search.events() == []
    search.guide.settle()
    assert list(plan_of(SPACE, search.events()).cells) == list(search.plan.cells) != []
    search.guide.settle()
    assert len(search.asked()) == 1


class Grid:
    """Another sweep, which wants the first cells that a search asks for, and has begun with the last."""

    def __init__(self, ledger: Ledger, stack: ExitStack, *, questions: int = 1) -> None:
        asking, plan = Asking(SPACE.search, []), Plan("grid")
        self.ledger = ledger
        for _ in range(questions):
            [point] = SPACE.sampled(asking.ask()[1])
            self.cell = plan.add(point)
        sweep = ledger.open_sweep(FakeSpace(name="grid"), table(plan))
        ledger.write_plan(sweep, FakeSpace(name="grid"), table(plan))
        self.lease = stack.enter_context(Lease.acquire(ledger, sweep))
        self.claims = Claims(ledger, sweep, self.lease)
        assert self.claims.others([self.cell]) == {}
        self.run = ledger.start_cell(
            sweep, cell_id=self.cell, cell=point.cell, axes=point.axes, epoch=self.lease.epoch
        )

    def now(self) -> CellRun:
        """Return the cell's run as it is recorded now; there is one."""
        return self.ledger.lookup([self.cell])[self.cell]

    def end(self, status: Status) -> None:
        finals = {FINAL_TRAIN_LOSS: 1.0, FINAL_STEPS: 300.0} if status.ended else None
        self.ledger.finish_cell(self.run.run_id, status, finals=finals, step=300, timestamp_ms=1)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_cell_that_another_sweep_trains_is_waited_for(
    ledger: Ledger, searching: Callable[..., Search], stack: ExitStack
) -> None:
    search = searching()
    grid = Grid(ledger, stack)
    search.begin(slots=2)
    [taken] = search.take(1)
    first, second = search.asked()
    assert first.cells == (grid.cell,) and first.new == 0 and second.cells == (taken,)
    assert grid.now().status is Status.RUNNING
    # What this driver leaves as interrupted when it is stopped; not a run of the grid's, as it was then.
    assert grid.cell not in {run.cell_id for run in search.recorder.open_runs}
    assert grid.cell not in search.recorder.runs
    grid.end(Status.COMPLETED)
    # It has been answered, which makes room for the next.
    [taken] = search.take(1)
    assert search.asked()[2].cells == (taken,)
    told = [event for event in read_events(ledger, search.sweep) if isinstance(event, Told)]
    assert [(one.number, one.result.objectives) for one in told] == [(0, (1.0,))]


def test_a_cell_that_another_sweep_gives_back_is_trained_here(
    ledger: Ledger, searching: Callable[..., Search], stack: ExitStack
) -> None:
    search = searching()
    grid = Grid(ledger, stack)
    search.begin(slots=1)
    assert wait_until(lambda: len(search.asked()) == 1)
    grid.end(Status.INTERRUPTED)
    grid.lease.release()
    assert search.take(1) == [grid.cell]
    # It is charged now: with as much as a cell that was asked for.
    assert search.asked()[0].theirs == (grid.cell,) and search.asked()[0].new == 0
    assert Taken(cell_id=grid.cell, steps=300) in search.events()


def test_an_open_cell_that_another_sweep_runs_by_now_is_waited_for(
    ledger: Ledger, searching: Callable[..., Search], stack: ExitStack
) -> None:
    before = searching()
    before.begin(slots=1)
    [taken] = before.take(1)
    before.stack.close()
    grid = Grid(ledger, stack)
    assert grid.cell == taken
    # Its one slot is taken by that cell until the grid has ended it.
    search = searching()
    assert search.claims.others([taken]) == {taken: "grid"}
    search.begin(slots=1)
    grid.end(Status.COMPLETED)
    assert search.take(1) == [search.asked()[1].cells[0]] != [taken]


def test_a_cell_that_is_waited_for_is_not_forgotten_while_mlflow_is_away(
    ledger: Ledger, searching: Callable[..., Search], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searching()
    grid = Grid(ledger, stack)
    lookup, looks = ledger.lookup, list[int]()

    def away_at_times(*arguments: Any) -> dict[str, CellRun]:
        looks.append(len(looks))
        if len(looks) % 2 == 0:
            raise LedgerError("away for a moment", transient=True)
        return lookup(*arguments)

    monkeypatch.setattr(ledger, "lookup", away_at_times)
    search.begin(slots=1)
    assert wait_until(lambda: len(looks) >= 4)
    grid.end(Status.COMPLETED)
    assert search.take(1) == [search.asked()[1].cells[0]]


def test_a_cell_that_another_sweep_ends_during_the_look_is_not_run_again(
    ledger: Ledger, searching: Callable[..., Search], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searching()
    grid = Grid(ledger, stack)
    others = search.claims.others

    def slowly(cells: Collection[str]) -> dict[str, str]:
        if grid.cell in cells and grid.now().status is Status.RUNNING:
            grid.end(Status.COMPLETED)
            grid.lease.release()
        return others(cells)

    monkeypatch.setattr(search.claims, "others", slowly)
    search.begin(slots=1)
    assert search.take(1) == [search.asked()[1].cells[0]] != [grid.cell]
    assert grid.now().status is Status.COMPLETED


def test_a_search_that_only_waits_holds_nothing_that_others_wait_for(
    ledger: Ledger, searching: Callable[..., Search], stack: ExitStack
) -> None:
    search = searching()
    search.begin(slots=1)
    [failed] = search.take(1)
    grid = Grid(ledger, stack, questions=2)
    assert grid.claims.others([failed, grid.cell]) == {failed: "search"}
    search.recorder.ended(failed, Status.FAILED, "no luck")
    search.guide.reported(failed, 0, Status.FAILED)
    # The search waits for the grid's cell, and the grid may wait for the one that has failed.
    assert wait_until(lambda: grid.claims.others([failed]) == {})
    assert search.asked()[1].cells == (grid.cell,)
    assert search.claims.others([failed, grid.cell]) == {failed: "grid", grid.cell: "grid"}


def stored_cells(ledger: Ledger, sweep: Sweep) -> set[str]:
    """Return the cells in a sweep's `cells.parquet`."""
    stored = ledger.read_cells(sweep)
    assert stored is not None
    return set(stored["cell_id"].to_pylist())


def test_a_cell_that_failed_and_ended_since_is_corrected(
    ledger: Ledger, storage: Storage, searching: Callable[..., Search]
) -> None:
    search = searching()
    search.begin(slots=1)
    (failed,) = search.take()
    search.guide.reported(failed, 0, Status.FAILED)
    search.take()
    search.stack.close()
    assert any(isinstance(event, Told) for event in read_events(ledger, search.sweep))
    run = ledger.start_cell(search.sweep, cell_id=failed, cell=search.plan.cells[failed], axes={})
    finals = {FINAL_TRAIN_LOSS: 0.25, FINAL_STEPS: 300.0}
    ledger.finish_cell(run.run_id, Status.COMPLETED, finals=finals)
    again = searching()
    again.begin(slots=1)

    def corrected() -> list[Corrected]:
        return [event for event in read_events(ledger, again.sweep) if isinstance(event, Corrected)]

    assert wait_until(lambda: bool(corrected()))
    assert [(event.number, event.result.objectives) for event in corrected()] == [(0, (0.25,))]

"""A search that goes on after a kill: as the search that it is, with its grace, decisions and budget."""

from collections.abc import Callable

import pytest

from search_spaces import Space, load_space_text
from sweep.errors import SweepExistsError
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import FINAL_STEPS, FINAL_TRAIN_LOSS, Status
from sweep.reopening import Reopening
from sweep.search.events import Asked, Decided, Event, Known, Released, Result, Told, decided_to_stop
from sweep.search.points import recorded_events
from sweep.storage import Storage
from tests.sweep.search.one_search import SPACE, TEXT, Search, table, wait_until
from tests.sweep.small_sweep import FakeSpace
from trainers.canonical import cell_id

STOPPED = load_space_text(f"{TEXT}stopper: {{kind: asha}}\n").for_search({"cells": 2})


def test_other_axes_are_refused_before_the_journal_is_read_by_them(
    ledger: Ledger, searching: Callable[..., Search]
) -> None:
    search = searching()
    search.begin(slots=1)
    search.take()
    search.stack.close()
    events = search.events()
    other = load_space_text(f"{TEXT}    k: {{low: 2, high: 20}}\n").for_search({"cells": 6})
    with pytest.raises(SweepExistsError, match="other axes"):
        recorded_events(other, ledger, "search")
    grid = load_space_text(TEXT.replace("search:", "axes: {lr: [0.1]}\nsearch:"))
    with pytest.raises(SweepExistsError, match="is a search, not a grid"):
        recorded_events(grid, ledger, "search")
    assert recorded_events(other, ledger, "another") == []
    assert recorded_events(SPACE.for_search({"cells": 60}), ledger, "search") == events != []


def reopening(search: Search) -> Reopening:
    return Reopening(search.sweep, search.ledger, search.storage, search.journal, search.claims, search.guide)


@pytest.mark.parametrize("are_named", [False, True])
def test_a_cell_that_is_let_go_on_is_not_stopped_by_what_was_decided_before(
    are_named: bool, storage: Storage, searching: Callable[..., Search]
) -> None:
    before = searching(space=STOPPED)
    before.begin(slots=1)
    (cell,) = before.take()
    decided = Decided(cell_id=cell, step=30, value=9.0, stops=True, reason="fell behind")
    before.journal.append([decided])
    before.stack.close()
    # Killed before the decision had an effect: whoever goes on sees to that,
    again = searching(space=STOPPED)
    again.begin([cell], slots=1)
    again.stack.close()
    assert storage.stops(again.sweep.run_id).all() == {cell}
    # but not where the cell is to go on.
    again = searching(space=STOPPED)
    assert reopening(again).let_go_on(list(again.plan.cells), are_named=are_named) == 1
    again.begin([cell], slots=1)
    again.stack.close()
    assert storage.stops(again.sweep.run_id).all() == set()
    assert again.events()[-1] == Released(cell_id=cell)
    assert decided_to_stop(again.events()) == set()
    assert reopening(searching(space=STOPPED)).let_go_on([cell], are_named=are_named) == 0


def test_a_cell_that_has_ended_in_spite_of_a_decision_is_left_alone(searching: Callable[..., Search]) -> None:
    search = searching(space=STOPPED)
    search.begin(slots=1)
    (cell,) = search.take()
    search.journal.append([Decided(cell_id=cell, step=30, value=9.0, stops=True)])
    search.train(cell)
    search.guide.close()
    assert reopening(search).let_go_on([cell], are_named=True) == 0
    assert Released(cell_id=cell) not in search.events()


def test_steps_come_back_where_another_sweep_had_begun_the_run(
    ledger: Ledger, storage: Storage, searching: Callable[..., Search]
) -> None:
    budget = SPACE.for_search({"steps": 600})
    search = searching(space=budget)
    search.begin(slots=1)
    (cell,) = search.take()
    search.stack.close()
    asked = search.asked()
    assert [(one.new, one.theirs) for one in asked] == [(1, ())]
    # As where it took up a run that another sweep had left, and is killed once the cell has ended.
    other = ledger.open_sweep(FakeSpace(name="grid"), table(search.plan))
    with Lease.acquire(ledger, other):
        run = ledger.start_cell(other, cell_id=cell, cell=search.plan.cells[cell], axes={"lr": 0.1})
    search.commit(cell, Status.DIVERGED, steps=10)
    finals = {FINAL_TRAIN_LOSS: 1.0, FINAL_STEPS: 10.0}
    ledger.finish_cell(run.run_id, Status.DIVERGED, finals=finals, step=10, timestamp_ms=1)
    again = searching(space=budget)

    def told() -> list[Event]:
        return [event for event in again.events() if isinstance(event, Told)]

    again.begin(slots=1)
    assert wait_until(lambda: bool(told()))
    assert [event.spared for event in told() if isinstance(event, Told)] == [290]


def lengths(exclude: str = "[]") -> Space:
    text = f"""
name: little
base: {{model: mlp, dataset: mnist-5k, phases: [{{lr: 0.1, until: 50}}]}}
stopper: {{kind: asha, factor: 2}}
search:
  cells: 4
  exclude: {exclude}
  axes:
    lr: {{low: 0.01, high: 1}}
    length: {{path: phases.-1.until, values: [100, 5000, 9000, 300]}}
"""
    return load_space_text(text)


@pytest.mark.parametrize(
    ("exclude", "first"),
    [("[]", 900), ("[{length: 9000}]", 500), ("[{length: 300, lr: {high: 1}}, {length: 100}]", 900)],
)
def test_the_grace_of_a_search_is_a_tenth_of_the_longest_cell_that_it_may_ask_for(
    exclude: str, first: int, searching: Callable[..., Search]
) -> None:
    search = searching(space=lengths(exclude))
    cell = next(point.cell for point in search.space.varied() if point.cell.num_steps == 5000)
    assert search.guide.pauses({"cell": cell})[0] == 1 + first


def test_a_search_keeps_the_grace_with_which_it_has_compared_cells(searching: Callable[..., Search]) -> None:
    search = searching(space=lengths())
    # By an earlier version, which took another cell for the longest; 0 is no rung.
    search.journal.append([Decided(cell_id="a", step=step, value=1.0, stops=False) for step in (0, 60, 30)])
    search.stack.close()
    again = searching(space=lengths())
    cell = next(point.cell for point in again.space.varied() if point.cell.num_steps == 100)
    assert again.guide.pauses({"cell": cell}) == (31, 61)


SWITCHED = load_space_text(
    """
name: little
base: {model: mlp, dataset: mnist-5k, phases: [{lr: 0.1, until: 50}, {lr: 0.2, until: 300}]}
search: {cells: 2, sampler: random, axes: {switch: {path: phases.0.until, values: [100, 5000]}}}
""",
    recorded=True,
)


def test_a_search_goes_on_though_a_configuration_of_it_is_no_valid_cell_any_more(
    searching: Callable[..., Search],
) -> None:
    """An earlier version took a last phase that ends before another one."""
    before = searching(space=SWITCHED)
    best = Result(state="complete", objectives=(1.0,), spreads=(0.0,))
    switches = [{"switch": 5000}, {"switch": 100}]
    [point] = SWITCHED.sampled(switches[1])
    addresses = ["0" * 16, cell_id(point.cell)]
    before.journal.append([Known(configuration=switches[0], result=best)])
    before.journal.append(
        [
            Asked(
                number=number, configuration=switches[number], cells=(addresses[number],), new=1, steps=5000
            )
            for number in range(2)
        ]
    )
    before.stack.close()
    again = searching(space=SWITCHED)
    assert list(again.plan.cells) == addresses[1:]
    assert "search: 1 of these are no valid cells any more, and are not run" in again.said
    again.begin(addresses[1:], slots=1)
    again.train(addresses[1])

    def told() -> dict[int, str]:
        return {event.number: event.result.state for event in again.events() if isinstance(event, Told)}

    assert wait_until(lambda: told() == {0: "excluded", 1: "complete"})
    assert again.guide.take(0.1) is None

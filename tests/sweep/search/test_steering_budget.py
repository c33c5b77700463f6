"""What a search asks for, when it ends, and what a command does that is told not to ask."""

from collections.abc import Callable, Mapping

import pytest

from search_spaces import GridPoint, Space, load_space_text
from search_spaces.reports import AxisValue
from sweep.ledger import Ledger
from sweep.names import FINAL_STEPS, FINAL_TRAIN_LOSS, Status
from sweep.plan import make_plan
from sweep.search.account import account_of
from sweep.search.events import Asked, Corrected, Known, Told, Withdrawn
from sweep.search.points import cells_to_make
from sweep.storage import Storage
from tests.sweep.search.one_search import TEXT, Search, table, wait_until

LISTED = TEXT.replace("lr: {low: 0.01, high: 60, log: true}", "lr: [0.1, 0.2, 0.3]")


def space(text: str = TEXT, **budget: object) -> Space:
    return load_space_text(text).for_search(budget)


def told(search: Search) -> dict[int, float]:
    """The first objective of every answer so far, by question."""
    return {
        event.number: event.result.objectives[0]
        for event in search.events()
        if isinstance(event, Told | Corrected) and event.result.objectives
    }


def record_grid(ledger: Ledger) -> None:
    """Record a grid over the rates of `LISTED`, its losses being its rates."""
    grid = load_space_text(
        LISTED.replace("search:\n  axes:\n    lr", "axes:\n  lr").replace("little", "grid")
    )
    plan = make_plan(grid)
    sweep = ledger.open_sweep(grid, table(plan))
    ledger.write_plan(sweep, grid, table(plan))
    for cell in plan.cells:
        run = ledger.start_cell(sweep, cell_id=cell, cell=plan.cells[cell], axes=plan.axes_of(cell))
        loss = plan.cells[cell].phases[0].lr
        finals = {FINAL_TRAIN_LOSS: loss, FINAL_STEPS: 300.0}
        ledger.finish_cell(run.run_id, Status.COMPLETED, finals=finals, step=300, timestamp_ms=1)


def test_a_question_for_what_is_known_is_answered_at_once(
    ledger: Ledger, searching: Callable[..., Search]
) -> None:
    record_grid(ledger)
    search = searching(space=space(LISTED, cells=4))
    assert sum(isinstance(event, Known) for event in search.events()) == 3
    search.begin(slots=1)
    # Whatever it asks was run before, so that it ends, having learnt of each what it came to.
    assert wait_until(lambda: search.guide.take(0.1) is None)
    search.stack.close()
    asked = search.asked()
    assert asked and not any(one.new for one in asked)
    assert told(search) == {one.number: one.configuration["lr"] for one in asked}


def test_what_was_known_counts_no_more_once_its_cells_are_other_ones(
    ledger: Ledger, searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_grid(ledger)
    before = searching(space=space(LISTED, cells=2))
    assert len(before.plan.cells) == 3 and before.guide.summary()
    # Shown, and trained by nobody, whatever has become of its runs.
    assert cells_to_make(before.space, before.plan) == []
    before.stack.close()
    monkeypatch.setattr("trainers.canonical.NUMERICS_VERSION", 1000)
    search = searching(space=space(LISTED, cells=2))
    assert sum("of 3 configurations known beforehand" in line for line in search.said) == 1
    assert not search.plan.cells and not search.guide.summary()
    assert account_of(search.space.search, search.events()).trials == ()
    search.begin(slots=1)
    # What the sampler asks for is trained and counts, as if nobody had run it.
    for _ in range(2):
        (cell,) = search.take()
        assert cell in cells_to_make(search.space, search.plan)
        search.train(cell, loss=0.5)
    assert wait_until(lambda: search.guide.take(0.1) is None)
    search.stack.close()
    assert sum(one.new for one in search.asked()) == 2
    assert set(told(search).values()) == {0.5}
    again = searching(space=space(LISTED, cells=2))
    assert not any("known beforehand" in line or "answers otherwise" in line for line in again.said)
    assert sum(isinstance(event, Withdrawn) for event in again.events()) == 3


def test_configurations_are_expanded_once_for_a_plan(
    searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = searching(space=space(cells=3))
    before.begin(slots=3)
    before.take(3)
    before.stack.close()
    sampled, calls = Space.sampled, list[object]()

    def counted(space: Space, values: Mapping[str, AxisValue]) -> list[GridPoint]:
        calls.append(values)
        return sampled(space, values)

    monkeypatch.setattr(Space, "sampled", counted)
    again = searching(space=space(cells=3))
    # It makes two plans, before it has the lease and then.
    assert len(calls) == 2 * 3 and len(again.plan.cells) == 3


def test_a_search_that_is_over_expects_nothing_unless_an_answer_is_open(
    searching: Callable[..., Search],
) -> None:
    before = searching(space=space(cells=1))
    assert before.guide.expects_more
    before.begin(slots=1)
    (cell,) = before.take()
    before.stack.close()
    # Asked for, trained, and killed before the sampler was told.
    before.commit(cell)
    again = searching(space=space(cells=1))
    assert again.guide.expects_more and not again.guide.is_unfinished
    again.begin(slots=1)
    assert wait_until(lambda: again.guide.take(0.1) is None)
    again.stack.close()
    assert told(again) == {0: 1.0}
    over = searching(space=space(cells=1))
    assert not over.guide.expects_more
    over.stack.close()
    assert searching(space=space(cells=2)).guide.expects_more


def test_a_question_that_an_earlier_command_answered_is_answered_at_once(
    searching: Callable[..., Search],
) -> None:
    first = searching(space=space(LISTED, cells=3))
    first.begin(slots=1)
    for _ in range(3):
        (cell,) = first.take()
        first.train(cell, loss=0.5)
    assert wait_until(lambda: first.guide.take(0.1) is None)
    first.stack.close()
    before = len(first.asked())
    again = searching(space=space(LISTED, cells=4))
    again.begin(slots=1)
    assert wait_until(lambda: again.guide.take(0.1) is None)
    again.stack.close()
    assert len(again.asked()) > before
    assert told(again).keys() == {one.number for one in again.asked()}


def test_steps_that_come_back_are_asked_for_before_the_search_is_over(
    searching: Callable[..., Search],
) -> None:
    search = searching(space=space(steps=600))
    search.begin(slots=2)
    one, other = search.take(2)
    assert wait_until(lambda: len(search.asked()) == 2)
    # The budget is spent, unless one of these ends early: nobody may go home yet.
    assert search.guide.take(0.2) == []
    search.train(one, Status.DIVERGED, steps=10)
    (third,) = search.take()
    search.train(other)
    search.train(third)
    assert wait_until(lambda: search.guide.take(0.1) is None)
    search.stack.close()
    assert {cell for asked in search.asked() for cell in asked.cells} == {one, other, third}
    assert len(told(search)) == 3


@pytest.mark.parametrize("open_is_meant", [False, True])
def test_a_command_for_single_cells_asks_nothing_and_takes_up_no_other(
    open_is_meant: bool, searching: Callable[..., Search]
) -> None:
    before = searching()
    before.begin(slots=2)
    failed, left = before.take(2)
    before.guide.reported(failed, 0, Status.FAILED)
    assert wait_until(lambda: len(before.asked()) == 3)
    before.stack.close()
    asked = before.asked()
    search = searching(asks=False)
    assert not search.guide.expects_more
    assert search.guide.is_unfinished
    meant = left if open_is_meant else failed
    search.begin([meant], slots=2)
    assert search.guide.take(0.1) is None
    search.train(meant, loss=0.25)
    search.guide.close()
    assert search.asked() == asked
    # What it came to is told all the same, or corrected.
    assert told(search) == {1 if open_is_meant else 0: 0.25}


def test_cells_of_a_turn_share_packs_and_no_more_are_asked_than_packs_are_free(
    searching: Callable[..., Search],
) -> None:
    search = searching(space=space(cells=12))
    search.begin(slots=2, lanes=3)
    first, second = search.take_packs(2)
    assert [len(first), len(second)] == [3, 3] and len(search.asked()) == 6
    # A lane that is free in a pack that goes on is no place for a cell.
    search.train(first[0])
    assert search.guide.take(0.2) == []
    for cell in first[1:]:
        search.train(cell)
    assert wait_until(lambda: len(search.asked()) == 9)
    assert [len(pack) for pack in search.take_packs()] == [3]


def test_what_was_stopped_early_and_went_on_counts(
    storage: Storage, searching: Callable[..., Search]
) -> None:
    search = searching()
    search.begin(slots=1)
    (cell,) = search.take()
    search.train(cell, Status.STOPPED, steps=100, loss=3.0)
    search.take()
    search.stack.close()
    assert [event.result.state for event in search.events() if isinstance(event, Told)] == ["pruned"]
    again = searching()
    again.begin([cell], slots=1)
    again.train(cell, loss=0.5)
    assert wait_until(lambda: any(isinstance(event, Corrected) for event in again.events()))
    again.stack.close()
    assert told(again)[0] == 0.5
    assert "best: final/train_loss 0.5" in " ".join(again.guide.summary())


def test_a_search_whose_cells_have_other_addresses_now_runs_them_and_corrects_its_answers(
    searching: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = searching(space=space(cells=2))
    before.begin(slots=2)
    answered, left = before.take(2)
    before.train(answered, loss=3.0)
    assert wait_until(lambda: told(before) == {0: 3.0})
    before.stack.close()
    monkeypatch.setattr("trainers.canonical.NUMERICS_VERSION", 1000)
    search = searching(space=space(cells=2))
    assert any("other ones by now" in line for line in search.said)
    first, second = search.plan.cells
    assert not {first, second} & {answered, left}
    search.begin([first], [second], slots=2)
    search.train(first, loss=0.5)
    search.train(second, loss=0.75)
    assert wait_until(lambda: told(search) == {0: 0.5, 1: 0.75})
    assert wait_until(lambda: search.guide.take(0.1) is None)
    search.stack.close()
    assert [type(event) for event in search.events()].count(Asked) == 2
    # The next command finds all of it, and corrects nothing again.
    events = search.events()
    again = searching(space=space(cells=2))
    again.begin(slots=2)
    assert wait_until(lambda: again.guide.take(0.1) is None)
    again.stack.close()
    assert again.events() == events
    assert not any("answers otherwise" in line for line in again.said)

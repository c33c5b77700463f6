"""Which cells come first, and whom they bring along."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from search_spaces.space import load_space_text
from sweep.forks import Sharing
from sweep.meter import Meter
from sweep.pack_events import PackEvents
from sweep.plan import Plan, make_plan
from sweep.priority import in_order, in_wished_order
from sweep.schedule import _Forward, _Queue
from trainers.errors import ConfigError

SPACE = """
name: little
base:
  model: mlp
  dataset: mnist-5k
  phases: [{lr: 0.1, until: 40}, {lr: 0.1, until: 100}]
axes:
  alpha_dom: [1, 2, .inf]
  seed: [0, 1]
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_space_text(SPACE))


def axes(plan: Plan, cells: list[str]) -> list[tuple[object, ...]]:
    return [tuple(plan.axes_of(cell).values()) for cell in cells]


def test_matches_come_first_and_the_rest_keeps_its_order(plan: Plan) -> None:
    cells = list(plan.cells)
    assert in_order(plan, cells, []) == cells
    ordered = axes(plan, in_order(plan, cells, ["seed=1"]))
    assert [seed for _, seed in ordered] == [1, 1, 1, 0, 0, 0]
    assert [alpha for alpha, _ in ordered[:3]] == [1, 2, float("inf")]


def test_whoever_a_cell_waits_for_comes_with_it(plan: Plan) -> None:
    # All of a seed share their first 40 steps, which the first of them trains.
    ordered = axes(plan, in_order(plan, list(plan.cells), ["alpha_dom=inf", "seed=1"]))
    assert set(ordered[:2]) == {(1, 1), (float("inf"), 1)}
    assert ordered.index((1, 0)) < ordered.index((2, 0))
    assert ordered.index((float("inf"), 0)) < ordered.index((2, 0))


def test_a_cell_by_its_address(plan: Plan) -> None:
    cells = list(plan.cells)
    assert in_order(plan, cells, [cells[3][:8]])[:2] == [cells[1], cells[3]]


@pytest.mark.parametrize(
    ("wish", "says"), [("lr=1", "lr"), ("seed=7", "allowed: 0, 1"), ("zzzz", "axis=value"), ("sed=1", "seed")]
)
def test_a_wish_that_matches_nothing_is_refused(plan: Plan, wish: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        in_order(plan, list(plan.cells), [wish])


def test_the_order_changes_for_packs_that_wait(plan: Plan) -> None:
    cells = list(plan.cells)
    said: list[str] = []
    alone = {cell: Sharing() for cell in cells}
    events = PackEvents(plan.cells, [[cell] for cell in cells], alone, Mock(), Mock(), Mock(), said.append)
    queue = _Queue(range(len(cells)), events)

    def begins() -> str:
        found = queue.suggest(f"trial {len(begun)}")
        assert found is not None
        return cells[found["pack"]]

    begun: list[str] = []
    begun.append(begins())
    assert begun == cells[:1]
    order = in_wished_order(plan, cells, ["alpha_dom=inf"], said.append)
    assert not events.is_reordered()
    events.prefer(order)
    assert events.is_reordered(), "so that what waits for a worker is taken back"
    queue.put_in_order()
    assert not events.is_reordered()
    begun.append(begins())
    begun.append(begins())
    assert begun[1:] == [cell for cell in order if cell != cells[0]][:2] != cells[1:3]
    assert in_wished_order(plan, cells, ["alpha_don=2"], said.append) == cells
    assert len(said) == 1 and "Did you mean 'alpha_dom'" in said[0]


def test_what_trials_hold_costs(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("sweep.pack_events.time.monotonic", lambda: clock[0])
    cells = list(plan.cells)[:2]
    sharing = {cell: Sharing() for cell in cells}
    events = PackEvents(plan.cells, [[cell] for cell in cells], sharing, Mock(), Mock(), Mock(), print)
    meter = Meter(devices=2.0, price=3.0, limit=6.0)
    for pack in (0, 1):
        events.started(pack)
    clock[0] = 1000.0
    commit = {
        "cell_id": cells[0],
        "status": "completed",
        "step": 100,
        "attempt": 0,
        "num_steps": 100,
        "left": [],
    }
    events.reported(0, [commit], [])
    events.started(1)
    clock[0] = 2500.0
    assert events.held_seconds() == 3500.0 and not meter.is_over(3500.0)
    assert events.failed(1, "broke", "") == []
    clock[0] = 9000.0
    assert events.held_seconds() == 3500.0
    assert meter.is_over(3600.0) and not Meter(devices=2.0).is_over(1e9)
    assert meter.text(3600.0) == "trials held devices for 2 device-hours: 6 at 3"


def test_a_trial_that_waits_for_another_node_costs_nothing(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("sweep.pack_events.time.monotonic", lambda: clock[0])
    cells = list(plan.cells)[:2]
    sharing = {cell: Sharing() for cell in cells}
    events = PackEvents(plan.cells, [[cell] for cell in cells], sharing, Mock(), Mock(), Mock(), print)
    forward = _Forward(events, Mock())
    trials: list[Any] = [SimpleNamespace(trial_id=str(pack), config={"pack": pack}) for pack in range(2)]
    for trial in trials:
        forward.on_trial_start(0, trials, trial)
    events.observed(0, "lost", {})
    clock[0] = 10.0
    # Its node is gone.
    forward.on_trial_recover(1, trials, trials[0])
    clock[0] = 1000.0
    assert events.held_seconds() == 1010.0
    forward.on_trial_start(2, trials, trials[0])
    clock[0] = 1005.0
    assert events.held_seconds() == 1020.0

"""Which cells come first, and whom they bring along."""

import pytest

from search_spaces.space import load_space_text
from sweep.plan import Plan, make_plan
from sweep.priority import in_order
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

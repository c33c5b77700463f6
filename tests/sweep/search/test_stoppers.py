"""Stopping rules against decisions worked out by hand, and against Ray Tune's successive halving."""

import math
import random
from typing import Any

import pytest
from ray.tune.schedulers.async_hyperband import _Bracket

from search_spaces import load_space_text
from search_spaces.search import StopperSpec
from sweep.plan import make_plan
from sweep.search.guiding import default_grace
from sweep.search.stoppers import Stopper, value_at


def come(stopper: Stopper, cell: str, rung: int, value: float) -> bool:
    decided = stopper.decide(cell, rung, value)
    stopper.learn(decided)
    return decided.stops


def test_rungs() -> None:
    asha = Stopper(StopperSpec(kind="asha", grace=10, factor=3), grace=1)
    assert asha.rungs(300) == [10, 30, 90, 270]
    assert asha.rungs(270) == [10, 30, 90]
    assert Stopper(StopperSpec(kind="asha"), grace=30).rungs(300) == [30, 90, 270]
    assert Stopper(StopperSpec(kind="median", grace=50, every=100), grace=1).rungs(351) == [
        50,
        150,
        250,
        350,
    ]


def test_asha_keeps_the_best_share() -> None:
    stopper = Stopper(StopperSpec(kind="asha", grace=10, factor=2), grace=1)
    stops = [come(stopper, str(i), 10, value) for i, value in enumerate([5.0, 6.0, 4.0, 4.5, 4.2, math.nan])]
    # The first goes on; then: 2nd of 2, 1st of 3, 2nd of 4 (2 places), 2nd of 5 (2 places), last.
    assert stops == [False, True, False, False, False, True]


def test_asha_stops_all_that_ray_stops_far_from_the_cutoff() -> None:
    draw = random.Random(3)
    ray: Any = _Bracket(10, 100, 3, 0)
    ours = Stopper(StopperSpec(kind="asha", grace=10, factor=3), grace=1)
    differ = 0
    for index in range(300):
        value = draw.random()

        class Trial:
            trial_id = str(index)

        theirs = ray.on_result(Trial(), 10, -value) == "STOP"
        differ += theirs != come(ours, str(index), 10, value)
    # Ray interpolates between the two ranks at the cutoff; one rank apart is all that is left.
    assert differ <= 6


def test_larger_is_better_for_accuracy() -> None:
    spec = StopperSpec(kind="asha", grace=10, factor=2, metric="test/accuracy")
    stopper = Stopper(spec, grace=1)
    assert [come(stopper, str(i), 10, v) for i, v in enumerate([0.5, 0.4, 0.6])] == [False, True, False]


def test_median_compares_the_best_so_far_with_the_means_of_others() -> None:
    stopper = Stopper(StopperSpec(kind="median", grace=10, every=10, least=3), grace=1)
    for cell, values in {"a": (4, 2), "b": (6, 4), "c": (8, 6)}.items():
        for rung, value in zip((10, 20), values, strict=True):
            assert not come(stopper, cell, rung, value)
    # Means up to step 20: 3, 5, 7; the median is 5.
    assert not come(stopper, "d", 10, 4.9)
    assert not come(stopper, "d", 20, 1.0)
    # Values 4, 6, 8, 4.9 at step 10, then means 3, 5, 7, 2.95 up to step 20.
    assert not come(stopper, "e", 10, 5.4)
    assert come(stopper, "e", 20, 5.2)


def test_decisions_are_learnt_and_not_taken_again() -> None:
    spec = StopperSpec(kind="asha", grace=10, factor=2)
    first = Stopper(spec, grace=1)
    decisions = []
    for index, value in enumerate([5.0, 6.0, 4.0]):
        decisions.append(first.decide(str(index), 10, value))
        first.learn(decisions[-1])
    resumed = Stopper(spec, grace=1)
    for decided in decisions:
        resumed.learn(decided)
    assert resumed.decide("new", 10, 4.5) == first.decide("new", 10, 4.5)
    assert resumed.decide("late", 10, 9.0).stops
    resumed.release("late")
    assert not resumed.decide("late", 10, 9.0).stops
    assert not resumed.decide("done", 10, 9.0, goes_on=False).stops


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_seeds_of_a_configuration_are_not_its_rivals(kind: str) -> None:
    spec = StopperSpec.model_validate({"kind": kind, "grace": 10, "factor": 2, "least": 1})
    stopper = Stopper(spec, grace=1, group_of=lambda cell: cell[-1])
    # Seed 1 is harder for all; among its own the second configuration is the best.
    assert not come(stopper, "a0", 10, 1.0) and not come(stopper, "a1", 10, 5.0)
    assert not come(stopper, "b1", 10, 4.0)
    assert come(stopper, "b0", 10, 2.0)


def test_a_stopped_seed_takes_the_others_along_and_counts_for_nobody() -> None:
    stopper = Stopper(StopperSpec(kind="median", grace=10, every=10, least=1), grace=1)
    assert not come(stopper, "a", 10, 1.0)
    decided = stopper.decide("b", 10, 2.0)
    along = stopper.along_with(decided, "c")
    assert along is not None and (along.stops, along.step) == (True, 0) and "b: median" in along.reason
    stopper.learn(along)
    # Its own best so far is the 0.5 that it has, not the 2.0 for which the other was stopped.
    assert not stopper.decide("c", 10, 0.5).stops
    assert stopper.decide("d", 10, 1.5).reason.startswith("median: best 1.5, median 1 of 1")
    stopper.release("c")
    assert stopper.along_with(decided, "c") is None


@pytest.mark.parametrize(("rung", "expected"), [(0, 9.0), (19, 9.0), (20, 8.0), (35, 8.0), (99, 7.0)])
def test_the_last_value_up_to_a_rung_counts(rung: int, expected: float) -> None:
    assert value_at(rung, [0, 10, 20, 30, 40], [9.0, None, 8.0, math.nan, 7.0]) == expected


def test_nothing_recorded_yet() -> None:
    assert value_at(5, [6], [1.0]) is None


def test_the_grace_is_a_tenth_of_the_longest_cell_and_lies_behind_the_start() -> None:
    text = """
name: little
base: {model: mlp, dataset: mnist-5k, phases: [{lr: 0.1, until: 100}]}
axes: {length: {path: phases.-1.until, values: [100, 5000, 300]}}
"""
    grid = load_space_text(text)
    assert default_grace(grid, make_plan(grid)) == 500
    ranged = text.replace("axes:", "search:\n  cells: 3\n  axes:").replace(
        "values: [100, 5000, 300]", "low: 100, high: 2000"
    )
    search = load_space_text(ranged)
    assert search.is_search and default_grace(search, make_plan(search)) == 200
    # Cells are evaluated at 0 and then every 700 steps: at 500 they would be compared by how they begin.
    rarely = load_space_text(text.replace("mnist-5k,", "mnist-5k, evaluate_every: 700,"))
    assert default_grace(rarely, make_plan(rarely)) == 700

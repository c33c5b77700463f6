"""The sampler's state follows from the journal: equal questions and answers, equal next question."""

import json
import math

import pytest
from optuna.trial import TrialState

from search_spaces.search import SAMPLERS, SearchSpec
from search_spaces.space import load_space_text
from sweep.names import Status
from sweep.plan import Plan
from sweep.search.asking import Asking, Ended
from sweep.search.events import Asked, Event, Known, Result, Told, event_from_json, event_to_json
from sweep.search.foreseeing import foreseen_plan, search_text
from sweep.search.study import DIVERGED, Study

LOSS, ACCURACY = "final/train_loss", "final/test_accuracy"
AXES = {
    "lr": {"low": 0.001, "high": 1, "log": True},
    "k": {"low": 2, "high": 20},
    "alpha_dom": [math.inf, 1, 2],
    "init": ["pytorch", "xavier"],
}


def make_search(sampler: str, **changes: object) -> SearchSpec:
    objectives = (LOSS, ACCURACY) if sampler == "nsga2" else (LOSS,)
    fields = {"sampler": sampler, "axes": AXES, "objectives": objectives, "startup": 4, **changes}
    return SearchSpec.model_validate(fields)


def ended(configuration: dict[str, object], number: int) -> Ended:
    """A smooth objective, with failures, divergence and early stops among it."""
    lr, k = configuration["lr"], configuration["k"]
    assert isinstance(lr, float) and isinstance(k, int)
    loss = (math.log10(lr) + 1.5) ** 2 + abs(k - 7) / 10
    status = Status.COMPLETED
    if number % 7 == 3:
        status = Status.FAILED
    elif number % 5 == 4:
        status = Status.STOPPED
    elif lr > 0.5:
        status, loss = Status.DIVERGED, loss if number % 2 else math.nan
    return Ended(status=status, metrics={LOSS: loss, ACCURACY: 1 / (1 + loss)}, steps=10, num_steps=20)


def play(search: SearchSpec, num: int, events: list[Event]) -> list[Event]:
    """Go on from a journal up to so many questions; returns the whole journal."""
    asking = Asking(search, events)
    assert asking.is_exact
    events = list(events)
    for event in [event for event in events if isinstance(event, Asked)]:
        for cell in event.cells:
            asking.ended(cell, ended(event.configuration, event.number))
    while True:
        events += asking.tell()
        if sum(isinstance(event, Asked) for event in events) == num:
            return events
        number, configuration = asking.ask()
        cells = (f"cell-{number}",) if search.seeds_of(configuration) else ()
        asked = Asked(
            number=number, configuration=configuration, cells=cells, new=len(cells), steps=20 * len(cells)
        )
        asking.put(asked)
        for cell in cells:
            asking.ended(cell, ended(configuration, number))
        events.append(asked)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_journal_cut_anywhere_goes_on_as_if_nothing_had_happened(sampler: str) -> None:
    search = make_search(sampler)
    whole = play(search, 24, [])
    for cut in (1, 7, 16, 31):
        # Through JSON, as after a kill.
        lines = [json.dumps(event_to_json(event)) for event in whole[:cut]]
        assert play(search, 24, [event_from_json(json.loads(line)) for line in lines]) == whole
    asked = [event.configuration for event in whole if isinstance(event, Asked)]
    assert len({json.dumps(one) for one in asked}) > 12
    other = play(make_search(sampler, sampler_seed=1), 24, [])
    assert asked != [event.configuration for event in other if isinstance(event, Asked)]


EXCLUDED = [{"k": {"low": 5, "high": 11}}, {"init": "xavier", "alpha_dom": [1, math.inf]}]
"""The best k is 7."""


@pytest.mark.parametrize("sampler, objectives", [*((name, 1) for name in SAMPLERS), ("tpe", 2)])
def test_what_is_excluded_is_never_run_and_the_sampler_goes_on(sampler: str, objectives: int) -> None:
    several = {"objectives": (LOSS, ACCURACY)} if objectives == 2 else {}
    search = make_search(sampler, exclude=EXCLUDED, **several)
    events = play(search, 60, [])
    asked = [event for event in events if isinstance(event, Asked)]
    out = [event for event in asked if not event.cells]
    assert 0 < len(out) < 45
    for event in asked:
        at = event.configuration
        assert (not event.cells) == (5 <= at["k"] <= 11 or (at["init"] == "xavier" and at["alpha_dom"] != 2))
    told = {event.number: event.result.state for event in events if isinstance(event, Told)}
    assert {told[event.number] for event in out} == {"excluded"}
    assert "excluded" not in {told[event.number] for event in asked if event.cells}
    assert play(search, 60, events[:50]) == events
    if sampler == "tpe" and objectives == 1:
        late = sum(event.number >= 30 for event in out)
        assert late < len(out) - late, "it learns to keep away"


def test_answers_that_do_not_repeat_are_adopted() -> None:
    search = make_search("random")
    whole = play(search, 3, [])
    events = [
        Asked(**{**_fields(event), "configuration": {**event.configuration, "lr": 0.5}})
        if isinstance(event, Asked)
        else event
        for event in whole
    ]
    study = Study(search)
    assert not study.replay(events)
    assert study.num_asked == 3
    assert study.ask()["lr"] != 0.5


def _fields(asked: Asked) -> dict[str, object]:
    return {name: getattr(asked, name) for name in asked.__dataclass_fields__}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_was_known_counts(sampler: str) -> None:
    search = make_search(sampler)
    both = 2 if sampler == "nsga2" else 1
    at = {"lr": 0.03, "alpha_dom": math.inf, "init": "pytorch"}
    known = [
        Known(
            configuration={**at, "k": k},
            result=Result(state="complete", objectives=(k / 10, 0.5)[:both], diverged=float(k == 4)),
        )
        for k in range(2, 16)
    ]
    study = Study(search)
    assert study.replay([event_from_json(event_to_json(one)) for one in known])
    study.ask()
    asking = Asking(search, known)
    best = [trial.configuration["k"] for trial in asking.best()]
    assert best[0] == 2 and 4 not in best


def test_the_pareto_front() -> None:
    search = make_search("nsga2")
    pairs = [(1.0, 0.9), (0.5, 0.8), (0.5, 0.7), (0.7, 0.95), (0.4, 0.1), (2.0, 0.99)]
    known = [
        Known(
            configuration={"lr": 0.1, "k": 2 + i, "alpha_dom": 1.0, "init": "pytorch"},
            result=Result(state="complete", objectives=pair),
        )
        for i, pair in enumerate(pairs)
    ]
    front = [trial.result.objectives for trial in Asking(search, known).best() if trial.result is not None]
    assert front == [(0.4, 0.1), (0.5, 0.8), (0.7, 0.95), (2.0, 0.99)]


def test_a_search_is_foreseen_by_as_many_cells_as_its_budget_has() -> None:
    text = """
name: little
base: {model: mlp, dataset: mnist-5k, phases: [{lr: 0.1, until: 100}]}
search:
  axes: {lr: {low: 0.1, high: 1}, batch_size: [10, 20]}
  seeds: [0, 1]
  exclude: [{batch_size: 10, seed: 1}]
  BUDGET
"""

    def plan(budget: str) -> Plan:
        return foreseen_plan(load_space_text(text.replace("BUDGET", budget)))

    assert 11 <= len(plan("cells: 12").cells) <= 12
    assert 5 <= len(plan("cells: 12\n  steps: 750").cells) <= 6
    assert not plan("seconds: 5").cells
    assert {(axes["batch_size"], axes["seed"]) for axes in plan("cells: 20").axes} == {
        (10, 0),
        (20, 0),
        (20, 1),
    }
    assert search_text(load_space_text(text.replace("BUDGET", "cells: 1200")).search) == (
        "tpe over lr, batch_size; at most 1,200 cells, 2 a configuration"
    )


@pytest.mark.parametrize(
    ("sampler", "objectives", "state", "constraint"),
    [
        ("tpe", (LOSS, "final/steps"), TrialState.COMPLETE, 1.0),
        ("nsga2", (LOSS, "final/steps"), TrialState.COMPLETE, 1.0),
        ("random", (LOSS, "final/steps"), TrialState.FAIL, None),
        ("tpe", (LOSS, ACCURACY), TrialState.COMPLETE, 0.0),
        ("random", (LOSS, ACCURACY), TrialState.COMPLETE, None),
        ("tpe", ("final/steps",), TrialState.PRUNED, 0.0),
    ],
)
def test_to_be_stopped_is_no_merit_where_few_steps_are(
    sampler: str, objectives: tuple[str, ...], state: TrialState, constraint: float | None
) -> None:
    study = Study(make_search(sampler, objectives=objectives))
    study.ask()
    study.tell(0, Result(state="pruned", objectives=(10.0, 0.5)[: len(objectives)], step=10))
    (trial,) = study._optuna().trials  # pyright: ignore[reportPrivateUsage]
    assert (trial.state, trial.constraints.get(DIVERGED)) == (state, constraint)

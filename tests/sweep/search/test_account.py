"""What a search's journal adds up to: trials, the best so far, the budget, and which axes matter."""

import math

import pytest

from search_spaces.search import SearchSpec
from sweep.html.search import search_data
from sweep.search.account import Account, Trial, account_of, describe, importances
from sweep.search.events import Asked, Configuration, Event, Known, Result, Told

SEARCH = SearchSpec.model_validate(
    {
        "axes": {"lr": {"low": 0.01, "high": 1, "log": True}, "k": {"low": 2, "high": 11}},
        "objectives": ["final/train_loss", "final/test_accuracy"],
        "sampler": "nsga2",
        "cells": 40,
        "steps": 9000,
    }
)


def at(number: int) -> Configuration:
    """Rates go through their range once, k ten times."""
    return {"lr": round(10 ** (-2 + 2 * number / 29), 6), "k": 2 + 7 * number % 10}


def loss(number: int) -> float:
    return abs(number - 15) / 15 + 0.1


@pytest.fixture(scope="module")
def account() -> Account:
    """Thirty questions about two cells each: the best in the middle, the last diverged, one not answered."""
    events: list[Event] = [
        Known(configuration=at(0), result=Result(state="complete", objectives=(0.9, 0.5), spreads=(0.0, 0.0)))
    ]
    for number in range(30):
        cells = (f"{number}a", f"{number}b")
        event = Asked(
            number=number, configuration=at(number), cells=cells, new=2, steps=200, seconds=3.0 * number
        )
        events.append(event)
        if number == 28:
            continue
        diverged = 0.5 if number == 29 else 0.0
        objectives = (0.01 if diverged else loss(number), number / 100)
        events.append(
            Told(number=number, result=Result(state="complete", objectives=objectives, diverged=diverged))
        )
    return account_of(SEARCH, events)


def test_questions_and_answers_are_counted(account: Account) -> None:
    assert (len(account.trials), len(account.asked), account.cells, account.steps) == (31, 30, 60, 6000)
    assert account.seconds == 87.0
    assert account.budget() == "60 of 40 cells, 6,000 of 9,000 steps"
    spared = Told(number=0, result=Result(state="pruned", objectives=(0.5, 0.5)), spared=150)
    asked = Asked(number=0, configuration=at(0), cells=("a", "b"), new=2, steps=200)
    assert account_of(SEARCH, [asked, spared]).budget() == "2 of 40 cells, 50 of 9,000 steps"
    assert [trial.cells_before for trial in account.trials[:4]] == [0, 0, 2, 4]
    assert account.asked[28].result is None


def test_the_best_so_far_only_improves_and_leaves_out_what_diverged(account: Account) -> None:
    losses, accuracies = account.best_so_far(0), account.best_so_far(1)
    assert losses[:3] == [0.9, 0.9, 0.9] and losses[16:] == [0.1] * 15
    assert accuracies[:2] == [0.5, 0.5] and accuracies[-1] == 0.5
    assert math.isnan(account_of(SEARCH, [Asked(number=0, configuration=at(0), cells=())]).best_so_far(0)[0])
    front = [trial.result.objectives for trial in account.front() if trial.result]
    assert front == [(loss(n), n / 100) for n in range(15, 27)] + [(0.9, 0.5)]


def test_the_axis_that_decides_is_the_important_one(account: Account) -> None:
    found = importances(account)
    assert list(found) == ["final/train_loss", "final/test_accuracy"]
    for shares in found.values():
        assert sum(shares.values()) == pytest.approx(1)
    assert found["final/train_loss"]["lr"] > 0.7
    few = Account(search=SEARCH, trials=account.trials[:15], cells=0, steps=0, seconds=0)
    assert importances(few) == {}


@pytest.mark.parametrize(("risk", "ranking"), [(0.0, None), (1.0, ("mean + 1 sd", "mean - 1 sd"))])
def test_a_mean_is_said_as_one_beside_what_it_is_ranked_by(
    risk: float, ranking: tuple[str, str] | None
) -> None:
    """A loss gets worse by a spread upwards, an accuracy downwards."""
    search = SEARCH.model_copy(update={"risk": risk, "seeds": (0, 1)})
    told = Result(state="complete", objectives=(0.5 + risk * 0.1, 0.75 - risk * 0.2), spreads=(0.1, 0.2))
    trial = Trial(number=0, configuration=at(0), result=told)
    loss_by, accuracy_by = ("", "") if ranking is None else (f" (ranked by {one})" for one in ranking)
    said = f"final/train_loss 0.5 ± 0.1{loss_by}, final/test_accuracy 0.75 ± 0.2{accuracy_by} at lr=0.01, k=2"
    assert describe(search, trial) == said
    page = search_data(Account(search=search, trials=(trial,), cells=2, steps=0, seconds=0.0))
    assert page["front"] == [said]
    labels = [objective["label"] for objective in page["objectives"]]
    plain = ["final training loss", "final test accuracy [%]"]
    assert labels == (
        plain if ranking is None else [", ".join(pair) for pair in zip(plain, ranking, strict=True)]
    )

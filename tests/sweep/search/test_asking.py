"""What a configuration's seeds come to, and when a search ends."""

import io
import json
import math
import time
from pathlib import Path

import pytest
from rich.console import Console

from search_spaces.search import SearchSpec
from sweep.cli import main
from sweep.names import Status
from sweep.progress import Display, Progress
from sweep.search.account import account_of
from sweep.search.asking import MOST_REPEATS, Asking, Ended, result_of
from sweep.search.events import Asked, Corrected, Event, event_from_json, event_to_json

LOSS = "final/train_loss"


def search(**changes: object) -> SearchSpec:
    return SearchSpec.model_validate({"axes": {"lr": {"low": 0.1, "high": 1}}, "seeds": [0, 1], **changes})


def cell(status: Status, loss: float, steps: int = 10) -> Ended:
    return Ended(status=status, metrics={LOSS: loss}, steps=steps, num_steps=20)


def test_mean_and_spread_over_the_seeds() -> None:
    ended = [cell(Status.COMPLETED, 1.0), cell(Status.COMPLETED, 3.0)]
    result = result_of(search(), ended)
    assert (result.state, result.objectives, result.spreads) == ("complete", (2.0,), (math.sqrt(2),))
    assert result_of(search(risk=1.0), ended).objectives == pytest.approx((2 + math.sqrt(2),))
    rewarded = search(risk=1.0, objectives=["final/test_accuracy"])
    best = [Ended(status=Status.COMPLETED, metrics={"final/test_accuracy": v}) for v in (0.5, 0.7)]
    assert result_of(rewarded, best).objectives == pytest.approx((0.6 - math.sqrt(0.02),))


def test_a_diverged_seed_is_never_a_number_that_is_none() -> None:
    well, broken, lost = (
        cell(Status.COMPLETED, 1.0),
        cell(Status.DIVERGED, 9.0),
        cell(Status.DIVERGED, math.nan),
    )
    some = result_of(search(), [well, lost])
    assert (some.state, some.objectives, some.diverged) == ("complete", (1.0,), 0.5)
    all_broken = result_of(search(), [broken, lost])
    assert (all_broken.objectives, all_broken.diverged) == ((9.0,), 1.0)
    nothing = result_of(search(), [lost, lost])
    assert (nothing.state, nothing.objectives) == ("failed", ())
    assert result_of(search(), [well, cell(Status.FAILED, 1.0)]).state == "failed"
    assert result_of(search(), []).state == "excluded"


def test_a_stopped_seed_makes_it_pruned_at_the_step_it_reached() -> None:
    result = result_of(search(), [cell(Status.COMPLETED, 1.0), cell(Status.STOPPED, 2.0, steps=5)])
    assert (result.state, result.step, result.objectives) == ("pruned", 5, (2.0,))
    along = [cell(Status.STOPPED, 9.0, steps=1), cell(Status.STOPPED, 2.0, steps=7)]
    result = result_of(search(), along)
    assert (result.step, result.objectives, result.spreads) == (7, (2.0,), (0.0,))


def test_budgets() -> None:
    def asking(**budget: object) -> Asking:
        made = Asking(search(**budget), [])
        for number in range(3):
            at, configuration = made.ask()
            cells = (f"{number}-0", f"{number}-1")
            made.put(Asked(number=at, configuration=configuration, cells=cells, new=2, steps=40, seconds=7.0))
        return made

    assert asking(cells=8).is_over(0) == "" and asking(cells=6).is_over(0) == "6 cells"
    assert asking(seconds=9).is_over(8.9) == "" and asking(seconds=9).is_over(9.0) == "9 seconds"
    assert asking(seconds=9).seconds == 7.0
    stepped = asking(steps=111)
    assert stepped.is_over(0) == "111 steps"
    # A cell that was stopped gives back the steps that it did not take.
    stepped.ended("0-0", cell(Status.STOPPED, 1.0, steps=10))
    assert stepped.is_over(0) == ""


def test_a_budget_of_cells_is_one_of_whole_configurations() -> None:
    made, asked = Asking(search(seeds=[0, 1], cells=5), []), 0
    while not (over := made.is_over(0)):
        at, configuration = made.ask()
        made.put(Asked(number=at, configuration=configuration, cells=(f"{at}-0", f"{at}-1"), new=2))
        asked += 2
    assert (asked, over) == (4, "5 cells")
    assert made.steps_left(10) == 0


def test_spared_steps_come_back_once_and_after_a_kill_too() -> None:
    spec, events = search(steps=100), list[Event]()
    made = Asking(spec, events)
    for number in range(3):
        at, configuration = made.ask()
        cells = (f"{number}-0", f"{number}-1") if number < 2 else ("0-0", "0-1")
        new = 2 if number < 2 else 0
        asked = Asked(number=at, configuration=configuration, cells=cells, new=new, steps=20 * new)
        made.put(asked)
        events.append(asked)
    # 80 steps are charged; the cells of the first and of the last question are the same two.
    made.ended("0-0", cell(Status.DIVERGED, 9.0, steps=5))
    made.ended("0-1", cell(Status.COMPLETED, 1.0, steps=20))
    told = made.tell()
    assert [(one.number, one.spared) for one in told] == [(0, 15), (2, 0)]
    events += told
    assert made.steps_left(20) == 35

    for one in (made, Asking(spec, events)):
        at, configuration = one.ask()
        one.put(Asked(number=at, configuration=configuration, cells=("3",), new=1, steps=34))
        assert one.is_over(0) == ""
        one.ended("1-0", cell(Status.STOPPED, 1.0, steps=19))
        one.put(Asked(number=at + 1, configuration=configuration, cells=("4",), new=1, steps=1))
        assert one.is_over(0) == ""
        one.put(Asked(number=at + 2, configuration=configuration, cells=("5",), new=1, steps=1))
        assert one.is_over(0) == "100 steps"


def test_siblings_are_the_seeds_of_open_questions_that_have_not_ended() -> None:
    made = Asking(search(seeds=[0, 1, 2], cells=9), [])
    for number in range(2):
        at, configuration = made.ask()
        cells = tuple(f"{number}-{seed}" for seed in range(3))
        made.put(Asked(number=at, configuration=configuration, cells=cells, new=3))
    made.ended("0-2", cell(Status.COMPLETED, 1.0))
    assert made.siblings("0-0") == ["0-1"] and made.siblings("1-1") == ["1-0", "1-2"]
    for seed in range(2):
        made.ended(f"0-{seed}", cell(Status.STOPPED, 1.0))
    assert [told.number for told in made.tell()] == [0] and made.siblings("0-0") == []


def test_a_space_that_is_exhausted_ends_the_search() -> None:
    made = Asking(
        SearchSpec.model_validate({"axes": {"lr": [0.1, 0.2]}, "cells": 10, "sampler": "random"}), []
    )
    rates = list[str]()
    while not made.is_over(0):
        number, configuration = made.ask()
        rates.append(str(configuration["lr"]))
        made.put(Asked(number=number, configuration=configuration, cells=(rates[-1],)))
    assert "suggestions in a row" in made.is_over(0)
    assert len(rates) - max(map(rates.index, ("0.1", "0.2"))) == 1 + MOST_REPEATS


def test_what_other_sweeps_have_run_does_not_exhaust_a_space() -> None:
    spec, events = search(sampler="random", seeds=[], cells=10), list[Event]()
    made = Asking(spec, events)
    for _ in range(2 * MOST_REPEATS):
        number, configuration = made.ask()
        # Another search began with the same seed, and has run it.
        asked = Asked(number=number, configuration=configuration, cells=(str(configuration["lr"]),))
        made.put(asked)
        events.append(asked)
        assert made.is_over(0) == ""
    assert Asking(spec, events).is_over(0) == ""
    for _ in range(MOST_REPEATS):
        assert made.is_over(0) == ""
        number, configuration = made.ask()
        asked = Asked(number=number, configuration=configuration, cells=())
        made.put(asked)
        events.append(asked)
    assert "are excluded" in made.is_over(0)
    assert Asking(spec, events).is_over(0) == made.is_over(0)


def test_the_steps_that_a_budget_leaves() -> None:
    made = Asking(search(cells=10, steps=500), [])
    assert made.steps_left(100) == 500
    number, configuration = made.ask()
    made.put(Asked(number=number, configuration=configuration, cells=("a", "b"), new=2, steps=200))
    assert (made.steps_left(100), made.steps_left(30)) == (300, 240)
    assert Asking(search(seconds=5.0), []).steps_left(100) == 0


def test_progress_counts_what_is_still_to_be_asked_for() -> None:
    progress = Progress(name="s", total_steps=0, statuses={})
    progress.expect(1000)
    progress.add({"a": 100, "b": 100})
    progress.update("a", Status.COMPLETED, 100, 100)
    assert progress.line().startswith("s: 10% of steps; 1 completed, 1 pending, about")
    progress.add({str(number): 100 for number in range(20)})
    assert progress.fraction() == pytest.approx(100 / 2200)


def test_progress_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the sweep was done before, half of a cell too; only what came since tells the speed."""
    statuses = {"a": Status.DIVERGED, "b": Status.PENDING}
    before = {"a": 100, "b": 50}
    progress = Progress(name="s", total_steps=200, statuses=statuses, steps_before=before)
    assert progress.line() == "s: 75% of steps; 1 diverged, 1 pending"
    begun = progress._begun  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(time, "monotonic", lambda: begun + 40.0)
    progress.update("b", Status.RUNNING, 70, 100)
    assert progress.line() == "s: 85% of steps; 1 diverged, 1 running, about 60 s left"


def test_nothing_is_left_at_the_end() -> None:
    progress = Progress(name="s", total_steps=100, statuses={"a": Status.PENDING})
    progress.update("a", Status.COMPLETED, 100, 100)
    assert progress.line() == "s: 100% of steps; 1 completed"


def test_a_plain_line_is_said_once() -> None:
    console = Console(file=io.StringIO(), width=100)
    progress = Progress(name="s", total_steps=100, statuses={"a": Status.PENDING})
    display = Display(progress, console)
    for _ in range(3):
        display.tick()
    display.close()
    assert console.file.getvalue() == "s: 0% of steps; 1 pending\n"


def test_a_space_with_grids_is_planned_as_a_search_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def planned(*more: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(["plan", "demo", "--json", *more])
        assert end.value.code == 0
        return json.loads(capsys.readouterr().out)["unique_cells"]

    assert planned("--search", "--cells", "6") == 6
    assert planned("--search", "--cells", "8", "--set", "seed=[0,1,2]") == 6
    assert planned() > 6


def test_what_failed_and_was_trained_again_is_corrected_and_the_sampler_goes_on_as_it_did() -> None:
    first = Asking(search(), [])
    events: list[Event] = []
    for _ in range(2):
        at, configuration = first.ask()
        asked = Asked(number=at, configuration=configuration, cells=(f"{at}-0", f"{at}-1"), new=2, steps=40)
        first.put(asked)
        events.append(asked)
    for name, status in (("0-0", Status.COMPLETED), ("0-1", Status.FAILED), ("1-0", Status.FAILED)):
        first.ended(name, cell(status, 1.0))
    events += first.tell()
    assert account_of(search(), events).best_so_far(0)[-1:] == pytest.approx([math.nan], nan_ok=True)
    later = Asking(search(), events)
    assert later.failed_cells == ["0-0", "0-1"]
    later.ended("0-0", cell(Status.COMPLETED, 1.0))
    assert later.tell() == []
    later.ended("0-1", cell(Status.COMPLETED, 3.0))
    told = later.tell()
    assert [event_from_json(json.loads(json.dumps(event_to_json(event)))) for event in told] == told
    (corrected,) = told
    assert isinstance(corrected, Corrected) and corrected.result.objectives == (2.0,)
    assert later.tell() == [] and later.failed_cells == []
    account = account_of(search(), [*events, corrected])
    assert account.best_so_far(0) == [2.0, 2.0] and account.front() == later.best()
    again = Asking(search(), [*events, corrected])
    assert again.is_exact and again.best() == later.best() and again.failed_cells == []
    assert again.ask() == later.ask() == first.ask()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "search: found no budget; set at least one of --cells"),
        (("--cells", "2", "--set", "seed=[0,1,2]"), "found 2; must be at least 3"),
    ],
)
def test_a_search_without_room_is_not_planned_and_not_run(
    more: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    for command in (("plan", "demo", "--search"), ("search", "demo")):
        with pytest.raises(SystemExit) as end:
            main([*command, *more])
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_a_cell_that_another_sweep_leaves_is_charged_once_it_is_trained_here() -> None:
    events: list[Event] = []
    made = Asking(search(cells=4, steps=1000), events)
    at, configuration = made.ask()
    cells = ("0-0", "0-1")
    asked = Asked(number=at, configuration=configuration, cells=cells, new=1, steps=20, theirs=("0-1",))
    made.put(asked)
    before = made.steps_left(20)
    taken = made.take("0-1", 20)
    assert taken is not None and made.take("0-1", 20) is None and made.take("0-0", 20) is None
    assert before - made.steps_left(20) == 20
    again = Asking(search(cells=4, steps=1000), [asked, taken])
    assert again.steps_left(20) == made.steps_left(20) and again.take("0-1", 20) is None
    assert again.was_charged("0-1", by_run=False)
    account = account_of(search(), [asked, taken])
    assert (account.cells, account.steps) == (2, 40)


def test_what_the_budget_was_charged_with_is_told_by_the_journal() -> None:
    def asked(number: int, *cells: str, new: int, theirs: tuple[str, ...] = ()) -> Asked:
        lr = 0.1 * (1 + number)
        return Asked(number=number, configuration={"lr": lr}, cells=cells, new=new, theirs=theirs)

    events = [
        asked(0, "a", "b", new=2),
        asked(1, "b", "c", new=0),
        asked(2, "d", "e", new=1, theirs=("e",)),
        asked(3, "f", "g", new=1),
    ]
    made = Asking(search(), events)

    def charged(cell_id: str) -> set[bool]:
        return {made.was_charged(cell_id, by_run=by_run) for by_run in (False, True)}

    assert [charged(one) for one in "abde"] == [{True}, {True}, {True}, {False}]
    assert charged("c") == {False}
    # One of the two had ended elsewhere.
    assert charged("f") == charged("g") == {False, True}
    made.take("e", 20)
    assert charged("e") == {True}

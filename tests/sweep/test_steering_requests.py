"""What users ask of single cells, and when a command ends by itself."""

import shlex
import signal
import sys
import threading
from pathlib import Path

import pytest

from search_spaces.space import load_space_text
from sweep import names
from sweep.errors import LeaseHeldError, LedgerError, SweepExistsError
from sweep.grid_table import grid_table
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.plan import make_plan as grid_plan
from sweep.search.points import require_same_search
from sweep.steering_requests import cells_named, failed_cells, request_first, request_stop
from sweep.stopping import Stop
from tests.sweep.small_sweep import FakeSpace, make_cell, make_plan
from trainers.canonical import cell_id
from trainers.errors import ConfigError

CELLS = [cell_id(make_cell(lr)) for lr in (0.1, 0.2)]
SEARCH = """
name: little
base: {model: mlp, dataset: mnist-5k, phases: [{lr: 0.1, until: 10}]}
search: {axes: {lr: {low: 0.1, high: 1}}, cells: 5}
"""
GRID = "axes: {lr: [0.1, 0.2]}\nsearch:"


@pytest.fixture(autouse=True)
def called_as_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep"])


def test_requests_for_single_cells_and_what_has_failed(ledger: Ledger, folder: Path) -> None:
    uri, plan = f"sqlite:///{folder / 'mlflow.db'}", make_plan(0.1, 0.2)
    sweep = ledger.open_sweep(FakeSpace(), plan)
    ledger.write_plan(sweep, FakeSpace(), plan)
    assert cells_named(uri, "little", [CELLS[1][:6]]) == [CELLS[1]]
    with pytest.raises(ConfigError, match="names no cell"):
        cells_named(uri, "little", ["ffffff"])
    with pytest.raises(ConfigError, match="at least its first 4 digits"):
        cells_named(uri, "little", [CELLS[0][:3]])

    said = request_stop(uri, "little", [CELLS[0]])
    assert "stop 1 cells" in said and said.endswith(f"sweep resume little --cell {CELLS[0]}")
    request_stop(uri, "little", [CELLS[1]])
    assert ledger.requests(sweep).cells == set(CELLS)
    ledger.clear_cell_stops(sweep, [CELLS[0]])
    assert ledger.requests(sweep).cells == {CELLS[1]}
    assert not ledger.requests(sweep).stop

    assert failed_cells(uri, "little", []) == []
    run = ledger.start_cell(sweep, cell_id=CELLS[0], cell=make_cell(0.1), axes={"lr": 0.1})
    ledger.finish_cell(run.run_id, Status.FAILED, "broke")
    assert failed_cells(uri, "little", []) == failed_cells(uri, "little", [CELLS[0]]) == [CELLS[0]]
    with pytest.raises(ConfigError, match="has not failed; it is pending"):
        failed_cells(uri, "little", CELLS)
    ledger.finish_cell(run.run_id, Status.COMPLETED)
    with pytest.raises(ConfigError, match="has ended"):
        request_stop(uri, "little", [CELLS[0]])


@pytest.mark.parametrize("name", ["my sweep", "it's; #1", "--yes"])
def test_what_is_said_to_type_next_names_the_sweep(name: str, ledger: Ledger, folder: Path) -> None:
    uri, plan = f"sqlite:///{folder / 'mlflow.db'}", make_plan(0.1)
    sweep = ledger.open_sweep(FakeSpace(), plan, name=name)
    ledger.write_plan(sweep, FakeSpace(), plan)
    words = shlex.split(request_stop(uri, name, [CELLS[0]]).rpartition("go on with one: ")[2])
    last = ["--", name] if name.startswith("-") else [name]
    assert words[:2] == ["sweep", "resume"] and words[2:] in (
        [name, "--cell", CELLS[0]],
        ["--cell", CELLS[0], *last],
    )
    with Lease.acquire(ledger, sweep), pytest.raises(LeaseHeldError) as held:
        Lease.acquire(ledger, sweep)
    said = str(held.value).rpartition("stop it with `")[2].removesuffix("`.")
    assert shlex.split(said) == ["sweep", "stop", *last]


def test_the_order_is_kept_with_the_sweep(ledger: Ledger, folder: Path) -> None:
    uri, space = f"sqlite:///{folder / 'mlflow.db'}", load_space_text(SEARCH.replace("search:", GRID))
    plan = grid_plan(space)
    sweep = ledger.open_sweep(space, grid_table(plan.grids, plan.axes, plan.cell_ids))
    ledger.write_plan(sweep, space, grid_table(plan.grids, plan.axes, plan.cell_ids))
    assert ledger.requests(sweep).first is None
    assert "lr=0.2 first" in request_first(uri, "little", ["lr=0.2"])
    assert ledger.requests(sweep).first == ("lr=0.2",)
    with pytest.raises(ConfigError, match=r"found lr=3; allowed: 0.1, 0.2"):
        request_first(uri, "little", ["lr=3"])
    assert ledger.requests(sweep).first == ("lr=0.2",)
    request_first(uri, "little", [])
    assert ledger.requests(sweep).first == ()


def test_requests_made_at_once_take_nothing_from_each_other(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has looked at what is asked before the other wrote."""
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    ledger.request_cell_stops(sweep, ["met"])
    before = ledger.client.get_run(sweep.run_id).data.tags
    monkeypatch.setattr(Ledger, "_request_tags", lambda self, sweep: before)
    ledger.request_cell_stops(sweep, ["one"])
    ledger.request_cell_stops(sweep, ["other"])
    ledger.clear_cell_stops(sweep, ["met"])
    monkeypatch.undo()
    assert ledger.requests(sweep).cells == {"one", "other"}


def test_requests_of_earlier_versions_are_read_and_forgotten(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    ledger.client.set_tag(sweep.run_id, names.TAG_STOP_CELLS, "one two")
    ledger.request_cell_stops(sweep, ["three"])
    assert ledger.requests(sweep).cells == {"one", "two", "three"}
    ledger.clear_cell_stops(sweep, ["two", "three"])
    assert ledger.requests(sweep).cells == {"one"}


def test_requests_of_any_length_are_kept_whole(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    cells = [f"{number:016x}" for number in range(2000)]
    ledger.request_cell_stops(sweep, cells)
    assert ledger.requests(sweep).cells == set(cells)
    ledger.request_cell_stops(sweep, ["f" * 16])
    ledger.clear_cell_stops(sweep, cells[3:])
    assert ledger.requests(sweep).cells == {*cells[:3], "f" * 16}
    for first in (tuple(cells), ("lr=0.1",), ()):
        ledger.request_first(sweep, first)
        assert ledger.requests(sweep).first == first
    with pytest.raises(LedgerError, match="Nothing was asked; name fewer cells") as info:
        ledger.request_first(sweep, cells * 25)
    assert not info.value.transient
    assert ledger.requests(sweep).first == ()
    # As an earlier version left it.
    ledger.client.set_tag(sweep.run_id, names.TAG_FIRST, '["0000')
    assert ledger.requests(sweep).first is None


def test_only_the_budget_of_a_search_may_change() -> None:
    stored = load_space_text(SEARCH)
    require_same_search(load_space_text(SEARCH.replace("cells: 5", "steps: 7")), stored, "s")
    with pytest.raises(SweepExistsError, match="other sampler"):
        require_same_search(load_space_text(SEARCH.replace("cells: 5", "sampler: qmc")), stored, "s")
    with pytest.raises(SweepExistsError, match="other axes"):
        require_same_search(load_space_text(SEARCH.replace("low: 0.1", "low: 0.2")), stored, "s")
    with pytest.raises(SweepExistsError, match="other base"):
        require_same_search(load_space_text(SEARCH.replace("until: 10", "until: 20")), stored, "s")
    grid = load_space_text(SEARCH.replace("search:", GRID))
    with pytest.raises(SweepExistsError, match="a search, not a grid"):
        require_same_search(grid, stored, "s")


def test_a_time_limit_asks_once_it_is_over() -> None:
    stop = Stop()
    with stop.after(0.05):
        assert stop.wait(20.0)
    assert stop.why == "because the time limit of 0.05 s is over"
    unlimited, before = Stop(), threading.active_count()
    with unlimited.after(None), unlimited.after(1000.0):
        assert threading.active_count() == before + 1
    assert not unlimited.wait(0.1)


def test_the_first_signal_after_a_limit_is_not_the_second() -> None:
    stop, said = Stop(), list[str]()
    with stop.by_signals(said.append):
        stop.ask("because the time limit of 1 s is over")
        signal.raise_signal(signal.SIGINT)
        assert stop.why == "because the time limit of 1 s is over" and stop.signalled
        assert said == ["stopping after the next checkpoints; once more stops at once"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_request_that_came_later_is_not_cleared_with_an_earlier_one(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), make_plan(0.1))
    ledger.client.set_tag(sweep.run_id, names.TAG_STOP_REQUESTED, "1")
    before = ledger.stop_request(sweep)
    ledger.request_stop(sweep)
    ledger.clear_stop(sweep, before)
    assert ledger.requests(sweep).stop
    ledger.clear_stop(sweep, ledger.stop_request(sweep))
    assert not ledger.requests(sweep).stop


def test_hints_name_the_places_that_were_given(ledger: Ledger, folder: Path) -> None:
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    given = {"--tracking-uri": uri, "--storage": "/elsewhere", "--data": "/data"}
    told = Ledger.open(uri, create=False, artifacts_root=folder / "artifacts", given=given)
    plan = make_plan(0.1)
    sweep = told.open_sweep(FakeSpace(), plan)
    told.write_plan(sweep, FakeSpace(), plan)
    with Lease.acquire(told, sweep), pytest.raises(LeaseHeldError) as held:
        Lease.acquire(told, sweep)
    assert f"`sweep stop little --tracking-uri {uri}`" in str(held.value)
    run = told.start_cell(sweep, cell_id=CELLS[0], cell=make_cell(0.1), axes={"lr": 0.1})
    told.finish_cell(run.run_id, Status.COMPLETED)
    with pytest.raises(SweepExistsError) as refused:
        told.open_sweep(FakeSpace(), make_plan(0.2))
    assert str(refused.value).endswith(f"sweep delete little --tracking-uri {uri} --storage /elsewhere")

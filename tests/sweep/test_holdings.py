"""What a sweep refers to stays its own, also where its space gives other cells by now, or none."""

import io
from copy import deepcopy
from hashlib import sha256

import pytest
import yaml
from rich.console import Console

from search_spaces import load_space_text
from sweep import names
from sweep.errors import NotConfirmedError
from sweep.forks import lines_of
from sweep.grid_table import grid_table
from sweep.holdings import LinesElsewhere, holdings_of
from sweep.housekeeping import collect_garbage, delete_sweep
from sweep.ledger import Sweep
from sweep.names import Status
from sweep.plan import make_plan
from sweep.removal import of_store
from sweep.single import find_cell
from sweep.stored import stored_cells, stored_space
from tests.sweep.small_sweep import FakeSpace
from tests.sweep.small_sweep import make_plan as make_table
from tests.sweep.trained_grids import Store, space
from trainers.errors import ConfigError


def forget(store: Store, sweep: Sweep) -> None:
    """Let a sweep's space name a file that is gone."""
    stored = yaml.safe_load(store.ledger.read_space(sweep))
    stored["base"]["model"] = {"name": "file", "path": "/nowhere/gone.py"}
    store.ledger.artifacts.put(sweep.run_id, names.ARTIFACT_SPACE, yaml.safe_dump(stored).encode())


@pytest.mark.parametrize("why", ["another version of the numerics", "a file is gone"])
def test_runs_and_checkpoints_of_another_sweep_stay_whatever_its_space_gives_now(
    why: str, store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = store.run(space("first", "[0, 1]"))
    second, both = store.run(space("second", "[1, 2]"))
    (shared,) = first.cells.keys() & both.cells.keys()
    if why == "a file is gone":
        forget(store, second)
    else:
        monkeypatch.setattr("trainers.canonical.NUMERICS_VERSION", 1000)
    assert holdings_of(store.ledger, second).ids >= both.cells.keys()
    delete_sweep("first", store.places, console, yes=True)
    assert "1 runs stay, because sweep 'second' refers to them" in console.export_text()
    assert list(store.ledger.lookup(list(first.cells))) == [shared]
    assert both.cells.keys() <= store.storage.inventory().keys()
    # Nor are they taken for something that no sweep knows.
    collect_garbage(store.places, console, yes=True, ends=False, unknown=True)
    assert both.cells.keys() <= store.storage.inventory().keys()
    assert not any(one.whole for one in of_store(store.ledger, store.storage, unknown=True))


def test_a_cell_is_found_though_another_sweep_lacks_a_file(store: Store) -> None:
    _, plan = store.run(space("first", "[0]"))
    sweep, other = store.run(space("second", "[1]"))
    forget(store, sweep)
    uri = store.places.tracking_uri
    (cell,) = plan.cells
    assert find_cell(cell, uri, None, smoke=False, overrides=()) == plan.cells[cell]
    (gone,) = other.cells
    with pytest.raises(ConfigError, match=r"sweep 'second' could not be looked at: .*gone\.py"):
        find_cell(gone, uri, None, smoke=False, overrides=())


def test_what_is_refused_of_a_new_space_is_still_the_space_of_a_sweep(store: Store) -> None:
    sweep, plan = store.run(space("first", "[0, 1]"))
    stored = yaml.safe_load(store.ledger.read_space(sweep))
    stored["grids"][0]["set"] = {"model.activation": "tanh", "model": deepcopy(stored["base"]["model"])}
    stored["reports"] = [{"kind": "curves", "name": "chi", "metrics": ["curvature/chi"]}]
    text = yaml.safe_dump(stored, sort_keys=False)
    with pytest.raises(ConfigError, match="has no effect"):
        load_space_text(text)
    store.ledger.artifacts.put(sweep.run_id, names.ARTIFACT_SPACE, text.encode())
    assert holdings_of(store.ledger, sweep).cells == plan.cells
    assert (
        stored_space(store.places.tracking_uri, "first").recorded_sha256 == sha256(text.encode()).hexdigest()
    )
    assert stored_cells(store.places.tracking_uri, "first") == list(plan.cells.values())


def test_a_sweep_that_never_stored_a_plan_refers_to_nothing(store: Store) -> None:
    loaded = load_space_text(space("little"))
    plan = make_plan(loaded)

    sweep = store.ledger.open_sweep(loaded, grid_table(plan.grids, plan.axes, plan.cell_ids))
    assert holdings_of(store.ledger, sweep).addresses == set()


def test_what_other_sweeps_are_to_train_is_looked_up_anew_where_one_has_another_plan(store: Store) -> None:
    sweep, plan = store.run(space("first", "[0]"))
    elsewhere = LinesElsewhere(store.ledger, sweep, plan.cells)
    assert elsewhere.look() == set()
    other, wants = store.run(space("second", "[0, 1]"), cells=0)
    (left,) = wants.cells.keys() - plan.cells.keys()
    expected = {line for line, _, _ in lines_of(wants.cells[left])}
    assert elsewhere.look() == expected
    assert LinesElsewhere(store.ledger, sweep, wants.cells).look() == set(), "of its own cells it knows more"
    store.run(space("second", "[0, 1]"))
    store.ledger.finish_sweep(other, Status.COMPLETED)
    assert elsewhere.look() == set()


def test_the_question_is_shown_as_it_is_written(
    store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_table(0.1)
    sweep = store.ledger.open_sweep(FakeSpace(), plan, name="[red]x :smile:")
    store.ledger.write_plan(sweep, FakeSpace(), plan)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(NotConfirmedError):
        delete_sweep("[red]x :smile:", store.places, console, yes=False)
    assert "Delete sweep '[red]x :smile:' for good? [y/N]" in console.export_text()


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True

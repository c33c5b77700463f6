"""A sweep goes on, and is deleted, with the store that has its checkpoints, or by an explicit word."""

import io
import shutil
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from search_spaces import load_space_text
from sweep import training
from sweep.driver import RunOptions, run_sweep
from sweep.errors import OtherStorageError, StorageUnavailableError
from sweep.grid_table import grid_table
from sweep.housekeeping import delete_sweep
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.names import TAG_STORAGE
from sweep.pack import Pack
from sweep.places import Places
from sweep.plan import make_plan
from sweep.storage import Storage
from sweep.storage.files import public_place
from sweep.sweep_run import EXIT_DONE
from sweep.whereabouts import record_storage, require_its_storage
from tests.integration.faults.killed_writes import SPACE, HereCluster, packs_here
from tests.sweep.small_sweep import FakeSpace
from tests.sweep.small_sweep import make_plan as small_plan

LOADED = load_space_text(SPACE)
PLAN = make_plan(LOADED)
BEGUN = 30
"""Steps that each cell has behind it."""


@pytest.fixture
def sweep(ledger: Ledger, places: Places) -> Sweep:
    """A sweep that was interrupted: its plan is stored, and its cells are half trained."""
    table = grid_table(PLAN.grids, PLAN.axes, PLAN.cell_ids)
    begun = ledger.open_sweep(LOADED, table, name="writes")
    with Lease.acquire(ledger, begun):
        ledger.write_plan(begun, LOADED, table)
        record_storage(ledger, begun, places.storage)
    storage = Storage.open(places.storage)
    for cell in PLAN.cells.values():
        pack = Pack([cell], storage, data_folder=places.data_folder)
        pack.trainer.advance(BEGUN)
        pack.commit()
    return begun


@pytest.fixture
def began_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps at which the trials of a driver begin; they are trained in this process."""
    found: list[int] = []
    writes = SimpleNamespace(note=lambda text: found.append(int(text.split()[-1])))
    monkeypatch.setattr(training, "Cluster", HereCluster)
    monkeypatch.setattr(training, "run_packs", packs_here(writes))  # type: ignore[arg-type]
    return found


def run(places: Places, *, accept: bool = False) -> int:
    options = RunOptions(name="writes", accept_storage=accept)
    return run_sweep(LOADED, places, options, Console(file=io.StringIO()))


def recorded(ledger: Ledger, sweep: Sweep) -> str | None:
    return ledger.parent_run(sweep).data.tags.get(TAG_STORAGE)


def test_a_sweep_does_not_begin_anew_in_another_store_unsaid(
    ledger: Ledger, sweep: Sweep, places: Places, began_at: list[int]
) -> None:
    other = replace(places, storage=str(places.home / "else where"))
    with pytest.raises(OtherStorageError) as refused:
        run(other)
    said = str(refused.value)
    assert places.storage in said and other.storage in said and "--accept-storage" in said
    assert refused.value.exit_code == 2
    assert not Path(other.storage).exists() and began_at == []
    assert recorded(ledger, sweep) == places.storage
    assert run(other, accept=True) == EXIT_DONE
    # The second begins with what the first has left it.
    assert began_at == [0, 20] and recorded(ledger, sweep) == other.storage
    # From now on it is the other one.
    with pytest.raises(OtherStorageError):
        run(places)


def test_a_sweep_goes_on_in_its_own_store_by_any_path(
    ledger: Ledger, sweep: Sweep, places: Places, began_at: list[int]
) -> None:
    link = places.home / "link"
    link.symlink_to(places.storage)
    assert run(replace(places, storage=str(link))) == EXIT_DONE
    assert began_at == [BEGUN, BEGUN]


def test_a_store_that_was_moved_is_found_by_what_it_holds(
    ledger: Ledger, sweep: Sweep, places: Places, began_at: list[int]
) -> None:
    moved = replace(places, storage=str(places.home / "moved"))
    shutil.move(places.storage, moved.storage)
    # That it is gone is not enough: on another machine it would be, too.
    with pytest.raises(OtherStorageError):
        run(replace(places, storage=str(places.home / "empty")))
    assert run(moved) == EXIT_DONE
    assert began_at == [BEGUN, BEGUN]
    assert recorded(ledger, sweep) == moved.storage


def test_a_sweep_of_before_takes_the_place_that_it_is_run_with(
    ledger: Ledger, sweep: Sweep, places: Places, began_at: list[int]
) -> None:
    ledger.client.delete_tag(sweep.run_id, TAG_STORAGE)
    require_its_storage(ledger, "writes", str(places.home / "elsewhere"))
    assert run(places) == EXIT_DONE
    assert began_at == [BEGUN, BEGUN] and recorded(ledger, sweep) == places.storage


def test_a_sweep_is_not_deleted_with_another_store(ledger: Ledger, sweep: Sweep, places: Places) -> None:
    other, console = replace(places, storage=str(places.home / "elsewhere")), Console(file=io.StringIO())
    with pytest.raises(OtherStorageError):
        delete_sweep("writes", other, console, yes=True)
    assert ledger.find_sweep("writes").run_id == sweep.run_id
    stored = Storage.open(places.storage).inventory()
    assert stored.keys() >= PLAN.cells.keys()
    delete_sweep("writes", other, console, yes=True, accept_storage=True)
    assert ledger.list_sweeps() == []
    assert Storage.open(places.storage).inventory() == stored, "given up deliberately"


def test_neither_passwords_nor_the_way_to_a_server_are_recorded(ledger: Ledger) -> None:
    sweep = ledger.open_sweep(FakeSpace(), small_plan(0.1))
    for place in (
        "s3://key:secret@bucket/store/?endpoint_override=http%3A%2F%2Flocalhost%3A1",
        "s3://bucket/store?region=x",
    ):
        with pytest.MonkeyPatch.context() as patch:
            opened = SimpleNamespace(place=place)
            patch.setattr("sweep.whereabouts.Storage.open", lambda *_, opened=opened, **__: opened)
            record_storage(ledger, sweep, place)
            assert recorded(ledger, sweep) == "s3://bucket/store"
            require_its_storage(ledger, sweep.name, place)


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("/a/folder", "/a/folder"),
        ("s3://bucket/store/?region=x", "s3://bucket/store"),
        ("s3://key:secret@bucket/store?endpoint_override=http%3A%2F%2Fhere%3A3900", "s3://bucket/store"),
        ("s3://key:sec/r@et@bucket/store", "s3://bucket/store"),
        ("s3://key@bucket/store", "s3://bucket/store"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("abfs://box@me.dfs.core.windows.net/x?sig=s", "abfs://box@me.dfs.core.windows.net/x"),
        ("abfss://me:secret@box/x", "abfss://box/x"),
    ],
)
def test_what_is_said_of_a_store_has_no_key(place: str, shown: str) -> None:
    assert public_place(place) == shown


@pytest.mark.parametrize("place", ["gopher://key:secret@bucket/store", "s3://key:sec ret@bucket/st%zzore"])
def test_what_cannot_be_opened_is_said_without_its_key(place: str) -> None:
    with pytest.raises(StorageUnavailableError, match="cannot be opened") as raised:
        Storage.open(place)
    told = "".join(traceback.format_exception(raised.value))
    assert "secret" not in told and "sec ret" not in told

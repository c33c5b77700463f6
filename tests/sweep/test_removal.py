"""`sweep delete` and `sweep gc`: what goes, what stays, and that a real grid goes on from what stayed."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from search_spaces import load_space_text
from sweep import names
from sweep.claims import Claims
from sweep.errors import LeaseHeldError, LeaseLostError, LedgerError, NotConfirmedError
from sweep.grid_table import grid_table
from sweep.housekeeping import collect_garbage, delete_sweep, in_units
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.ledger.connection import Artifacts
from sweep.names import Status
from sweep.pack import Pack
from sweep.plan import make_plan
from sweep.removal import of_store
from sweep.storage import Storage
from tests.sweep.small_sweep import take_over
from tests.sweep.trained_grids import Store, space
from trainers.errors import ConfigError


def test_a_deleted_sweep_is_gone_with_its_files_and_its_name_is_free(store: Store, console: Console) -> None:
    sweep, plan = store.run(space("little"))
    runs = store.ledger.lookup(list(plan.cells))
    folders = [Path(store.ledger.client.get_run(run.run_id).info.artifact_uri) for run in runs.values()]
    with pytest.raises(NotConfirmedError):
        delete_sweep("little", store.places, console, yes=False)
    assert store.statuses(plan) == [Status.COMPLETED] * 2
    delete_sweep("little", store.places, console, yes=True)
    said = console.export_text()
    assert "runs of cells" in said and "checkpoints" in said and "removed" in said
    assert store.ledger.lookup(list(plan.cells)) == {}
    assert store.storage.inventory() == {}
    assert not any(folder.exists() for folder in folders)
    with pytest.raises(ConfigError):
        store.ledger.find_sweep("little")
    again, _ = store.run(space("little"))
    assert again.experiment_id != sweep.experiment_id
    assert store.statuses(plan) == [Status.COMPLETED] * 2


def test_runs_to_which_another_sweep_refers_stay(store: Store, console: Console) -> None:
    _, first = store.run(space("first", "[0, 1]"))
    store.run(space("second", "[1, 2]"))
    (shared,) = set(first.cells) & set(make_plan(load_space_text(space("second", "[1, 2]"))).cells)
    before = store.ledger.lookup([shared])[shared]
    delete_sweep("first", store.places, console, yes=True)
    assert "1 runs stay, because sweep 'second' refers to them" in console.export_text()
    assert store.ledger.lookup(list(first.cells)) == {shared: before}
    assert shared in store.storage.inventory()
    # The name is free, and what stayed is found.
    store.run(space("first", "[0, 1]"))
    assert store.ledger.lookup([shared])[shared].run_id == before.run_id
    delete_sweep("first", store.places, console, yes=True)
    assert store.ledger.lookup(list(first.cells)) == {shared: before}
    # It goes with the last sweep that refers to it, whoever has made it.
    delete_sweep("second", store.places, console, yes=True)
    assert store.ledger.lookup([shared]) == {} and store.storage.inventory() == {}
    assert store.ledger.artifacts.paths(before.run_id, names.ARTIFACT_HISTORY) == []


def test_a_running_sweep_is_not_deleted(store: Store, console: Console) -> None:
    sweep, plan = store.run(space("little"))
    with Lease.acquire(store.ledger, sweep), pytest.raises(LeaseHeldError):
        delete_sweep("little", store.places, console, yes=True)
    assert store.statuses(plan) == [Status.COMPLETED] * 2


def test_a_run_stays_to_which_a_sweep_refers_that_was_begun_before_the_answer(
    store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan = store.run(space("first", "[0, 1]"))

    def answer(*_: object) -> bool:
        store.run(space("second", "[1, 2]"))
        return True

    monkeypatch.setattr("sweep.housekeeping._confirmed", answer)
    delete_sweep("first", store.places, console, yes=False)
    assert "of these stay, because they are needed by now" in console.export_text()
    (kept,) = store.ledger.lookup(list(plan.cells))
    assert kept in store.storage.inventory()
    record = store.ledger.read_cells(store.ledger.find_sweep("second"))
    assert record is not None and kept in record["cell_id"].to_pylist()


def test_a_run_stays_that_a_search_has_asked_for_before_its_plan_is_stored(
    store: Store, console: Console
) -> None:
    _, plan = store.run(space("first", "[0]"))
    loaded, other = (
        load_space_text(space("second", "[1]")),
        make_plan(load_space_text(space("second", "[1]"))),
    )
    table = grid_table(other.grids, other.axes, other.cell_ids)
    sweep = store.ledger.open_sweep(loaded, table)
    with Lease.acquire(store.ledger, sweep) as lease:
        store.ledger.write_plan(sweep, loaded, table)
        Claims(store.ledger, sweep, lease).queue(list(plan.cells))
        delete_sweep("first", store.places, console, yes=True)
    (kept,) = store.ledger.lookup(list(plan.cells))
    assert kept in store.storage.inventory()


def test_a_sweep_that_begins_meanwhile_waits_for_a_deletion(
    store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan = store.run(space("first", "[0]"))
    (cell,) = plan.cells
    loaded = load_space_text(space("second", "[0]"))
    begun, seen = threading.Event(), list[object]()

    def begin() -> None:
        other = Ledger.open(store.places.tracking_uri, artifacts_root=store.places.home / "artifacts")
        table = grid_table(plan.grids, plan.axes, plan.cell_ids)
        sweep = other.open_sweep(loaded, table)
        with Lease.acquire(other, sweep) as lease:
            other.write_plan(sweep, loaded, table)
            claims = Claims(other, sweep, lease)
            begun.set()
            seen.append(claims.others([cell]))
            seen.append(other.lookup([cell]))

    beginner = threading.Thread(target=begin)
    delete_cell = Ledger.delete_cell

    def slowly(ledger: Ledger, run_id: str) -> None:
        # By now it is decided that the run goes.
        beginner.start()
        assert begun.wait(60)
        beginner.join(0.5)
        assert beginner.is_alive() and seen == [], "it did not wait"
        delete_cell(ledger, run_id)

    monkeypatch.setattr(Ledger, "delete_cell", slowly)
    delete_sweep("first", store.places, console, yes=True)
    beginner.join(60)
    assert seen == [{}, {}], "it refers to a run that is gone"


def test_a_deletion_that_is_overtaken_removes_nothing(
    store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, plan = store.run(space("little", "[0]"))

    def answer(*_: object) -> bool:
        take_over(store.ledger, sweep, 3)
        time.sleep(0.3)
        return True

    monkeypatch.setattr("sweep.housekeeping._confirmed", answer)
    monkeypatch.setitem(Lease.acquire.__func__.__kwdefaults__, "stale_seconds", 0.4)  # type: ignore[attr-defined]
    with pytest.raises(LeaseLostError):
        delete_sweep("little", store.places, console, yes=False)
    assert store.statuses(plan) == [Status.COMPLETED]


def test_a_deletion_that_is_overtaken_on_its_way_leaves_what_the_other_trains(
    store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, plan = store.run(space("little", "[0]"))
    delete_cell = Ledger.delete_cell

    def overtaken(ledger: Ledger, run_id: str) -> None:
        delete_cell(ledger, run_id)
        take_over(store.ledger, sweep, 3)
        time.sleep(0.3)

    monkeypatch.setattr(Ledger, "delete_cell", overtaken)
    monkeypatch.setitem(Lease.acquire.__func__.__kwdefaults__, "stale_seconds", 0.4)  # type: ignore[attr-defined]
    with pytest.raises(LeaseLostError):
        delete_sweep("little", store.places, console, yes=True)
    assert plan.cells.keys() <= store.storage.inventory().keys()


def test_the_lease_is_held_while_the_files_of_a_sweep_are_removed(
    store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, _ = store.run(space("little", "[0]"))
    clear, held = Artifacts.clear, list[object]()

    def slowly(artifacts: Artifacts, run_id: str, path: str | None = None) -> None:
        if run_id == sweep.run_id:
            with pytest.raises(LeaseHeldError):
                Lease.acquire(store.ledger, sweep)
            held.append(run_id)
        clear(artifacts, run_id, path)

    monkeypatch.setattr(Artifacts, "clear", slowly)
    delete_sweep("little", store.places, console, yes=True)
    assert held == [sweep.run_id]


@pytest.mark.parametrize("step", ["delete_run", "clear"])
def test_a_cell_whose_deletion_is_broken_off_is_whole_or_gone(
    step: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan = store.run(space("little", "[0]"))
    (run,) = store.ledger.lookup(list(plan.cells)).values()

    def killed(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(store.ledger.client if step == "delete_run" else store.ledger.artifacts, step, killed)
    with pytest.raises((LedgerError, InterruptedError)):
        store.ledger.delete_cell(run.run_id)
    found = store.ledger.lookup(list(plan.cells))
    assert bool(found) == (step == "delete_run")
    assert store.ledger.artifacts.paths(run.run_id, names.ARTIFACT_HISTORY) != []


@pytest.mark.parametrize("step", ["rename_experiment", "delete_run"])
def test_a_deletion_that_is_broken_off_leaves_the_sweep_or_its_name_free(
    step: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, plan = store.run(space("little", "[0]"))

    def killed(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(store.ledger.client, step, killed)
        with pytest.raises(LedgerError):
            store.ledger.delete_sweep(sweep)
    for listed in store.ledger.list_sweeps():
        assert store.ledger.find_sweep(listed.name) == listed, "it is listed and cannot be deleted"
    monkeypatch.setattr("sweep.ledger.sweeps.PARENT_PATIENCE_SECONDS", 0.1)
    store.run(space("little", "[0]"))
    assert [one.name for one in store.ledger.list_sweeps()] == ["little"]
    assert store.statuses(plan) == [Status.COMPLETED]


def test_garbage_is_what_no_cell_waits_for(store: Store, console: Console) -> None:
    text = space("little", "[0]").replace("k: [2]", "k: [1, 2, 3]")
    _, plan = store.run(text, cells=2)
    # The third cell still waits for the trunk's state.
    kinds = {one.kind for one in of_store(store.ledger, store.storage)}
    assert "states left for other cells" not in kinds
    store.run(text)
    before = store.storage.usage()
    found = of_store(store.ledger, store.storage)
    assert {one.kind for one in found} >= {"states left for other cells"}
    collect_garbage(store.places, console, yes=True, ends=False, unknown=False)
    after = store.storage.usage()
    assert before - after == sum(one.size for one in found)
    assert of_store(store.ledger, store.storage) == []
    # A longer run goes on from where its cell ended.
    cells = [cell for cell in load_space_text(text.replace("until: 40", "until: 60")).points()]
    pack = Pack([cells[0].cell], store.storage, data_folder=store.places.data_folder)
    assert pack.trainer.step == 40
    collect_garbage(store.places, console, yes=True, ends=True, unknown=False)
    left = store.storage.inventory()
    assert set(left) == {cell for cell in left if cell not in plan.cells}
    assert store.statuses(plan) == [Status.COMPLETED] * 3


def test_a_cell_that_was_stopped_early_keeps_what_it_goes_on_from(store: Store, console: Console) -> None:
    text = space("little", "[0]")
    ((address, cell),) = make_plan(load_space_text(text)).cells.items()
    pack = Pack([cell], store.storage, data_folder=store.places.data_folder)
    pack.trainer.advance(20)
    pack.stop(address, "behind")
    pack.commit()
    _, plan = store.run(text)
    assert store.statuses(plan) == [Status.STOPPED]
    collect_garbage(store.places, console, yes=True, ends=False, unknown=False)
    newest, problems = store.storage.latest(address)
    assert newest is not None and newest.step == 20 and problems == []
    collect_garbage(store.places, console, yes=True, ends=True, unknown=False)
    assert address not in store.storage.inventory()


def test_what_unfinished_sweeps_keep_is_said_with_how_to_give_it_up(store: Store, console: Console) -> None:
    store.run(space("done", "[0]"))
    _, plan = store.run(space("given-up", "[0, 1]"), cells=0)
    (left,) = plan.cells.keys() - store.ledger.lookup(list(plan.cells)).keys()
    store.storage.commit(left, attempt=1, step=20, checkpoint=bytes(3 * 2**20), part=None, previous=None)
    collect_garbage(store.places, console, yes=True, ends=False, unknown=False)
    said = " ".join(console.export_text().split())
    assert "sweep 'given-up' is unfinished and nobody runs it; 3.0 MiB are kept to go on from" in said
    assert "delete given-up" in said and "'done'" not in said
    assert left in store.storage.inventory()


def test_what_mlflow_does_not_know_goes_only_when_asked(store: Store, console: Console) -> None:
    store.run(space("little", "[0]"))
    collect_garbage(store.places, console, yes=True, ends=False, unknown=False)
    store.storage.commit("stranger", attempt=1, step=1, checkpoint=b"state", part=None, previous=None)
    assert of_store(store.ledger, store.storage) == []
    collect_garbage(store.places, console, yes=True, ends=False, unknown=True)
    assert "stranger" not in store.storage.inventory()


@pytest.mark.parametrize("begins", ["a sweep", "a search asks", "an attempt"])
def test_what_is_wanted_while_other_garbage_is_removed_stays(
    begins: str, store: Store, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = store.run(space("running", "[5]"))
    loaded = load_space_text(space("late", "[0]"))
    plan = make_plan(loaded)
    (cell,) = plan.cells
    table = grid_table(plan.grids, plan.axes, plan.cell_ids)
    held = ExitStack()
    if begins == "a search asks":
        claims = Claims(store.ledger, running, held.enter_context(Lease.acquire(store.ledger, running)))
    for address in ("-first", cell, "zlast"):
        store.storage.commit(address, attempt=1, step=20, checkpoint=b"state", part=None, previous=None)
    delete = Storage.delete

    def slowly(storage: Storage, address: str) -> int:
        if address == "-first":
            if begins == "a sweep":
                sweep = store.ledger.open_sweep(loaded, table)
                held.enter_context(Lease.acquire(store.ledger, sweep))
                store.ledger.write_plan(sweep, loaded, table)
            elif begins == "a search asks":
                claims.queue([cell])
            else:
                storage.begin_attempt(cell)
        return delete(storage, address)

    monkeypatch.setattr(Storage, "delete", slowly)
    with held:
        collect_garbage(store.places, console, yes=True, ends=False, unknown=True)
    left = store.storage.inventory()
    assert cell in left and not {"-first", "zlast"} & left.keys()
    assert store.storage.latest(cell)[0] is not None
    assert "1 of these stay, because they are needed by now" in console.export_text()


def test_sizes_are_written_as_people_do() -> None:
    assert [in_units(size) for size in (0, 1023, 1024, 3.5 * 2**20, 2**33)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "3.5 MiB",
        "8.0 GiB",
    ]


def test_the_end_from_which_a_cell_of_another_sweep_starts_stays(store: Store, console: Console) -> None:
    _, short = store.run(space("short", "[0]"))
    longer = space("longer", "[0]").replace("until: 40", "until: 60")
    _, plan = store.run(longer, cells=0)
    (cell,) = plan.cells.values()

    def begins_at() -> int:
        return Pack([cell], store.storage, data_folder=store.places.data_folder).trainer.step

    # What the longer one starts from is a file of the short one.
    (end,) = short.cells
    collect_garbage(store.places, console, yes=True, ends=True, unknown=False)
    assert end in store.storage.inventory()
    delete_sweep("short", store.places, console, yes=True)
    assert "what 1 cells of it left stays" in console.export_text()
    assert store.ledger.lookup(list(short.cells)) == {}
    assert begins_at() == 40
    # The longer one has a copy of its own now, and ends.
    store.run(longer)
    collect_garbage(store.places, console, yes=True, ends=False, unknown=True)
    assert end not in store.storage.inventory()
    assert store.statuses(plan) == [Status.COMPLETED]

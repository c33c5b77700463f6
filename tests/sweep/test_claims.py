"""Sweeps that run at the same time and want the same cells: each cell is one sweep's, and all agree whose."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from sweep.claims import CHOOSING, Claims, queued_cells, ticket_of
from sweep.errors import LeaseLostError, LedgerError
from sweep.holder import Holder
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.names import PARAM_LEASE_PREFIX
from tests.sweep.small_sweep import FakeSpace, make_cell, make_plan, open_ledger
from trainers.canonical import cell_id

A, B, C = (cell_id(make_cell(lr)) for lr in (0.1, 0.2, 0.3))


@pytest.fixture
def leases() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begin(ledger: Ledger, name: str, *lrs: float, shares: bool = True) -> Sweep:
    plan, space = make_plan(*lrs), FakeSpace(name=name)
    sweep = ledger.open_sweep(space, plan, shares=shares)
    ledger.write_plan(sweep, space, plan)
    return sweep


def claims(ledger: Ledger, sweep: Sweep, leases: ExitStack) -> Claims:
    return Claims(ledger, sweep, leases.enter_context(Lease.acquire(ledger, sweep)))


def test_who_came_first_has_the_cells_that_both_want(ledger: Ledger, leases: ExitStack) -> None:
    first = claims(ledger, begin(ledger, "first", 0.1, 0.2), leases)
    second = claims(ledger, begin(ledger, "second", 0.2, 0.3), leases)
    third = claims(ledger, begin(ledger, "third", 0.2, 0.3), leases)
    assert first.others([A, B]) == {}
    assert second.others([B, C]) == {B: "first"}
    assert third.others([B, C]) == {B: "first", C: "second"}
    # A cell that has ended is not asked for.
    assert second.others([C]) == {}


def test_what_a_sweep_gave_back_is_free(ledger: Ledger, leases: ExitStack) -> None:
    first_sweep = begin(ledger, "first", 0.1)
    with Lease.acquire(ledger, first_sweep) as lease:
        Claims(ledger, first_sweep, lease)
        second = claims(ledger, begin(ledger, "second", 0.1), leases)
        assert second.others([A]) == {A: "first"}
    assert second.others([A]) == {}
    # When it comes back, it is the later one.
    again = claims(ledger, first_sweep, leases)
    assert again.others([A]) == {A: "second"}
    assert second.others([A]) == {}


def test_a_sweep_that_does_not_share_is_in_nobodys_way(ledger: Ledger, leases: ExitStack) -> None:
    apart = begin(ledger, "apart", 0.1, shares=False)
    assert not apart.shares and not ledger.find_sweep("apart").shares
    leases.enter_context(Lease.acquire(ledger, apart))
    assert claims(ledger, begin(ledger, "second", 0.1), leases).others([A]) == {}


def test_a_driver_that_does_not_answer_loses_its_lease_and_its_cells(
    ledger: Ledger, leases: ExitStack
) -> None:
    silent = begin(ledger, "silent", 0.1)
    holder = Holder(host="far", machine="another", pid=1, process_started="1", since_ms=0, token="t")
    ledger.client.log_param(silent.run_id, f"{PARAM_LEASE_PREFIX}1", holder.to_text())
    ledger.write_ticket(silent, "1:1")
    asleep = Lease(ledger, silent, epoch=1, holder=holder, renew_seconds=60, stale_seconds=0.1)
    sweep = begin(ledger, "awake", 0.1)
    lease = leases.enter_context(Lease.acquire(ledger, sweep))
    awake = Claims(ledger, sweep, lease, stale_seconds=0.5)
    begun = time.monotonic()
    assert awake.others([A]) == {}
    assert time.monotonic() - begun >= 0.5
    time.sleep(0.1)
    with pytest.raises(LeaseLostError):
        asleep.check()


def test_one_that_is_choosing_is_waited_for(ledger: Ledger, leases: ExitStack) -> None:
    slow = begin(ledger, "slow", 0.1)
    lease = leases.enter_context(Lease.acquire(ledger, slow))
    ledger.write_ticket(slow, f"{lease.epoch}:{CHOOSING}")
    second = claims(ledger, begin(ledger, "second", 0.1), leases)
    begun = time.monotonic()
    threading.Timer(0.5, ledger.write_ticket, (slow, f"{lease.epoch}:1")).start()
    found = second.others([A])
    assert time.monotonic() - begun > 0.4
    # Both have number 1; the parent runs' ids decide.
    expected = {A: "slow"} if slow.run_id < ledger.find_sweep("second").run_id else {}
    assert found == expected


def test_an_earlier_epochs_ticket_does_not_count(ledger: Ledger, leases: ExitStack) -> None:
    sweep = begin(ledger, "little", 0.1)
    with Lease.acquire(ledger, sweep) as lease:
        Claims(ledger, sweep, lease)
        assert ticket_of(ledger.parent_run(sweep)) is not None
    leases.enter_context(Lease.acquire(ledger, sweep))
    assert ticket_of(ledger.parent_run(sweep)) is None


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_that_start_at_once_each_cell_goes_to_one(
    attempt: int, ledger: Ledger, folder: Path, leases: ExitStack
) -> None:
    wanted = {
        "ab": (0.1, 0.2),
        "bc": (0.2, 0.3),
        "ca": (0.3, 0.1),
        "abc": (0.1, 0.2, 0.3),
    }
    sweeps = {name: begin(ledger, name, *lrs) for name, lrs in wanted.items()}
    gate = threading.Barrier(len(sweeps), timeout=120.0)

    def start(name: str) -> set[str]:
        own = open_ledger(folder)
        sweep = sweeps[name]
        lease = leases.enter_context(Lease.acquire(own, sweep))
        gate.wait()
        mine = {cell_id(make_cell(lr)) for lr in wanted[name]}
        return mine - Claims(own, sweep, lease).others(mine).keys()

    with ThreadPoolExecutor(len(sweeps)) as pool:
        taken = list(pool.map(start, sweeps))
    assert sorted(cell for cells in taken for cell in cells) == sorted([A, B, C])


def test_a_cell_that_is_asked_for_later_stays_with_who_has_it(ledger: Ledger, leases: ExitStack) -> None:
    search_sweep = begin(ledger, "search", 0.1)
    search = claims(ledger, search_sweep, leases)
    grid = claims(ledger, begin(ledger, "grid", 0.2), leases)
    assert grid.others([B]) == {}
    search.queue([B])
    assert search.others([A, B]) == {B: "grid"} and grid.others([B]) == {}
    # In the plan as well, by now.
    ledger.write_cells(search_sweep, make_plan(0.1, 0.2))
    assert search.others([A, B]) == {B: "grid"} and grid.others([B]) == {}
    # Who comes later finds it with the first of those before, and so is behind a cell asked for before.
    search.queue([C])
    late = claims(ledger, begin(ledger, "late", 0.1, 0.2, 0.3), leases)
    assert late.others([A, B, C]) == {A: "search", B: "grid", C: "search"}
    assert search.others([A, C]) == {}


def test_numbers_of_single_cells_end_with_the_lease(ledger: Ledger, leases: ExitStack) -> None:
    sweep = begin(ledger, "search", 0.1)
    with Lease.acquire(ledger, sweep) as lease:
        Claims(ledger, sweep, lease).queue([B])
        assert queued_cells(ledger, ledger.parent_run(sweep)).keys() == {B}
    claims(ledger, sweep, leases)
    assert queued_cells(ledger, ledger.parent_run(sweep)) == {}
    assert claims(ledger, begin(ledger, "grid", 0.2), leases).others([B]) == {}


def test_what_is_given_up_is_the_next_ones(ledger: Ledger, leases: ExitStack) -> None:
    first = claims(ledger, begin(ledger, "first", 0.1, 0.2), leases)
    second = claims(ledger, begin(ledger, "second", 0.1, 0.2), leases)
    assert second.others([A, B]) == {A: "first", B: "first"}
    first.queue([A])
    assert second.others([A, B]) == {B: "first"}
    assert first.others([A, B]) == {A: "second"}


@pytest.mark.parametrize("lost", ["first request", "last answer"])
def test_a_number_that_could_not_be_drawn_keeps_a_cell_from_both_or_gives_it_to_one(
    lost: str, ledger: Ledger, leases: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = claims(ledger, begin(ledger, "first", 0.1), leases)
    second = claims(ledger, begin(ledger, "second", 0.1), leases)
    put, puts = ledger.artifacts.put, list[bytes]()

    def put_once(run_id: str, path: str, data: bytes) -> None:
        puts.append(data)
        if (lost, len(puts)) == ("first request", 1):
            raise LedgerError("away", transient=True)
        put(run_id, path, data)
        if (lost, len(puts)) == ("last answer", 2):
            raise LedgerError("away", transient=True)

    monkeypatch.setattr(ledger.artifacts, "put", put_once)
    with pytest.raises(LedgerError):
        first.queue([A])
    assert len([one for one in (first, second) if not one.others([A])]) == 1
    first.queue([A])
    assert first.others([A]) == {A: "second"} and second.others([A]) == {}


def test_a_number_that_is_being_chosen_is_not_waited_for(
    ledger: Ledger, leases: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_sweep = begin(ledger, "search", 0.1)
    search = claims(ledger, search_sweep, leases)
    grid = claims(ledger, begin(ledger, "grid", 0.2), leases)
    with monkeypatch.context() as patch:
        patch.setattr(search, "_next_number", interrupt)
        with pytest.raises(KeyboardInterrupt):
            search.queue([B])
    assert grid.others([B]) == {B: "search"}
    search.queue([B])
    assert grid.others([B]) == {} and search.others([B]) == {B: "grid"}


def interrupt() -> int:
    raise KeyboardInterrupt


@pytest.mark.parametrize("attempt", range(3))
def test_of_searches_that_ask_for_one_cell_at_once_one_has_it(
    attempt: int, ledger: Ledger, folder: Path, leases: ExitStack
) -> None:
    names = ("one", "two", "three", "four")
    started = [claims(open_ledger(folder), begin(ledger, name, 0.1), leases) for name in names]
    asking, asked = (threading.Barrier(len(names), timeout=120.0) for _ in range(2))

    def ask(one: Claims) -> tuple[bool, bool]:
        asking.wait()
        one.queue([B])
        at_once = not one.others([B])
        asked.wait()
        return at_once, not one.others([B])

    with ThreadPoolExecutor(len(names)) as pool:
        taken = list(pool.map(ask, started))
    assert sum(later for _, later in taken) == 1
    # Who took it at once has it for good; nobody may have, when the numbers were still being chosen.
    assert all(later for at_once, later in taken if at_once)


def test_of_two_that_have_both_stored_before_they_look_one_has_the_cell(
    ledger: Ledger, folder: Path, leases: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = [claims(open_ledger(folder), begin(ledger, name, 0.1), leases) for name in ("one", "two")]
    stored, drawn, written = (threading.Barrier(2, timeout=120.0) for _ in range(3))
    next_number = Claims._next_number

    def together(one: Claims) -> int:
        stored.wait()
        number = next_number(one)
        drawn.wait()
        return number

    monkeypatch.setattr(Claims, "_next_number", together)

    def ask(one: Claims) -> bool:
        one.queue([B])
        written.wait()
        return not one.others([B])

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(ask, started)) == 1

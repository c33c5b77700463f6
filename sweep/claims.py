"""Whose a cell is, when sweeps that run at the same time want the same one: no cell is trained by two.

MLflow has no lock for a cell that has no run yet, so sweeps that run take turns: Lamport's bakery algorithm
(CACM 17(8), 1974). It needs nothing but a tag that each driver writes on its own parent run:

    1. store the plan and take the lease
    2. tag "choosing"
    3. look at the numbers of all sweeps that run, and tag the next one
    4. wait for those that are choosing; whoever has a smaller number has the cells that both want

Of two drivers at least one sees the other's number, and both come to the same answer. What a sweep leaves
undone, because it ended, was stopped or died, becomes free; a driver that went silent loses its lease first,
and finds that out before it writes.

A search wants further cells while it runs, which others may be training by then. For those alone it takes
these steps again (`Claims.queue`), with a file beside the plan in place of the tag: cells and their numbers.
A number that is being chosen is smaller than any other, so nobody waits for it; they take the cell for
another's and look again. A cell without a number of its own has the driver's.

Nobody waits in a circle: a driver that trains nothing itself and waits for others goes behind all of them,
with all of its cells, so whatever is waited for is another's who trains it.

Who deletes a sweep tags it before it looks which cells others want, and a driver looks for such tags after it
has stored its plan, or that file, and before it looks which cells have a run. So either the run of a cell
stays, or the driver waits until it is gone.
"""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sweep import names
from sweep.errors import LeaseHeldError, LedgerError
from sweep.lease import STALE_SECONDS, Lease, current_holder, last_epoch
from sweep.ledger import Ledger, ParentRun, Sweep, is_deleted

SECONDS_BETWEEN_LOOKS = 0.1
CHOOSING = 0


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A driver's place in the order.

    Args:
        number: From 1; `CHOOSING` while it is being chosen.
        run_id: The sweep's parent run, which decides between equal numbers.
    """

    number: int
    run_id: str


class Claims:
    """The order of one driver among those that run.

    Args:
        ledger: The record.
        sweep: The driver's sweep, its plan stored.
        lease: Its lease; the order holds as long as that does.
        stale_seconds: How long another driver may be silent, see `Lease`.
    """

    def __init__(
        self, ledger: Ledger, sweep: Sweep, lease: Lease, *, stale_seconds: float = STALE_SECONDS
    ) -> None:
        self._stale_seconds = stale_seconds
        self._ledger = ledger
        self._sweep = sweep
        self._lease = lease
        self._queued: dict[str, int] = {}
        self._write(CHOOSING)
        self._number = self._next_number()
        self._write(self._number)

    def queue(self, cell_ids: Collection[str]) -> None:
        """Go behind all others for these cells: further ones, or ones that this driver does not train now.

        May be repeated, and must be after an error, before `others` is asked about new ones.

        Raises:
            LedgerError: MLflow does not answer.
            LeaseLostError: Another process has taken over.
        """
        self._write_queued(self._queued | dict.fromkeys(cell_ids, CHOOSING))
        # Kept before it is written: if the answer is lost, others may know it already.
        self._queued |= dict.fromkeys(cell_ids, self._next_number())
        self._write_queued(self._queued)

    def others(self, cell_ids: Collection[str]) -> dict[str, str]:
        """Return which of these cells are another sweep's to run first, with that sweep's name.

        A sweep whose driver does not answer loses its lease here, which takes as long as a lease takes to
        become stale; its cells are free afterwards.

        Args:
            cell_ids: Cells that have not ended.
        """
        held: dict[str, str] = {}
        before: list[tuple[Ticket, str, str]] = []
        for run in self._running():
            sweep = self._ledger.sweep_of(run)
            wanted = self._cells(sweep)
            # In this order: a cell with a number of its own has it before it is in the plan.
            queued = queued_cells(self._ledger, run)
            wanted = (wanted | queued.keys()) & set(cell_ids)
            if wanted and is_being_deleted(run):
                self._wait_for_deletion(sweep)
                continue
            ticket = self._chosen(run) if wanted else None
            if ticket is None:
                continue
            tickets = {cell: Ticket(queued.get(cell, ticket.number), ticket.run_id) for cell in wanted}
            earlier = {cell: one for cell, one in tickets.items() if one < self._ticket(cell)}
            if earlier and not self._take_from_the_silent(sweep):
                before += [(one, cell, sweep.name) for cell, one in earlier.items()]
        for _, cell, name in sorted(before, reverse=True):
            held[cell] = name
        return held

    def _ticket(self, cell_id: str) -> Ticket:
        return Ticket(self._queued.get(cell_id, self._number), self._sweep.run_id)

    def _next_number(self) -> int:
        """Return a number that is larger than those of all others that run."""
        taken = [CHOOSING]
        for run in self._running():
            if (ticket := ticket_of(run)) is not None:
                taken += [ticket.number, *queued_cells(self._ledger, run).values()]
        return 1 + max(taken)

    def _running(self) -> list[ParentRun]:
        """Return the parent runs of the other sweeps whose lease is taken by a process that is not gone."""
        return [
            run
            for run in self._ledger.parent_runs()
            if run.info.run_id != self._sweep.run_id
            and self._ledger.sweep_of(run).shares
            and current_holder(run) is not None
        ]

    def _chosen(self, run: ParentRun) -> Ticket | None:
        """Return another driver's ticket, waiting while it is being chosen; `None` without one."""
        sweep = self._ledger.sweep_of(run)
        while (ticket := ticket_of(run)) is not None and ticket.number == CHOOSING:
            if current_holder(run) is None or self._take_from_the_silent(sweep):
                return None
            time.sleep(SECONDS_BETWEEN_LOOKS)
            run = self._ledger.parent_run(sweep)
        # One without a ticket has not begun to choose, and will see this one's.
        return ticket

    def _wait_for_deletion(self, sweep: Sweep) -> None:
        """Return once a sweep is gone, or whoever deletes it."""
        while True:
            run = self._ledger.parent_run(sweep)
            gone = is_deleted(run) or current_holder(run) is None
            if gone or not is_being_deleted(run):
                return
            try:
                if self._take_from_the_silent(sweep):
                    return
            except LedgerError as error:
                # Where it was deleted meanwhile, the next look says so.
                if error.transient:
                    raise
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _take_from_the_silent(self, sweep: Sweep) -> bool:
        """Take the lease of a driver that does not answer, so that it writes nothing more when it wakes."""
        try:
            Lease.acquire(self._ledger, sweep, stale_seconds=self._stale_seconds).release()
        except LeaseHeldError:
            return False
        return True

    def _cells(self, sweep: Sweep) -> set[str]:
        try:
            table = self._ledger.read_cells(sweep)
        except LedgerError as error:
            if error.transient:
                raise
            table = None
        return set() if table is None else set(table["cell_id"].to_pylist())

    def _write(self, number: int) -> None:
        self._ledger.write_ticket(self._sweep, f"{self._lease.epoch}:{number}")

    def _write_queued(self, queued: Mapping[str, int]) -> None:
        self._lease.check()
        facts = {"epoch": self._lease.epoch, "cells": queued}
        self._ledger.artifacts.put(self._sweep.run_id, names.ARTIFACT_TICKETS, json.dumps(facts).encode())


def is_being_deleted(run: ParentRun) -> bool:
    """Whether the present holder of a sweep's lease is deleting it."""
    return run.data.tags.get(names.TAG_DELETING) == str(last_epoch(run))


def ticket_of(run: ParentRun) -> Ticket | None:
    """Read a parent run's ticket; `None` where the present holder of its lease has none yet."""
    epoch, _, number = run.data.tags.get(names.TAG_TICKET, "").partition(":")
    if epoch != str(last_epoch(run)) or not number.isdecimal():
        return None
    return Ticket(int(number), run.info.run_id)


def queued_cells(ledger: Ledger, run: ParentRun) -> dict[str, int]:
    """Return the cells for which a sweep has a number of their own, which may not be in its plan yet.

    None where the present holder of its lease has drawn none, or the file is damaged.
    """
    try:
        facts = json.loads(ledger.artifacts.get(run.info.run_id, names.ARTIFACT_TICKETS) or b"{}")
        if facts.get("epoch") != last_epoch(run):
            return {}
        return {str(cell): int(number) for cell, number in facts["cells"].items()}
    except LedgerError as error:
        if error.transient:
            raise
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}

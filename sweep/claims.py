"""Whose a cell is, when sweeps that run at the same time want the same one: no cell is trained by two.

MLflow has no lock for a cell that has no run yet, so sweeps that run take turns: Lamport's bakery algorithm
(CACM 17(8), 1974). It needs nothing but a tag that each driver writes on its own parent run:

    1. store the plan and take the lease
    2. tag "choosing"
    3. look at the numbers of all sweeps that run, and tag the next one
    4. wait for those that are choosing; whoever has a smaller number has the cells that both want

Of two drivers at least one sees the other's number, and both come to the same answer. Nobody waits in a
circle, because only the later one waits. What a sweep leaves undone, because it ended, was stopped or died,
becomes free; a driver that went silent loses its lease first, and finds that out before it writes.

Who deletes a sweep tags it before it looks which cells others want, and a driver looks for such tags after it
has stored its plan and before it looks which cells have a run. So either the run of a cell stays, or the
driver waits until it is gone.
"""

import time
from collections.abc import Collection
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
        self._epoch = lease.epoch
        self._write(CHOOSING)
        taken = [ticket.number for run in self._running() if (ticket := ticket_of(run)) is not None]
        self._ticket = Ticket(1 + max(taken, default=CHOOSING), sweep.run_id)
        self._write(self._ticket.number)

    def others(self, cell_ids: Collection[str]) -> dict[str, str]:
        """Return which of these cells are another sweep's to run first, with that sweep's name.

        A sweep whose driver does not answer loses its lease here, which takes as long as a lease takes to
        become stale; its cells are free afterwards.

        Args:
            cell_ids: Cells that have not ended.
        """
        held: dict[str, str] = {}
        before: list[tuple[Ticket, Sweep, set[str]]] = []
        for run in self._running():
            sweep = self._ledger.sweep_of(run)
            wanted = self._cells(sweep) & set(cell_ids)
            if wanted and is_being_deleted(run):
                self._wait_for_deletion(sweep)
                continue
            ticket = self._chosen(run) if wanted else None
            if ticket is not None and ticket < self._ticket and not self._take_from_the_silent(sweep):
                before.append((ticket, sweep, wanted))
        for _, sweep, wanted in sorted(before, key=lambda one: one[0], reverse=True):
            held.update(dict.fromkeys(wanted, sweep.name))
        return held

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
        self._ledger.write_ticket(self._sweep, f"{self._epoch}:{number}")


def is_being_deleted(run: ParentRun) -> bool:
    """Whether the present holder of a sweep's lease is deleting it."""
    return run.data.tags.get(names.TAG_DELETING) == str(last_epoch(run))


def ticket_of(run: ParentRun) -> Ticket | None:
    """Read a parent run's ticket; `None` where the present holder of its lease has none yet."""
    epoch, _, number = run.data.tags.get(names.TAG_TICKET, "").partition(":")
    if epoch != str(last_epoch(run)) or not number.isdecimal():
        return None
    return Ticket(int(number), run.info.run_id)

"""Going on with cells that were stopped early, or were to be stopped, from where they are."""

from collections.abc import Collection

from sweep.claims import Claims
from sweep.guide import Guide
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.pack import relabelled
from sweep.search.events import Released, decided_to_stop
from sweep.search.journal import Journal
from sweep.storage import Storage
from trainers.checkpoint import decode, encode

REASON = "stopped early; to be continued"


class Reopening:
    """Lets cells of a sweep go on.

    Args:
        sweep: The sweep.
        ledger: Its record.
        storage: The checkpoint store.
        journal: Takes note of it.
        claims: Whose the cells are; `None` for a sweep that shares nothing.
        guide: May stop cells early; `None` where nobody does.
    """

    def __init__(
        self,
        sweep: Sweep,
        ledger: Ledger,
        storage: Storage,
        journal: Journal,
        claims: Claims | None,
        guide: Guide | None,
    ) -> None:
        self._sweep = sweep
        self._ledger = ledger
        self._storage = storage
        self._journal = journal
        self._claims = claims
        self._guide = guide

    def let_go_on(self, cells: Collection[str], *, are_named: bool) -> int:
        """Let the cells go on that were stopped early, or are about to be, but for those of others.

        May be repeated.

        Args:
            cells: Those that are wanted.
            are_named: Whether they are asked for one by one: then a request to stop one of them that is not
                met yet does not count any more.

        Returns:
            How many these were.
        """
        theirs = {} if self._claims is None else self._claims.others(cells)
        mine = [cell for cell in cells if cell not in theirs]
        runs = self._ledger.lookup(mine, self._sweep)
        ends = {cell: self._end(cell, runs.get(cell)) for cell in mine}
        stopped = [cell for cell in mine if ends[cell] is Status.STOPPED]
        # What was decided and had no effect yet, as its driver was lost: this one would see to that.
        decided = decided_to_stop(self._journal.events)
        released = [*stopped, *(cell for cell in mine if cell in decided and ends[cell] is None)]
        self._journal.append([Released(cell_id=cell) for cell in released])
        freed = set(mine if are_named else released)
        if self._ledger.requests(self._sweep).cells & freed:
            self._ledger.clear_cell_stops(self._sweep, freed)
        marks = self._storage.stops(self._sweep.run_id)
        for cell in marks.all() & freed:
            marks.clear(cell)
        if self._guide is not None:
            for cell in released:
                self._guide.release(cell)
        for cell in stopped:
            reopen(cell, runs.get(cell), self._storage, self._ledger)
        return len(released)

    def _end(self, cell_id: str, run: CellRun | None) -> Status | None:
        """Return how a cell has ended, also where the record was cut short before it said so."""
        if run is not None and run.status.ended:
            return run.status
        newest, _ = self._storage.latest(cell_id)
        outcome = None if newest is None else newest.outcome
        return None if outcome is None else Status(outcome["status"])


def reopen(cell_id: str, run: CellRun | None, storage: Storage, ledger: Ledger) -> None:
    """Make a stopped cell one that is interrupted, in the store and then in MLflow; may be repeated.

    Args:
        cell_id: The cell.
        run: Its run, if it has one.
        storage: The checkpoint store. Where it has no state of the cell any more, the cell starts anew.
        ledger: MLflow.
    """
    reopen_stored(cell_id, storage)
    if run is not None:
        # What was recorded at the stop stays until the recorder has the rest.
        ledger.finish_cell(run.run_id, Status.INTERRUPTED, REASON)


def reopen_stored(cell_id: str, storage: Storage) -> None:
    """Undo a stop in the store, not hiding it: the same state and history are committed without an end."""
    manifest, _ = storage.latest(cell_id)
    if manifest is not None and manifest.outcome is not None and manifest.checkpoint is not None:
        state = relabelled(decode(storage.read_checkpoint(manifest)), cell_id)
        storage.commit(
            cell_id,
            attempt=storage.begin_attempt(cell_id),
            step=manifest.step,
            checkpoint=encode(state),
            part=storage.read_parts(manifest),
            start=0,
            previous=None,
            summary=manifest.summary,
        )

"""How the cells of a search stand: by what is recorded of them and whose they are, or else by the store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sweep.claims import Claims
from sweep.errors import StorageDamagedError
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.search.asking import Ended
from sweep.search.known import ended_run
from sweep.storage import Storage
from trainers.cell import Cell


class Ends:
    """Looks whether cells have ended, and how; changes nothing.

    Args:
        storage: The checkpoint store.
        sweep: The sweep.
        ledger: Its record.
        claims: Whose cells are; `None` for a sweep that shares nothing.
    """

    def __init__(self, storage: Storage, sweep: Sweep, ledger: Ledger, claims: Claims | None) -> None:
        self._storage = storage
        self._sweep = sweep
        self._ledger = ledger
        self._claims = claims

    def look_up(self, cells: Sequence[str]) -> tuple[dict[str, CellRun], set[str]]:
        """Return the runs of cells, and which of them another sweep is to run first.

        Raises:
            LedgerError: MLflow does not answer; nothing was changed.
        """
        if not cells:
            return {}, set()
        others = {} if self._claims is None else self._claims.others(cells)
        # After looking whose the cells are, so that what another has recorded before it ended is seen.
        runs = self._ledger.lookup(cells, self._sweep)
        return runs, {cell for cell in others if cell not in runs or not runs[cell].status.ended}

    def status(self, cell_id: str, run: CellRun | None) -> Status | None:
        """Return how a cell has ended, `None` where it has not.

        Raises:
            StorageError: The store does not answer.
        """
        if run is not None and run.status.ended:
            return run.status
        newest, _ = self._storage.latest(cell_id)
        outcome = None if newest is None else newest.outcome
        return None if outcome is None else Status(outcome["status"])

    def was_trained_here(self, run: CellRun | None) -> bool:
        """Whether an ended cell was trained here, as far as its run tells, which another may have begun."""
        return run is None or not run.status.ended or run.sweep == self._sweep.name

    def ended(
        self, cell_id: str, status: Status, num_steps: int, run: CellRun | None, *, trained_here: bool
    ) -> Ended:
        """Return how a cell ended.

        Args:
            cell_id: The cell.
            status: Ended, or failed.
            num_steps: Its steps.
            run: What is recorded of it, for where the store has no more.
            trained_here: Whether the budget was charged with it: of what others trained nothing comes back.

        Raises:
            StorageDamagedError: No commit that ends it can be read, and its end is not recorded.
            StorageError: The store does not answer.
        """
        newest, problems = self._storage.latest(cell_id)
        if status is Status.FAILED:
            ended = Ended(status=status, steps=0 if newest is None else newest.step, num_steps=num_steps)
        elif newest is not None and newest.outcome is not None:
            finals = newest.summary.get("finals", {})
            ended = Ended(status=status, metrics=finals, steps=newest.step, num_steps=num_steps)
        elif run is not None and run.status.ended:
            ended = ended_run(run, num_steps)
        else:
            raise StorageDamagedError(
                " ".join([f"no commit that ends cell {cell_id} can be read.", *problems])
            )
        return ended if trained_here else replace(ended, num_steps=ended.steps)

    def elsewhere(self, cells: Mapping[str, Cell], runs: Mapping[str, CellRun]) -> dict[str, Ended]:
        """Return how those of these cells have ended that have; the budget was not charged with them.

        Args:
            cells: By id.
            runs: What is recorded of them.

        Raises:
            StorageError: The store does not answer.
        """
        found: dict[str, Ended] = {}
        for identity, cell in cells.items():
            run = runs.get(identity)
            if (status := self.status(identity, run)) is not None:
                found[identity] = self.ended(identity, status, cell.num_steps, run, trained_here=False)
        return found

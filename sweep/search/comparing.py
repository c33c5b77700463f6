"""Cells are compared as they come to rungs; what is decided is written down and then takes effect."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sweep.errors import StorageError
from sweep.names import Status
from sweep.search.events import Decided, Event, Released
from sweep.search.outbox import Outbox
from sweep.search.stoppers import Stopper, value_at
from sweep.storage import Storage
from sweep.storage.stop_marks import StopMarks
from trainers.cell import Cell


class Comparing:
    """Decides at rungs which cells stop, and marks them in the store.

    Args:
        stopper: The rule, having learnt what the journal has; `None` decides nothing.
        cells: The plan's.
        storage: Where their histories are.
        marks: Where a cell's workers look whether it is to stop.
        outbox: Takes the decisions.
        events: The journal so far.
        siblings: Gives the cells that share a configuration with one.
        has_ended: Tells whether a cell's record is closed, so that there is nothing to stop.
    """

    def __init__(
        self,
        stopper: Stopper | None,
        *,
        cells: Mapping[str, Cell],
        storage: Storage,
        marks: StopMarks,
        outbox: Outbox,
        events: Sequence[Event],
        siblings: Callable[[str], Iterable[str]],
        has_ended: Callable[[str], bool],
    ) -> None:
        self._stopper = stopper
        self._cells = cells
        self._storage = storage
        self._marks = marks
        self._outbox = outbox
        self._siblings = siblings
        self._has_ended = has_ended
        self._decided = {(e.cell_id, e.step): e for e in events if isinstance(e, Decided)}
        for event in events:
            if isinstance(event, Released):
                self.release(event.cell_id)

    def rungs(self, cells: Mapping[str, Cell]) -> set[int]:
        """Return the steps at which some of these cells are compared."""
        if self._stopper is None:
            return set()
        return {rung for cell in cells.values() for rung in self._stopper.rungs(cell.num_steps)}

    def release(self, cell_id: str) -> None:
        """Never stop this cell again."""
        if self._stopper is not None:
            self._stopper.release(cell_id)
        self._decided = {
            key: replace(decided, stops=False) if decided.cell_id == cell_id else decided
            for key, decided in self._decided.items()
        }

    def repeat(self) -> None:
        """Let the decisions of earlier commands take effect, of which some may not have had one."""
        for decided in self._decided.values():
            if decided.stops and decided.cell_id in self._cells:
                self._mark(decided)

    def compare(self, cell_id: str, step: int, status: Status) -> None:
        """Decide at every rung that a cell has passed since the last look.

        Args:
            cell_id: The cell.
            step: Of the commit that it has come to.
            status: How it stands there.

        Raises:
            StorageError: The store does not answer; may be repeated.
        """
        if self._stopper is None or status in (Status.DIVERGED, Status.FAILED):
            return
        rungs = [rung for rung in self._stopper.rungs(self._cells[cell_id].num_steps) if rung < step]
        if all((cell_id, rung) in self._decided for rung in rungs):
            return
        if (table := self._history(cell_id)) is None:
            return
        values = table.get(self._stopper.metric)
        for rung in rungs:
            if (cell_id, rung) in self._decided or values is None:
                continue
            value = value_at(rung, table["step"], values)
            if value is None:
                continue
            decided = self._stopper.decide(cell_id, rung, value, goes_on=status is Status.RUNNING)
            self._stopper.learn(decided)
            self._take(decided)
            if decided.stops:
                self._stop_siblings(self._stopper, decided)
                break

    def _history(self, cell_id: str) -> Mapping[str, list[Any]] | None:
        """Return what a cell has committed; `None` where nothing of it is there.

        Raises:
            StorageError: The store does not answer.
        """
        newest, _ = self._storage.latest(cell_id)
        try:
            table = None if newest is None else self._storage.read_parts(newest)
        except StorageError:
            # Pruned since, because a later commit exists.
            newest, _ = self._storage.latest(cell_id)
            table = None if newest is None else self._storage.read_parts(newest)
        return None if table is None else table.to_pydict()

    def _stop_siblings(self, stopper: Stopper, decided: Decided) -> None:
        for other in self._siblings(decided.cell_id):
            along = stopper.along_with(decided, other)
            if along is not None and not self._stops(other):
                self._take(along)

    def _take(self, decided: Decided) -> None:
        """Take note of a decision; its effect comes once it is durable."""
        self._decided[decided.cell_id, decided.step] = decided
        self._outbox.write(decided)
        if decided.stops:
            self._outbox.then([partial(self._mark, decided)])

    def _stops(self, cell_id: str) -> bool:
        return any(known == cell_id and decided.stops for (known, _), decided in self._decided.items())

    def _mark(self, decided: Decided) -> None:
        if not self._has_ended(decided.cell_id):
            self._marks.put(decided.cell_id, decided.reason)

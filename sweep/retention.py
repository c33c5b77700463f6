"""What stays in the store, and for how long.

    of a cell in training    its two newest commits
    of a cell that ended     its last commit: a longer run goes on from it
    a state left for others  until every cell that starts from it has ended

The first two are `Pack`'s doing, with each commit; the third is done here, while a sweep runs, where all who
start from a state are trained by this command. What others may start from, what kills leave behind, and what
sweeps that were given up or deleted still hold, `sweep gc` removes.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping

from sweep.errors import StorageError
from sweep.forks import Fork, Sharing, lines_of
from sweep.storage import Storage
from trainers.cell import Cell
from trainers.errors import SharpflatError


class Retention:
    """Removes the states that no cell waits for any more.

    Args:
        storage: Where they are.
        cells: The cells that are trained.
        sharing: What they take from each other.
        others: The plan's further cells that have not ended.
        elsewhere: Returns the lines on which cells of other sweeps lie that have not ended; may raise
            `LedgerError`.
    """

    def __init__(
        self,
        storage: Storage,
        cells: Mapping[str, Cell],
        sharing: Mapping[str, Sharing],
        *,
        others: Iterable[Cell],
        elsewhere: Callable[[], Collection[str]],
    ) -> None:
        self._storage = storage
        self._elsewhere = elsewhere
        self._waiting: dict[Fork, set[str]] = {}
        self._kept: set[Fork] = set()
        self._superfluous: list[Fork] = []
        for cell_id, shared in sharing.items():
            if (start := shared.start) is not None:
                self._waiting.setdefault(start, set()).add(cell_id)
                if start.step == cells[cell_id].num_steps:
                    # Not only a state on the way: it is where this cell ends.
                    self._kept.add(start)
        if self._waiting:
            self._keep_for(others)
        self._start = {cell_id: shared.start for cell_id, shared in sharing.items()}

    def _keep_for(self, others: Iterable[Cell]) -> None:
        """Keep the states that cells can start from which are not trained here."""
        forks: dict[str, list[Fork]] = {}
        for fork in self._waiting:
            forks.setdefault(fork.line, []).append(fork)
        for cell in others:
            for line, start, stop in lines_of(cell):
                self._kept.update(fork for fork in forks.get(line, ()) if start < fork.step <= stop)

    def ended(self, cell_id: str) -> None:
        """Say that a cell has an outcome. Does not touch the store."""
        start = self._start.get(cell_id)
        if start is None:
            return
        waiting = self._waiting[start]
        waiting.discard(cell_id)
        if not waiting and start not in self._kept:
            self._superfluous.append(start)

    def remove(self) -> None:
        """Remove what has become superfluous. What cannot be removed now is left to `sweep gc`."""
        found: list[Fork] = []
        while self._superfluous:
            found.append(self._superfluous.pop())
        # Another user's space may name files that cannot be read here.
        with contextlib.suppress(SharpflatError, OSError):
            wanted = self._elsewhere() if found else ()
            for fork in found:
                if fork.line not in wanted:
                    with contextlib.suppress(StorageError):
                        self._storage.forget(fork.line, fork.step)

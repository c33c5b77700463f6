"""What stays in the store, and for how long.

    of a cell in training    its two newest commits
    of a cell that ended     its last commit: a longer run goes on from it
    a state left for others  until every cell of the plan that starts from it has ended

The first two are `Pack`'s doing, with each commit; the third is done here, while a sweep runs. What kills
leave behind, and what sweeps that were given up or deleted still hold, `sweep gc` removes.
"""

import contextlib
from collections.abc import Mapping

from sweep.errors import StorageError
from sweep.forks import Fork, Sharing
from sweep.storage import Storage
from trainers.cell import Cell


class Retention:
    """Removes the states that no cell of a plan waits for any more.

    Args:
        storage: Where they are.
        cells: The cells that are trained.
        sharing: What they take from each other.
    """

    def __init__(self, storage: Storage, cells: Mapping[str, Cell], sharing: Mapping[str, Sharing]) -> None:
        self._storage = storage
        self._waiting: dict[Fork, set[str]] = {}
        self._ends: set[Fork] = set()
        self._superfluous: list[Fork] = []
        for cell_id, shared in sharing.items():
            if (start := shared.start) is not None:
                self._waiting.setdefault(start, set()).add(cell_id)
                if start.step == cells[cell_id].num_steps:
                    # Not only a state on the way: it is where this cell ends.
                    self._ends.add(start)
        self._start = {cell_id: shared.start for cell_id, shared in sharing.items()}

    def ended(self, cell_id: str) -> None:
        """Say that a cell has an outcome. Does not touch the store."""
        start = self._start.get(cell_id)
        if start is None:
            return
        waiting = self._waiting[start]
        waiting.discard(cell_id)
        if not waiting and start not in self._ends:
            self._superfluous.append(start)

    def remove(self) -> None:
        """Remove what has become superfluous. What cannot be removed now is left to `sweep gc`."""
        while self._superfluous:
            fork = self._superfluous.pop()
            with contextlib.suppress(StorageError):
                self._storage.forget(fork.line, fork.step)

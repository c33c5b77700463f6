"""From which step each cell can go on, by what the store holds: its own commits, and states on its lines.

The cells of a pack begin at one step, so this is asked before packs are made. Names of files are looked at
and no more; `sweep.pack` reads the states themselves.
"""

from collections.abc import Mapping
from functools import cache

from sweep.forks import lines_of
from sweep.storage import Storage
from trainers.cell import Cell


def starting_points(
    cells: Mapping[str, Cell], storage: Storage, committed: Mapping[str, int], *, lanes: int
) -> Mapping[str, int]:
    """Return the step of the furthest state that each cell can go on from, where there is one.

    Args:
        cells: What is to be trained, by id.
        storage: The checkpoint store.
        committed: The step of each cell's newest commit, where it has one.
        lanes: Most cells of a pack. A cell that is alone in its pack begins wherever it can, so nothing is
            looked at for that.

    Raises:
        StorageError: The store does not answer.
    """
    if lanes == 1:
        return committed
    steps_of = cache(storage.steps)

    def left(cell: Cell) -> int:
        """Return the furthest step at which another cell has left a state for this one."""
        for line, start, stop in lines_of(cell):
            if usable := [step for step in steps_of(line) if start < step <= stop]:
                return max(usable)
        return 0

    return {cell_id: max(committed.get(cell_id, 0), left(cell)) for cell_id, cell in cells.items()}

"""From which step each cell can go on, by what the store holds: its own commits, and states on its lines.

The cells of a pack begin at one step, so this is asked before packs are made. Names of files are looked at
and no more; `sweep.pack` reads the states themselves.
"""

from collections.abc import Mapping

from sweep.forks import lines_of
from sweep.looking import looks
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
    lines = {cell_id: lines_of(cell) for cell_id, cell in cells.items()}
    # Cells that share a prefix share its line.
    distinct = dict.fromkeys(line for found in lines.values() for line, _, _ in found)
    steps = dict(looks(distinct, storage.steps))

    def left(cell_id: str) -> int:
        """Return the furthest step at which another cell has left a state for this one."""
        usable = [
            step for line, start, stop in lines[cell_id] for step in steps[line] if start < step <= stop
        ]
        return max(usable, default=0)

    return {cell_id: max(committed.get(cell_id, 0), left(cell_id)) for cell_id in cells}

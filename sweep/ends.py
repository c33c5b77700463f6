"""Where completed cells have ended, told to longer runs: a line points to the files of the cell that ended.

A worker may be killed between the commit that ends a cell and this, so whoever finds a cell ended in the
store tells it again.
"""

from sweep.forks import fork_at
from sweep.names import Status
from sweep.storage import Manifest, Storage
from trainers.cell import Cell


def publish_end(storage: Storage, cell: Cell, own: Manifest) -> bool:
    """Point to a completed cell's last state from its line, so that a longer run can go on from it.

    Args:
        storage: The checkpoint store.
        cell: The cell.
        own: Its last commit; nothing is done for one that did not complete.

    Returns:
        Whether there is such a state.
    """
    if own.outcome is None or own.outcome["status"] != Status.COMPLETED:
        return False
    fork = fork_at(cell, own.step)
    there, _ = storage.latest(fork.line, max_step=own.step)
    # A state that was left there for others goes when they have ended, so it does not do.
    if there is None or there.step != own.step or there.checkpoint != own.checkpoint:
        storage.commit(
            fork.line,
            attempt=storage.begin_attempt(fork.line),
            step=own.step,
            checkpoint=None,
            part=None,
            previous=own,
            summary={"left_by": own.cell_id},
        )
    return True

"""Going on with a cell that was stopped early, from where it was."""

from sweep.ledger import CellRun, Ledger
from sweep.names import Status
from sweep.pack import relabelled
from sweep.storage import Storage
from trainers.checkpoint import decode, encode

REASON = "stopped early; to be continued"


def reopen(cell_id: str, run: CellRun, storage: Storage, ledger: Ledger) -> None:
    """Make a stopped cell one that is interrupted, in the store and then in MLflow; may be repeated.

    Args:
        cell_id: The cell.
        run: Its run.
        storage: The checkpoint store. Where it has no state of the cell any more, the cell starts anew.
        ledger: MLflow.
    """
    reopen_stored(cell_id, storage)
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

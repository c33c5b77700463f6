"""Where a sweep's checkpoints are: recorded with it, because in any other store its cells begin from nothing.

The place is a tag of the sweep's own run. A sweep without one, of an earlier version, takes the first place
with which it is run. A folder that is moved is recognised by what it holds; all else has to be accepted.
"""

import os
import shlex
from pathlib import Path

from sweep import names
from sweep.errors import OtherStorageError
from sweep.ledger import Ledger, Sweep
from sweep.storage import Storage
from sweep.storage.files import public_place
from sweep.storage.store import FORMAT_FILE


def require_its_storage(ledger: Ledger, name: str, place: str) -> None:
    """Let a command go on that names the store in which a sweep's checkpoints are; changes nothing.

    Args:
        ledger: The record.
        name: The sweep's; one that does not exist yet may be anywhere.
        place: The store that the command names.

    Raises:
        OtherStorageError: They are in another one.
    """
    recorded = {
        run.data.tags[names.TAG_NAME]: (ledger.sweep_of(run), run.data.tags.get(names.TAG_STORAGE))
        for run in ledger.parent_runs()
    }
    sweep, its_place = recorded.get(name, (None, None))
    if sweep is None or its_place is None:
        return
    storage = Storage.open(place, create=False)
    named = public_place(storage.place)
    if _are_same(its_place, named) or _was_moved(ledger, sweep, its_place, storage):
        return
    # How a server is reached is not recorded, nor are keys.
    options = ", with the ?options that it had," if "://" in its_place else ""
    raise OtherStorageError(
        f"sweep {name!r} has its checkpoints in {its_place}; found {named}, where its cells would begin "
        "anew, and from where none of them would be removed. Give "
        f"--storage {shlex.quote(its_place)}{options} or, where they were moved or are to be given up, "
        "--accept-storage. Nothing was changed."
    )


def record_storage(ledger: Ledger, sweep: Sweep, place: str) -> None:
    """Record where a sweep's checkpoints are from now on; the caller holds its lease."""
    ledger.write_storage(sweep, public_place(Storage.open(place, create=False).place))


def _are_same(one: str, other: str) -> bool:
    if one == other or "://" in one or "://" in other:
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)


def _was_moved(ledger: Ledger, sweep: Sweep, its_place: str, storage: Storage) -> bool:
    """Whether a folder that is no store any more has become this one: the sweep's checkpoints are here.

    That it is not there says nothing: another machine may have it.
    """
    if "://" in its_place or Path(its_place, FORMAT_FILE).exists():
        return False
    cells = ledger.read_cells(sweep)
    if cells is None:
        return False
    here = storage if sweep.shares else storage.apart(sweep.run_id, create=False)
    return any(next(here.manifests(cell), None) for cell in set(cells["cell_id"].to_pylist()))

"""Removing what the commits of an attempt make superfluous, as they come."""

from contextlib import suppress

from sweep.errors import StorageError
from sweep.storage.manifest import Manifest
from sweep.storage.pruning import kept_of
from sweep.storage.store import Storage

KEPT = 2
"""How many of the newest commits of a cell in training are kept."""


class Tidying:
    """Keeps in mind what an attempt has committed of a cell, so that its commits need no look at the store.

    With the first of them the store is looked at, for what earlier attempts left, and with the one that ends
    the cell. What cannot be removed now goes with a later commit, or with `sweep gc`.

    Args:
        storage: The checkpoint store.
        cell_id: The cell.
    """

    def __init__(self, storage: Storage, cell_id: str) -> None:
        self._storage = storage
        self._cell_id = cell_id
        self._known: list[Manifest] | None = None
        """The commits that are in the store; `None` until it was looked at."""

    def after(self, manifest: Manifest, *, needed: int | None) -> None:
        """Remove what a commit that has just been made leaves superfluous.

        Args:
            manifest: The commit.
            needed: A step whose commit is kept besides the newest.
        """
        # The commit is durable, whatever becomes of the others.
        with suppress(StorageError):
            if manifest.outcome is not None:
                self._storage.prune(self._cell_id, keep=1)
            elif self._known is None:
                self._storage.prune(self._cell_id, keep=KEPT, needed=needed)
                self._known = list(self._storage.manifests(self._cell_id))
            else:
                known = [manifest, *self._known]
                known.sort(key=lambda one: (one.step, one.attempt), reverse=True)
                self._known = known
                kept = kept_of(known, keep=KEPT, needed=needed)
                self._storage.remove([one for one in known if one not in kept], kept)
                self._known = [one for one in known if one in kept]

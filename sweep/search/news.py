"""What Tune's loop says of cells and packs, kept for the steering's thread until it could be settled."""

import threading
from collections.abc import Callable, Collection, Iterable

from sweep.errors import StorageError
from sweep.names import Status

Report = tuple[str, int, Status]
"""A cell, the step of the commit that it has come to, and how it stands there."""


class News:
    """Reports in the order in which they came, and packs that were divided."""

    def __init__(self) -> None:
        self._reports: list[Report] = []
        self._parted: list[Collection[str]] = []
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        with self._lock:
            return bool(self._reports)

    def report(self, cell_id: str, step: int, status: Status) -> None:
        """Take note of how a cell stands."""
        with self._lock:
            self._reports.append((cell_id, step, status))

    def part(self, packs: Iterable[Collection[str]]) -> None:
        """Take note of packs that cells of one pack are put into."""
        with self._lock:
            self._parted += packs

    def parted(self) -> list[Collection[str]]:
        """Return the packs that cells were put into since the last call."""
        with self._lock:
            parted, self._parted = self._parted, []
        return parted

    def settle(self, settle: Callable[[str, int, Status], None]) -> bool:
        """Settle the reports one by one, or keep them for the next time; returns whether all could be.

        Args:
            settle: Settles one; of a cell for which it raises a `StorageError` all later ones are kept, too.
        """
        with self._lock:
            reports, self._reports = self._reports, []
        kept: list[Report] = []
        late: set[str] = set()
        for cell, step, status in reports:
            try:
                if cell not in late:
                    settle(cell, step, status)
                    continue
            except StorageError:
                late.add(cell)
            kept.append((cell, step, status))
        with self._lock:
            self._reports = [*kept, *self._reports]
        return not kept

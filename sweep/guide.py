"""What may add cells to a training that is under way, and compare them: the part that Tune's loop sees.

`sweep.search.steering` is one; a plain grid has none. Nothing here waits, but for `take`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from sweep.names import Status
from sweep.progress import Progress
from sweep.recorder import Recorder
from trainers.cell import Cell

Room = Callable[[], int]
"""Returns how many cells there is room for at the moment."""


class Guide(Protocol):
    """Adds and compares cells."""

    @property
    def expects_more(self) -> bool:
        """Whether cells may be added."""
        ...

    def begin(
        self, recorder: Recorder, progress: Progress, cells: Collection[str], *, capacity: Room, lanes: int
    ) -> None:
        """Start beside the training of these cells.

        Args:
            recorder: Records them.
            progress: Is kept up to date.
            cells: What is trained already.
            capacity: Asked whenever cells may be added.
            lanes: Cells of a pack.
        """
        ...

    def pauses(self, cells: Mapping[str, Cell]) -> tuple[int, ...]:
        """Return the steps at which a pack commits at once, because its cells are compared there."""
        ...

    def reported(self, cell_id: str, step: int, status: Status) -> None:
        """A commit of a cell is durable, or it has failed."""
        ...

    def take(self, seconds: float) -> list[dict[str, Cell]] | None:
        """Return the packs that have been added, after at most so long; `None` when no more will come.

        Raises:
            LeaseLostError: Another process has taken over; or whatever else ended the guide.
        """
        ...

    def release(self, cell_id: str) -> None:
        """Never stop this cell again."""
        ...

    def summary(self) -> list[str]:
        """Return what came out of it, in lines."""
        ...

    def close(self) -> None:
        """End."""
        ...

"""What may add cells to a training that is under way, and compare them: the part that Tune's loop sees.

`sweep.search.steering` is one; a plain grid has none. Nothing here waits, but for `take`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from sweep.names import Status
from sweep.progress import Progress
from sweep.recorder import Recorder
from trainers.cell import Cell

Slots = Callable[[], int]
"""Returns how many packs can be trained at a time at the moment: nodes of a cluster come and go."""


class Guide(Protocol):
    """Adds and compares cells."""

    @property
    def expects_more(self) -> bool:
        """Whether cells may be added."""
        ...

    @property
    def is_unfinished(self) -> bool:
        """Whether cells would be added if this command, or a later one, went on."""
        ...

    def begin(
        self,
        recorder: Recorder,
        progress: Progress,
        packs: Sequence[Collection[str]],
        *,
        slots: Slots,
        lanes: int,
    ) -> None:
        """Start beside a training.

        Args:
            recorder: Records the cells.
            progress: Is kept up to date.
            packs: What is trained already.
            slots: Asked whenever cells may be added.
            lanes: How many cells a pack may have.
        """
        ...

    def pauses(self, cells: Mapping[str, Cell]) -> tuple[int, ...]:
        """Return the steps at which a pack commits at once, because its cells are compared there."""
        ...

    def reported(self, cell_id: str, step: int, status: Status) -> None:
        """A commit of a cell is durable, or it has failed."""
        ...

    def parted(self, packs: Sequence[Collection[str]]) -> None:
        """Cells of one pack go on in these packs."""
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

    def settle(self) -> None:
        """Write down what it added to the plan and could not write down before; once it is closed.

        Raises:
            LedgerError: MLflow does not answer; the plan has what is written nowhere.
        """
        ...

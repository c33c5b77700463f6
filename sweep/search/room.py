"""Which cells of a search are under way, in which packs, and whether one more question finds a worker.

A pack holds its worker until its last cell has ended. So the lanes of cells that end early stay empty, and
what is asked for fills packs that are still to be made: were it asked for sooner, it would wait, drawn
without knowing what the cells before it came to. One question may wait where there is no worker at all: a
cluster that has taken its last node away adds one for what waits, and for nothing else.
"""

from collections.abc import Collection, Iterable

from sweep.guide import Slots


class Room:
    """The cells under way.

    Args:
        packs: Those that are being trained.
        slots: Returns how many packs can be trained at a time at the moment.
        lanes: How many cells a pack may have.
    """

    def __init__(self, packs: Iterable[Collection[str]], *, slots: Slots, lanes: int) -> None:
        self._slots = slots
        self._lanes = lanes
        self._pack_of: dict[str, set[str]] = {}
        self._num_packs = 0
        self.loose: dict[str, None] = {}
        """Cells that are to be trained here and are in no pack yet, in order."""

        self.theirs: set[str] = set()
        """Cells that another sweep is to run first; or nobody, as far as is known."""

        self.form(packs)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being trained here, or about to be."""
        return not (self._pack_of or self.loose)

    def trains(self, cell_id: str) -> bool:
        """Whether a cell is being trained here, or about to be."""
        return cell_id in self._pack_of or cell_id in self.loose

    def awaits(self, cell_id: str) -> bool:
        """Whether a cell is under way, here or elsewhere."""
        return self.trains(cell_id) or cell_id in self.theirs

    def has_place(self) -> bool:
        """Whether one more question would be trained at once, or brings a first node."""
        free = max(0, max(1, self._slots()) - self._num_packs) * self._lanes
        return free > len(self.loose) + len(self.theirs)

    def take(self, cells: Iterable[str]) -> None:
        """Take note of cells that are to be trained here."""
        self.loose |= dict.fromkeys(cells)

    def form(self, packs: Iterable[Collection[str]]) -> None:
        """Take note of the packs that cells are put into, out of the one in which they may be."""
        for pack in packs:
            for cell_id in pack:
                self.leave(cell_id)
            cells = set(pack)
            self._num_packs += 1
            self._pack_of |= dict.fromkeys(cells, cells)

    def leave(self, cell_id: str) -> None:
        """A cell is over, or in another pack from now on."""
        self.loose.pop(cell_id, None)
        if (pack := self._pack_of.pop(cell_id, None)) is not None:
            pack.discard(cell_id)
            self._num_packs -= not pack

"""What a sweep refers to in the checkpoint store and in MLflow, whatever has become of what it was made from.

Its stored plan lists the addresses of its cells. The cells themselves come from its space, which may give
others by now (the numerics have another version, or a file of the user's was changed) or none (the file is
gone); then the list still says what is the sweep's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from search_spaces import load_space_text
from sweep import names
from sweep.errors import LedgerError
from sweep.forks import lines_of
from sweep.ledger import Ledger, Sweep
from sweep.search.points import stored_plan
from trainers.cell import Cell
from trainers.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """A sweep's cells.

    Args:
        ids: Their addresses: those that its stored plan lists, and those that its space gives now.
        cells: The cells that its space gives, by address.
    """

    ids: frozenset[str] = frozenset()
    cells: Mapping[str, Cell] = field(default_factory=dict[str, Cell])

    def lines(self, cell_id: str) -> set[str]:
        """Return the lines of a cell; none where its space no longer gives it."""
        cell = self.cells.get(cell_id)
        return set() if cell is None else {line for line, _, _ in lines_of(cell)}

    @property
    def addresses(self) -> set[str]:
        """Every address under which its cells store something, as far as it can be told."""
        return {*self.ids} | {line for cell_id in self.cells for line in self.lines(cell_id)}


def holdings_of(ledger: Ledger, sweep: Sweep) -> Holdings:
    """Return what a sweep refers to; nothing where it was given up before it stored a plan.

    Raises:
        LedgerError: MLflow does not answer, or the list of its cells is damaged.
    """
    table = ledger.read_cells(sweep)
    if table is None:
        return Holdings()
    listed = frozenset(table["cell_id"].to_pylist())
    origin = f"{names.ARTIFACT_SPACE} of sweep {sweep.name!r}"
    try:
        space = load_space_text(ledger.read_space(sweep), origin=origin, recorded=True)
        cells = stored_plan(space, ledger, sweep).cells
    except ConfigError:
        return Holdings(ids=listed)
    except LedgerError as error:
        if error.transient:
            raise
        return Holdings(ids=listed)
    return Holdings(ids=listed | cells.keys(), cells=cells)

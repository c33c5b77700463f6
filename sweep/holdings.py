"""What a sweep refers to in the checkpoint store and in MLflow, whatever has become of what it was made from.

Its stored plan lists the addresses of its cells. The cells themselves come from its space, which may give
others by now (the numerics have another version, or a file of the user's was changed) or none (the file is
gone); then the list still says what is the sweep's.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from search_spaces import load_space_text
from sweep import names
from sweep.claims import queued_cells
from sweep.errors import LedgerError
from sweep.forks import lines_of
from sweep.ledger import Ledger, Sweep
from sweep.names import Status
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

    def addresses_of(self, cell_ids: Iterable[str]) -> set[str]:
        """Return every address under which these cells store something, as far as it can be told."""
        return {address for cell_id in cell_ids for address in (cell_id, *self.lines(cell_id))}

    @property
    def addresses(self) -> set[str]:
        """Those of all of its cells."""
        return self.addresses_of(self.ids)


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


class LinesElsewhere:
    """The lines of cells of other sweeps that have not ended.

    Args:
        ledger: The record.
        sweep: The sweep that is not meant.
        cells: Its cells, which do not count.
    """

    def __init__(self, ledger: Ledger, sweep: Sweep, cells: Collection[str]) -> None:
        self._ledger = ledger
        self._sweep = sweep
        self._cells = cells
        self._plans: dict[str, tuple[str, frozenset[str]]] = {}
        self._lines: set[str] = set()

    def look(self) -> set[str]:
        """Return them; what has ended since a look at the same plans may still be among them.

        Raises:
            LedgerError: MLflow does not answer, or the list of a sweep's cells is damaged.
        """
        if not self._sweep.shares:
            return set()
        # A sweep all of whose cells have ended says so on its own run, and is not read for that.
        ended = Status.COMPLETED.mlflow_status
        unended = [run for run in self._ledger.parent_runs() if run.info.status != ended]
        sweeps = zip(unended, map(self._ledger.sweep_of, unended), strict=True)
        meant = [(run, one) for run, one in sweeps if one.shares and one.run_id != self._sweep.run_id]
        # A search asks for more cells under the same space.
        plans = {
            one.run_id: (one.space_sha256, frozenset(queued_cells(self._ledger, run))) for run, one in meant
        }
        if plans != self._plans:
            held = [holdings_of(self._ledger, one) for _, one in meant]
            self._lines = unended_lines(self._ledger, held, without=self._cells)
            self._plans = plans
        return self._lines


def unended_lines(ledger: Ledger, held: Iterable[Holdings], *, without: Collection[str] = ()) -> set[str]:
    """Return the lines of the cells of some sweeps that have not ended.

    Args:
        ledger: Says which have.
        held: What the sweeps refer to.
        without: Cells that do not count.

    Raises:
        LedgerError: MLflow does not answer.
    """
    owner = {cell_id: one for one in held for cell_id in one.cells if cell_id not in without}
    runs = ledger.lookup(list(owner))
    left = [cell_id for cell_id in owner if cell_id not in runs or not runs[cell_id].status.ended]
    return {line for cell_id in left for line in owner[cell_id].lines(cell_id)}

"""Configurations that sweeps of the same MLflow have run already: a search is told of them before it begins.

What counts is the address: a recorded grid point is read as a configuration of the search, and the cells that
this configuration asks for must have ended, all its seeds. So a point of another base cell never counts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces import Space
from search_spaces.axes import AxisSpec
from search_spaces.reports import AxisValue
from search_spaces.search import RangeSpec
from search_spaces.strict import plain_data
from sweep.errors import LedgerError
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import AXIS_COLUMN_PREFIX, FINAL_STEPS, Status
from sweep.search.asking import Ended, result_of
from sweep.search.events import Configuration, Known
from trainers.canonical import cell_id
from trainers.errors import ConfigError

MOST_KNOWN = 2000
"""So many configurations are looked at; a sampler learns little from more."""


def known_configurations(space: Space, ledger: Ledger, sweep: Sweep) -> list[Known]:
    """Return the configurations of a search all of whose cells have ended before, with their results.

    Raises:
        LedgerError: MLflow does not answer.
    """
    cells_of: dict[tuple[AxisValue, ...], list[str]] = {}
    found: list[tuple[Configuration, list[str]]] = []
    for configuration in _recorded(space, ledger, sweep):
        key = tuple(configuration.values())
        if key in cells_of or len(cells_of) >= MOST_KNOWN:
            continue
        try:
            cells_of[key] = [cell_id(point.cell) for point in space.sampled(configuration)]
        except ConfigError:
            # A point of another base cell, which this one cannot take.
            continue
        found.append((configuration, cells_of[key]))
    runs = ledger.lookup({cell for cells in cells_of.values() for cell in cells}, sweep) if cells_of else {}
    known: list[Known] = []
    for configuration, cells in found:
        ended = [ended_run(runs[cell]) for cell in cells if cell in runs and runs[cell].status.ended]
        if len(ended) < len(cells) or any(one.status is Status.STOPPED for one in ended):
            continue
        result = result_of(space.search, ended)
        if result.state == "complete":
            known.append(Known(configuration=configuration, result=result, cells=tuple(cells)))
    return known


def ended_run(run: CellRun, num_steps: int = 0) -> Ended:
    """Return how a recorded cell ended."""
    steps = int(run.metrics.get(FINAL_STEPS, 0))
    return Ended(status=run.status, metrics=run.metrics, steps=steps, num_steps=max(num_steps, steps))


def _recorded(space: Space, ledger: Ledger, own: Sweep) -> Iterator[Configuration]:
    """Yield the recorded points of all sweeps that can be read as configurations of this search."""
    base = plain_data(space.spec.base)
    for sweep in ledger.list_sweeps():
        if not sweep.shares or sweep.run_id == own.run_id:
            continue
        try:
            table = ledger.read_cells(sweep)
        except LedgerError as error:
            if error.transient:
                raise
            # A damaged table of another sweep: its cells are found again when they are asked for.
            continue
        for row in [] if table is None else table.to_pylist():
            configuration: Configuration = {}
            for name, axis in space.search.axes.items():
                value = _read(axis, row, name, base)
                if value is None:
                    break
                configuration[name] = value
            else:
                yield configuration


def _read(
    axis: RangeSpec | AxisSpec, row: Mapping[str, Any], name: str, base: Mapping[str, Any]
) -> AxisValue | None:
    """Return a point's value on an axis of the search, that of the base cell where it has no such axis."""
    value: Any = row.get(f"{AXIS_COLUMN_PREFIX}{name}")
    if value is None and axis.path:
        value = _at(base, axis.path[0])
    if isinstance(axis, RangeSpec):
        value = _number(value)
        if value is None or not axis.holds(value):
            return None
        return int(value) if axis.integer else float(value)
    # Beside text, in whatever grid of its sweep, numbers are stored as text. What counts is the address.
    same = [label for label in axis.labels if value in (label, str(label))]
    return same[0] if len(same) == 1 else None


def _number(value: Any) -> int | float | None:
    """Return a number, as itself or from its text; `None` for all else."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, (int, float)) else None


def _at(base: Any, path: str) -> Any:
    """Return the base cell's value at a dotted path; `None` where there is no single one."""
    for part in path.split("."):
        if isinstance(base, Mapping):
            base = base.get(part)
        elif isinstance(base, list) and part.removeprefix("-").isdecimal():
            base = base[int(part)] if -len(base) <= int(part) < len(base) else None
        else:
            return None
    return base

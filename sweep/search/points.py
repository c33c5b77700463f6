"""The plan of a search: its grid points are what its journal says was asked, or known beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces import GridPoint, Space, load_space_text
from search_spaces.reports import AxisValue
from search_spaces.search import BUDGET, SEARCH_GRID, SEED, SearchSpec
from sweep.errors import SweepExistsError
from sweep.ledger import Ledger, Sweep
from sweep.plan import Plan, make_plan
from sweep.search.events import Asked, Configuration, Event, Known, Withdrawn, still_known
from sweep.search.journal import read_events
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.errors import ConfigError

KNOWN_GRID = "known"
"""Grid of the configurations that other sweeps had run before, in `cells.parquet`."""


def plan_of(space: Space, events: Sequence[Event]) -> Plan:
    """Return the plan of a space, with the points of its journal where it is a search."""
    plan = make_plan(space)
    if not space.is_search:
        return plan
    for known in still_known(events):
        add_known(plan, space, known)
    for event in events:
        if isinstance(event, Asked) and event.cells:
            for point in points_now(space, event.configuration):
                plan.add(point)
    return plan


def points_now(space: Space, configuration: Configuration) -> list[GridPoint]:
    """Return a configuration as grid points; none where it was asked for, and is no valid cell any more."""
    try:
        return space.sampled(configuration)
    except ConfigError:
        return []


def add_known(plan: Plan, space: Space, known: Known) -> None:
    """Add a configuration that other sweeps have run, unless its cells are other ones by now."""
    points = points_now(space, known.configuration)
    if known.cells and known.cells != tuple(cell_id(point.cell) for point in points):
        return
    for point in points:
        plan.add(replace(point, grid=KNOWN_GRID))


def withdrawn_now(plan: Plan, search: SearchSpec, events: Sequence[Event]) -> list[Withdrawn]:
    """Return what counts no more of what was known beforehand, and is not in the plan therefore."""
    shown = _cells_by_configuration(plan, search, KNOWN_GRID)
    return [
        Withdrawn(configuration=known.configuration)
        for known in still_known(events)
        if known.cells and _key(search, known.configuration) not in shown
    ]


def cells_now(plan: Plan, search: SearchSpec, events: Sequence[Event]) -> dict[int, tuple[str, ...]]:
    """Return the cells of each question as they are addressed now.

    They are others than the journal has where the numerics have another version, or a file of the user's has
    changed, since the question was asked; none where that is no valid cell any more.

    Args:
        plan: As `plan_of` gives it.
        search: The search.
        events: Its journal.
    """
    now = _cells_by_configuration(plan, search, SEARCH_GRID)
    return {
        event.number: now.get(_key(search, event.configuration), ())
        for event in events
        if isinstance(event, Asked) and event.cells
    }


def _cells_by_configuration(
    plan: Plan, search: SearchSpec, grid: str
) -> dict[tuple[AxisValue, ...], tuple[str, ...]]:
    found: dict[tuple[AxisValue, ...], dict[AxisValue | None, str]] = {}
    for name, axes, cell in zip(plan.grids, plan.axes, plan.cell_ids, strict=True):
        if name == grid:
            found.setdefault(_key(search, axes), {})[axes.get(SEED)] = cell
    return {key: tuple(by_seed.values()) for key, by_seed in found.items()}


def _key(search: SearchSpec, axes: Mapping[str, AxisValue]) -> tuple[AxisValue, ...]:
    return tuple(axes[name] for name in search.axes)


def cells_to_make(space: Space, plan: Plan) -> list[str]:
    """Return the cells of a plan that are to be trained: what a search knew beforehand is shown alone."""
    if not space.is_search:
        return list(plan.cells)
    asked = (cell for grid, cell in zip(plan.grids, plan.cell_ids, strict=True) if grid != KNOWN_GRID)
    return list(dict.fromkeys(asked))


def cells_foreseen(space: Space, plan: Plan) -> list[Cell]:
    """Return the cells of a grid's plan; of a search, cells with any value of its axes."""
    cells = [point.cell for point in space.varied()] if space.is_search else list(plan.cells.values())
    return cells or [space.base]


def stored_events(space: Space, ledger: Ledger, sweep: Sweep) -> list[Event]:
    """Return the journal of a sweep, read as that of this space."""
    return read_events(ledger, sweep, space.search if space.is_search else None)


def stored_plan(space: Space, ledger: Ledger, sweep: Sweep) -> Plan:
    """Return the plan that a stored sweep has."""
    return plan_of(space, stored_events(space, ledger, sweep) if space.is_search else ())


def recorded_events(space: Space, ledger: Ledger, name: str) -> list[Event]:
    """Return the journal of the sweep of this name; empty where there is no such sweep or it is no search.

    Raises:
        SweepExistsError: The sweep is not the search, or the grid, that this space would go on with.
    """
    try:
        sweep = ledger.find_sweep(name)
    except ConfigError:
        # There is no sweep of this name yet.
        return []
    if sweep.space_sha256 not in ("", space.sha256, space.recorded_sha256):
        # Before its questions are read as configurations of this space, which may have other axes.
        stored = load_space_text(ledger.read_space(sweep), origin=f"<sweep {name}>", recorded=True)
        require_same_search(space, stored, name)
    return stored_events(space, ledger, sweep) if space.is_search else []


def require_same_search(space: Space, stored: Space, name: str) -> None:
    """Refuse to go on with a search as another one; the budget may differ.

    Raises:
        SweepExistsError: Base cell, axes, sampler or objectives are others.
    """
    if not (space.is_search or stored.is_search):
        return
    if not (space.is_search and stored.is_search):
        kinds = ("a search", "a grid") if stored.is_search else ("a grid", "a search")
        raise SweepExistsError(
            f"sweep {name!r} is {kinds[0]}, not {kinds[1]}; choose another name with --name."
        )
    free: dict[str, None] = dict.fromkeys(BUDGET)
    before, now = (one.search.model_copy(update=free) for one in (stored, space))
    other = [field for field in type(now).model_fields if getattr(before, field) != getattr(now, field)]
    if stored.spec.base != space.spec.base:
        other.append("base")
    if other:
        raise SweepExistsError(
            f"sweep {name!r} is a search with other {', '.join(other)}; only its budget "
            f"({', '.join(BUDGET)}) may change. Choose another name with --name. Nothing was changed."
        )

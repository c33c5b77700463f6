"""The plan of a search: its grid points are what its journal says was asked, or known beforehand."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces import GridPoint, Space, load_space_text
from search_spaces.search import BUDGET
from sweep.errors import SweepExistsError
from sweep.ledger import Ledger, Sweep
from sweep.plan import Plan, make_plan
from sweep.search.events import Asked, Configuration, Event, Known
from sweep.search.journal import read_events
from trainers.canonical import cell_id
from trainers.errors import ConfigError

KNOWN_GRID = "known"
"""Grid of the configurations that other sweeps had run before, in `cells.parquet`."""


def plan_of(space: Space, events: Sequence[Event]) -> Plan:
    """Return the plan of a space, with the points of its journal where it is a search."""
    plan = make_plan(space)
    for event in events if space.is_search else ():
        match event:
            case Known():
                add_known(plan, space, event.configuration)
            case Asked() if event.cells:
                for point in points_now(space, event.configuration):
                    plan.add(point)
            case _:
                pass
    return plan


def points_now(space: Space, configuration: Configuration) -> list[GridPoint]:
    """Return a configuration as grid points; none where it was asked for, and is no valid cell any more."""
    try:
        return space.sampled(configuration)
    except ConfigError:
        return []


def add_known(plan: Plan, space: Space, configuration: Configuration) -> None:
    """Add a configuration that other sweeps have run."""
    for point in points_now(space, configuration):
        plan.add(replace(point, grid=KNOWN_GRID))


def cells_now(space: Space, events: Sequence[Event]) -> dict[int, tuple[str, ...]]:
    """Return the cells of each question as they are addressed now.

    They are others than the journal has where the numerics have another version, or a file of the user's has
    changed, since the question was asked; none where that is no valid cell any more.
    """
    return {
        event.number: tuple(cell_id(point.cell) for point in points_now(space, event.configuration))
        for event in events
        if isinstance(event, Asked) and event.cells
    }


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

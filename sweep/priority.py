"""Which cells come first: those whose axes have the values that the user names, and those they wait for."""

from collections.abc import Callable, Mapping, Sequence

from search_spaces import Space
from search_spaces.reports import AxisValue
from search_spaces.strict import infinity
from sweep.forks import Fork, Sharing
from sweep.plan import Plan
from trainers.errors import ConfigError, unknown_name


def require_no_search(space: Space, name: str) -> None:
    """Refuse an order for a search.

    Args:
        space: The sweep's space.
        name: The sweep's name.

    Raises:
        ConfigError: It is a search.
    """
    if space.is_search:
        raise ConfigError(f"sweep {name!r} is a search; it runs what its sampler asks for, in that order.")


def in_order(plan: Plan, cell_ids: Sequence[str], first: Sequence[str]) -> list[str]:
    """Return cells with the preferred ones first, otherwise in the order that they had.

    Args:
        plan: Gives the axes of each cell, of all points that ask for it, and what cells wait for.
        cell_ids: The cells.
        first: `axis=value` each, or the beginning of a cell's address; more matches come earlier.

    Raises:
        ConfigError: One names no axis and no cell of the plan, or no value of the axis.
    """
    if not first:
        return list(cell_ids)
    matched = dict.fromkeys(plan.cells, 0)
    for wish in first:
        for cell in _matching(plan, wish):
            matched[cell] += 1
    leaders = {fork: cell for cell, shared in plan.sharing.items() for fork in shared.leaves}
    for cell in sorted(plan.cells, key=lambda one: -matched[one]):
        _raise_leaders(cell, matched, plan.sharing, leaders)
    return sorted(cell_ids, key=lambda one: -matched[one])


def in_wished_order(
    plan: Plan, cell_ids: Sequence[str], first: Sequence[str], say: Callable[[str], None]
) -> list[str]:
    """Return cells as `in_order` does; wishes that the plan does not know any more are said and ignored."""
    try:
        return in_order(plan, cell_ids, first)
    except ConfigError as error:
        say(f"the order stays as it is: {error}")
        return list(cell_ids)


def _raise_leaders(
    cell: str, matched: dict[str, int], sharing: Mapping[str, Sharing], leaders: Mapping[Fork, str]
) -> None:
    """Let whoever a cell waits for come at least as early; waiting never goes in circles."""
    start = sharing[cell].start
    while start is not None and matched[leader := leaders[start]] < matched[cell]:
        matched[leader] = matched[cell]
        start = sharing[leader].start


def _matching(plan: Plan, wish: str) -> set[str]:
    name, equals, text = wish.partition("=")
    if not equals:
        found = {cell for cell in plan.cells if cell.startswith(wish)}
        if not found:
            raise ConfigError(f"--first: found {wish!r}; expected axis=value, or the address of a cell.")
        return found
    points = [(axes[name], cell) for axes, cell in zip(plan.axes, plan.cell_ids, strict=True) if name in axes]
    if not points:
        raise ConfigError(f"--first: {unknown_name('axis', name, {n for axes in plan.axes for n in axes})}")
    found = {cell for value, cell in points if _equal(value, text)}
    if not found:
        values = ", ".join(dict.fromkeys(str(value) for value, _ in points))
        raise ConfigError(f"--first: found {name}={text}; allowed: {values}.")
    return found


def _equal(value: AxisValue, text: str) -> bool:
    """Whether a value is what the user wrote; 0.10 is 0.1 and inf is infinity."""
    if str(value) == text:
        return True
    try:
        return not isinstance(value, str) and float(value) == float(infinity(text))
    except ValueError:
        return False

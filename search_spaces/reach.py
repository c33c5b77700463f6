"""What an override of the base cell reaches: a grid, or a search, may set the same again."""

import logging
from collections.abc import Mapping, Sequence

from search_spaces.expansion import Expansion
from search_spaces.plain_paths import Place
from search_spaces.schema import GridSpec, SpaceSpec
from search_spaces.search import SEARCH_GRID, SEED, lowest_grid
from trainers.errors import ConfigError

_LOG = logging.getLogger(__name__)


def require_reach(spec: SpaceSpec, made: Mapping[str, Sequence[Place]], origin: str) -> None:
    """Refuse an override of the base cell that changes no point; warn of one of `--set` that misses some.

    Args:
        spec: The space as the overrides left it.
        made: The places that they set, by path.
        origin: Who asked: "--set" or "smoke".

    Raises:
        ConfigError: One has no effect.
    """
    grids = {f"grids.{grid.name}": Expansion(spec.base, grid) for grid in spec.grids}
    if spec.search is not None and spec.search.axes:
        grids[SEARCH_GRID] = Expansion(spec.base, GridSpec.model_validate(lowest_grid(spec.search)))
    for path, places in made.items():
        of_base = [place[1:] for place in places if place[0] == "base" and len(place) > 1]
        found = {name: grid.setters(of_base) for name, grid in grids.items()} if of_base else {}
        told = [(name, setters) for name, (setters, _) in found.items() if setters]
        if not told:
            continue
        listed = "; ".join((f"{name}: " if len(grids) > 1 else "") + ", ".join(by) for name, by in told)
        if all(again for _, again in found.values()):
            instead = _path(told[0][0], next(iter(told[0][1].values())))
            raise ConfigError(
                f"{origin} {path}: has no effect, since all points set it themselves ({listed}). "
                f"Set {instead} instead."
            )
        if origin == "--set":
            _LOG.warning("--set %s: does not reach the points that set it themselves (%s).", path, listed)


def _path(grid: str, setter: str) -> str:
    """Return by which path `--set` changes what sets something in a grid, or in the search."""
    if grid == SEARCH_GRID:
        return f"{SEARCH_GRID}.seeds" if setter == f"axes.{SEED}" else f"{SEARCH_GRID}.{setter}"
    kind, _, axis = setter.partition(".")
    return axis if kind == "axes" and "." not in axis else f"{grid}.{setter}"

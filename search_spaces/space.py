"""A search space, loaded: from its name or file, through `smoke` and `--set`, to its grid points.

    YAML -> plain data -> SpaceSpec -> overrides on its plain data -> SpaceSpec -> Expansion -> points

`Space.text` is the whole space with everything spelled out; it is what a sweep stores and what `resume`
reads back, so that a later default changes nothing about an earlier sweep.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from search_spaces.axes import AxisSpec, require_distinct
from search_spaces.cell_parts import base_cell
from search_spaces.cell_schema import BaseSpec
from search_spaces.claims import ClaimSpec
from search_spaces.expansion import Expansion, GridPoint, expansions
from search_spaces.grid_rules import fit_rules
from search_spaces.overrides import override, parse_override
from search_spaces.plain_paths import Place, changed
from search_spaces.reach import require_reach
from search_spaces.report_checks import check_claims, check_reports
from search_spaces.report_fitting import fit_reports
from search_spaces.reports import AxisValue, Report
from search_spaces.schema import GridSpec, SpaceSpec
from search_spaces.search import SEARCH_GRID, SEED, SearchSpec, StopperSpec, corners, sampled_grid, varied
from search_spaces.space_files import read_space
from search_spaces.strict import config_error, plain_data, shown
from search_spaces.yaml_text import read_yaml, write_yaml
from trainers.canonical import canonical_form
from trainers.cell import Cell
from trainers.errors import ConfigError

SMOKE_SUFFIX = "-smoke"


@dataclass(frozen=True)
class Space:
    """A validated search space.

    Args:
        spec: Everything that it says.
        grids: Its grids, ready to be expanded.
        recorded_sha256: Digest of the text that a sweep had stored, where it was read from that.
    """

    spec: SpaceSpec
    grids: tuple[Expansion, ...]
    recorded_sha256: str = ""

    @property
    def name(self) -> str:
        """Its name; a smoke variant's ends in "-smoke"."""
        return self.spec.name

    @property
    def description(self) -> str:
        """What it is; the first line is a summary."""
        return self.spec.description

    @property
    def reports(self) -> tuple[Report, ...]:
        """What is to be drawn."""
        return self.spec.reports

    @property
    def claims(self) -> tuple[ClaimSpec, ...]:
        """What the paper says, and when we call it reproduced."""
        return self.spec.claims

    @property
    def text(self) -> str:
        """The space as canonical YAML; `load_space_text` gives an equal space."""
        return self._text

    @cached_property
    def _text(self) -> str:
        return write_yaml(plain_data(self.spec, compact=True))

    @property
    def sha256(self) -> str:
        """Digest of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def axis_names(self) -> tuple[str, ...]:
        """All axes of all grids, in order of first appearance."""
        return tuple(dict.fromkeys(axis for grid in self.grids for axis in grid.axis_names))

    def points(self) -> Iterator[GridPoint]:
        """Yield the grid points, grid by grid, the last axis of a grid running fastest.

        Raises:
            ConfigError: A combination of axis values is no valid cell.
        """
        for grid in self.grids:
            yield from grid.points()

    @property
    def is_search(self) -> bool:
        """Whether it has no grid of its own: its points are what a search asks for."""
        return not self.spec.grids

    @property
    def base(self) -> Cell:
        """The base cell, before any grid changes it."""
        return base_cell(self.spec.base)

    @property
    def longest(self) -> int:
        """Steps of the base cell."""
        return self.base.num_steps

    @cached_property
    def search(self) -> SearchSpec:
        """What `sweep search` does; axes that the space does not give are those of its first grid.

        Raises:
            ConfigError: There is no axis to search over.
        """
        given = self.spec.search or SearchSpec()
        if given.axes:
            return given
        grid = self.spec.grids[0]
        axes = {name: axis for name, axis in grid.axes.items() if name != SEED}
        if not axes:
            raise ConfigError(f"grids.{grid.name}: it has no axis to search over; name `search.axes`.")
        seeds = given.seeds or (grid.axes[SEED].labels if SEED in grid.axes else ())
        excluded = [{axis: {"values": values} for axis, values in rule.items()} for rule in grid.exclude]
        changes = {
            "axes": axes,
            "seeds": seeds,
            "set": changed(plain_data(self.spec.base), grid.set, given.set),
            "exclude": [*excluded, *plain_data(given)["exclude"]],
        }
        return _search_spec({**plain_data(given), **plain_data(changes)})

    def sampled(self, values: Mapping[str, AxisValue]) -> list[GridPoint]:
        """Return one configuration of the search as grid points, one a seed.

        Args:
            values: A value or label for each axis of the search.

        Returns:
            The points of the seeds that are not excluded; none where all are.

        Raises:
            ConfigError: It is no valid cell.
        """
        return sampled_points(self.spec.base, self.search, values)

    def varied(self) -> Iterator[GridPoint]:
        """Yield points of the search in which every value of an axis occurs, both ends of a range.

        Combinations that are excluded may be among them; what is no valid cell is left out.
        """
        unlimited = self.search.model_copy(update={"exclude": ()})
        for values in varied(self.search):
            try:
                points = sampled_points(self.spec.base, unlimited, values)
            except ConfigError:
                continue
            yield from points

    def for_search(self, changes: Mapping[str, Any]) -> "Space":
        """Return the space that a search stores: the same base, its search with changes, no grid, no report.

        Raises:
            ConfigError: A change is not valid, or the budget has no room for a configuration.
        """
        search = _search_spec({**plain_data(self.search), **changes})
        if search.cells is not None and search.cells < search.cells_a_configuration:
            raise ConfigError(
                f"search.cells: found {search.cells}; must be at least {search.cells_a_configuration}, "
                "since a configuration takes a cell for each of its seeds."
            )
        spec = self.spec.model_copy(update={"grids": (), "reports": (), "search": search})
        _require_corners(spec.base, search)
        return Space(spec, ())

    def with_stopper(self, kind: str | None) -> "Space":
        """Return the space with a stopping rule of this kind; `None` leaves it as it is.

        Raises:
            ConfigError: There is no such kind.
        """
        if kind is None:
            return self
        given = {} if self.spec.stopper is None else plain_data(self.spec.stopper)
        try:
            stopper = StopperSpec.model_validate({**given, "kind": kind})
        except ValidationError as error:
            raise config_error(error, "--stopper") from error
        return Space(self.spec.model_copy(update={"stopper": stopper}), self.grids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def load_space(reference: str | Path, *, smoke: bool = False, overrides: Sequence[str] = ()) -> Space:
    """Load a space by name or from a YAML file.

    Args:
        reference: A name of `list_spaces`, or the path of a file.
        smoke: Take the small variant.
        overrides: `path=value` each, applied after `smoke`.

    Raises:
        ConfigError: It does not exist or is not valid.
    """
    made = [parse_override(text) for text in overrides]
    return _space(read_space(reference), str(reference), smoke=smoke, overrides=made)


def load_space_text(text: str, *, origin: str = "<stored>", recorded: bool = False) -> Space:
    """Load a space from its YAML text.

    Args:
        text: The YAML.
        origin: What to call it in messages.
        recorded: Whether a sweep has it, and goes on with it as it is: whether its figures can be drawn, all
            that it says has an effect, and the ends of a search's axes are cells is not looked at then.

    Raises:
        ConfigError: It is not valid.
    """
    space = _space(read_yaml(text, origin), origin, recorded=recorded)
    return replace(space, recorded_sha256=hashlib.sha256(text.encode()).hexdigest()) if recorded else space


def read_stored_space(text: str, *, origin: str) -> Space:
    """Return a space as a sweep has stored it, without its grids.

    For readers of a record, who may lack the files of models, data and probes that its cells name.

    Args:
        text: The YAML.
        origin: What to call it in messages.

    Raises:
        ConfigError: It is not valid.
    """
    return Space(_validated(read_yaml(text, origin), origin), ())


def _space(
    values: Any,
    origin: str,
    *,
    smoke: bool = False,
    overrides: Sequence[tuple[str, Any]] = (),
    recorded: bool = False,
) -> Space:
    if not isinstance(values, dict):
        raise ConfigError(
            f"{origin}: expected a mapping with name, base, axes or grids; found {shown(values)}."
        )
    values = dict(cast("dict[str, Any]", values))
    small = values.pop("smoke", None)
    if not isinstance(small, Mapping) and (small is not None or smoke):
        raise ConfigError(f"{origin}: smoke: expected a mapping of paths to values, found {shown(small)}.")
    spec = stated = _validated(values, origin)
    made: list[tuple[str, SpaceSpec, dict[str, list[Place]]]] = []
    if smoke or overrides:
        _expanded(spec, origin)
        plain = plain_data(spec)
        changes = cast("Mapping[str, Any]", small) if smoke else {}
        smaller = [str(path) for path in changes]
        if smoke:
            plain["description"] = _smoke_description(spec, changes)
            plain["name"] += SMOKE_SUFFIX
            places = {
                str(path): override(plain, str(path), value, "smoke") for path, value in changes.items()
            }
            small_spec = fit_rules(_validated(plain, f"{origin} with smoke"), stated)
            spec = fit_reports(small_spec, spec, smaller)
            made.append(("smoke", spec, places))
            # Filters wait for all overrides: `--set` may bring back a value that the small variant lacks.
            titles = {fitted.name: {"title": fitted.title} for fitted in spec.reports}
            plain["reports"] = [
                cast("dict[str, Any]", report) | titles.get(report["name"], {}) for report in plain["reports"]
            ]
        if overrides:
            places = {path: override(plain, path, value, "--set") for path, value in overrides}
            whole = _validated(plain, f"{origin} with {'smoke' if smoke else '--set'}")
            spec = fit_reports(fit_rules(whole, stated, spec), spec, [path for path, _ in overrides], smaller)
            made.append(("--set", spec, places))
    grids = _expanded(spec, origin, recorded=recorded)
    for by, changed_spec, places in made:
        require_reach(changed_spec, places, by)
    return Space(spec, grids)


def _smoke_description(spec: SpaceSpec, changes: Mapping[str, Any]) -> str:
    """Say first that the numbers are not those of the experiment, and what was made smaller."""
    listed = "\n".join(f"- `{path}`: `{value}`" for path, value in changes.items())
    return f"A small variant of {spec.name}, to try things out. It changes:\n\n{listed}\n\n{spec.description}"


def _expanded(spec: SpaceSpec, origin: str, *, recorded: bool = False) -> tuple[Expansion, ...]:
    """Check what the values of a space mean together, and return its grids."""
    at = f"{origin}: base"
    try:
        canonical_form(base_cell(spec.base))
        at = origin
        grids = expansions(spec)
        if not recorded:
            for grid in grids:
                grid.require_effects()
            check_reports(spec, grids)
            check_claims(spec)
            if spec.search is not None and spec.search.axes:
                _require_corners(spec.base, spec.search)
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from error
    return grids


def _require_corners(base: BaseSpec, search: SearchSpec) -> None:
    """Make sure that all of a search has an effect, and that both ends of its axes are cells."""
    listed = {name: axis for name, axis in search.axes.items() if isinstance(axis, AxisSpec)}
    for name, axis in listed.items():
        require_distinct(axis, f"search.axes.{name}")
    Expansion(base, GridSpec(name=SEARCH_GRID, set=search.set, axes=listed)).require_effects()
    for corner in corners(search):
        sampled_points(base, search, corner)


def sampled_points(base: BaseSpec, search: SearchSpec, values: Mapping[str, AxisValue]) -> list[GridPoint]:
    """Return one configuration of a search as grid points, one a seed that is not excluded."""
    if not (seeds := search.seeds_of(values)):
        return []
    try:
        grid = GridSpec.model_validate(sampled_grid(search, values, seeds))
    except ValidationError as error:
        raise config_error(error, "search") from error
    points = list(Expansion(base, grid).points())
    for point in points:
        canonical_form(point.cell)
    return points


def _search_spec(values: Mapping[str, Any]) -> SearchSpec:
    try:
        return SearchSpec.model_validate(values)
    except ValidationError as error:
        raise config_error(error, "search") from error


def _validated(values: Any, origin: str) -> SpaceSpec:
    try:
        return SpaceSpec.model_validate(values)
    except ValidationError as error:
        # `axes` alone is short for one grid; a message must not speak of a grid that the file does not have.
        short = isinstance(values, Mapping) and "axes" in values
        raise config_error(error, origin, hidden=("grids", 0) if short else ()) from error

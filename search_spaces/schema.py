"""The schema of a search space: what a YAML file may say.

A space is a base cell, grids that vary it along axes, reports, and claims. Values are checked here, one by
one, with their dotted path; what they mean together is checked by `search_spaces.expansion`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, cast

from pydantic import Field, model_validator

from search_spaces.axes import AXIS_NAME, AxisSpec, long_axis
from search_spaces.cell_schema import BaseSpec, takes_whole_numbers
from search_spaces.claims import ClaimSpec
from search_spaces.reports import AxisValue, Report
from search_spaces.search import RangeSpec, SearchSpec, StopperSpec
from search_spaces.strict import StrictModel, complain, infinity

GRID_NAME = r"^[a-z][a-z0-9_-]*$"
SPACE_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
DEFAULT_GRID = "grid"


class GridSpec(StrictModel):
    """A product of axes over the base cell as changed by `set`, less the points that `exclude` names.

    Whether its rules name what it has is checked by `search_spaces.grid_rules`, once overrides are made.
    """

    name: Annotated[str, Field(pattern=GRID_NAME)]
    set: dict[str, Any] = Field(default_factory=dict)
    axes: dict[Annotated[str, Field(pattern=AXIS_NAME)], AxisSpec] = Field(default_factory=dict)
    exclude: tuple[dict[str, tuple[AxisValue, ...]], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        given = dict(cast("Mapping[str, Any]", given))
        if isinstance(axes := given.get("axes"), Mapping):
            given["axes"] = {
                name: long_axis(name, axis) for name, axis in cast("Mapping[str, Any]", axes).items()
            }
        if isinstance(exclude := given.get("exclude"), (list, tuple)):
            given["exclude"] = [_long_rule(rule) for rule in cast("Sequence[Any]", exclude)]
        return given


def _long_rule(rule: Any) -> Any:
    if not isinstance(rule, Mapping):
        return rule
    items = cast("Mapping[str, Any]", rule).items()
    return {
        axis: [infinity(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
        for axis, value in items
    }


class SpaceSpec(StrictModel):
    """A search space, as its file states it, with its short forms written out."""

    name: Annotated[str, Field(pattern=SPACE_NAME)]
    description: str = ""
    paper: str = ""
    choices: str = ""
    base: BaseSpec
    grids: tuple[GridSpec, ...] = ()
    reports: tuple[Report, ...] = ()
    claims: tuple[ClaimSpec, ...] = ()
    search: SearchSpec | None = None
    stopper: StopperSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_grid(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "axes" not in given:
            return cast("Any", given)
        given = dict(cast("Mapping[str, Any]", given))
        if "grids" in given:
            complain("found `axes` beside `grids`; allowed: either of the two.")
        axes = given.pop("axes")
        if not axes:
            complain("axes: found none; a space needs at least one axis.")
        return {**given, "grids": [{"name": DEFAULT_GRID, "axes": axes}]}

    @model_validator(mode="after")
    def _has_something_to_run(self) -> Self:
        if not self.grids and (self.search is None or not self.search.axes):
            complain("grids: missing or empty; a space needs at least 1, or a search with axes.")
        return self

    @model_validator(mode="after")
    def _ranges_are_of_numbers_as_declared(self) -> Self:
        if self.search is None:
            return self
        axes = {name: self._typed(axis, self.search.set) for name, axis in self.search.axes.items()}
        return self.model_copy(update={"search": self.search.model_copy(update={"axes": axes})})

    def _typed(self, axis: RangeSpec | AxisSpec, changes: Mapping[str, Any]) -> RangeSpec | AxisSpec:
        if not isinstance(axis, RangeSpec) or "integer" in axis.model_fields_set:
            return axis
        whole = takes_whole_numbers(self.base, changes, axis.path[0])
        as_written = isinstance(axis.low, int)
        return axis.model_copy(update={"integer": as_written if whole is None else whole})

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("grids", [g.name for g in self.grids]),
            ("reports", [r.name for r in self.reports]),
            ("claims", [c.name for c in self.claims]),
        ):
            if len(set(names)) < len(names):
                twice = next(name for index, name in enumerate(names) if name in names[:index])
                complain(f"{what}: found the name {twice!r} twice; every name must occur once.")
        return self

"""The schema of a search space: what a YAML file may say.

A space is a base cell, grids that vary it along axes, and reports. Values are checked here, one by one, with
their dotted path; what they mean together is checked by `search_spaces.expansion`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, cast

from pydantic import Field, TypeAdapter, model_validator

from search_spaces.cell_schema import ALIASES, BaseSpec, checked, field_adapter, validated
from search_spaces.reports import AxisValue, Report
from search_spaces.strict import StrictModel, complain, infinity, shown
from trainers.errors import unknown_name

GRID_NAME = r"^[a-z][a-z0-9_-]*$"
AXIS_NAME = r"^[a-z][a-z0-9_]*$"
SPACE_NAME = r"^[a-z0-9][a-z0-9_.-]*$"
DEFAULT_GRID = "grid"

RESERVED_AXES = ("grid",)
"""The name by which reports speak of the grid itself."""


class AxisSpec(StrictModel):
    """An axis: values for one or several paths of the cell, or labels that each set some paths.

    In YAML a list alone will do when the axis has a name of `ALIASES`.
    """

    path: tuple[str, ...] = ()
    values: tuple[AxisValue, ...] = ()
    choices: dict[AxisValue, dict[str, Any]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _typed_as_the_fields(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        given = dict(cast("Mapping[str, Any]", given))
        path, values, choices = given.get("path") or (), given.get("values") or (), given.get("choices")
        if choices is not None:
            if path or values:
                complain("found `choices` beside `path` or `values`; allowed: either of the two.")
            return {**given, "choices": _typed_choices(choices)}
        paths = [path] if isinstance(path, str) else path
        if not isinstance(paths, (list, tuple)):
            complain(f"path: expected a dotted path of the cell or a list of them, found {shown(path)}.")
        if not paths:
            complain("path is missing; allowed: `path` and `values`, or `choices`.")
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            complain(f"values: expected a list of at least one value, found {shown(given.get('values'))}.")
        return {**given, "path": paths, "values": _typed_values(cast("Sequence[str]", paths), values)}

    @property
    def labels(self) -> tuple[AxisValue, ...]:
        """What the axis is called at each of its points: its values, or the labels of its choices."""
        return self.values if self.choices is None else tuple(self.choices)

    def assignments(self) -> list[list[tuple[str, Any]]]:
        """Return, per label, the paths that it sets and their values in the fields' types."""
        if self.choices is not None:
            return [list(paths.items()) for paths in self.choices.values()]
        return [[(path, plain_data(checked(path, value))) for path in self.path] for value in self.values]


def _typed_choices(choices: Any) -> dict[AxisValue, dict[str, Any]]:
    if not isinstance(choices, Mapping) or not choices:
        complain(f"choices: expected a mapping of labels to what they set, found {shown(choices)}.")
    typed: dict[AxisValue, dict[str, Any]] = {}
    for label, paths in cast("Mapping[AxisValue, Any]", choices).items():
        if not isinstance(paths, Mapping):
            complain(f"choices.{label}: expected a mapping of paths to values, found {shown(paths)}.")
        try:
            typed[label] = {
                path: plain_data(checked(path, value))
                for path, value in cast("Mapping[str, Any]", paths).items()
            }
        except ValueError as error:
            complain(f"choices.{label}: {error}")
    return typed


def _typed_values(paths: Sequence[str], values: Sequence[Any]) -> list[AxisValue]:
    adapters = [field_adapter(path) for path in paths]
    typed: list[AxisValue] = []
    seen: set[AxisValue] = set()
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value != value:
            complain(f"values[{index}]: expected a number or text, found {shown(value)}.")
        typed.append(_typed_value(adapters, index, value))
        if typed[-1] in seen:
            complain(f"values[{index}]: found {shown(value)} twice; every value must occur once.")
        seen.add(typed[-1])
    return typed


def _typed_value(adapters: Sequence[TypeAdapter[Any] | None], index: int, value: AxisValue) -> AxisValue:
    try:
        coerced = [validated(adapter, value) for adapter in adapters]
    except ValueError as error:
        complain(f"values[{index}]: {error}")
    # A name given for a model or a data set becomes a mapping; the axis goes on being called by the name.
    return coerced[0] if isinstance(coerced[0], (int, float, str)) else value


class GridSpec(StrictModel):
    """A product of axes over the base cell as changed by `set`, less the points that `exclude` names."""

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
                name: _long_axis(name, axis) for name, axis in cast("Mapping[str, Any]", axes).items()
            }
        if isinstance(exclude := given.get("exclude"), (list, tuple)):
            given["exclude"] = [_long_rule(rule) for rule in cast("Sequence[Any]", exclude)]
        return given

    @model_validator(mode="after")
    def _excluded_points_exist(self) -> Self:
        for index, rule in enumerate(self.exclude):
            if not rule:
                complain(f"exclude[{index}]: found no axis; it would exclude everything.")
            for axis, values in rule.items():
                if axis not in self.axes:
                    complain(f"exclude[{index}]: {unknown_name('axis', axis, self.axes)}")
                labels = self.axes[axis].labels
                if missing := [value for value in values if value not in labels]:
                    allowed = ", ".join(map(str, labels))
                    complain(f"exclude[{index}].{axis}: found {shown(missing[0])}; allowed: {allowed}.")
        return self


def _long_rule(rule: Any) -> Any:
    if not isinstance(rule, Mapping):
        return rule
    items = cast("Mapping[str, Any]", rule).items()
    return {
        axis: [infinity(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
        for axis, value in items
    }


def _long_axis(name: Any, axis: Any) -> Any:
    if name in RESERVED_AXES:
        complain(f"axes.{name}: the name is reserved; choose another.")
    if isinstance(axis, Mapping):
        given = cast("Mapping[str, Any]", axis)
        return {"path": [ALIASES[name]], **given} if "values" in given and name in ALIASES else given
    if isinstance(axis, AxisSpec):
        return axis
    if name not in ALIASES:
        complain(
            f"axes.{name}: {unknown_name('axis', name, ALIASES)} "
            "An axis of any other name is a mapping with `path` and `values`, or `choices`."
        )
    return {"path": [ALIASES[name]], "values": axis}


class SpaceSpec(StrictModel):
    """A search space, as its file states it, with its short forms written out."""

    name: Annotated[str, Field(pattern=SPACE_NAME)]
    description: str = ""
    paper: str = ""
    choices: str = ""
    base: BaseSpec
    grids: tuple[GridSpec, ...] = Field(min_length=1)
    reports: tuple[Report, ...] = ()

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
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("grids", [g.name for g in self.grids]),
            ("reports", [r.name for r in self.reports]),
        ):
            if len(set(names)) < len(names):
                twice = next(name for index, name in enumerate(names) if name in names[:index])
                complain(f"{what}: found the name {twice!r} twice; every name must occur once.")
        return self


def plain_data(value: Any, *, compact: bool = False) -> Any:
    """Return validated values as YAML has them: mappings, lists and scalars.

    Args:
        value: A model, or what models are made of.
        compact: Leave out the fields that are off or empty unless stated, and are.
    """
    if isinstance(value, StrictModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        if compact:
            fields = {name: item for name, item in fields.items() if not _is_unused(type(value), name, item)}
        return {name: plain_data(item, compact=compact) for name, item in fields.items()}
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {key: plain_data(item, compact=compact) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [plain_data(item, compact=compact) for item in cast("Sequence[Any]", value)]
    return value


def _is_unused(model: type[StrictModel], name: str, value: Any) -> bool:
    default = model.model_fields[name].get_default(call_default_factory=True)
    return value == default and (value is None or value in ((), {}, ""))

"""Axes of a grid: values for paths of the cell, or labels that each set some paths."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import TypeAdapter, model_validator

from search_spaces.cell_schema import ALIASES, checked, field_adapter, validated
from search_spaces.reports import AxisValue
from search_spaces.strict import StrictModel, complain, plain_data, shown
from trainers.errors import ConfigError, unknown_name

AXIS_NAME = r"^[a-z][a-z0-9_]*$"

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
        if isinstance(label, str) and not label.isprintable():
            complain(f"choices: found the label {shown(label)}; expected printable text.")
        if isinstance(label, bool) or label != label:
            complain(f"choices: found the label {shown(label)}; expected a number or text: quote it.")
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


def require_distinct(axis: AxisSpec, at: str) -> None:
    """Refuse labels that read the same: where an axis has text, a table holds its numbers as text, too.

    Raises:
        ConfigError: Two labels do; the message begins with `at`.
    """
    seen: dict[str, AxisValue] = {}
    for label in axis.labels:
        if (other := seen.setdefault(str(label), label)) is not label:
            raise ConfigError(
                f"{at}: found the labels {shown(other)} and {shown(label)}, which read the same; rename one."
            )


def long_axis(name: Any, axis: Any) -> Any:
    """Write the short form of an axis out: values alone, where the name says where they go."""
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

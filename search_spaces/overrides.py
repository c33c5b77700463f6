"""Changing a space before it runs: its own `smoke` section and the `--set` options of the command line.

Both say `path: value`. A path is a dotted path of the schema (`base.refresh_every`, `base.phases.0.until`,
`grids.sgd.axes.seed`; grids and reports go by name) or the name of an axis, which is then changed in every
grid that has it. If none has it and its name says what it sets, a list makes it an axis of every grid, and so
does a mapping with the fields of an axis; any other value changes the base cell.
"""

from collections.abc import Mapping
from typing import Any, cast

from search_spaces.axes import AxisSpec
from search_spaces.cell_schema import ALIASES
from search_spaces.plain_paths import Place, assign, changed, entered
from search_spaces.schema import SpaceSpec
from search_spaces.strict import shown
from search_spaces.yaml_text import read_yaml
from trainers.errors import ConfigError, unknown_name


def parse_override(text: str) -> tuple[str, Any]:
    """Split `path=value`; the value is YAML.

    Raises:
        ConfigError: There is no `=`, no path, or the value is not YAML.
    """
    path, separator, value = text.partition("=")
    if not separator or not path.strip():
        raise ConfigError(f"--set: found {shown(text)}; expected path=value, such as base.refresh_every=100.")
    return path.strip(), read_yaml(value, f"--set {path.strip()}")


def override(space: dict[str, Any], path: str, value: Any, origin: str) -> list[Place]:
    """Set one path of a space's plain data, in place.

    Args:
        space: Plain data of a `SpaceSpec`, short forms written out.
        path: A dotted path, or the name of an axis.
        value: The new value.
        origin: Who asks: "--set" or "smoke".

    Returns:
        The places that were set, but those of axes and of what a grid sets.

    Raises:
        ConfigError: There is no such path or axis.
    """
    at = f"{origin} {path}"
    if "." not in path and path not in SpaceSpec.model_fields:
        return _override_axis(space, path, value, at)
    match path.split("."):
        case ["grids", grid, "set", *rest] if rest:
            owner = entered(space["grids"], grid, at)
            owner["set"] = changed(space["base"], owner["set"], {".".join(rest): value})
        case ["grids", grid, "axes", axis]:
            axes: dict[str, Any] = entered(space["grids"], grid, at)["axes"]
            axes[axis] = _changed_axis(axes.get(axis), value, at)
        case parts:
            return assign(space, parts, value, at)
    return []


def _override_axis(space: dict[str, Any], name: str, value: Any, at: str) -> list[Place]:
    grids: list[dict[str, Any]] = space["grids"]
    having = [grid for grid in grids if name in grid["axes"]]
    if not having and name not in ALIASES:
        known = dict.fromkeys(axis for grid in grids for axis in grid["axes"])
        raise ConfigError(
            f"{at}: {unknown_name('field or axis', name, [*SpaceSpec.model_fields, *known, *ALIASES])}"
        )
    if name in ALIASES and (_is_choice(value) or not having and not isinstance(value, (list, dict))):
        return override(space, f"base.{ALIASES[name]}", value, at.removesuffix(f" {name}"))
    if not grids:
        raise ConfigError(f"{at}: the space has no grid; set search.axes.{name} instead.")
    for grid in having or grids:
        grid["axes"][name] = _changed_axis(grid["axes"].get(name), value, at)
    return []


def _is_choice(value: Any) -> bool:
    """Whether a value is a mapping that is no axis: a name with options, or a condition."""
    return isinstance(value, Mapping) and AxisSpec.model_fields.keys().isdisjoint(cast("Any", value))


def _changed_axis(axis: Mapping[str, Any] | None, value: Any, at: str) -> Any:
    """Give an axis new values, keeping what they set; of labelled choices, keep those that are listed."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    if axis is None:
        return values
    if (choices := axis.get("choices")) is None:
        return {**axis, "values": values}
    for label in values:
        if label not in choices:
            raise ConfigError(f"{at}: {unknown_name('choice', label, map(str, choices))}")
    return {**axis, "choices": {label: choices[label] for label in values}}

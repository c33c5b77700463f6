"""Changing a space before it runs: its own `smoke` section and the `--set` options of the command line.

Both say `path: value`. A path is a dotted path of the schema (`base.refresh_every`, `base.phases.0.until`,
`grids.sgd.axes.seed`; grids and reports go by name) or the name of an axis, which is then changed in every
grid that has it, and given to every grid if none has it and its name says what it sets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from search_spaces.cell_schema import ALIASES
from search_spaces.schema import SpaceSpec
from search_spaces.strict import shown
from search_spaces.yaml_text import read_yaml
from trainers.errors import ConfigError, unknown_name

FLAT_MAPPINGS = ("set",)
"""Mappings whose keys are themselves dotted paths."""


def parse_override(text: str) -> tuple[str, Any]:
    """Split `path=value`; the value is YAML.

    Raises:
        ConfigError: There is no `=`, no path, or the value is not YAML.
    """
    path, separator, value = text.partition("=")
    if not separator or not path.strip():
        raise ConfigError(f"--set: found {shown(text)}; expected path=value, such as base.refresh_every=100.")
    return path.strip(), read_yaml(value, f"--set {path.strip()}")


def override(space: dict[str, Any], path: str, value: Any, origin: str) -> None:
    """Set one path of a space's plain data, in place.

    Args:
        space: Plain data of a `SpaceSpec`, short forms written out.
        path: A dotted path, or the name of an axis.
        value: The new value.
        origin: Who asks: "--set" or "smoke".

    Raises:
        ConfigError: There is no such path or axis.
    """
    at = f"{origin} {path}"
    if "." not in path and path not in SpaceSpec.model_fields:
        _override_axis(space, path, value, at)
        return
    target: Any = space
    rest = path.split(".")
    while len(rest) > 1 and not (rest[0] in FLAT_MAPPINGS and isinstance(target, dict)):
        target = _entered(target, rest.pop(0), at)
    if len(rest) > 1:
        target, rest = target[rest[0]], [".".join(rest[1:])]
    _put(target, rest[0], value, at)


def _override_axis(space: dict[str, Any], name: str, value: Any, at: str) -> None:
    grids: list[dict[str, Any]] = space["grids"]
    having = [grid for grid in grids if name in grid["axes"]]
    if not having and name not in ALIASES:
        known = dict.fromkeys(axis for grid in grids for axis in grid["axes"])
        raise ConfigError(
            f"{at}: {unknown_name('field or axis', name, [*SpaceSpec.model_fields, *known, *ALIASES])}"
        )
    for grid in having or grids:
        grid["axes"][name] = _changed_axis(grid["axes"].get(name), value, at)


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


def _entered(target: Any, part: str, at: str) -> Any:
    match target:
        case dict():
            fields = cast("dict[str, Any]", target)
            if part not in fields:
                raise ConfigError(f"{at}: {unknown_name('field', part, map(str, fields))}")
            return fields[part]
        case list():
            items = cast("list[Any]", target)
            return items[_index(items, part, at)]
        case _:
            raise ConfigError(f"{at}: no such path; there is nothing to enter at {part!r}.")


def _put(target: Any, part: str, value: Any, at: str) -> None:
    match target:
        case list():
            items = cast("list[Any]", target)
            items[_index(items, part, at)] = value
        case dict():
            fields = cast("dict[str, Any]", target)
            is_axis = isinstance(fields.get(part), dict) and ({"values", "choices"} & fields[part].keys())
            fields[part] = _changed_axis(fields[part], value, at) if is_axis else value
        case _:
            raise ConfigError(f"{at}: no such path; there is nothing to set at {part!r}.")


def _index(items: Sequence[Any], part: str, at: str) -> int:
    names = [item["name"] for item in items if isinstance(item, dict) and "name" in item]
    if part in names:
        return names.index(part)
    if part.removeprefix("-").isdigit():
        if -len(items) <= int(part) < len(items):
            return int(part)
        allowed = f"0 to {len(items) - 1}" if items else "none, since there are none"
        raise ConfigError(f"{at}: found index {part}; allowed: {allowed}.")
    raise ConfigError(f"{at}: {unknown_name('name', part, names)}")

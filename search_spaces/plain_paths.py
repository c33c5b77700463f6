"""Dotted paths into plain data (mappings, lists, scalars): `phases.0.until`, `phases.*.lr`, `grids.sgd.axes`.

An element of a list goes by index, negative ones from the end, by its `name`, or `*` for all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from trainers.errors import ConfigError, unknown_name


def assign(target: Any, path: Sequence[str], value: Any, at: str) -> None:
    """Set a path, in place. The last part may be a new key of a mapping; all others must exist.

    Args:
        target: A mapping or a list.
        path: The parts, at least one.
        value: The new value.
        at: What to call the place in messages.

    Raises:
        ConfigError: There is no such path.
    """
    head, *rest = path
    match target:
        case dict() if not rest:
            target[head] = value
        case dict():
            assign(entered(cast("dict[str, Any]", target), head, at), rest, value, at)
        case list():
            items = cast("list[Any]", target)
            for index in range(len(items)) if head == "*" else [_index(items, head, at)]:
                if rest:
                    assign(items[index], rest, value, at)
                else:
                    items[index] = value
        case _:
            raise ConfigError(f"{at}: no such path; there is nothing below to enter at {head!r}.")


def entered(target: Any, part: str, at: str) -> Any:
    """Return what one part of a path leads to.

    Raises:
        ConfigError: There is no such part.
    """
    match target:
        case dict():
            fields = cast("Mapping[str, Any]", target)
            if part not in fields:
                raise ConfigError(f"{at}: {unknown_name('field', part, map(str, fields))}")
            return fields[part]
        case list():
            items = cast("list[Any]", target)
            return items[_index(items, part, at)]
        case _:
            raise ConfigError(f"{at}: no such path; there is nothing below to enter at {part!r}.")


def allowed_indices(length: int) -> str:
    """Write the indices of a list of some length."""
    return f"0 to {length - 1}, or -{length} to -1" if length else "none, since there are none"


def _index(items: Sequence[Any], part: str, at: str) -> int:
    names = [item["name"] for item in items if isinstance(item, dict) and "name" in item]
    if part in names:
        return names.index(part)
    if not part.removeprefix("-").isdecimal():
        raise ConfigError(f"{at}: {unknown_name('name', part, names)}")
    if not -len(items) <= int(part) < len(items):
        raise ConfigError(f"{at}: found index {part}; allowed: {allowed_indices(len(items))}.")
    return int(part)

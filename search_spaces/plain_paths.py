"""Dotted paths into plain data (mappings, lists, scalars): `phases.0.until`, `phases.*.lr`, `grids.sgd.axes`.

An element of a list goes by index, negative ones from the end, by its `name`, or `*` for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

from trainers.errors import ConfigError, unknown_name

Place = tuple[str | int, ...]
"""A path with every part resolved: keys of mappings, indices of lists from 0."""


def assign(target: Any, path: Sequence[str], value: Any, at: str) -> list[Place]:
    """Set a path, in place. The last part may be a new key of a mapping; all others must exist.

    Args:
        target: A mapping or a list.
        path: The parts, at least one.
        value: The new value.
        at: What to call the place in messages.

    Returns:
        The places that were set.

    Raises:
        ConfigError: There is no such path.
    """
    head, *rest = path
    match target:
        case dict() if not rest:
            target[head] = value
            return [(head,)]
        case dict():
            below = assign(entered(cast("dict[str, Any]", target), head, at), rest, value, at)
            return [(head, *place) for place in below]
        case list():
            items = cast("list[Any]", target)
            places: list[Place] = []
            for index in range(len(items)) if head == "*" else [_index(items, head, at)]:
                if rest:
                    places += [(index, *place) for place in assign(items[index], rest, value, at)]
                else:
                    items[index] = value
                    places.append((index,))
            return places
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


def require_effect(places: Mapping[str, Sequence[Place]], at: str) -> None:
    """Refuse a path of which a later one sets everything again: it would be without effect.

    What is said of all elements (`*`) may have exceptions after it, even where they are all there are.

    Args:
        places: By path, in the order in which they are made, the places that they set.
        at: What to call the mapping of paths in messages.

    Raises:
        ConfigError: There is such a path.
    """
    paths = list(places)
    for number, path in enumerate(paths):
        for other in paths[number + 1 :]:
            exception = "*" in path and path.count(".") == other.count(".")
            again = all(within(place, places[other]) for place in places[path])
            if places[path] and again and not exception:
                raise ConfigError(
                    f"{at}: {path!r} has no effect, since {other!r} after it sets all of that again; put it "
                    "last, or leave one of them out."
                )


def within(place: Place, wholes: Iterable[Place]) -> bool:
    """Whether a place is one of some others, or a part of one."""
    return any(place[: len(whole)] == whole for whole in wholes)


def changed(base: Any, paths: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return paths and their values with changes made after: what new paths set anew is left out.

    Args:
        base: The plain data that they are made in; left as it is.
        paths: Dotted paths and values, in the order in which they are made.
        changes: Others; one that is there already keeps its place.
    """
    values, both = deepcopy(base), {**paths, **changes}
    places = {path: _places(values, path, value) for path, value in both.items()}
    anew = [place for path in changes if path not in paths for place in places[path]]
    return {
        path: value
        for path, value in both.items()
        if path in changes or not places[path] or not all(within(place, anew) for place in places[path])
    }


def _places(values: Any, path: str, value: Any) -> list[Place]:
    """Set a path; of one that leads nowhere, which is refused where it is used, return it as written."""
    parts = path.split(".")
    try:
        return assign(values, parts, deepcopy(value), path)
    except ConfigError:
        return [tuple(parts)]


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
    return int(part) % len(items)

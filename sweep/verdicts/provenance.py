"""Where a claims table comes from: sweep, code, and differences from the experiment of that name."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import yaml

from search_spaces import load_space
from search_spaces.space import SMOKE_SUFFIX
from search_spaces.strict import plain_data
from sweep.record import Record
from trainers.errors import ConfigError

COMPARED = {"base": "reduced", "grids": "reduced", "claims": "changed"}
"""Parts of a space that are held against the package's own, and what a difference is called."""

WORDS = ("says", "because")
"""What a claim is told with; it is judged by the rest."""

MAX_SHOWN = 60


def provenance(record: Record) -> list[str]:
    """Return notes for the table: sweep and commit, and every difference from the experiment of that name."""
    counts = ", ".join(f"{count} {status}" for status, count in record.counts().items())
    notes = [f"sweep `{record.name}`, commit `{record.commit or 'unknown'}`, {counts}"]
    name = record.space_name.removesuffix(SMOKE_SUFFIX)
    try:
        whole = cast("dict[str, Any]", plain_data(load_space(name).spec))
    except ConfigError:
        return [*notes, f"`{name}` is no experiment of the package, so nothing says what its full size is"]
    stored = cast("dict[str, Any]", yaml.safe_load(record.text))
    return [
        *notes,
        *(
            f"{kind}: {difference}"
            for part, kind in COMPARED.items()
            for difference in differences(_full(stored.get(part)), _full(whole[part]), part)
        ),
    ]


def _full(value: Any) -> Any:
    """Bring plain data to one form: tuples are lists, named things go by name, words and what is empty go."""
    if isinstance(value, Mapping):
        items = {str(key): _full(item) for key, item in cast("Mapping[Any, Any]", value).items()}
        return {k: item for k, item in items.items() if k not in WORDS and item not in (None, [], {}, "")}
    if isinstance(value, (list, tuple)):
        items = [_full(item) for item in cast("list[Any]", value)]
        names = [cast("dict[str, Any]", item).get("name") for item in items if isinstance(item, dict)]
        if items and len(set(names)) == len(items) and None not in names:
            return {name: item for name, item in zip(names, items, strict=True)}
        return items
    return value


def differences(found: Any, expected: Any, at: str) -> Iterator[str]:
    """Yield what differs between two plain values, by dotted path, as "path: found instead of expected"."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        one, other = cast("Mapping[str, Any]", found), cast("Mapping[str, Any]", expected)
        for key in dict.fromkeys([*other, *one]):
            yield from differences(one.get(key), other.get(key), f"{at}.{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):  # pyright: ignore[reportUnknownArgumentType]
        for index, (mine, whole) in enumerate(zip(found, expected, strict=True)):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield from differences(mine, whole, f"{at}.{index}")
    elif found != expected:
        yield f"`{at}`: {_shown(found)} instead of {_shown(expected)}"


def _shown(value: Any) -> str:
    text = (
        "nothing"
        if value is None
        else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
    )
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"

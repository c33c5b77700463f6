"""Where a claims table comes from: sweep, code, and differences from the experiment of that name."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml

from search_spaces import load_space
from search_spaces.space import SMOKE_SUFFIX
from search_spaces.strict import plain_data
from sweep import names
from sweep.record import Record
from trainers.errors import ConfigError

COMPARED = ("base", "grids", "claims")
"""Parts of a space that are held against the package's own."""

SIZES = {"until", "holdout_size", "widths"}
"""What makes an experiment smaller by being smaller; nothing stands for all there is."""

PERIODS = {"every", "evaluate_every", "refresh_every"}
"""What makes it smaller by being larger."""

WORDS = ("says", "because")
"""What a claim is told with; it is judged by the rest."""

MAX_SHOWN = 60


def provenance(record: Record) -> list[str]:
    """Return notes for the table: sweep and commit, and every difference from the experiment of that name."""
    counts = ", ".join(f"{count} {status}" for status, count in record.counts().items())
    changes = ", with changes" if record.dirty else ""
    notes = [f"sweep `{record.name}`, commit `{record.commit or 'unknown'}`{changes}, {counts}"]
    notes += _trained_elsewhere(record)
    name = record.space_name.removesuffix(SMOKE_SUFFIX)
    try:
        whole = cast("dict[str, Any]", plain_data(load_space(name).spec))
    except ConfigError:
        return [*notes, f"`{name}` is no experiment of the package, so nothing says what its full size is"]
    stored = cast("dict[str, Any]", yaml.safe_load(record.text))
    return [
        *notes,
        *(
            f"{difference.kind}: {difference}"
            for part in COMPARED
            for difference in differences(_full(stored.get(part)), _full(whole[part]), part)
        ),
    ]


def _trained_elsewhere(record: Record) -> list[str]:
    """Name the commits that trained the cells, unless that is the sweep's own alone."""
    runs = [str(outcome.run_id) for outcome in record.outcomes.values() if outcome.ended]
    found: dict[tuple[str, bool], None] = {}
    for text in record.each(lambda run: record.artifacts.get(run, names.ARTIFACT_ENVIRONMENT), runs):
        for attempt in json.loads(text or "{}").get("attempts", ()):
            found[attempt.get("git_commit") or "", bool(attempt.get("git_dirty"))] = None
    if found.keys() <= {(record.commit, record.dirty)}:
        return []
    shown = (f"`{commit or 'unknown'}`{' with changes' if dirty else ''}" for commit, dirty in found)
    return [f"cells were trained at {', '.join(shown)}"]


def _full(value: Any) -> Any:
    """Bring plain data to one form: tuples are lists, named things go by name, words and what is empty go."""
    if isinstance(value, Mapping):
        items = {str(key): _full(item) for key, item in cast("Mapping[Any, Any]", value).items()}
        return {k: item for k, item in items.items() if k not in WORDS and item not in (None, [], {}, "")}
    if isinstance(value, (list, tuple)):
        items = [_full(item) for item in cast("list[Any]", value)]
        called = [cast("dict[str, Any]", item).get("name") for item in items if isinstance(item, dict)]
        if items and len(set(called)) == len(items) and None not in called:
            return {name: item for name, item in zip(called, items, strict=True)}
        return items
    return value


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two plain values at a dotted path."""

    path: str
    found: Any
    expected: Any

    @property
    def kind(self) -> str:
        """What it makes of an experiment: "reduced" if it is the same one smaller."""
        if self.path.startswith("claims"):
            return "changed"
        return "reduced" if self._is_smaller() else "differs"

    def _is_smaller(self) -> bool:
        found, expected, keys = self.found, self.expected, set(self.path.split("."))
        if isinstance(found, list) and isinstance(expected, list):
            return all(item in expected for item in cast("list[Any]", found))
        if isinstance(found, int) and isinstance(expected, int):
            return bool(found < expected and keys & SIZES or found > expected and keys & PERIODS)
        if isinstance(found, int):
            return expected is None and bool(keys & SIZES)
        return found is None and self.path.startswith("grids")

    def __str__(self) -> str:
        return f"`{self.path}`: {_shown(self.found)} instead of {_shown(self.expected)}"


def differences(found: Any, expected: Any, at: str) -> Iterator[Difference]:
    """Yield what differs between two plain values."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        one, other = cast("Mapping[str, Any]", found), cast("Mapping[str, Any]", expected)
        for key in dict.fromkeys([*other, *one]):
            yield from differences(one.get(key), other.get(key), f"{at}.{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):  # pyright: ignore[reportUnknownArgumentType]
        for index, (mine, whole) in enumerate(zip(found, expected, strict=True)):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield from differences(mine, whole, f"{at}.{index}")
    elif found != expected:
        yield Difference(at, found, expected)


def _shown(value: Any) -> str:
    text = (
        "nothing"
        if value is None
        else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
    )
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"

"""What users ask of a running sweep, as tags of its own run: to stop, stop single cells, run some first.

Anybody may write them; the sweep's driver reads them all at once, every second or so.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sweep import names
from sweep.errors import LedgerError
from sweep.ledger.connection import translated
from sweep.ledger.description import TAG_LENGTH
from sweep.ledger.runs import TaggedRuns, now_ms
from sweep.ledger.sweeps import Sweep

TAGS_PER_CALL = 100
"""How many MLflow writes at once, and all or none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """All that is asked of a sweep.

    Args:
        stop: Whether it is to stop.
        cells: Cells that are to be stopped.
        first: Which cells come first, as `sweep.priority` reads it; `None` while nobody has said.
    """

    stop: bool
    cells: frozenset[str]
    first: tuple[str, ...] | None


class RequestTags(TaggedRuns):
    """Requests, written and read."""

    def requests(self, sweep: Sweep) -> Requests:
        """Return what is asked of a sweep at present."""
        tags = self._request_tags(sweep)
        return Requests(
            stop=bool(tags.get(names.TAG_STOP_REQUESTED)),
            cells=_cells_to_stop(tags),
            first=_first(_joined(tags, names.TAG_FIRST)),
        )

    def _request_tags(self, sweep: Sweep) -> Mapping[str, str]:
        with translated("looking for requests"):
            return self.client.get_run(sweep.run_id).data.tags

    def request_stop(self, sweep: Sweep) -> None:
        """Ask the driver of a sweep to stop."""
        self._set_tags(sweep.run_id, {names.TAG_STOP_REQUESTED: str(now_ms())})

    def stop_request(self, sweep: Sweep) -> str:
        """Return what tells one request to stop from another; empty where there is none."""
        return self._request_tags(sweep).get(names.TAG_STOP_REQUESTED, "")

    def clear_stop(self, sweep: Sweep, request: str | None = None) -> None:
        """Forget an earlier request to stop; with `request` only where there is no newer one."""
        if request is None or self.stop_request(sweep) == request:
            self._set_tags(sweep.run_id, {names.TAG_STOP_REQUESTED: ""})

    def request_cell_stops(self, sweep: Sweep, cell_ids: Collection[str]) -> None:
        """Ask the driver of a sweep to stop single cells, now or when it runs again.

        Each is a tag of its own: who asks at the same time, or forgets what is met, takes nothing back.
        """
        self._mark(sweep, sorted(cell_ids), str(now_ms()))

    def clear_cell_stops(self, sweep: Sweep, cell_ids: Collection[str]) -> None:
        """Forget the requests for these cells."""
        tags, met = self._request_tags(sweep), set(cell_ids)
        self._mark(sweep, sorted(_marked(tags) & met), "")
        if (together := _asked_together(tags)) & met:
            self._set_long(sweep, names.TAG_STOP_CELLS, " ".join(sorted(together - met)))

    def request_first(self, sweep: Sweep, first: Sequence[str]) -> None:
        """Say which cells come first, from now on; none is the order of the plan."""
        self._set_long(sweep, names.TAG_FIRST, json.dumps(list(first)))

    def _mark(self, sweep: Sweep, cell_ids: Sequence[str], value: str) -> None:
        for start in range(0, len(cell_ids), TAGS_PER_CALL):
            some = cell_ids[start : start + TAGS_PER_CALL]
            self._set_tags(sweep.run_id, {f"{names.TAG_STOP_CELL_PREFIX}{cell}": value for cell in some})

    def _set_long(self, sweep: Sweep, name: str, text: str) -> None:
        """Write a value of any length, as one tag or several, with one request."""
        parts = [text[start : start + TAG_LENGTH] for start in range(0, len(text), TAG_LENGTH)] or [""]
        if len(parts) > TAGS_PER_CALL:
            raise LedgerError(
                f"MLflow keeps {TAG_LENGTH * TAGS_PER_CALL:,} characters of a request; found {len(text):,}. "
                "Nothing was asked; name fewer cells at a time."
            )
        tags = self._request_tags(sweep)
        before = sum(_part(name, index) in tags for index in range(TAGS_PER_CALL))
        parts += [""] * (before - len(parts))
        self._set_tags(sweep.run_id, {_part(name, index): part for index, part in enumerate(parts)})


def _cells_to_stop(tags: Mapping[str, str]) -> frozenset[str]:
    return frozenset(_marked(tags) | _asked_together(tags))


def _marked(tags: Mapping[str, str]) -> set[str]:
    """Return the cells whose own tag asks for their end."""
    prefix = names.TAG_STOP_CELL_PREFIX
    return {tag.removeprefix(prefix) for tag, value in tags.items() if value and tag.startswith(prefix)}


def _asked_together(tags: Mapping[str, str]) -> set[str]:
    """Return what an earlier version asked for, all in one value."""
    return set((_joined(tags, names.TAG_STOP_CELLS) or "").split())


def _part(name: str, index: int) -> str:
    """Return the name of a tag that holds a part of a long value; the first one's is the value's own."""
    return f"{name}.{index}" if index else name


def _joined(tags: Mapping[str, str], name: str) -> str | None:
    if name not in tags:
        return None
    return "".join(tags.get(_part(name, index), "") for index in range(TAGS_PER_CALL))


def _first(text: str | None) -> tuple[str, ...] | None:
    """Read an order; one that cannot be read (an earlier version let MLflow cut it) is none."""
    try:
        return None if text is None else tuple(str(wish) for wish in json.loads(text))
    except (ValueError, TypeError):
        return None

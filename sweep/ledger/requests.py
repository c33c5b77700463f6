"""What users ask of a running sweep, as tags of its own run: to stop, stop single cells, run some first.

Anybody may write them; the sweep's driver reads them all at once, every second or so.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sweep import names
from sweep.ledger.connection import translated
from sweep.ledger.runs import TaggedRuns, now_ms
from sweep.ledger.sweeps import Sweep


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
        with translated("looking for requests"):
            tags = self.client.get_run(sweep.run_id).data.tags
        first = tags.get(names.TAG_FIRST)
        return Requests(
            stop=bool(tags.get(names.TAG_STOP_REQUESTED)),
            cells=frozenset(tags.get(names.TAG_STOP_CELLS, "").split()),
            first=None if first is None else tuple(json.loads(first)),
        )

    def request_stop(self, sweep: Sweep) -> None:
        """Ask the driver of a sweep to stop."""
        self._set_tags(sweep.run_id, {names.TAG_STOP_REQUESTED: str(now_ms())})

    def clear_stop(self, sweep: Sweep) -> None:
        """Forget an earlier request to stop."""
        self._set_tags(sweep.run_id, {names.TAG_STOP_REQUESTED: ""})

    def request_cell_stops(self, sweep: Sweep, cell_ids: Collection[str]) -> None:
        """Ask the driver of a sweep to stop single cells, now or when it runs again."""
        asked = self.requests(sweep).cells | set(cell_ids)
        self._set_tags(sweep.run_id, {names.TAG_STOP_CELLS: " ".join(sorted(asked))})

    def clear_cell_stops(self, sweep: Sweep, cell_ids: Collection[str]) -> None:
        """Forget the requests for these cells."""
        left = self.requests(sweep).cells - set(cell_ids)
        self._set_tags(sweep.run_id, {names.TAG_STOP_CELLS: " ".join(sorted(left))})

    def request_first(self, sweep: Sweep, first: Sequence[str]) -> None:
        """Say which cells come first, from now on; none is the order of the plan."""
        self._set_tags(sweep.run_id, {names.TAG_FIRST: json.dumps(list(first))})

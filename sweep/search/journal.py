"""The journal of a search: every question, answer and decision, in order, durable before it takes effect.

It is kept with the sweep's own run in MLflow, as files of up to `EVENTS_PER_FILE` lines of JSON. The newest
file is replaced as it grows and the others never change, so one event costs one small write. Only the holder
of the sweep's lease writes.
"""

import json
import threading
from collections.abc import Sequence
from typing import Any, cast

from search_spaces.search import SearchSpec
from sweep.errors import LedgerError
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.names import ARTIFACT_JOURNAL
from sweep.search.events import Event, event_from_json, event_to_json

EVENTS_PER_FILE = 200


class Journal:
    """The events of one sweep so far, and more to come.

    Args:
        ledger: Where it is kept.
        sweep: Whose.
        lease: Checked before anything is written.
        events: What was there, see `read_events`.
    """

    def __init__(self, ledger: Ledger, sweep: Sweep, lease: Lease, events: Sequence[Event]) -> None:
        self._ledger = ledger
        self._sweep = sweep
        self._lease = lease
        self._events = list(events)
        self._lock = threading.Lock()

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        with self._lock:
            return list(self._events)

    def append(self, events: Sequence[Event]) -> None:
        """Write events; they are durable when this returns.

        Raises:
            LedgerError: MLflow does not answer; nothing took effect.
            LeaseLostError: Another process writes this journal now.
        """
        if not events:
            return
        with self._lock:
            first = len(self._events) // EVENTS_PER_FILE
            grown = [*self._events, *events]
            # In order: a later file is there only if all before it are complete.
            for number in range(first, (len(grown) - 1) // EVENTS_PER_FILE + 1):
                lines = grown[number * EVENTS_PER_FILE : (number + 1) * EVENTS_PER_FILE]
                text = "".join(json.dumps(event_to_json(event), sort_keys=True) + "\n" for event in lines)
                self._lease.check()
                self._ledger.artifacts.put(self._sweep.run_id, _file(number), text.encode())
            self._events = grown


def read_events(ledger: Ledger, sweep: Sweep, search: SearchSpec | None = None) -> list[Event]:
    """Return the journal of a sweep; empty where there is none. Of a search it is read by its axes.

    Raises:
        LedgerError: It is damaged, or MLflow does not answer.
    """
    events: list[Event] = []
    number = 0
    while (data := ledger.artifacts.get(sweep.run_id, _file(number))) is not None:
        for index, line in enumerate(data.decode(errors="replace").splitlines()):
            try:
                events.append(event_from_json(cast("dict[str, Any]", json.loads(line)), search))
            except (ValueError, KeyError, TypeError) as error:
                raise LedgerError(
                    f"{_file(number)} of sweep {sweep.name!r} is damaged, line {index + 1}: {error!r}."
                ) from error
        number += 1
    return events


def _file(number: int) -> str:
    return f"{ARTIFACT_JOURNAL}/{number:06d}.jsonl"

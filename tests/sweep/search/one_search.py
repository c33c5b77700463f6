"""One command of a search, with a real ledger and store and without Ray: packs are trained by nobody."""

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

from search_spaces import Space, load_space_text
from sweep.cell_records import CellRecords
from sweep.claims import Claims
from sweep.grid_table import grid_table
from sweep.guide import Guide
from sweep.lease import Lease
from sweep.ledger import Ledger
from sweep.names import Status
from sweep.plan import Plan
from sweep.progress import Progress
from sweep.recorder import Recorder
from sweep.search.events import Asked, Event
from sweep.search.guiding import make_guide
from sweep.search.journal import Journal
from sweep.search.points import plan_of, recorded_events, stored_events
from sweep.spending import Spending
from sweep.stopping import Stop
from sweep.storage import Storage

TEXT = """
name: little
description: A search for a rate.
base:
  model: {name: mlp, widths: [8]}
  dataset: mnist-5k
  phases: [{lr: 0.05, until: 300}]
search:
  axes:
    lr: {low: 0.01, high: 60, log: true}
"""
SPACE = load_space_text(TEXT).for_search({"cells": 6})
TAKE_SECONDS = 60.0


class Search:
    """A command of a search.

    Args:
        ledger: Where it is recorded.
        storage: Where its cells are.
        name: The sweep's.
        space: What is searched.
        asks: Whether it may ask for more.
    """

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        name: str = "search",
        space: Space = SPACE,
        *,
        asks: bool = True,
    ) -> None:
        self.ledger, self.storage, self.space = ledger, storage, space
        self.stop, self.said = Stop(), list[str]()
        plan = plan_of(space, recorded_events(space, ledger, name))
        self.sweep = ledger.open_sweep(space, table(plan), name=name, accept_version=True)
        self.stack = ExitStack()
        lease = self.stack.enter_context(Lease.acquire(ledger, self.sweep))
        self.journal = Journal(ledger, self.sweep, lease, stored_events(space, ledger, self.sweep))
        self.plan = plan_of(space, self.journal.events)
        ledger.write_plan(self.sweep, space, table(self.plan), accept_version=True)
        self.claims = Claims(ledger, self.sweep, lease)
        guide = make_guide(
            space,
            self.plan,
            self.journal,
            sweep=self.sweep,
            ledger=ledger,
            storage=storage,
            claims=self.claims,
            spending=Spending(ledger, self.sweep, goes_on=False, is_kept=True),
            asks=asks,
            stop=self.stop,
            say=self.said.append,
        )
        assert guide is not None
        self.guide: Guide = guide
        self.recorder = Recorder(
            CellRecords(
                ledger,
                storage,
                self.sweep,
                lease,
                describe=lambda cell: (self.plan.cells[cell], self.plan.axes_of(cell)),
                runs=ledger.lookup(list(self.plan.cells), self.sweep),
            )
        )

    def begin(self, *packs: Collection[str], slots: int, lanes: int = 1) -> None:
        """Start beside the training of these packs."""
        self.recorder.start()
        self.stack.callback(self.recorder.close)
        progress = Progress(name=self.sweep.name, total_steps=0, statuses={})
        self.guide.begin(self.recorder, progress, packs, slots=lambda: slots, lanes=lanes)
        self.stack.callback(self.guide.close)

    def take_packs(self, count: int = 1) -> list[list[str]]:
        """Return the next packs that are handed over."""
        taken: list[list[str]] = []
        while len(taken) < count:
            packs = self.guide.take(TAKE_SECONDS)
            assert packs, "nothing was handed over"
            taken += [list(pack) for pack in packs]
        return taken

    def take(self, count: int = 1) -> list[str]:
        """Return the next cells that are handed over, each in a pack of its own."""
        return [cell for pack in self.take_packs(count) for cell in pack]

    def train(
        self, cell: str, status: Status = Status.COMPLETED, *, loss: float = 1.0, steps: int = 300
    ) -> None:
        """Let a cell end as `commit` does, and say so."""
        self.commit(cell, status, loss=loss, steps=steps)
        self.guide.reported(cell, steps, status)

    def commit(
        self, cell: str, status: Status = Status.COMPLETED, *, loss: float = 1.0, steps: int = 300
    ) -> None:
        """Leave a cell in the store as a worker does that has ended it."""
        self.storage.commit(
            cell,
            attempt=self.storage.begin_attempt(cell),
            step=steps,
            checkpoint=b"state",
            part=None,
            previous=None,
            outcome={"status": str(status), "reason": ""},
            summary={"finals": {"final/train_loss": loss}},
        )

    def events(self) -> list[Event]:
        """Return the journal as it is stored."""
        return stored_events(self.space, self.ledger, self.sweep)

    def asked(self) -> list[Asked]:
        """Return the questions so far."""
        return [event for event in self.events() if isinstance(event, Asked)]


def table(plan: Plan) -> Any:
    """Return a plan as it is stored."""
    return grid_table(plan.grids, plan.axes, plan.cell_ids)


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait a while for something; returns whether it came."""
    end = time.monotonic() + TAKE_SECONDS
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return met

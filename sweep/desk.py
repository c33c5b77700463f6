"""The desk: turns what happens to packs into runs in MLflow, in one thread, beside Tune's loop.

Events are put into a queue and handled in order: a cell's run is made (or taken up) when its trial starts, its
commits go to the recorder, a pack that is given up is recorded as failed. While MLflow is away the desk waits
and tries again; training does not.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.errors import LeaseLostError, LedgerError
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.lease import Lease
from sweep.names import ARTIFACT_ERROR, Status
from sweep.plan import Plan
from sweep.progress import Progress
from sweep.recorder import Recorder
from trainers.errors import SharpflatError

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Started:
    cell_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Reported:
    commits: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Failed:
    cell_ids: tuple[str, ...]
    reason: str
    log: str


_Event = _Started | _Reported | _Failed


class Desk:
    """Handles the events of one run of a sweep.

    Args:
        ledger: MLflow.
        sweep: The sweep.
        lease: Checked before anything is written.
        recorder: Receives the commits.
        plan: What is being run.
        known: Runs that cells of the plan already have.
        progress: Is kept up to date.
        lost: Called once when another process has taken the sweep over.
    """

    def __init__(
        self,
        ledger: Ledger,
        sweep: Sweep,
        lease: Lease,
        recorder: Recorder,
        plan: Plan,
        known: Mapping[str, CellRun],
        progress: Progress,
        lost: Callable[[SharpflatError], None],
    ) -> None:
        self._ledger = ledger
        self._sweep = sweep
        self._lease = lease
        self._recorder = recorder
        self._plan = plan
        self._runs = dict(known)
        self._progress = progress
        self._lost = lost
        self._open: set[str] = set()
        self._failed: set[str] = set()
        self._events: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        self._deadline: float | None = None
        self._stopping = threading.Event()
        self._abandoned: list[str] = []
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    def started(self, cell_ids: Sequence[str]) -> None:
        """A worker has begun these cells."""
        self._events.put(_Started(tuple(cell_ids)))

    def reported(self, commits: Sequence[Mapping[str, Any]]) -> None:
        """A worker has committed (`sweep.pack.Committed` as mappings)."""
        self._events.put(_Reported(tuple(commits)))

    def failed(self, cell_ids: Sequence[str], reason: str, log: str) -> None:
        """These cells are given up."""
        self._events.put(_Failed(tuple(cell_ids), reason, log))

    def close(self, timeout: float) -> list[str]:
        """Handle what is left, within `timeout` seconds; returns the events that could not be recorded."""
        self._deadline = time.monotonic() + timeout
        self._stopping.set()
        self._events.put(None)
        self._thread.join(timeout + LONGEST_WAIT_SECONDS)
        return self._abandoned

    def interrupted(self) -> list[CellRun]:
        """Return the runs that were begun and have not ended, after `close`."""
        return [self._runs[cell_id] for cell_id in sorted(self._open)]

    @property
    def failures(self) -> int:
        """How many cells were given up."""
        return len(self._failed)

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                self._persist(event)
            except LeaseLostError as error:
                self._lost(error)
                return
            except SharpflatError as error:
                self._abandoned.append(str(error))

    def _persist(self, event: _Event) -> None:
        """Handle an event; while MLflow is away, again and again."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                self._handle(event)
                return
            except LedgerError as error:
                late = self._deadline is not None and time.monotonic() > self._deadline
                if late or not error.transient:
                    raise
            self._stopping.wait(wait) if not self._stopping.is_set() else time.sleep(min(wait, 1.0))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _handle(self, event: _Event) -> None:
        match event:
            case _Started(cell_ids):
                for cell_id in cell_ids:
                    self._begin(cell_id)
            case _Reported(commits):
                for commit in commits:
                    self._commit(commit)
            case _Failed(cell_ids, reason, log):
                for cell_id in cell_ids:
                    self._fail(cell_id, reason, log)

    def _begin(self, cell_id: str) -> CellRun:
        if cell_id in self._open:
            return self._runs[cell_id]
        self._lease.check()
        cell, axes = self._plan.cells[cell_id], self._plan.axes_of(cell_id)
        known, epoch = self._runs.get(cell_id), self._lease.epoch
        if known is None:
            run = self._ledger.start_cell(self._sweep, cell_id=cell_id, cell=cell, axes=axes, epoch=epoch)
        else:
            run = self._ledger.resume_cell(known, cell=cell, axes=axes, epoch=epoch)
        self._runs[cell_id] = run
        self._open.add(cell_id)
        self._progress.update(cell_id, Status.RUNNING, 0, cell.num_steps)
        return run

    def _commit(self, commit: Mapping[str, Any]) -> None:
        cell_id = commit["cell_id"]
        run = self._begin(cell_id)
        status = Status(commit["status"])
        self._recorder.submit(cell_id, run.run_id, step=commit["step"], attempt=commit["attempt"])
        self._progress.update(cell_id, status, commit["step"], commit["num_steps"])
        if status.ended:
            self._open.discard(cell_id)

    def _fail(self, cell_id: str, reason: str, log: str) -> None:
        run = self._begin(cell_id)
        self._lease.check()
        if log:
            self._ledger.artifacts.put(run.run_id, ARTIFACT_ERROR, log.encode())
        self._ledger.finish_cell(run.run_id, Status.FAILED, reason)
        self._open.discard(cell_id)
        self._failed.add(cell_id)
        self._progress.update(cell_id, Status.FAILED, 0, self._plan.cells[cell_id].num_steps)

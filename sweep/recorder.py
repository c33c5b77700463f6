"""The one writer of cells' records: from the store to MLflow, on a thread of its own, beside Tune's loop.

Trials commit to the store; the driver passes on what happened; this thread makes the runs and sends. Only
what a durable commit covers is sent, with the original timestamps, so that a replay adds nothing. A cell's
final status is the last thing written, after its files have been read back. MLflow being away delays the
record and never the training: the thread tries again, and what is missing at the end the next run records
(`reconcile`).
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import pyarrow.compute as compute

from sweep import names
from sweep.attempts import ending, environment_document, environments, fork_text
from sweep.costs import cost_of
from sweep.ends import publish_end
from sweep.errors import LedgerError, StorageError
from sweep.grid_table import AxisValue
from sweep.lease import Lease
from sweep.ledger import CellRun, Entries, Ledger, Sweep
from sweep.ledger.description import cell_document
from sweep.names import Status
from sweep.plain_text import plain_text
from sweep.storage import Manifest, Storage
from sweep.storage.parts import STEP, TIMESTAMP
from sweep.thinning import Thinning
from sweep.wanted import SECONDS_BEFORE_START, End, Wanted
from trainers.cell import Cell

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 15.0

LOST_REASON = "its driver was lost"

Describe = Callable[[str], tuple[Cell, Mapping[str, AxisValue]]]
"""Gives a cell, and the axes of the first grid point that asks for it, by its id."""


class Recorder:
    """Records the cells of one sweep.

    Args:
        ledger: Where to.
        storage: Where from.
        sweep: The sweep.
        lease: Checked before anything is written.
        describe: Gives a cell by its id.
        runs: The runs that cells have already (`Ledger.lookup`).
    """

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        sweep: Sweep,
        lease: Lease,
        *,
        describe: Describe,
        runs: Mapping[str, CellRun],
    ) -> None:
        self._ledger = ledger
        self._storage = storage
        self._sweep = sweep
        self._lease = lease
        self._describe = describe
        self._runs = dict(runs)
        self._open: dict[str, Thinning] = {}
        self._unsent: dict[str, Entries] = {}
        self._uncertain: set[str] = set()
        self._wanted: dict[str, Wanted] = {}
        self._refused: dict[str, str] = {}
        self._committed: dict[str, int] = {}
        self._packs: dict[str, str] = {}
        self._busy: str | None = None
        self._away: str | None = None
        self._answered = time.monotonic()
        self._failure: BaseException | None = None
        self._closing = False
        self._draining = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to record."""
        self._thread.start()

    # What the driver says; none of these waits for MLflow.

    def started(self, cell_id: str) -> None:
        """Say that a worker has begun with the cell: it gets its run, shown as running."""
        self._want(cell_id, Wanted(begins=True))

    def submit(self, cell_id: str, *, step: int, attempt: int) -> None:
        """Say that a commit of the cell is durable. One with an outcome ends the cell's run."""
        self._want(cell_id, Wanted(commit=(step, attempt)))

    def ended(self, cell_id: str, status: Status, reason: str, *, log: str = "") -> None:
        """Say that the cell stops here without an outcome of its own: failed, interrupted, or stopped."""
        self._want(cell_id, Wanted(end=End(status=status, reason=plain_text(reason), log=plain_text(log))))

    def _want(self, cell_id: str, wanted: Wanted) -> None:
        with self._changed:
            self._wanted[cell_id] = self._wanted.get(cell_id, Wanted()).then(wanted)
            self._refused.pop(cell_id, None)
            self._changed.notify_all()

    # What the driver asks.

    @property
    def runs(self) -> dict[str, CellRun]:
        """The cells' runs as recorded so far."""
        with self._changed:
            return dict(self._runs)

    @property
    def away(self) -> str | None:
        """Why MLflow cannot be written at present, or `None`."""
        return self._away

    @property
    def open_runs(self) -> list[CellRun]:
        """The runs that this recorder made or took up and has not ended; nobody else writes them."""
        with self._changed:
            return [run for cell_id, run in self._runs.items() if cell_id in self._open]

    @property
    def is_idle(self) -> bool:
        """Whether all that was passed on is recorded, or refused."""
        with self._changed:
            return not self._wanted and self._busy is None

    @property
    def refused(self) -> dict[str, str]:
        """Cells that could not be recorded for a reason that waiting does not mend."""
        with self._changed:
            return dict(self._refused)

    def check(self) -> None:
        """Raise what ended the recorder's thread, such as `LeaseLostError`, if anything did."""
        if self._failure is not None:
            raise self._failure

    def drain(self, timeout: float) -> list[str]:
        """Wait until all is recorded; returns the cells that are not.

        Args:
            timeout: Seconds without an answer of MLflow's after which no longer is waited.

        Raises:
            LeaseLostError: Another process writes this sweep's record now.
        """
        with self._changed:
            self._draining = True
            self._answered = time.monotonic()
            self._changed.notify_all()
            while (self._wanted or self._busy) and self._failure is None:
                left = self._answered + timeout - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            missing = {*self._wanted, *self._refused}
            if self._busy is not None:
                missing.add(self._busy)
        self.check()
        return sorted(missing)

    def close(self) -> None:
        """End the thread after the cell at hand. What is not recorded by then is left to the next run."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def reconcile(self, cell_ids: Collection[str]) -> set[str]:
        """Make MLflow agree with the store after a crash; call before `start`.

        An outcome that was committed and not recorded is queued, and told to longer runs; a run that a lost
        driver left as running is shown as interrupted; one with a final status that is still open is closed.

        Args:
            cell_ids: The plan's cells, without those that another driver is running now.

        Returns:
            The cells that need no training: ended in MLflow, or in the store.
        """
        done: set[str] = set()
        for cell_id in cell_ids:
            run = self._runs.get(cell_id)
            if run is not None and run.status.ended:
                done.add(cell_id)
                if run.run_status != run.status.mlflow_status:
                    self._end(run, run.status, run.reason)
                continue
            newest, _ = self._storage.latest(cell_id)
            if newest is not None:
                self._committed[cell_id] = newest.step
                attempt = newest.summary.get("environment", {})
                if attempt.get("lanes", 1) > 1 and "pack" in attempt:
                    self._packs[cell_id] = attempt["pack"]
            if newest is not None and newest.outcome is not None:
                done.add(cell_id)
                publish_end(self._storage, self._describe(cell_id)[0], newest)
                self.submit(cell_id, step=newest.step, attempt=newest.attempt)
            elif run is not None and run.status is Status.RUNNING:
                self._end(run, Status.INTERRUPTED, LOST_REASON)
        return done

    def admit(self, runs: Mapping[str, CellRun], cell_ids: Collection[str]) -> set[str]:
        """Take on further cells while recording; see `reconcile`.

        Args:
            runs: The runs that cells have already; those of `cell_ids` are taken over.
            cell_ids: The cells, without those that another driver is running now.
        """
        with self._changed:
            self._runs.update((cell_id, runs[cell_id]) for cell_id in cell_ids if cell_id in runs)
        return self.reconcile(cell_ids)

    @property
    def committed(self) -> Mapping[str, int]:
        """The step of the newest commit of each cell that has one, as `reconcile` found them."""
        return self._committed

    @property
    def packs(self) -> Mapping[str, str]:
        """The name of the pack that made each of these commits, where it had several lanes."""
        return self._packs

    # The thread.

    def _work(self) -> None:
        try:
            delay = FIRST_RETRY_SECONDS
            while (cell_id := self._next()) is not None:
                if self._try(cell_id):
                    delay = FIRST_RETRY_SECONDS
                    continue
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, delay)
                delay = min(2 * delay, LONGEST_RETRY_SECONDS)
        except BaseException as failure:
            # Raised again in the driver's thread, by `check` and `drain`.
            self._failure = failure
        finally:
            with self._changed:
                self._changed.notify_all()

    def _next(self) -> str | None:
        """Return the cell that is to be recorded next; waits for one."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                for cell_id, wanted in self._wanted.items():
                    if wanted.is_due(now) or self._draining:
                        return cell_id
                self._changed.wait(SECONDS_BEFORE_START if self._wanted else None)
            return None

    def _try(self, cell_id: str) -> bool:
        """Record one cell; returns whether MLflow answered."""
        with self._changed:
            wanted = self._wanted.pop(cell_id)
            self._busy = cell_id
        answered, refused = True, None
        try:
            self._record(cell_id, wanted)
            self._away = None
        except LedgerError as error:
            if error.transient:
                answered, self._away = False, str(error)
            else:
                refused = str(error)
        except StorageError as error:
            refused = str(error)
        with self._changed:
            if not answered:
                # At the end of the queue, joined with what was said meanwhile.
                newer = self._wanted.pop(cell_id, Wanted())
                self._wanted[cell_id] = wanted.then(newer)
            if refused is not None:
                self._refused[cell_id] = refused
            if answered:
                self._answered = time.monotonic()
            self._busy = None
            self._changed.notify_all()
        return answered

    def _record(self, cell_id: str, wanted: Wanted) -> None:
        self._lease.check()
        known = self._runs.get(cell_id)
        if known is not None and known.status.ended:
            return
        # What could not be sent before stays in there, and is sent with what is new.
        entries = self._unsent.setdefault(cell_id, Entries())
        run = self._take_up(cell_id, known, entries)
        if wanted.commit is not None:
            manifest = self._manifest(cell_id, *wanted.commit)
            run = self._add_history(run, manifest, entries)
            if manifest.outcome is not None:
                self._finish(run, manifest, entries)
                return
        if wanted.end is not None:
            self._stop(run, wanted.end, entries)
            return
        if entries:
            self._lease.check()
            self._ledger.send(run.run_id, entries)
            self._unsent[cell_id] = Entries()

    def _take_up(self, cell_id: str, known: CellRun | None, entries: Entries) -> CellRun:
        """Return the cell's run; the first time it is made, or reopened."""
        if known is not None and cell_id in self._open:
            return known
        cell, axes = self._describe(cell_id)
        self._lease.check()
        if known is None and cell_id in self._uncertain:
            # A request that seemed to fail may have made the run.
            known = self._ledger.lookup([cell_id], self._sweep).get(cell_id)
        epoch = self._lease.epoch
        if known is None:
            self._uncertain.add(cell_id)
            run = self._ledger.start_cell(
                self._sweep, cell_id=cell_id, cell=cell, axes=axes, epoch=epoch, entries=entries
            )
        else:
            run = self._ledger.resume_cell(known, cell=cell, axes=axes, epoch=epoch, entries=entries)
        self._uncertain.discard(cell_id)
        thinning = Thinning(cell.num_steps)
        if run.recorded_until:
            self._replay(run, thinning)
        self._open[cell_id] = thinning
        self._know(run)
        return run

    def _replay(self, run: CellRun, thinning: Thinning) -> None:
        """Bring the choice of points to where an earlier session stopped, without sending."""
        newest, _ = self._storage.latest(run.cell_id)
        if newest is not None:
            table = self._storage.read_parts(newest)
            thinning.choose(table.filter(compute.field(STEP) < run.recorded_until))

    def _manifest(self, cell_id: str, step: int, attempt: int) -> Manifest:
        try:
            return self._storage.manifest(cell_id, step, attempt)
        except StorageError:
            # Pruned since, because a later commit exists; or damaged, and then the one before it counts.
            newest, problems = self._storage.latest(cell_id)
            if newest is None:
                raise StorageError(" ".join([f"no commit of cell {cell_id} is left.", *problems])) from None
            return newest

    def _add_history(self, run: CellRun, manifest: Manifest, entries: Entries) -> CellRun:
        ended = manifest.outcome is not None
        stopped = manifest.outcome is not None and manifest.outcome["status"] == Status.STOPPED
        if manifest.step <= run.recorded_until and not ended:
            return run
        table = self._storage.read_parts(manifest, from_step=run.recorded_until)
        rows = table.filter(compute.field(STEP) >= run.recorded_until)
        metrics = self._open[run.cell_id].choose(rows, ended=ended)
        # A row at the commit's very step is there only if the cell ended with it, and was not just stopped.
        until = manifest.step + 1 if ended and not stopped else manifest.step
        if metrics:
            entries.add_history(metrics, recorded_until=until)
        run = replace(run, recorded_until=until)
        self._know(run)
        return run

    def _finish(self, run: CellRun, manifest: Manifest, entries: Entries) -> None:
        """Store the files and read them back, then the finals, and the status last."""
        files = self._ledger.artifacts
        parts = {
            f"{names.ARTIFACT_HISTORY}/part-{part.start:09d}-{part.stop:09d}.parquet": part
            for part in manifest.parts
        }
        for path in files.paths(run.run_id, names.ARTIFACT_HISTORY):
            if path not in parts:
                # Of a stop that was undone: the beginning of a part that is put now.
                files.clear(run.run_id, path)
        for path, part in parts.items():
            files.put_verified(run.run_id, path, self._storage.read_part(part))
        ran = environments(self._storage, manifest)
        files.put_verified(run.run_id, names.ARTIFACT_ENVIRONMENT, environment_document(ran))
        cell, _ = self._describe(run.cell_id)
        # Put when the run was made, which may be days ago.
        if files.get(run.run_id, names.ARTIFACT_CELL) != cell_document(cell):
            files.put_verified(run.run_id, names.ARTIFACT_CELL, cell_document(cell))
        entries.tags[names.TAG_COST] = cost_of(cell, manifest, ran["attempts"]).to_text()
        status, reason, finals = ending(manifest)
        # A time that every repetition finds again, so that a repetition adds no second point.
        times = self._storage.read_parts(manifest)[TIMESTAMP].drop_null().to_pylist()
        self._end(
            replace(run, metrics={**run.metrics, **finals}),
            status,
            reason,
            entries,
            finals=finals,
            step=manifest.step,
            timestamp_ms=max(times, default=run.started_ms),
            forked_from=fork_text(manifest),
        )

    def _stop(self, run: CellRun, end: End, entries: Entries) -> None:
        """Record the end of a cell that has no outcome."""
        reason, log = end.reason, end.log
        if end.status is Status.FAILED and (note := self._storage.note(run.cell_id)):
            # A worker that ended itself knew why; Ray only knows that it is gone.
            note = plain_text(note)
            reason, log = note.partition("\n")[0], f"{note}\n{log}"
        if log:
            self._ledger.artifacts.put_verified(run.run_id, names.ARTIFACT_ERROR, log.encode())
        self._end(run, end.status, reason, entries)

    def _end(
        self, run: CellRun, status: Status, reason: str, entries: Entries | None = None, **finals: Any
    ) -> None:
        self._lease.check()
        self._ledger.finish_cell(run.run_id, status, reason, entries=entries, **finals)
        self._open.pop(run.cell_id, None)
        self._unsent.pop(run.cell_id, None)
        self._know(replace(run, status=status, reason=reason, run_status=status.mlflow_status))

    def _know(self, run: CellRun) -> None:
        with self._changed:
            self._runs[run.cell_id] = run

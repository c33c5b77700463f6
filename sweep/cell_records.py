"""The records of a sweep's cells in MLflow: a run that is made or taken up, its history, its end.

Only what a durable commit covers is sent, with the original timestamps, so that a replay adds nothing. A
cell's final status is the last thing written, after its files have been read back.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow.compute as compute

from sweep import names
from sweep.attempts import ending, environment_document, environments, fork_text
from sweep.costs import cost_of
from sweep.errors import StorageDamagedError, StorageUnseenError
from sweep.failures import has_lost_worker
from sweep.grid_table import AxisValue
from sweep.lease import Lease
from sweep.ledger import CellRun, Entries, Ledger, Sweep
from sweep.ledger.description import cell_document
from sweep.names import Status
from sweep.plain_text import plain_text
from sweep.storage import Manifest, Storage
from sweep.storage.parts import STEP, TIMESTAMP
from sweep.thinning import Thinning
from sweep.wanted import End, Wanted
from trainers.cell import Cell

SECONDS_UNSEEN = 120.0
"""A network file system may remember for a minute that there is no such file; another node has it."""

Describe = Callable[[str], tuple[Cell, Mapping[str, AxisValue]]]
"""Gives a cell, and the axes of the first grid point that asks for it, by its id."""


class CellRecords:
    """Writes the records, one request at a time; what is known of them can be asked from any thread.

    Args:
        ledger: Where to.
        storage: Where from; an attribute too.
        sweep: The sweep.
        lease: Checked before anything is written.
        describe: Gives a cell by its id; an attribute too.
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
        self.storage = storage
        self._sweep = sweep
        self._lease = lease
        self.describe = describe
        self._runs = dict(runs)
        self._open: dict[str, Thinning] = {}
        self._unsent: dict[str, Entries] = {}
        self._uncertain: set[str] = set()
        self._unseen: dict[tuple[str, int], float] = {}
        """When a commit, by cell and step, was first looked for and not found."""
        self._lock = threading.Lock()

    @property
    def runs(self) -> dict[str, CellRun]:
        """The cells' runs as recorded so far."""
        with self._lock:
            return dict(self._runs)

    @property
    def open_runs(self) -> list[CellRun]:
        """The runs that were made or taken up here and have not ended; nobody else writes them."""
        with self._lock:
            return [run for cell_id, run in self._runs.items() if cell_id in self._open]

    def run_of(self, cell_id: str) -> CellRun | None:
        """Return a cell's run, `None` where it has none."""
        with self._lock:
            return self._runs.get(cell_id)

    def take_over(self, runs: Mapping[str, CellRun], cell_ids: Collection[str]) -> None:
        """Take note of the runs that further cells have already."""
        with self._lock:
            self._runs.update((cell_id, runs[cell_id]) for cell_id in cell_ids if cell_id in runs)

    def write(self, cell_id: str, wanted: Wanted) -> None:
        """Record what is wanted of one cell; nothing of one that has ended.

        Raises:
            LedgerError: MLflow does not answer, or refuses; what was not sent is sent with the next request.
            StorageDamagedError: No commit of the cell can be read any more.
            StorageError: The store does not answer; as with MLflow.
            LeaseLostError: Another process writes this sweep's record now.
        """
        self._lease.check()
        known = self._runs.get(cell_id)
        if known is not None and known.status.ended:
            return
        # What could not be sent before stays in there, and is sent with what is new.
        entries = self._unsent.setdefault(cell_id, Entries())
        run = self._take_up(cell_id, known, entries)
        if wanted.commit is not None:
            manifest = self._manifest(cell_id, *wanted.commit)
            try:
                run = self._add_history(run, manifest, entries)
            except StorageDamagedError:
                # Pruned while it was read: parts that later commits list as one are not kept.
                newest, _ = self.storage.latest(cell_id)
                if newest is None or newest == manifest or newest.step < manifest.step:
                    raise
                manifest = newest
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
        cell, axes = self.describe(cell_id)
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
        for manifest in self.storage.manifests(run.cell_id):
            # Of one that is damaged the commit before it has the same rows, as far as it goes.
            with suppress(StorageDamagedError):
                table = self.storage.read_parts(manifest)
                thinning.choose(table.filter(compute.field(STEP) < run.recorded_until))
                return

    def _manifest(self, cell_id: str, step: int, attempt: int) -> Manifest:
        try:
            return self.storage.manifest(cell_id, step, attempt)
        except StorageDamagedError:
            # Pruned since, because a later commit exists; or damaged, and then the one before it counts.
            newest, problems = self.storage.latest(cell_id)
            is_behind = newest is None or newest.step < step
            now = time.monotonic()
            unseen = now - self._unseen.setdefault((cell_id, step), now)
            if is_behind and not problems and unseen < SECONDS_UNSEEN:
                raise StorageUnseenError(
                    f"the commit of cell {cell_id} at step {step:,} is not to be seen here yet."
                ) from None
            if newest is None:
                raise StorageDamagedError(
                    " ".join([f"no commit of cell {cell_id} is left.", *problems])
                ) from None
            return newest

    def _add_history(self, run: CellRun, manifest: Manifest, entries: Entries) -> CellRun:
        ended = manifest.outcome is not None
        stopped = manifest.outcome is not None and manifest.outcome["status"] == Status.STOPPED
        if manifest.step <= run.recorded_until and not ended:
            return run
        table = self.storage.read_parts(manifest, from_step=run.recorded_until)
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
            files.put_verified(run.run_id, path, self.storage.read_part(part))
        ran = environments(self.storage, manifest)
        files.put_verified(run.run_id, names.ARTIFACT_ENVIRONMENT, environment_document(ran))
        cell, _ = self.describe(run.cell_id)
        # Put when the run was made, which may be days ago.
        if files.get(run.run_id, names.ARTIFACT_CELL) != cell_document(cell):
            files.put_verified(run.run_id, names.ARTIFACT_CELL, cell_document(cell))
        entries.tags[names.TAG_COST] = cost_of(cell, manifest, ran["attempts"]).to_text()
        status, reason, finals = ending(manifest)
        # A time that every repetition finds again, so that a repetition adds no second point.
        times = self.storage.read_parts(manifest)[TIMESTAMP].drop_null().to_pylist()
        self.end(
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
        is_lost = end.status is Status.FAILED and has_lost_worker(log)
        if is_lost and (note := self.storage.note(run.cell_id)):
            # A worker that ended itself knew why; Ray only knows that it is gone.
            note = plain_text(note)
            reason, log = note.partition("\n")[0], f"{note}\n{log}"
        if log:
            self._ledger.artifacts.put_verified(run.run_id, names.ARTIFACT_ERROR, log.encode())
        self.end(run, end.status, reason, entries)

    def end(
        self, run: CellRun, status: Status, reason: str, entries: Entries | None = None, **finals: Any
    ) -> None:
        """Record how a cell has ended; `finals` as of `Ledger.finish_cell`."""
        self._lease.check()
        self._ledger.finish_cell(run.run_id, status, reason, entries=entries, **finals)
        self._open.pop(run.cell_id, None)
        self._unsent.pop(run.cell_id, None)
        self._know(replace(run, status=status, reason=reason, run_status=status.mlflow_status))

    def _know(self, run: CellRun) -> None:
        with self._lock:
            self._runs[run.cell_id] = run

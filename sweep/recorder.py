"""Histories and outcomes from the store to MLflow, on a thread of its own: the only one that sends them.

Only what a durable commit covers is sent, with the original timestamps, so that a replay adds nothing. A cell's
final status is the last thing written, after its files have been read back. MLflow being away delays the
record and never the training: the thread tries again, and what is missing at the end the next run records.
"""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import pyarrow.compute as compute

from sweep import names
from sweep.errors import LedgerError, StorageError
from sweep.lease import Lease
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.storage import Manifest, Storage
from sweep.storage.parts import STEP, TIMESTAMP
from sweep.thinning import Thinning

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 15.0
LOST_REASON = "its driver was lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A durable commit that is to be recorded.

    Args:
        cell_id: The cell.
        run_id: Its MLflow run.
        step: Updates done.
        attempt: By which attempt.
    """

    cell_id: str
    run_id: str
    step: int
    attempt: int


@dataclass(slots=True)
class _Session:
    """What this recorder knows about one run: how it stands in MLflow and which points were chosen."""

    run: CellRun
    thinning: Thinning


class Recorder:
    """Records the cells of one sweep; starts at once and works until `close`.

    Args:
        ledger: Where to.
        storage: Where from.
        sweep: The sweep.
        lease: Checked before anything is written.
    """

    def __init__(self, ledger: Ledger, storage: Storage, sweep: Sweep, lease: Lease) -> None:
        self._ledger = ledger
        self._storage = storage
        self._sweep = sweep
        self._lease = lease
        self._sessions: dict[str, _Session] = {}
        self._waiting: dict[str, Commit] = {}
        self._refused: dict[str, str] = {}
        self._busy: Commit | None = None
        self._away: str | None = None
        self._failure: BaseException | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def submit(self, cell_id: str, run_id: str, *, step: int, attempt: int) -> None:
        """Queue a commit; returns at once. A later one of the same cell includes it.

        A commit with an outcome ends the cell's run.
        """
        with self._changed:
            self._waiting[cell_id] = Commit(cell_id=cell_id, run_id=run_id, step=step, attempt=attempt)
            self._changed.notify_all()

    @property
    def away(self) -> str | None:
        """Why MLflow cannot be written at present, or `None`."""
        return self._away

    def check(self) -> None:
        """Raise what ended the recorder's thread, such as `LeaseLostError`, if anything did."""
        if self._failure is not None:
            raise self._failure

    def drain(self, timeout: float) -> list[str]:
        """Wait until all is recorded, at most `timeout` seconds; returns a line for each cell that is not.

        Raises:
            LeaseLostError: Another process writes this sweep's record now.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while (self._waiting or self._busy) and self._failure is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            late = set(self._waiting) | ({self._busy.cell_id} if self._busy else set[str]())
            missing = dict.fromkeys(late, self._away or "there was no time left") | self._refused
        self.check()
        return [f"cell {cell_id}: {why}" for cell_id, why in sorted(missing.items())]

    def close(self) -> None:
        """End the thread after the cell at hand. What is not recorded by then is left to the next run."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reconcile(self, known: Mapping[str, CellRun]) -> dict[str, CellRun]:
        """Make the runs of this sweep agree with the store after a crash; call before training.

        An outcome that was committed and not recorded is recorded; a run that a lost driver left as running is
        shown as interrupted; one with a final status that is still open is closed. Runs of other sweeps are
        left as they are: their driver may live.

        Args:
            known: The runs of the plan's cells (`Ledger.lookup`).

        Returns:
            The runs as they stand now.
        """
        now = dict(known)
        for cell_id, run in known.items():
            if run.experiment_id != self._sweep.experiment_id:
                continue
            if run.status.ended:
                if run.run_status != run.status.mlflow_status:
                    self._end(run, run.status, run.reason)
                continue
            newest, _ = self._storage.latest(cell_id)
            if newest is not None and newest.outcome is not None:
                self._record(
                    Commit(cell_id=cell_id, run_id=run.run_id, step=newest.step, attempt=newest.attempt)
                )
                now[cell_id] = self._ledger.read_cell(run.run_id)
            elif run.status is Status.RUNNING:
                self._end(run, Status.INTERRUPTED, LOST_REASON)
                now[cell_id] = replace(run, status=Status.INTERRUPTED, reason=LOST_REASON)
        return now

    def _end(self, run: CellRun, status: Status, reason: str) -> None:
        self._lease.check()
        self._ledger.finish_cell(run.run_id, status, reason)

    def _work(self) -> None:
        try:
            delay = FIRST_RETRY_SECONDS
            while (commit := self._next()) is not None:
                if self._try(commit):
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
                self._busy = None
                self._changed.notify_all()

    def _next(self) -> Commit | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                return None
            self._busy = self._waiting.pop(next(iter(self._waiting)))
            return self._busy

    def _try(self, commit: Commit) -> bool:
        """Record one commit; returns whether MLflow answered."""
        answered, refused = True, None
        try:
            self._record(commit)
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
                self._waiting.setdefault(commit.cell_id, commit)
            if refused is None:
                self._refused.pop(commit.cell_id, None)
            else:
                self._refused[commit.cell_id] = refused
            self._busy = None
            self._changed.notify_all()
        return answered

    def _record(self, commit: Commit) -> None:
        self._lease.check()
        session = self._sessions.get(commit.run_id)
        if session is None:
            run = self._ledger.read_cell(commit.run_id)
            if run.status.ended:
                return
            session = self._sessions[commit.run_id] = self._session(run)
        manifest = self._manifest(commit)
        self._send_history(session, manifest)
        if manifest.outcome is not None:
            self._finish(session.run, manifest)
            del self._sessions[commit.run_id]

    def _session(self, run: CellRun) -> _Session:
        """Bring the choice of points to where an earlier session stopped, without sending."""
        thinning = Thinning(run.num_steps)
        if run.recorded_until:
            newest, _ = self._storage.latest(run.cell_id)
            if newest is not None:
                table = self._storage.read_parts(newest)
                thinning.choose(table.filter(compute.less(table[STEP], run.recorded_until)))
        return _Session(run, thinning)

    def _manifest(self, commit: Commit) -> Manifest:
        try:
            return self._storage.manifest(commit.cell_id, commit.step, commit.attempt)
        except StorageError:
            # Pruned since, because a later commit exists; or damaged, and then the one before it counts.
            newest, problems = self._storage.latest(commit.cell_id)
            if newest is None:
                raise StorageError(
                    " ".join([f"no commit of cell {commit.cell_id} is left.", *problems])
                ) from None
            return newest

    def _send_history(self, session: _Session, manifest: Manifest) -> None:
        run, ended = session.run, manifest.outcome is not None
        if manifest.step <= run.recorded_until and not ended:
            return
        table = self._storage.read_parts(manifest, from_step=run.recorded_until)
        rows = table.filter(compute.greater_equal(table[STEP], run.recorded_until))
        thinning = session.thinning.copy()
        metrics = thinning.choose(rows, ended=ended)
        # A row at the commit's very step is there only if the cell ended with it.
        until = manifest.step + 1 if ended else manifest.step
        if metrics:
            self._ledger.log_history(run.run_id, metrics, recorded_until=until)
        session.thinning = thinning
        session.run = replace(run, recorded_until=until)

    def _finish(self, run: CellRun, manifest: Manifest) -> None:
        """Store the files and read them back, then the finals, and the status last."""
        for part in manifest.parts:
            name = f"part-{part.start:09d}-{part.stop:09d}.parquet"
            self._put(run.run_id, f"{names.ARTIFACT_HISTORY}/{name}", self._storage.read_part(part))
        environments = json.dumps(self._environments(manifest), indent=1, sort_keys=True)
        self._put(run.run_id, names.ARTIFACT_ENVIRONMENT, environments.encode())
        outcome = manifest.outcome or {}
        status = Status(outcome["status"])
        finals = {names.FINAL_STEPS: float(manifest.step)} | manifest.summary.get("finals", {})
        finals[names.STATUS_DIVERGED] = float(status is Status.DIVERGED)
        # A time that every repetition finds again, so that a repetition adds no second point.
        last = compute.max(self._storage.read_parts(manifest)[TIMESTAMP]).as_py()
        self._lease.check()
        self._ledger.finish_cell(
            run.run_id,
            status,
            str(outcome.get("reason") or ""),
            finals=finals,
            step=manifest.step,
            timestamp_ms=run.started_ms if last is None else last,
        )

    def _put(self, run_id: str, path: str, data: bytes) -> None:
        self._ledger.artifacts.put(run_id, path, data)
        stored = self._ledger.artifacts.get(run_id, path)
        if stored is None or hashlib.sha256(stored).digest() != hashlib.sha256(data).digest():
            raise LedgerError(
                f"MLflow: artifact {path} of run {run_id} is not what was sent.", transient=True
            )

    def _environments(self, final: Manifest) -> dict[str, Any]:
        """Return where each attempt ran, as far as its commits are still there."""
        attempts = {
            manifest.attempt: manifest.summary.get("environment", {})
            for manifest in (*self._storage.manifests(final.cell_id), final)
        }
        return {"attempts": [{"attempt": number, **attempts[number]} for number in sorted(attempts)]}

"""The one writer of cells' records: from the store to MLflow, on a thread of its own, beside Tune's loop.

Trials commit to the store; the driver passes on what happened; this thread has it written (`CellRecords`).
MLflow or the store being away delays the record and never the training: the thread tries again, and what is
missing at the end the next run records (`reconcile`).
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping

from sweep.attempts import ending
from sweep.cell_records import CellRecords
from sweep.ends import publish_end
from sweep.errors import LedgerError, StorageError, StorageUnseenError
from sweep.ledger import CellRun
from sweep.looking import looks
from sweep.names import Status
from sweep.packs import Formed
from sweep.plain_text import plain_text
from sweep.storage import Manifest
from sweep.wanted import SECONDS_BEFORE_START, End, Wanted

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 15.0

SECONDS_BETWEEN_LINES = 10.0
"""How long the store is read before that is said, and between two lines."""

LOST_REASON = "its driver was lost"


class Recorder:
    """Records the cells of one sweep.

    Args:
        records: Writes them; nobody else calls it meanwhile.
    """

    def __init__(self, records: CellRecords) -> None:
        self._records = records
        self._wanted: dict[str, Wanted] = {}
        self._refused: dict[str, str] = {}
        self._committed: dict[str, int] = {}
        self._ends: dict[str, Status] = {}
        self._packs: dict[str, Formed] = {}
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
        return self._records.runs

    def run_of(self, cell_id: str) -> CellRun | None:
        """Return a cell's run as recorded so far, `None` where it has none."""
        return self._records.run_of(cell_id)

    @property
    def away(self) -> str | None:
        """Why MLflow cannot be written, or the store be read, at present, or `None`."""
        return self._away

    @property
    def open_runs(self) -> list[CellRun]:
        """The runs that this recorder made or took up and has not ended; nobody else writes them."""
        return self._records.open_runs

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

    def has_lost(self, cell_id: str) -> bool:
        """Whether a cell that has ended is not recorded as that, and will not be by this recorder."""
        with self._changed:
            if cell_id in self._wanted or cell_id == self._busy:
                return False
            run = self._records.run_of(cell_id)
            return cell_id in self._refused or (run is not None and not run.status.ended)

    def check(self) -> None:
        """Raise what ended the recorder's thread, such as `LeaseLostError`, if anything did."""
        if self._failure is not None:
            raise self._failure

    def drain(self, timeout: float) -> list[str]:
        """Wait until all is recorded; returns the cells that are not.

        Args:
            timeout: Seconds without an answer of MLflow's or the store's after which no longer is waited.

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

    def reconcile(
        self,
        cell_ids: Collection[str],
        *,
        stop: Callable[[], bool] = bool,
        say: Callable[[str], None] | None = None,
    ) -> set[str]:
        """Make MLflow agree with the store after a crash; call before `start`.

        An outcome that was committed and not recorded is queued, and told to longer runs; a run that a lost
        driver left as running is shown as interrupted; one with a final status that is still open is closed.

        Args:
            cell_ids: The plan's cells, without those that another driver is running now.
            stop: Whether somebody asks to stop: then the store is not asked for the cells that are left.
                Default: nobody does.
            say: Is given a line now and then where the store takes long.

        Returns:
            The cells that need no training: ended in MLflow, or in the store as far as that was looked at.

        Raises:
            LedgerError: MLflow does not answer; may be repeated.
            StorageError: Likewise the store.
        """
        done, left = set[str](), list[str]()
        for cell_id in cell_ids:
            run = self._records.run_of(cell_id)
            if run is None or not run.status.ended:
                left.append(cell_id)
                continue
            done.add(cell_id)
            if run.run_status != run.status.mlflow_status:
                self._records.end(run, run.status, run.reason)
        told = time.monotonic()
        found = looks(left, self._records.storage.latest, is_over=stop)
        for number, (cell_id, (newest, _)) in enumerate(found, start=1):
            if self._settle(cell_id, newest):
                done.add(cell_id)
            if say is not None and time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                say(f"reading what the store holds of cells that have not ended: {number} of {len(left)}")
        return done

    def _settle(self, cell_id: str, newest: Manifest | None) -> bool:
        """Make MLflow agree with the newest commit of a cell; returns whether the cell has ended with it."""
        if newest is not None:
            self._committed[cell_id] = newest.step
            attempt = newest.summary.get("environment", {})
            # A stop that was undone is another attempt's commit: the others of its pack have gone on, or
            # stopped elsewhere, so it goes with whoever is as far.
            own = attempt.get("attempt") == newest.attempt
            if own and attempt.get("lanes", 1) > 1 and "pack" in attempt:
                self._packs[cell_id] = Formed(name=attempt["pack"], lanes=attempt["lanes"])
        run = self._records.run_of(cell_id)
        if newest is not None and newest.outcome is not None:
            publish_end(self._records.storage, self._records.describe(cell_id)[0], newest)
            self._ends[cell_id] = ending(newest)[0]
            self.submit(cell_id, step=newest.step, attempt=newest.attempt)
            return True
        if run is not None and run.status is Status.RUNNING:
            self._records.end(run, Status.INTERRUPTED, LOST_REASON)
        return False

    def admit(self, runs: Mapping[str, CellRun], cell_ids: Collection[str]) -> set[str]:
        """Take on further cells while recording; see `reconcile`.

        Args:
            runs: The runs that cells have already; those of `cell_ids` are taken over.
            cell_ids: The cells, without those that another driver is running now.
        """
        self._records.take_over(runs, cell_ids)
        return self.reconcile(cell_ids)

    @property
    def committed(self) -> Mapping[str, int]:
        """The step of the newest commit of each cell that has one, as `reconcile` found them."""
        return self._committed

    @property
    def ends(self) -> Mapping[str, Status]:
        """How the cells ended whose end `reconcile` found in the store and not in MLflow."""
        return self._ends

    @property
    def packs(self) -> Mapping[str, Formed]:
        """The pack that made each of these commits, where it had several lanes."""
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
        """Record one cell; returns whether MLflow and the store answered."""
        with self._changed:
            wanted = self._wanted.pop(cell_id)
            self._busy = cell_id
        answered, unseen, refused = True, False, None
        try:
            self._records.write(cell_id, wanted)
            self._away = None
        except (LedgerError, StorageError) as error:
            if error.transient:
                answered, self._away = False, str(error)
                unseen = isinstance(error, StorageUnseenError)
            else:
                refused = str(error)
        with self._changed:
            if not answered:
                # At the end of the queue, joined with what was said meanwhile.
                newer = self._wanted.pop(cell_id, Wanted())
                self._wanted[cell_id] = wanted.then(newer)
            if refused is not None:
                self._refused[cell_id] = refused
            elif answered:
                self._refused.pop(cell_id, None)
            if answered or unseen:
                self._answered = time.monotonic()
            self._busy = None
            self._changed.notify_all()
        return answered

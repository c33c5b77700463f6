"""One run of a sweep under its lease: look how the cells stand, make what is missing, say how it ended."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console

from search_spaces import Space
from sweep.cell_records import CellRecords
from sweep.claims import Claims
from sweep.errors import LedgerError, StorageError
from sweep.failures import CELLS_SHOWN, failed_since, failure_lines, shown
from sweep.forecast import accuracy_text, expected_seconds
from sweep.grid_table import grid_table, with_fates
from sweep.invocation import hint, resuming
from sweep.lease import Lease
from sweep.ledger import CellRun, Ledger, Sweep, has_ended
from sweep.names import Status
from sweep.places import Places
from sweep.plan import Plan
from sweep.priority import in_wished_order
from sweep.progress import Progress, count_of
from sweep.progress_record import ProgressRecord
from sweep.recorder import Recorder
from sweep.reopening import Reopening
from sweep.run_options import RunOptions
from sweep.search.guiding import make_guide
from sweep.search.journal import Journal
from sweep.search.points import cells_to_make
from sweep.spending import Spending
from sweep.stopping import AS_ASKED, Stop
from sweep.storage import Storage
from sweep.storage.files import public_place
from sweep.training import Training
from sweep.waiting import Waiting
from trainers.errors import ConfigError

MISTAKE = f"{ConfigError.__name__}: "
"""How the reason of a cell begins that fails until something of the user's is corrected."""

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


@dataclass(frozen=True, slots=True)
class _Look:
    """How the cells stood at one time: their runs, those of other sweeps, and what is to be done in order."""

    recorder: Recorder
    known: Mapping[str, CellRun]
    theirs: dict[str, str]
    done: set[str]
    missing: list[str]
    expected: Mapping[str, float]
    first: tuple[str, ...] | None


class SweepRun:
    """One driver's run of a sweep, under its lease."""

    def __init__(
        self,
        space: Space,
        plan: Plan,
        journal: Journal,
        sweep: Sweep,
        ledger: Ledger,
        storage: Storage,
        lease: Lease,
        places: Places,
        options: RunOptions,
        console: Console,
    ) -> None:
        self._space = space
        self._plan = plan
        self._sweep = sweep
        self._ledger = ledger
        self._storage = storage
        self._places = places
        self._lease = lease
        self._options = options
        self._console = console
        self._stop = Stop()
        has_limits = options.limit_seconds is not None or options.cost_limit is not None
        self._spending = Spending(
            ledger, sweep, goes_on=options.restarted, is_kept=has_limits or space.is_search
        )
        self._claims = Claims(ledger, sweep, lease) if sweep.shares else None
        self._guide = make_guide(
            space,
            plan,
            journal,
            sweep=sweep,
            ledger=ledger,
            storage=storage,
            claims=self._claims,
            spending=self._spending,
            asks=options.only is None,
            stop=self._stop,
            say=self._say,
        )
        self._reopening = Reopening(sweep, ledger, storage, journal, self._claims, self._guide)
        self._training = Training(
            plan,
            sweep=sweep,
            ledger=ledger,
            lease=lease,
            storage=storage,
            places=places,
            options=options,
            spending=self._spending,
            stop=self._stop,
            console=console,
        )
        self._waiting = Waiting(
            plan,
            sweep=sweep,
            ledger=ledger,
            lease=lease,
            claims=self._claims,
            spending=self._spending,
            stop=self._stop,
            say=self._say,
        )
        self._tried: set[str] = set()
        self._unrecorded: list[str] = []
        self._refused: dict[str, str] = {}
        self._expected: dict[str, float] = {}

    def run(self) -> int:
        """Train and record what is missing; then what other sweeps were to run first and did not."""
        self._spending.begin()
        if self._options.continue_stopped or self._options.only:
            reopened = self._reopening.let_go_on(self._wanted, are_named=self._options.only is not None)
            self._say(f"{self._sweep.name}: {count_of(reopened, 'cell')} stopped early, to go on")
        limit, taken = self._options.limit_seconds, self._spending.seconds
        with self._stop.by_signals(self._say), self._stop.after(limit, taken=taken):
            # Asked of the driver that this one follows, or while there was none.
            if self._options.restarted and self._ledger.requests(self._sweep).stop:
                self._stop.ask(AS_ASKED)
            try:
                theirs = self._make_missing(self._look())
                while theirs and not self._unrecorded and not self._stop.asked():
                    self._waiting.wait_for(theirs)
                    if (looked := self._look_patiently()) is not None:
                        theirs = self._make_missing(looked)
            except (LedgerError, StorageError) as error:
                if not self._stop.asked():
                    raise
                # Whoever asked is to hear that it has stopped, and what is left.
                self._say(str(error))
        return self._finish()

    @property
    def _wanted(self) -> list[str]:
        """The cells that this command is to make."""
        only = self._options.only
        meant = cells_to_make(self._space, self._plan)
        return [cell for cell in meant if only is None or cell in only]

    def _look_patiently(self) -> _Look | None:
        """Look how the cells stand once MLflow and the store answer; `None` where a stop is asked before."""
        while not self._stop.asked():
            try:
                return self._look()
            except (LedgerError, StorageError) as error:
                if not error.transient:
                    raise
            self._waiting.pause()
        return None

    def _look(self) -> _Look:
        """See which cells are to be made here, and settle what a lost driver left; may be repeated."""
        others = {} if self._claims is None else self._claims.others(list(self._plan.cells))
        # After looking whose the cells are, so that what another has recorded before it ended is seen.
        known = self._ledger.lookup(list(self._plan.cells), self._sweep)
        theirs = {cell: sweep for cell, sweep in others.items() if not has_ended(known.get(cell))}
        recorder = Recorder(
            CellRecords(
                self._ledger,
                self._storage,
                self._sweep,
                self._lease,
                describe=lambda cell_id: (self._plan.cells[cell_id], self._plan.axes_of(cell_id)),
                runs=known,
            )
        )
        ours = [cell_id for cell_id in self._plan.cells if cell_id not in theirs]
        done = recorder.reconcile(ours, stop=self._stop.asked, say=self._say)
        # Each is tried once by one command: a cell that failed is not tried again while waiting for others.
        first = self._ledger.requests(self._sweep).first
        missing = in_wished_order(
            self._plan,
            [cell for cell in self._wanted if not (cell in done or cell in theirs or cell in self._tried)],
            self._options.first or first or (),
            self._say,
        )
        expected = expected_seconds(
            self._ledger,
            {cell: self._plan.cells[cell] for cell in missing},
            on_gpu=self._options.gpus_per_trial > 0,
        )
        return _Look(recorder, known, theirs, done, missing, expected, first)

    def _make_missing(self, looked: _Look) -> dict[str, str]:
        """Make what is wanted, has not ended and is not another's; returns what is, with the sweep."""
        recorder, known, theirs = looked.recorder, looked.known, looked.theirs
        done, missing = looked.done, looked.missing
        more = self._guide is not None and self._guide.expects_more
        if missing or not self._tried:
            late = sum(not has_ended(known.get(cell)) for cell in done)
            self._say(
                f"{self._sweep.name}: {count_of(len(self._plan.cells), 'cell')}, {len(done)} done before"
                + (f" ({late} of them recorded only now)" if late else "")
                + f", {len(missing)} to do"
                + (", more to be asked for by the sampler" if more else "")
                + (f", {len(theirs)} being run by other sweeps" if theirs else "")
            )
        self._expected |= looked.expected
        recorder.start()
        try:
            if (missing or more) and not self._stop.asked():
                progress = self._progress(known, missing, done, recorder)
                like = self._space.base if more else None
                self._training.train(missing, recorder, progress, self._guide, like=like, first=looked.first)
            self._tried.update(missing)
            self._unrecorded = self._drain(recorder)
            self._tried.update(failed_since(known, recorder.runs))
        finally:
            # Whatever was raised: nothing is recorded any more once the lease is given back.
            recorder.close()
        self._refused = recorder.refused
        self._leave_interrupted(recorder)
        wanted = set(self._wanted)
        return {cell: sweep for cell, sweep in theirs.items() if cell in wanted}

    def _drain(self, recorder: Recorder) -> list[str]:
        """Wait for the record, longer when MLflow is away; returns the cells that are not recorded."""
        if (unrecorded := recorder.drain(self._options.record_seconds)) and (away := recorder.away):
            self._say(away)
        return unrecorded

    def _progress(
        self,
        known: Mapping[str, CellRun],
        missing: Sequence[str],
        done: Collection[str],
        recorder: Recorder,
    ) -> Progress:
        """Return how it stands, what has ended in the store and is not recorded yet counted as ended."""
        cells, committed = self._plan.cells, recorder.committed
        statuses = {
            cell_id: known[cell_id].status if has_ended(known.get(cell_id)) else Status.PENDING
            for cell_id in cells
        }
        return Progress(
            name=self._sweep.name,
            total_steps=sum(cells[cell_id].num_steps for cell_id in (*missing, *done)),
            statuses={**statuses, **recorder.ends},
            steps_before={cell_id: committed[cell_id] for cell_id in missing if cell_id in committed}
            | {cell_id: cells[cell_id].num_steps for cell_id in done},
        )

    def _leave_interrupted(self, recorder: Recorder) -> None:
        """Record that the cells that are not trained any more are interrupted."""
        try:
            self._lease.check()
            for run in recorder.open_runs:
                reason = f"stopped {self._stop.why}".strip()
                self._ledger.finish_cell(run.run_id, Status.INTERRUPTED, reason)
        except LedgerError as error:
            # The next run finds them without a driver, which reads as interrupted too.
            self._say(str(error))

    def _finish(self) -> int:
        """Record how the sweep stands, and say so."""
        name = self._sweep.name
        try:
            if self._guide is not None:
                self._guide.settle()
            self._lease.check()
            # A request that was repeated on the way, by MLflow's client or a proxy, may have made two runs.
            self._ledger.remove_duplicates(self._sweep)
            fates = self._ledger.lookup(list(self._plan.cells), self._sweep)
            table = grid_table(self._plan.grids, self._plan.axes, self._plan.cell_ids)
            self._ledger.write_cells(self._sweep, with_fates(table, fates))
            ProgressRecord(self._ledger, self._sweep).record(fates.values())
            left = [cell for cell in self._wanted if not has_ended(fates.get(cell))]
            failed = [cell for cell in left if cell in fates and fates[cell].status is Status.FAILED]
            self._forget_met_requests(fates)
            self._ledger.finish_sweep(self._sweep, self._standing(fates))
            # A signal is followed by another driver, which is to find the request.
            if self._stop.why == AS_ASKED and self._stop.is_wanted:
                self._ledger.clear_stop(self._sweep)
            is_over = not left or (self._options.failed_is_done and len(failed) == len(left))
            self._spending.close(is_over=self._stop.is_wanted or (is_over and not self._asks_on))
        except LedgerError as error:
            self._say(f"trained, not recorded: {error}")
            place = public_place(self._storage.place)
            code = self._unrecorded_code()
            self._say(f"everything trained is in {place}; go on with: {self._next_step(code)}")
            if self._waits_itself and error.transient:
                raise
            return code
        counts = Counter(
            fates[cell].status.value if cell in fates else Status.PENDING.value for cell in self._plan.cells
        )
        self._say(f"{name}: " + ", ".join(f"{counts[s.value]} {s}" for s in Status if counts[s.value]))
        if told := accuracy_text(self._expected, fates, stopped=self._stop.asked()):
            self._say(told)
        for line in failure_lines({cell: fates[cell].reason for cell in failed}):
            self._say(line)
        if counts[Status.STOPPED.value]:
            self._say(f"go on with those stopped early: {self._resume('--continue-stopped')}")
        for line in [] if self._guide is None else self._guide.summary():
            self._say(line)
        mistaken = set(left) == {cell for cell in failed if fates[cell].reason.startswith(MISTAKE)}
        return self._exit_code(left, is_over=is_over, mistaken=mistaken)

    def _standing(self, fates: Mapping[str, CellRun]) -> Status:
        """Return how the whole sweep stands, also where this command made a part of it."""
        meant = cells_to_make(self._space, self._plan)
        left = [cell for cell in meant if not has_ended(fates.get(cell))]
        if any(cell in fates and fates[cell].status is Status.FAILED for cell in left):
            return Status.FAILED
        return Status.INTERRUPTED if left or self._is_unfinished else Status.COMPLETED

    @property
    def _is_unfinished(self) -> bool:
        """Whether a search is to ask for more."""
        return self._guide is not None and self._guide.is_unfinished

    @property
    def _asks_on(self) -> bool:
        """Whether this command, made again, asks for more."""
        return self._options.only is None and self._is_unfinished

    def _forget_met_requests(self, fates: Mapping[str, CellRun]) -> None:
        """Take away the requests to stop cells that have ended."""
        met = {cell for cell in self._plan.cells if has_ended(fates.get(cell))}
        stops = self._storage.stops(self._sweep.run_id)
        # What stays there, where the store is away, stops nothing: those cells have ended.
        with suppress(StorageError):
            for cell in stops.all() & met:
                stops.clear(cell)
        if self._ledger.requests(self._sweep).cells & met:
            self._ledger.clear_cell_stops(self._sweep, met)

    def _exit_code(self, left: Sequence[str], *, is_over: bool, mistaken: bool) -> int:
        """Say what to do next; `mistaken` is what fails again as long as nobody corrects it."""
        if self._unrecorded:
            many = count_of(len(self._unrecorded), "cell")
            self._say(f"trained, not recorded: {many} ({shown(self._unrecorded)})")
            for cell_id, reason in list(self._refused.items())[:CELLS_SHOWN]:
                self._say(f"  cell {cell_id}: {reason}")
            code = self._unrecorded_code()
            self._say(f"record them with: {self._next_step(code)}")
            if self._waits_itself and (waiting := set(self._unrecorded) - self._refused.keys()):
                raise LedgerError(f"{count_of(len(waiting), 'cell')} not recorded yet.", transient=True)
            return code
        # Asked for while the last of it was being recorded, it has stopped nothing.
        if self._stop.asked() and (left or self._asks_on):
            self._say(f"stopped {self._stop.why}; go on with: {self._next_step(EXIT_INTERRUPTED)}")
            return EXIT_INTERRUPTED
        if left:
            code = EXIT_DONE if is_over else EXIT_FAILED
            told = "as it is that fails again; once it is corrected" if mistaken else "go on with"
            self._say(f"{told}: {self._next_step(code)}")
            return code
        for what, command in (("figures and tables", "report"), ("the best, and going on with them", "best")):
            self._say(f"{what}: {hint(command, self._sweep.name, given=self._places.given)}")
        return EXIT_DONE

    @property
    def _waits_itself(self) -> bool:
        """Whether nobody would begin this driver again: it waits for MLflow itself (`sweep.patience`)."""
        return self._options.unattended and not self._stop.asked()

    def _next_step(self, code: int) -> str:
        """Return what goes on after an end with this code: a command, or KubeRay by itself."""
        if code == EXIT_DONE or self._stop.is_wanted or not self._options.failed_is_done:
            return self._resume()
        return f"another cluster, begun by itself up to `retries` times; after that {self._resume()}"

    def _unrecorded_code(self) -> int:
        """Who was asked to stop is to go on: what keeps it going (SLURM's queue) puts it back."""
        return EXIT_INTERRUPTED if self._stop.asked() else EXIT_FAILED

    def _resume(self, *more: str) -> str:
        return resuming(self._options, *more, given=self._places.given)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)

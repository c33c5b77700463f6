"""Running a sweep is making what is missing of it: one process, under a lease, from plan to record.

    plan -> ledger (find or make the sweep) -> lease -> runs of the plan's cells -> reconcile record and
    store -> packs of what is missing -> Ray Tune -> recorder -> how it stands

Nothing here is needed to survive a kill: the store says what has been trained and MLflow what has been
recorded, and running again makes the rest.
"""

import signal
import threading
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from rich.console import Console

from search_spaces import Space
from sweep import names
from sweep.errors import LeaseLostError, LedgerError
from sweep.forks import plan_sharing
from sweep.grid_table import grid_table, with_fates
from sweep.lease import Lease, current_holder
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.pack_events import PackEvents
from sweep.places import Places
from sweep.plan import Plan, make_plan
from sweep.progress import Display, Progress
from sweep.recorder import Recorder
from sweep.schedule import Cluster, Events, PackPlan, Resources, run_packs
from sweep.storage import Storage
from trainers.canonical import dataset_entry

SECONDS_BETWEEN_POLLS = 1.0
"""How often the driver looks for a stop request and prints its progress."""

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a sweep is run; none of it changes a cell's numbers.

    Args:
        name: The sweep's name.
        address: A Ray cluster; `None` starts Ray on this machine.
        cpus: CPUs of a Ray started here; `None` is all.
        cpus_per_trial: CPUs and torch threads of a trial.
        gpus_per_trial: GPUs of a trial, fractions allowed.
        commit_seconds: Training time between two checkpoints.
        max_failures: How often a failed trial is tried again.
        record_seconds: How long to wait at the end for an MLflow that is away.
    """

    name: str
    address: str | None = None
    cpus: int | None = None
    cpus_per_trial: int = 1
    gpus_per_trial: float = 0.0
    commit_seconds: float = 5.0
    max_failures: int = 2
    record_seconds: float = 60.0


def run_sweep(space: Space, places: Places, options: RunOptions, console: Console) -> int:
    """Make what is missing of a space.

    Returns:
        0 when every cell has ended, 1 when some failed or could not be recorded, 130 when interrupted.

    Raises:
        SharpflatError: It cannot be begun; nothing has been changed.
    """
    plan = make_plan(space)
    require_data(plan, places)
    storage = Storage.open(places.storage)
    ledger = Ledger.open(places.tracking_uri, artifacts_root=places.artifacts)
    table = grid_table(plan.grids, plan.axes, plan.cell_ids)
    sweep = ledger.open_sweep(space, table, name=options.name)
    with Lease.acquire(ledger, sweep) as lease:
        ledger.write_plan(sweep, space, table)
        ledger.remove_duplicate_parents(sweep)
        ledger.remove_duplicates(sweep)
        ledger.clear_stop(sweep)
        ledger.reopen_sweep(sweep)
        return _Run(plan, sweep, ledger, storage, lease, places, options, console).run()


def require_data(plan: Plan, places: Places) -> None:
    """Load every data set of the plan once, so that a missing one is one message and not a failure per cell.

    Raises:
        DataError: One is missing, damaged or cannot be downloaded.
    """
    for choice in {cell.dataset for cell in plan.cells.values()}:
        entry = dataset_entry(choice)
        entry.load(places.data_folder, choice.resolve("dataset", entry.options))


class _Run:
    """One driver's run of a sweep, under its lease."""

    def __init__(
        self,
        plan: Plan,
        sweep: Sweep,
        ledger: Ledger,
        storage: Storage,
        lease: Lease,
        places: Places,
        options: RunOptions,
        console: Console,
    ) -> None:
        self._plan = plan
        self._sweep = sweep
        self._ledger = ledger
        self._storage = storage
        self._lease = lease
        self._places = places
        self._options = options
        self._console = console
        self._stop = threading.Event()
        self._over = threading.Event()
        self._why_stopped = ""

    def run(self) -> int:
        known = self._ledger.lookup(list(self._plan.cells))
        elsewhere = self._running_elsewhere(known)
        mine = [cell_id for cell_id in self._plan.cells if cell_id not in elsewhere]
        recorder = Recorder(
            self._ledger,
            self._storage,
            self._sweep,
            self._lease,
            describe=lambda cell_id: (self._plan.cells[cell_id], self._plan.axes_of(cell_id)),
            runs=known,
        )
        done = recorder.reconcile(mine)
        missing = [cell_id for cell_id in mine if cell_id not in done]
        progress = self._progress(known, missing)
        self._say(
            f"{self._sweep.name}: {len(self._plan.cells)} cells, "
            f"{len(done)} done before, {len(missing)} to do"
        )
        recorder.start()
        if missing:
            self._train(missing, recorder, progress)
        unrecorded = self._drain(recorder)
        recorder.close()
        return self._finish(recorder, unrecorded, elsewhere)

    def _drain(self, recorder: Recorder) -> list[str]:
        """Wait for the record, longer when MLflow is away; returns the cells that are not recorded."""
        if (unrecorded := recorder.drain(self._options.record_seconds)) and (away := recorder.away):
            self._say(away)
        return unrecorded

    def _running_elsewhere(self, known: Mapping[str, CellRun]) -> dict[str, str]:
        """Return the cells that another sweep is running right now, with its name."""
        busy: dict[str, bool] = {}
        for run in known.values():
            if run.sweep != self._sweep.name and not run.status.ended and run.sweep not in busy:
                other = self._ledger.find_sweep(run.sweep)
                busy[run.sweep] = current_holder(self._ledger, other) is not None
        return {
            cell_id: run.sweep
            for cell_id, run in known.items()
            if not run.status.ended and busy.get(run.sweep, False)
        }

    def _progress(self, known: Mapping[str, CellRun], missing: Sequence[str]) -> Progress:
        statuses = {
            cell_id: known[cell_id].status
            if cell_id in known and known[cell_id].status.ended
            else Status.PENDING
            for cell_id in self._plan.cells
        }
        total = sum(self._plan.cells[cell_id].num_steps for cell_id in missing)
        return Progress(name=self._sweep.name, total_steps=total, statuses=statuses)

    def _train(self, missing: Sequence[str], recorder: Recorder, progress: Progress) -> None:
        resources = Resources(cpus=self._options.cpus_per_trial, gpus=self._options.gpus_per_trial)
        packs = [(cell_id,) for cell_id in missing]
        sharing = plan_sharing({cell_id: self._plan.cells[cell_id] for cell_id in missing})
        with self._interruptible():
            cluster = Cluster(self._options.address, cpus=self._options.cpus)
            try:
                slots = cluster.slots(resources)
                self._say(
                    f"{slots} trials at a time; Ctrl-C or `sweep stop {self._sweep.name}` stops cleanly"
                )
                display = Display(progress, self._console)
                handler = PackEvents(self._plan, packs, sharing, recorder, progress, self._say)
                watch = threading.Thread(
                    target=self._watch, args=(display, recorder), name="watch", daemon=True
                )
                watch.start()
                try:
                    run_packs(
                        [
                            PackPlan(
                                cells=tuple(self._plan.cells[cell_id] for cell_id in pack),
                                leaves=tuple(
                                    tuple(fork.step for fork in sharing[cell_id].leaves) for cell_id in pack
                                ),
                            )
                            for pack in packs
                        ],
                        storage=self._storage.place,
                        data_folder=self._places.data_folder,
                        seconds=self._options.commit_seconds,
                        resources=resources,
                        max_failures=self._options.max_failures,
                        slots=slots,
                        ready=handler.ready,
                        events=Events(
                            started=handler.started, reported=handler.reported, failed=handler.failed
                        ),
                        stop=self._stop.is_set,
                    )
                finally:
                    self._over.set()
                    watch.join()
                    display.close()
            finally:
                cluster.close()

    def _watch(self, display: Display, recorder: Recorder) -> None:
        """Look for stop requests and a lost lease, and print progress, until training is over."""
        ended = -1
        while not self._over.wait(SECONDS_BETWEEN_POLLS):
            display.tick()
            try:
                recorder.check()
                now = sum(run.status.ended for run in recorder.runs.values())
                if now > ended:
                    self._log_progress(recorder.runs, now)
                    ended = now
                if self._ledger.stop_requested(self._sweep):
                    self._ask_to_stop("as `sweep stop` asked")
            except LedgerError:
                # MLflow is away; the recorder waits for it, and so does the request.
                continue
            except LeaseLostError:
                self._ask_to_stop("because another process has taken over")

    def _log_progress(self, runs: Mapping[str, CellRun], ended: int) -> None:
        """Record the counts and the best finals so far on the sweep's own run."""
        values = {
            f"{names.CELLS_METRIC_PREFIX}{s}": 0.0 for s in (Status.COMPLETED, Status.DIVERGED, Status.FAILED)
        }
        values |= {
            f"{names.CELLS_METRIC_PREFIX}{status}": float(count)
            for status, count in Counter(run.status for run in runs.values()).items()
            if status.ended or status is Status.FAILED
        }
        completed = [run.metrics for run in runs.values() if run.status is Status.COMPLETED]
        losses = [m[names.FINAL_TRAIN_LOSS] for m in completed if names.FINAL_TRAIN_LOSS in m]
        accuracies = [m[names.FINAL_TEST_ACCURACY] for m in completed if names.FINAL_TEST_ACCURACY in m]
        if losses:
            values[names.BEST_TRAIN_LOSS] = min(losses)
        if accuracies:
            values[names.BEST_TEST_ACCURACY] = max(accuracies)
        self._lease.check()
        self._ledger.log_progress(self._sweep, values, step=ended)

    def _ask_to_stop(self, why: str) -> None:
        if not self._stop.is_set():
            self._why_stopped = why
            self._stop.set()

    @contextmanager
    def _interruptible(self) -> Generator[None]:
        """The first Ctrl-C or SIGTERM stops after the next checkpoints, a second one at once."""

        def interrupt(signum: int, frame: FrameType | None) -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._ask_to_stop(f"by {signal.Signals(signum).name}")
            self._say("stopping after the next checkpoints; once more stops at once")

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _finish(self, recorder: Recorder, unrecorded: Sequence[str], elsewhere: Mapping[str, str]) -> int:
        """Record how the sweep stands, and say so."""
        name = self._sweep.name
        refused = recorder.refused
        try:
            self._lease.check()
            for run in recorder.runs.values():
                if run.status is Status.RUNNING and run.cell_id not in elsewhere:
                    self._ledger.finish_cell(
                        run.run_id, Status.INTERRUPTED, f"stopped {self._why_stopped}".strip()
                    )
            fates = self._ledger.lookup(list(self._plan.cells))
            table = grid_table(self._plan.grids, self._plan.axes, self._plan.cell_ids)
            self._ledger.write_cells(self._sweep, with_fates(table, fates))
            self._log_progress(fates, sum(run.status.ended for run in fates.values()))
            left = [c for c in self._plan.cells if c not in fates or not fates[c].status.ended]
            failed = [c for c in left if c in fates and fates[c].status is Status.FAILED]
            over = Status.FAILED if failed else Status.INTERRUPTED if left else Status.COMPLETED
            self._ledger.finish_sweep(self._sweep, over)
        except LedgerError as error:
            self._say(f"trained, not recorded: {error}")
            self._say(f"everything trained is in {self._storage.place}; go on with: sweep resume {name}")
            return EXIT_FAILED
        counts = Counter(
            fates[c].status.value if c in fates else Status.PENDING.value for c in self._plan.cells
        )
        self._say(f"{name}: " + ", ".join(f"{counts[s.value]} {s}" for s in Status if counts[s.value]))
        for run in fates.values():
            if run.status is Status.FAILED:
                self._say(f"  cell {run.cell_id} failed: {run.reason}")
        for other in sorted(set(elsewhere.values())):
            cells = sum(1 for sweep in elsewhere.values() if sweep == other)
            self._say(f"  {cells} cells are being run by sweep {other!r}; run again when it has ended")
        if unrecorded:
            shown = ", ".join(unrecorded[:3]) + (", …" if len(unrecorded) > 3 else "")
            self._say(f"trained, not recorded: {len(unrecorded)} cells ({shown})")
            for cell_id, reason in list(refused.items())[:3]:
                self._say(f"  cell {cell_id}: {reason}")
            self._say(f"record them with: sweep resume {name}")
            return EXIT_FAILED
        if self._why_stopped:
            self._say(f"stopped {self._why_stopped}; go on with: sweep resume {name}")
            return EXIT_INTERRUPTED
        if left:
            self._say(f"go on with: sweep resume {name}")
            return EXIT_FAILED
        self._say(f"figures and tables: sweep report {name}")
        return EXIT_DONE

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)

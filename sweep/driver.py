"""Running a sweep is making what is missing of it: one process, under a lease, from plan to record.

    plan -> ledger (find or make the sweep) -> lease -> runs of the plan's cells -> reconcile the record with the
    store -> packs of what is missing -> Ray Tune -> recorder -> how it stands

Nothing here is needed to survive a kill: the store says what has been trained and MLflow what has been
recorded, and running again makes the rest.
"""

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from rich.console import Console

from search_spaces import Space
from sweep.desk import Desk
from sweep.errors import LedgerError
from sweep.grid_table import grid_table, with_fates
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.lease import Lease, current_holder
from sweep.names import Status
from sweep.places import Places
from sweep.plan import Plan, make_plan
from sweep.progress import Display, Progress
from sweep.recorder import Recorder
from sweep.schedule import Cluster, Events, Resources, run_packs
from sweep.storage import Storage
from trainers.canonical import dataset_entry
from trainers.errors import SharpflatError

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
        self._why_stopped = ""
        self._lost: SharpflatError | None = None
        self._recorder = Recorder(ledger, storage, sweep, lease)

    def run(self) -> int:
        known = self._ledger.lookup(list(self._plan.cells))
        known = self._recorder.reconcile(known)
        elsewhere = self._running_elsewhere(known)
        missing = [
            cell_id
            for cell_id in self._plan.cells
            if cell_id not in elsewhere and not (cell_id in known and known[cell_id].status.ended)
        ]
        progress = self._progress(known, missing)
        done = len(self._plan.cells) - len(missing) - len(elsewhere)
        self._say(f"{self._sweep.name}: {len(self._plan.cells)} cells, {done} done before, {len(missing)} to do")
        desk = Desk(
            self._ledger,
            self._sweep,
            self._lease,
            self._recorder,
            self._plan,
            known,
            progress,
            self._on_lost,
        )
        if missing:
            self._train(missing, desk, progress)
        unrecorded = desk.close(self._options.record_seconds)
        unrecorded += self._recorder.drain(self._options.record_seconds)
        return self._finish(desk, unrecorded, elsewhere)

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
            cell_id: known[cell_id].status if cell_id in known and known[cell_id].status.ended else Status.PENDING
            for cell_id in self._plan.cells
        }
        total = sum(self._plan.cells[cell_id].num_steps for cell_id in missing)
        return Progress(name=self._sweep.name, total_steps=total, statuses=statuses)

    def _train(self, missing: Sequence[str], desk: Desk, progress: Progress) -> None:
        resources = Resources(cpus=self._options.cpus_per_trial, gpus=self._options.gpus_per_trial)
        packs = [(cell_id,) for cell_id in missing]
        with self._interruptible():
            cluster = Cluster(self._options.address, cpus=self._options.cpus)
            try:
                slots = cluster.slots(resources)
                self._say(f"{slots} trials at a time; Ctrl-C or `sweep stop {self._sweep.name}` stops cleanly")
                display = Display(progress, self._console)
                watcher = threading.Thread(target=self._watch, args=(display,), name="watch", daemon=True)
                watcher.start()
                try:
                    run_packs(
                        [[self._plan.cells[cell_id] for cell_id in pack] for pack in packs],
                        storage=self._storage.place,
                        data_folder=self._places.data_folder,
                        seconds=self._options.commit_seconds,
                        resources=resources,
                        max_failures=self._options.max_failures,
                        events=Events(
                            started=lambda pack: desk.started(packs[pack]),
                            reported=lambda pack, commits, problems: self._report(desk, commits, problems),
                            failed=lambda pack, reason, log: desk.failed(packs[pack], reason, log),
                        ),
                        stop=self._stop.is_set,
                    )
                finally:
                    self._stop.set()
                    watcher.join()
                    display.close()
            finally:
                cluster.close()

    def _report(self, desk: Desk, commits: Sequence[Mapping[str, Any]], problems: Sequence[str]) -> None:
        for problem in problems:
            self._say(problem)
        desk.reported(commits)

    def _watch(self, display: Display) -> None:
        """Look for stop requests and print progress until training is over."""
        while not self._stop.wait(SECONDS_BETWEEN_POLLS):
            display.tick()
            try:
                requested = self._ledger.stop_requested(self._sweep)
            except LedgerError:
                # MLflow is away; the desk waits for it, and so does the request.
                continue
            if requested:
                self._ask_to_stop("as `sweep stop` asked")

    def _ask_to_stop(self, why: str) -> None:
        if not self._stop.is_set():
            self._why_stopped = why
            self._stop.set()

    def _on_lost(self, error: SharpflatError) -> None:
        self._lost = error
        self._ask_to_stop("another process has taken over")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
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

    def _finish(self, desk: Desk, unrecorded: Sequence[str], elsewhere: Mapping[str, str]) -> int:
        """Record how the sweep stands, and say so."""
        if self._lost is not None:
            raise self._lost
        name = self._sweep.name
        try:
            self._lease.check()
            for run in desk.interrupted():
                self._ledger.finish_cell(run.run_id, Status.INTERRUPTED, self._why_stopped)
            fates = self._ledger.lookup(list(self._plan.cells))
            table = grid_table(self._plan.grids, self._plan.axes, self._plan.cell_ids)
            self._ledger.write_cells(self._sweep, with_fates(table, fates))
            left = [c for c in self._plan.cells if c not in fates or not fates[c].status.ended]
            over = Status.FAILED if desk.failures else Status.INTERRUPTED if left else Status.COMPLETED
            self._ledger.finish_sweep(self._sweep, over)
        except LedgerError as error:
            self._say(f"trained, not recorded: {error}")
            self._say(f"everything trained is in {self._storage.place}; go on with: sweep resume {name}")
            return EXIT_FAILED
        counts = Counter(fates[c].status.value if c in fates else Status.PENDING.value for c in self._plan.cells)
        self._say(f"{name}: " + ", ".join(f"{counts[s.value]} {s}" for s in Status if counts[s.value]))
        for run in fates.values():
            if run.status is Status.FAILED:
                self._say(f"  cell {run.cell_id} failed: {run.reason}")
        for other in sorted(set(elsewhere.values())):
            cells = sum(1 for sweep in elsewhere.values() if sweep == other)
            self._say(f"  {cells} cells are being run by sweep {other!r}; run again when it has ended")
        if unrecorded:
            self._say(f"trained, not recorded: {'; '.join(unrecorded[:3])}. Go on with: sweep resume {name}")
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

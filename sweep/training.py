"""Training what is missing of a sweep: Ray is started, packs run, and what happens goes to the recorder."""

import math
import shlex
import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from rich.console import Console

from sweep import names
from sweep.errors import LeaseLostError, LedgerError, StorageError
from sweep.forks import plan_sharing
from sweep.guide import Guide
from sweep.holdings import LinesElsewhere
from sweep.invocation import hint
from sweep.lanes import lanes_at_hand
from sweep.lease import Lease
from sweep.ledger import Ledger, Sweep
from sweep.meter import Meter
from sweep.pack_events import PackEvents
from sweep.packs import make_packs, still_waiting
from sweep.places import Places
from sweep.plan import Plan
from sweep.priority import in_wished_order
from sweep.progress import Display, Progress, count_of
from sweep.progress_record import ProgressRecord
from sweep.ray_cluster import Cluster, Resources
from sweep.recorder import Recorder
from sweep.retention import Retention
from sweep.run_options import RunOptions
from sweep.schedule import most_waiting, run_packs
from sweep.spending import Spending
from sweep.starting_points import starting_points
from sweep.stopping import AS_ASKED, Stop
from sweep.storage import Storage
from trainers.cell import Cell

SECONDS_BETWEEN_NODE_RECORDS = 10.0
SECONDS_BETWEEN_POLLS = 1.0
"""How often the driver looks for a stop request and prints its progress."""


class Training:
    """Trains cells of a sweep under its lease.

    Args:
        plan: The sweep's plan.
        sweep: The sweep.
        ledger: Its record, looked at for stop requests.
        lease: Its lease.
        storage: The checkpoint store.
        places: Where data sets are.
        options: How to run.
        spending: What the command has taken.
        stop: Ends the training after the next commits.
        console: Where progress is shown.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        sweep: Sweep,
        ledger: Ledger,
        lease: Lease,
        storage: Storage,
        places: Places,
        options: RunOptions,
        spending: Spending,
        stop: Stop,
        console: Console,
    ) -> None:
        self._plan = plan
        self._sweep = sweep
        self._ledger = ledger
        self._lease = lease
        self._storage = storage
        self._places = places
        self._options = options
        self._spending = spending
        self._stop = stop
        self._console = console
        self._meter = Meter(
            devices=options.gpus_per_trial or options.cpus_per_trial,
            price=options.price,
            limit=options.cost_limit,
        )
        self._held_seconds = 0.0
        self._nodes_recorded = -math.inf
        self._started = time.monotonic()
        self._age_at_start = max(time.time() - sweep.created_ms / 1000, 0.0)

    def train(
        self,
        missing: Sequence[str],
        recorder: Recorder,
        progress: Progress,
        guide: Guide | None = None,
        *,
        like: Cell | None = None,
        first: tuple[str, ...] | None = None,
    ) -> None:
        """Train cells until all have ended or failed, or somebody asks to stop.

        Args:
            missing: The cells, in the order in which they are begun.
            recorder: Records them.
            progress: Is kept up to date.
            guide: May add cells, and compares them.
            like: What cells that the guide adds are like; `None` where it adds none.
            first: What was asked to come first when `missing` was put in order; it may change meanwhile.

        Raises:
            ClusterError: There is no Ray, or it has no room for a trial.
        """
        options = self._options
        resources = Resources(cpus=options.cpus_per_trial, gpus=options.gpus_per_trial)
        cells = {cell_id: self._plan.cells[cell_id] for cell_id in missing}
        sharing = plan_sharing(cells)
        formed = recorder.packs if options.gpus_per_trial else None
        retention = Retention(
            self._storage,
            cells,
            sharing,
            others=self._others(cells, progress),
            elsewhere=LinesElsewhere(self._ledger, self._sweep, self._plan.cells).look,
        )
        cluster = Cluster(options.address, cpus=options.cpus)
        try:
            slots = cluster.slots(resources, say=self._say, stopped_within=self._stopped_within)
            if not slots:
                return
            lanes = lanes_at_hand(
                options.lanes,
                cells.values(),
                gpus_per_trial=options.gpus_per_trial,
                like=like,
                look=lambda: cluster.free_gpu_bytes(options.gpus_per_trial),
            )
            begins = starting_points(cells, self._storage, recorder.committed, lanes=lanes)
            waiting = still_waiting(sharing, begins, formed)
            packs = make_packs(cells, waiting, lanes=lanes, begins=begins, formed=formed)
            together = f" of up to {lanes} cells" if lanes > 1 else ""
            self._say_what_trials_take(cluster)
            self._say(
                f"{count_of(slots, 'trial')}{together} at a time; Ctrl-C stops cleanly, and so does: "
                f"{hint('stop', self._sweep.name, given=self._places.given)}"
            )
            events = PackEvents(
                cells,
                packs,
                waiting,
                recorder,
                progress,
                retention,
                self._say,
                guide,
                begins=begins,
                joined=options.address is not None,
            )
            watch = self._watching(recorder, progress, retention, events, cluster, first)
            # With packs that the guide adds, which are no more than there is room for.
            num_packs = None if guide is not None and guide.expects_more else len(packs)
            with watch, _guided(guide) as begun:
                if begun is not None:
                    # A cluster's nodes come and go.
                    now = partial(cluster.room, resources) if options.address else lambda: slots
                    begun.begin(recorder, progress, packs, slots=now, lanes=lanes)
                run_packs(
                    range(len(packs)),
                    sweep=self._sweep.run_id,
                    storage=self._storage.place,
                    data_folder=self._places.data_folder,
                    seconds=options.commit_seconds,
                    hang_seconds=options.hang_seconds,
                    resources=resources,
                    max_failures=options.max_failures,
                    num_waiting=most_waiting(num_packs, slots=slots, grows=options.address is not None),
                    events=events,
                    stop=self._stop.asked,
                )
            self._held_seconds += events.held_seconds()
            self._spending.hold(self._held_seconds)
            if self._meter.limit is not None:
                self._say(self._meter.text(self._spending.held_seconds))
        finally:
            cluster.close()

    def _say_what_trials_take(self, cluster: Cluster) -> None:
        """Say what nobody has said in this command, and that GPUs are there for nothing."""
        if kept := self._options.typed_before:
            self._say(f"trials take what they took before: {shlex.join(kept)}")
        gpus = cluster.num_gpus()
        if gpus and not self._options.gpus_per_trial:
            self._say(f"{count_of(gpus, 'GPU')} there, and trials take none: --gpus-per-trial 1, or a part")

    def _others(self, cells: Collection[str], progress: Progress) -> list[Cell]:
        """Return the plan's cells that are not trained here and have not ended."""
        settled = {*cells, *(cell_id for cell_id, status in progress.statuses.items() if status.ended)}
        return [cell for cell_id, cell in self._plan.cells.items() if cell_id not in settled]

    def _stopped_within(self, seconds: float) -> bool:
        """Wait while nothing is trained yet; returns whether somebody asks to stop."""
        with suppress(LedgerError):
            if self._ledger.requests(self._sweep).stop:
                self._stop.ask(AS_ASKED)
            self._spending.keep()
        return self._stop.wait(seconds)

    def _watching(
        self,
        recorder: Recorder,
        progress: Progress,
        retention: Retention,
        events: PackEvents,
        cluster: Cluster,
        first: tuple[str, ...] | None,
    ) -> "_Watch":
        display = Display(progress, self._console)
        marked: set[str] = set()
        meter, record = self._meter, ProgressRecord(self._ledger, self._sweep)

        def look() -> None:
            nonlocal first
            display.tick()
            self._spending.hold(self._held_seconds + events.held_seconds())
            if meter.is_over(self._spending.held_seconds):
                self._stop.ask(f"because the cost limit of {meter.limit:g} is reached")
            if cluster.is_lost():
                self._stop.ask("because Ray on this machine has died")
            retention.remove()
            recorder.check()
            runs = recorder.runs.values()
            if record.has_news(runs):
                self._lease.check()
                record.record(runs)
            self._record_nodes(events)
            asked = self._ledger.requests(self._sweep)
            if asked.stop:
                self._stop.ask(AS_ASKED)
            if asked.first != first:
                first = asked.first
                self._say(f"from now on first: {', '.join(first or ['what the plan has first'])}")
                events.prefer(in_wished_order(self._plan, list(self._plan.cells), first or (), self._say))
            self._spending.keep()
            # Last: where the store is away all else goes on.
            for cell_id in asked.cells - marked:
                self._storage.stops(self._sweep.run_id).put(cell_id, "as `sweep stop --cell` asked")
                marked.add(cell_id)

        return _Watch(look, self._stop, display)

    def _record_nodes(self, events: PackEvents) -> None:
        """Record how busy the nodes are, now and then."""
        now = time.monotonic()
        if not self._options.system_metrics or now - self._nodes_recorded < SECONDS_BETWEEN_NODE_RECORDS:
            return
        use = {f"{names.SYSTEM_METRIC_PREFIX}{name}": value for name, value in events.nodes().items()}
        if use:
            self._nodes_recorded = now
            # By a clock that nobody sets: two records are not to be of one age.
            age = self._age_at_start + now - self._started
            self._ledger.log_progress(self._sweep, use, step=int(age))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)


@contextmanager
def _guided(guide: Guide | None) -> Generator[Guide | None]:
    """Close a guide whatever happens."""
    try:
        yield guide
    finally:
        if guide is not None:
            guide.close()


class _Watch:
    """Looks at things beside Tune's loop, on a thread, until training is over.

    What ends the thread ends the training too, and is raised where that was begun: without it nobody would
    see that the record stands still, or what users ask for.
    """

    def __init__(self, look: Callable[[], None], stop: Stop, display: Display) -> None:
        self._look = look
        self._stop = stop
        self._display = display
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._over.set()
        self._thread.join()
        self._display.close()
        if self._failure is not None and error is None:
            raise self._failure

    def _watch(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_POLLS):
            try:
                self._look()
            except (LedgerError, StorageError) as error:
                if isinstance(error, LedgerError) and not error.transient:
                    self._fail(error)
                    return
                # MLflow or the store is away; the recorder waits for it, and so does a request to stop.
            except LeaseLostError:
                self._stop.ask("because another process has taken over")
            except BaseException as failure:
                self._fail(failure)
                return

    def _fail(self, failure: BaseException) -> None:
        self._failure = failure
        self._stop.ask(f"because of an error: {failure}")

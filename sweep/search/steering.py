"""Steering a training that is under way: cells are compared, stopped, and new ones asked for.

A thread of its own beside Tune's loop and the recorder. What a worker commits comes in; what goes out are
marks in the store that stop cells, and packs of new cells. Every turn goes in this order:

    ends and rungs -> answers to the sampler, decisions -> questions -> the journal, durable -> their effects

so a kill loses at most what had no effect yet. While MLflow is away nothing is decided and nothing asked;
training goes on.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from search_spaces import Space
from sweep.claims import Claims
from sweep.errors import LedgerError
from sweep.forks import Sharing
from sweep.grid_table import grid_table, with_fates
from sweep.guide import Room
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.packs import make_packs
from sweep.plan import Plan
from sweep.progress import Progress
from sweep.recorder import Recorder
from sweep.search.account import describe
from sweep.search.asking import Asking, Ended
from sweep.search.comparing import Comparing
from sweep.search.events import Asked, Configuration
from sweep.search.journal import Journal
from sweep.search.known import ended_run
from sweep.search.outbox import Outbox
from sweep.search.stoppers import Stopper
from sweep.stopping import Stop
from sweep.storage import Storage
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.errors import ConfigError

SECONDS_BETWEEN_TURNS = 1.0
"""How long the thread waits for news."""

SECONDS_BETWEEN_LOOKS_AT_OTHERS = 3.0
"""How often it looks how cells stand that another sweep is running."""


class Steering:
    """Asks, tells and compares during one command. A `sweep.guide.Guide`.

    Args:
        space: What is searched.
        plan: The sweep's plan; grows.
        sweep: The sweep.
        ledger: Its record.
        storage: The checkpoint store.
        claims: Whose cells are; `None` for a sweep that shares nothing.
        journal: What was asked, told and decided before, and from now on.
        stopper: Compares cells, having learnt what the journal has; `None` is off.
        asking: The study, as the journal leaves it; `None` is off.
        stop: Ends the asking.
        say: Prints a line.
    """

    def __init__(
        self,
        *,
        space: Space,
        plan: Plan,
        sweep: Sweep,
        ledger: Ledger,
        storage: Storage,
        claims: Claims | None,
        journal: Journal,
        stopper: Stopper | None,
        asking: Asking | None,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        self._space = space
        self._plan = plan
        self._sweep = sweep
        self._ledger = ledger
        self._storage = storage
        self._claims = claims
        self._asking = asking
        self._stop = stop
        self._say = say
        self._outbox = Outbox(journal)
        self._comparing = Comparing(
            stopper,
            cells=plan.cells,
            storage=storage,
            marks=storage.stops(sweep.run_id),
            outbox=self._outbox,
            events=journal.events,
            siblings=lambda cell: () if asking is None else asking.siblings(cell),
            has_ended=self._has_ended,
        )
        self._news: list[tuple[str, int, Status]] = []
        self._ready: list[dict[str, Cell]] = []
        self._question: tuple[int, Configuration] | None = None
        self._out: set[str] = set()
        self._theirs: set[str] = set()
        self._is_behind = False
        self._looked_at_others = 0.0
        self._best_said: object = None
        self._failure: BaseException | None = None
        self._asked_all = asking is None
        self._closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    # What the driver and Tune's loop call; none of it waits for MLflow.

    @property
    def expects_more(self) -> bool:
        """Whether cells may be added."""
        return self._asking is not None and not (self._asked_all or self._stop.asked())

    def begin(
        self, recorder: Recorder, progress: Progress, cells: Collection[str], *, capacity: Room, lanes: int
    ) -> None:
        """Start beside the training of these cells; see `Guide.begin`."""
        self._recorder, self._progress = recorder, progress
        self._capacity, self._lanes = capacity, lanes
        self._out, self._theirs, self._is_behind = set(cells), set(), False
        self._begun = time.monotonic() - (self._asking.seconds if self._asking is not None else 0.0)
        self._closing = False
        if self._asking is not None:
            progress.expect(self._asking.steps_left(self._space.longest))
        self._thread = threading.Thread(target=self._work, name="steering", daemon=True)
        self._thread.start()

    def pauses(self, cells: Mapping[str, Cell]) -> tuple[int, ...]:
        """Return the steps just after the rungs: the row of a rung is there once the step is done."""
        return tuple(sorted(rung + 1 for rung in self._comparing.rungs(cells)))

    def reported(self, cell_id: str, step: int, status: Status) -> None:
        """A commit of a cell is durable, or it has failed."""
        with self._changed:
            self._news.append((cell_id, step, status))
            self._changed.notify_all()

    def take(self, seconds: float) -> list[dict[str, Cell]] | None:
        """Return the packs that have been added, after at most so long; `None` when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._is_over(), seconds)
            if self._failure is not None:
                raise self._failure
            packs, self._ready = self._ready, []
            return None if not packs and self._is_over() else packs

    def release(self, cell_id: str) -> None:
        """Never stop this cell again."""
        self._comparing.release(cell_id)

    def summary(self) -> list[str]:
        """Return what came out of it, in lines."""
        if self._asking is None:
            return []
        heading = "best" if len(self._space.search.objectives) == 1 else "on the Pareto front"
        return [f"{heading}: {describe(self._space.search, one)}" for one in self._asking.best()]

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _is_over(self) -> bool:
        return self._failure is not None or self._stop.asked() or (self._asked_all and not self._theirs)

    # The thread.

    def _work(self) -> None:
        try:
            self._take_stock()
            while not self._closing:
                try:
                    self._turn()
                except LedgerError as error:
                    if not error.transient:
                        raise
                with self._changed:
                    self._changed.wait_for(lambda: self._news or self._closing, SECONDS_BETWEEN_TURNS)
            self._turn()
        except BaseException as failure:
            # Raised again in the driver's thread, by `take` and `close`.
            self._failure = failure
        finally:
            with self._changed:
                self._changed.notify_all()

    def _take_stock(self) -> None:
        """See how the cells stand that are asked for and not answered; repeat what had no effect yet."""
        self._comparing.repeat()
        for cell in self._asking.open_cells if self._asking is not None else []:
            run = self._recorder.runs.get(cell)
            if (status := self._end_of(cell, run)) is None:
                if cell not in self._out:
                    # Another sweep was to run it first; or this command was not to, and it is free.
                    self._theirs.add(cell)
            else:
                trained_here = run is None or not run.status.ended or run.sweep == self._sweep.name
                self._ended(cell, status, run, trained_here=trained_here)
        for cell in self._asking.failed_cells if self._asking is not None else []:
            run = self._recorder.runs.get(cell)
            if (status := self._end_of(cell, run)) is not None:
                self._ended(cell, status, run)

    def _turn(self) -> None:
        with self._changed:
            news, self._news = self._news, []
        for cell, step, status in news:
            self._comparing.compare(cell, step, status)
            if status.ended or status is Status.FAILED:
                self._out.discard(cell)
                self._ended(cell, status)
        self._outbox.flush()
        if self._asking is None:
            return
        self._look_at_others()
        over = ""
        while not (self._stop.asked() or self._closing):
            # Nothing is told in front of a question that is kept: it was drawn without knowing that.
            if self._question is None:
                told = self._asking.tell()
                self._outbox.write(*told)
                if told:
                    self._say_how_it_goes(self._asking)
                if over := self._asking.is_over(time.monotonic() - self._begun):
                    break
                if len(self._out) + len(self._theirs) >= self._capacity():
                    break
            self._ask(self._asking)
        self._outbox.flush()
        # Only now: what was asked last has been handed over.
        if over and not self._asked_all:
            self._say(f"{self._sweep.name}: nothing more is asked after {over}")
            self._asked_all = True

    # Asking.

    def _has_ended(self, cell: str) -> bool:
        run = self._recorder.runs.get(cell)
        return run is not None and run.status.ended

    def _end_of(self, cell: str, run: CellRun | None) -> Status | None:
        """Return how a cell has ended, by its run or else by the store; `None` where it has not."""
        if run is not None and run.status.ended:
            return run.status
        newest, _ = self._storage.latest(cell)
        outcome = None if newest is None else newest.outcome
        return None if outcome is None else Status(outcome["status"])

    def _ended(
        self, cell: str, status: Status, run: CellRun | None = None, *, trained_here: bool = True
    ) -> None:
        """Take note of how a cell ended; `run` is what is recorded of it, for where the store has no more."""
        if self._asking is None:
            return
        num_steps = self._plan.cells[cell].num_steps
        newest, _ = self._storage.latest(cell)
        if status is Status.FAILED:
            ended = Ended(status=status, steps=0 if newest is None else newest.step, num_steps=num_steps)
        elif newest is not None and newest.outcome is not None:
            ended = Ended(
                status=status,
                metrics=newest.summary.get("finals", {}),
                steps=newest.step,
                num_steps=num_steps,
            )
        else:
            assert run is not None, "a cell that has ended has an outcome in MLflow or in the store"
            ended = ended_run(run, num_steps)
        # The budget was not charged with what others trained, so nothing of it comes back.
        self._asking.ended(cell, ended if trained_here else replace(ended, num_steps=ended.steps))

    def _ask(self, asking: Asking) -> None:
        """Ask for a configuration, and see how its cells stand.

        Where MLflow is away the question is kept and comes first in the next turn: the study counts it
        already, and the plan is to have nothing that the journal lacks.
        """
        if self._question is None:
            self._question = asking.ask()
        number, configuration = self._question
        try:
            points = self._space.sampled(configuration)
        except ConfigError as error:
            self._say(f"question {number} is no valid cell and is left out: {error}")
            points = []
        cells = tuple(cell_id(point.cell) for point in points)
        new = [cell for cell in dict.fromkeys(cells) if cell not in self._plan.cells]
        if self._claims is not None and new:
            self._claims.queue(new)
        runs, theirs = self._look_up(new)
        self._question = None
        for point in points:
            self._plan.add(point)
        to_train = self._take_on(new, runs, theirs)
        asked = Asked(
            number=number,
            configuration=configuration,
            cells=cells,
            new=len(to_train),
            steps=sum(self._plan.cells[cell].num_steps for cell in to_train),
            seconds=round(time.monotonic() - self._begun, 1),
        )
        asking.put(asked)
        self._outbox.write(asked)
        self._progress.add({cell: self._plan.cells[cell].num_steps for cell in [*to_train, *theirs]})
        self._theirs |= theirs
        self._hold(to_train)
        self._outbox.then(
            [self._write_plan, lambda: self._admit(new, runs, theirs), lambda: self._release(to_train)]
        )

    def _look_up(self, cells: Sequence[str]) -> tuple[dict[str, CellRun], set[str]]:
        """Return the runs of cells, and which of them another sweep is to run first.

        Raises:
            LedgerError: MLflow does not answer; nothing was changed.
        """
        if not cells:
            return {}, set()
        others = {} if self._claims is None else self._claims.others(cells)
        # After looking whose the cells are, so that what another has recorded before it ended is seen.
        runs = self._ledger.lookup(cells, self._sweep)
        return runs, {cell for cell in others if cell not in runs or not runs[cell].status.ended}

    def _take_on(self, cells: Sequence[str], runs: Mapping[str, CellRun], theirs: set[str]) -> list[str]:
        """Take note of those cells that have ended; returns those that are to be trained here."""
        left: list[str] = []
        for cell in cells:
            if cell in theirs:
                continue
            if (status := self._end_of(cell, runs.get(cell))) is None:
                left.append(cell)
            else:
                self._ended(cell, status, runs.get(cell), trained_here=False)
        return left

    def _admit(self, cells: Sequence[str], runs: Mapping[str, CellRun], theirs: set[str]) -> None:
        """Let the recorder see to cells that are not another's."""
        self._recorder.admit(runs, [cell for cell in cells if cell not in theirs])

    def _release(self, cells: Sequence[str]) -> None:
        """Hand cells over to be trained."""
        chosen = {cell: self._plan.cells[cell] for cell in cells}
        alone = {cell: Sharing() for cell in cells}
        packs = make_packs(chosen, alone, lanes=self._lanes, committed=self._recorder.committed)
        with self._changed:
            self._ready += [{cell: chosen[cell] for cell in pack} for pack in packs]
            self._changed.notify_all()

    def _write_plan(self) -> None:
        """Store the grown plan: what readers go by, and other sweeps that want the same cells."""
        if self._outbox.comes_again(self._write_plan):
            # Another one follows in this turn.
            return
        table = grid_table(self._plan.grids, self._plan.axes, self._plan.cell_ids)
        self._ledger.write_cells(self._sweep, with_fates(table, self._recorder.runs))

    def _look_at_others(self) -> None:
        """See what has become of the cells that other sweeps run."""
        now = time.monotonic()
        if not self._theirs or now - self._looked_at_others < SECONDS_BETWEEN_LOOKS_AT_OTHERS:
            return
        self._looked_at_others = now
        if self._claims is not None and not (self._out or self._is_behind) and self._recorder.is_idle:
            # Whoever waits holds nothing, not even what has failed here: others may be waiting for that.
            self._claims.queue(list(self._plan.cells))
            self._is_behind = True
        waiting = list(self._theirs)
        runs, theirs = self._look_up(waiting)
        self._admit(waiting, runs, theirs)
        free = self._take_on(waiting, runs, theirs)
        self._hold(free)
        self._release(free)
        # Last: without them all may be over, and nobody would take what is free.
        self._theirs = theirs

    def _hold(self, cells: Sequence[str]) -> None:
        """Take note of cells that are to be trained here."""
        self._out.update(cells)
        self._is_behind = self._is_behind and not cells

    def _say_how_it_goes(self, asking: Asking) -> None:
        front = asking.best()
        if len(self._space.search.objectives) == 1 and front and front[0] != self._best_said:
            self._best_said = front[0]
            self._say(f"best so far: {describe(self._space.search, front[0])}")

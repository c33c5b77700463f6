"""Steering a training that is under way: cells are compared, stopped, and new ones asked for.

A thread of its own beside Tune's loop and the recorder. What a worker commits comes in; what goes out are
marks in the store that stop cells, and packs of new cells. Every turn goes in this order:

    ends and rungs -> answers to the sampler, decisions -> questions -> the journal, durable -> their effects

so a kill loses at most what had no effect yet. While MLflow or the store is away nothing is decided and
nothing asked, and what could not be settled comes with the next turn; training goes on.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from search_spaces import Space
from sweep.claims import Claims
from sweep.errors import StorageError
from sweep.grid_table import grid_table, with_fates
from sweep.guide import Slots
from sweep.ledger import CellRun, Ledger, Sweep
from sweep.names import Status
from sweep.packs import make_packs
from sweep.plan import Plan
from sweep.progress import Progress
from sweep.recorder import Recorder
from sweep.search.account import describe
from sweep.search.asking import Asking, Ended
from sweep.search.comparing import Comparing
from sweep.search.ends import Ends
from sweep.search.events import Asked, Configuration
from sweep.search.journal import Journal
from sweep.search.news import News
from sweep.search.outbox import Outbox
from sweep.search.room import Room
from sweep.search.stoppers import Stopper
from sweep.search.turns import Turns
from sweep.starting_points import starting_points
from sweep.stopping import Stop
from sweep.storage import Storage
from trainers.canonical import cell_id
from trainers.cell import Cell
from trainers.errors import ConfigError

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
        asks: Whether this command may ask for more; else it only answers.
        elapsed: Returns the seconds that the search has taken, all commands together.
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
        asks: bool,
        elapsed: Callable[[], float],
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
        self._asks = asks
        self._elapsed = elapsed
        self._stop = stop
        self._say = say
        self._ends = Ends(storage, sweep, ledger, claims)
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
        self._news = News()
        self._ready: list[dict[str, Cell]] = []
        self._question: tuple[int, Configuration] | None = None
        self._is_behind = False
        self._looked_at_others = 0.0
        self._best_said: object = None
        self._turns = Turns(self._turn)
        self._asked_all = asking is None or not asks

    # What the driver and Tune's loop call; none of it waits for MLflow.

    @property
    def expects_more(self) -> bool:
        """Whether cells may be added, or questions wait for their answers."""
        if (asking := self._asking) is None or self._asked_all or self._stop.asked():
            return False
        return self.is_unfinished or asking.has_open

    @property
    def is_unfinished(self) -> bool:
        """Whether more is to be asked for, by this command or when the sweep goes on."""
        return self._asking is not None and not self._asking.is_over(self._elapsed())

    def begin(
        self,
        recorder: Recorder,
        progress: Progress,
        packs: Sequence[Collection[str]],
        *,
        slots: Slots,
        lanes: int,
    ) -> None:
        """Start beside a training; see `Guide.begin`."""
        self._recorder, self._progress = recorder, progress
        self._lanes = lanes
        self._room = Room(packs, slots=slots, lanes=lanes)
        self._is_behind = self._has_taken_stock = False
        if self._asking is not None and not self._asked_all:
            progress.expect(self._asking.steps_left(self._space.longest))
        self._turns.start()

    def pauses(self, cells: Mapping[str, Cell]) -> tuple[int, ...]:
        """Return the steps just after the rungs: the row of a rung is there once the step is done."""
        return tuple(sorted(rung + 1 for rung in self._comparing.rungs(cells)))

    def reported(self, cell_id: str, step: int, status: Status) -> None:
        """A commit of a cell is durable, or it has failed."""
        self._news.report(cell_id, step, status)
        with self._turns.changed:
            self._turns.wake()

    def parted(self, packs: Sequence[Collection[str]]) -> None:
        """Cells of one pack go on in these packs."""
        self._news.part(packs)

    def take(self, seconds: float) -> list[dict[str, Cell]] | None:
        """Return the packs that have been added, after at most so long; `None` when no more will come."""
        with self._turns.changed:
            self._turns.changed.wait_for(lambda: self._ready or self._is_over(), seconds)
            if self._turns.failure is not None:
                raise self._turns.failure
            packs, self._ready = self._ready, []
            return None if not packs and self._is_over() else packs

    def release(self, cell_id: str) -> None:
        """Never stop this cell again."""
        self._comparing.release(cell_id)

    def summary(self) -> list[str]:
        """Return what came out of it, in lines."""
        return [] if self._asking is None else self._asking.summary()

    def close(self) -> None:
        """End the thread. What MLflow or the store does not take by then the next command finds as it is."""
        self._turns.close()

    def settle(self) -> None:
        """Write down what it added to the plan; see `Guide.settle`."""
        self._outbox.keep()

    def _is_over(self) -> bool:
        has_all = self._asked_all and not self._room.theirs
        return has_all or self._stop.asked() or self._turns.failure is not None

    def _turn(self) -> bool:
        """Settle what there is to settle; returns whether all news could be."""
        if not self._has_taken_stock:
            self._take_stock()
            self._has_taken_stock = True
        self._room.form(self._news.parted())
        is_settled = self._news.settle(self._settle)
        self._outbox.flush()
        if self._asking is not None:
            if not self._turns.closing:
                self._look_at_others(self._asking)
            over = self._tell_and_ask(self._asking)
            self._outbox.flush()
            # Only now: what was asked last has been handed over.
            self._conclude(self._asking, over)
        return is_settled

    def _take_stock(self) -> None:
        """See how the cells stand that are asked for and not answered; repeat what had no effect yet."""
        self._comparing.repeat()
        asking, runs = self._asking, self._recorder.runs
        if asking is None:
            return
        for cell in asking.open_cells:
            run = runs.get(cell)
            if (status := self._ends.status(cell, run)) is not None:
                charged = asking.was_charged(cell, by_run=self._ends.was_trained_here(run))
                self._note_end(cell, status, trained_here=charged)
            elif self._room.trains(cell):
                self._charge(asking, [cell])
            elif self._asks:
                # Another sweep was to run it first; or this command was not to, and it is free.
                self._room.theirs.add(cell)
        told = dict.fromkeys(asking.pruned_cells, Status.STOPPED)
        told |= dict.fromkeys(asking.failed_cells, Status.FAILED)
        for cell, before in told.items():
            status = self._ends.status(cell, runs.get(cell))
            if status not in (None, before):
                self._note_end(cell, status)

    def _settle(self, cell: str, step: int, status: Status) -> None:
        is_over = status.ended or status is Status.FAILED
        try:
            self._comparing.compare(cell, step, status)
            if is_over:
                self._note_end(cell, status)
        except StorageError as error:
            if error.transient or not (status.ended and self._recorder.has_lost(cell)):
                raise
            self._say(f"the end of cell {cell} cannot be read, so it counts as failed: {error}")
            if self._asking is not None:
                self._asking.ended(cell, Ended(status=Status.FAILED))
        if is_over:
            self._room.leave(cell)

    def _note_end(self, cell: str, status: Status, *, trained_here: bool = True) -> None:
        """Take note of how a cell of the plan has ended."""
        if self._asking is not None:
            num_steps, run = self._plan.cells[cell].num_steps, self._recorder.run_of(cell)
            ended = self._ends.ended(cell, status, num_steps, run, trained_here=trained_here)
            self._asking.ended(cell, ended)

    def _has_ended(self, cell: str) -> bool:
        return (run := self._recorder.run_of(cell)) is not None and run.status.ended

    # Asking.

    def _tell_and_ask(self, asking: Asking) -> str:
        """Answer what can be answered and ask while there is room; returns why nothing more is asked."""
        over = ""
        while True:
            # Nothing is told in front of a question that is kept: it was drawn without knowing that.
            if self._question is None:
                told = asking.tell()
                self._outbox.write(*told)
                if told:
                    self._say_how_it_goes(asking)
                over = asking.is_over(self._elapsed())
                if over or self._asked_all or not self._room.has_place():
                    return over
            if self._stop.asked() or self._turns.closing:
                return ""
            self._ask(asking)

    def _conclude(self, asking: Asking, over: str) -> None:
        """Take note that nothing more is asked, unless cells under way may still make room for more."""
        is_busy = bool(self._news or self._room.theirs or not self._room.is_idle)
        if over and not self._asked_all and not (asking.may_get_steps_back and is_busy):
            self._say(f"{self._sweep.name}: nothing more is asked after {over}")
            self._asked_all = True

    def _ask(self, asking: Asking) -> None:
        """Ask for a configuration, and see how its cells stand.

        Where MLflow or the store is away the question is kept and comes first in the next turn: the study
        counts it already, and the plan is to have nothing that the journal lacks.
        """
        if self._question is None:
            self._question = asking.ask()
        number, configuration = self._question
        try:
            points = self._space.sampled(configuration)
        except ConfigError as error:
            self._say(f"question {number} is no valid cell and is left out: {error}")
            points = []
        addresses = tuple(cell_id(point.cell) for point in points)
        cells = dict(zip(addresses, (point.cell for point in points), strict=True))
        new = [cell for cell in cells if cell not in self._plan.cells]
        # Run before and not heard of yet: known beforehand, or answered by an earlier command.
        old = [
            cell for cell in cells if not (cell in new or self._room.awaits(cell) or asking.has_ended(cell))
        ]
        if self._claims is not None and new:
            self._claims.queue(new)
        runs, theirs = self._ends.look_up(new)
        earlier = {cell: run for cell in old if (run := self._recorder.run_of(cell)) is not None}
        ends = self._ends.elsewhere(
            {cell: cells[cell] for cell in [*new, *old] if cell not in theirs}, runs | earlier
        )
        # From here on nothing is asked of MLflow or the store.
        self._question = None
        for point in points:
            self._plan.add(point)
        for cell, ended in ends.items():
            asking.ended(cell, ended)
        to_train = [cell for cell in new if not (cell in theirs or cell in ends)]
        asked = Asked(
            number=number,
            configuration=configuration,
            cells=addresses,
            new=len(to_train),
            steps=sum(cells[cell].num_steps for cell in to_train),
            seconds=round(self._elapsed(), 1),
            theirs=tuple(cell for cell in new if cell in theirs),
        )
        asking.put(asked)
        self._outbox.write(asked)
        self._progress.add({cell: cells[cell].num_steps for cell in new if cell not in ends})
        # What has no end and nobody trains is looked at like another's, and trained if it is free.
        self._room.theirs |= theirs | {cell for cell in old if cell not in ends}
        self._hold(to_train)
        self._outbox.then([self._write_plan, partial(self._admit, new, runs, theirs), self._hand_over])

    def _admit(self, cells: Sequence[str], runs: Mapping[str, CellRun], theirs: set[str]) -> None:
        """Let the recorder see to cells that are not another's."""
        self._recorder.admit(runs, [cell for cell in cells if cell not in theirs])

    def _hand_over(self) -> None:
        """Hand the cells over that are to be trained, those of all questions of a turn in common packs."""
        if self._outbox.comes_again(self._hand_over):
            return
        chosen = {cell: self._plan.cells[cell] for cell in self._room.loose}
        begins = starting_points(chosen, self._storage, self._recorder.committed, lanes=self._lanes)
        packs = make_packs(chosen, {}, lanes=self._lanes, begins=begins)
        self._room.form(packs)
        with self._turns.changed:
            self._ready += [{cell: chosen[cell] for cell in pack} for pack in packs]
            self._turns.changed.notify_all()

    def _write_plan(self) -> None:
        """Store the grown plan: what readers go by, and other sweeps that want the same cells."""
        if self._outbox.comes_again(self._write_plan):
            # Another one follows in this turn.
            return
        table = grid_table(self._plan.grids, self._plan.axes, self._plan.cell_ids)
        self._ledger.write_cells(self._sweep, with_fates(table, self._recorder.runs))

    def _look_at_others(self, asking: Asking) -> None:
        """See what has become of the cells that other sweeps run."""
        now, waiting = time.monotonic(), list(self._room.theirs)
        if not waiting or now - self._looked_at_others < SECONDS_BETWEEN_LOOKS_AT_OTHERS:
            return
        self._looked_at_others = now
        if self._claims is not None and self._room.is_idle and not self._is_behind and self._recorder.is_idle:
            # Whoever waits holds nothing, not even what has failed here: others may be waiting for that.
            self._claims.queue(list(self._plan.cells))
            self._is_behind = True
        runs, theirs = self._ends.look_up(waiting)
        # Without those that were taken up before MLflow was away in this.
        here = {cell for cell in waiting if self._room.trains(cell) or asking.has_ended(cell)}
        left = {cell: self._plan.cells[cell] for cell in waiting if cell not in theirs | here}
        self._admit(list(left), runs, theirs)
        ends = self._ends.elsewhere(left, runs)
        for cell, ended in ends.items():
            asking.ended(cell, ended)
        free = [cell for cell in left if cell not in ends]
        self._charge(asking, free)
        self._hold(free)
        self._outbox.then([self._hand_over])
        self._outbox.flush()
        # Last: without them all may be over, and nobody would take what is free.
        self._room.theirs = theirs

    def _charge(self, asking: Asking, cells: Iterable[str]) -> None:
        """Charge the budget with those cells that another sweep was to run and that are trained here."""
        taken = (asking.take(cell, self._plan.cells[cell].num_steps) for cell in cells)
        self._outbox.write(*(event for event in taken if event is not None))

    def _hold(self, cells: Sequence[str]) -> None:
        """Take note of cells that are to be trained here."""
        self._room.take(cells)
        self._is_behind = self._is_behind and not cells

    def _say_how_it_goes(self, asking: Asking) -> None:
        front = asking.best()
        if len(self._space.search.objectives) == 1 and front and front[0] != self._best_said:
            self._best_said = front[0]
            self._say(f"best so far: {describe(self._space.search, front[0])}")

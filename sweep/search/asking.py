"""The study of one sweep: from questions to cells, and from ended cells to answers. Touches no store."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from search_spaces.search import OBJECTIVES, SearchSpec
from sweep.names import Status
from sweep.search.account import Trial, describe, pareto_front
from sweep.search.events import (
    Asked,
    Configuration,
    Corrected,
    Event,
    Known,
    Result,
    Taken,
    Told,
    still_known,
)
from sweep.search.study import Study

MOST_REPEATS = 50
"""After so many questions in a row that brought no cell but those asked for before, the space is exhausted.

What other sweeps have run does not count: their samplers may have begun as this one does.
"""

WORTH = {"failed": 0, "pruned": 1, "complete": 2}
"""An answer is corrected by one that says more; those that are excluded stay so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a cell ended.

    Args:
        status: Ended, or failed.
        metrics: Final metrics by name.
        steps: Steps done.
        num_steps: Steps that the budget was charged with; as many as done where it was not trained here.
    """

    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    steps: int = 0
    num_steps: int = 0


class Asking:
    """Questions, answers and the budget of a search.

    Args:
        search: What is searched, and how far.
        events: The journal so far; it is replayed.
        cells: The cells of its questions as they are addressed now (`points.cells_now`); default: as the
            journal has them. The answer to a question with other cells stays, as the sampler went on from it,
            until these have ended.
    """

    def __init__(
        self,
        search: SearchSpec,
        events: Sequence[Event],
        cells: Mapping[int, tuple[str, ...]] | None = None,
    ) -> None:
        self._search = search
        self._study = Study(search)
        self.is_exact = self._study.replay(events)
        asked = [event for event in events if isinstance(event, Asked)]
        now = {event.number: event.cells for event in asked} | dict(cells or {})
        self._asked: dict[int, Asked] = {}
        self._charged: dict[str, bool | None] = {}
        """Whether the budget was charged with a cell that was asked for; `None` where nobody knows."""
        self._repeats = 0
        for event in asked:
            self._note(replace(event, cells=now[event.number]))
        self.moved = frozenset(event.number for event in asked if event.cells != now[event.number])
        told = [event for event in events if isinstance(event, Told)]
        self._told = {event.number: event.result for event in events if isinstance(event, Told | Corrected)}
        self._spared = sum(event.spared for event in told)
        self._settled = {cell for event in told for cell in self._asked[event.number].cells}
        self._known = still_known(events)
        self._taken = [event for event in events if isinstance(event, Taken)]
        self._charged |= {event.cell_id: True for event in self._taken}
        self._lent = {cell for event in asked for cell in event.theirs}
        self._lent -= {event.cell_id for event in self._taken}
        self._ended: dict[str, Ended] = {}

    @property
    def has_begun(self) -> bool:
        """Whether there has been a question."""
        return bool(self._asked)

    @property
    def has_open(self) -> bool:
        """Whether a question has no answer yet."""
        return any(number not in self._told for number in self._asked)

    @property
    def open_cells(self) -> list[str]:
        """Cells that a question without an answer waits for, in order."""
        return [
            cell
            for number, asked in self._asked.items()
            if number not in self._told
            for cell in asked.cells
            if cell not in self._ended
        ]

    @property
    def failed_cells(self) -> list[str]:
        """Cells of the questions that failed or have other cells by now: they may have ended since."""
        return self._answered(lambda number, result: result.state == "failed" or number in self.moved)

    @property
    def pruned_cells(self) -> list[str]:
        """Cells of the questions of which one was stopped early: it may have gone on since."""
        return self._answered(lambda _, result: result.state == "pruned")

    def _answered(self, are_meant: Callable[[int, Result], bool]) -> list[str]:
        meant = (number for number, result in self._told.items() if are_meant(number, result))
        return list(dict.fromkeys(cell for number in meant for cell in self._asked[number].cells))

    def has_cells(self, number: int) -> bool:
        """Whether a question has cells, and is not excluded or no valid cell."""
        return bool(self._asked[number].cells)

    def siblings(self, cell_id: str) -> list[str]:
        """Return the other seeds' cells of the unanswered questions for a cell that have not ended."""
        asked = (self._asked[number].cells for number in self._asked if number not in self._told)
        others = (cell for cells in asked if cell_id in cells for cell in cells)
        return [cell for cell in dict.fromkeys(others) if cell != cell_id and cell not in self._ended]

    def know(self, known: Known) -> None:
        """Take note of a configuration that was run before the search began."""
        self._study.know(known)
        self._known.append(known)

    def ended(self, cell_id: str, ended: Ended) -> None:
        """Take note of how a cell ended."""
        self._ended[cell_id] = ended

    def has_ended(self, cell_id: str) -> bool:
        """Whether it is known how a cell ended."""
        return cell_id in self._ended

    def tell(self) -> list[Told | Corrected]:
        """Tell the sampler all that can be told, in the order of the questions; corrections come first."""
        told: list[Told | Corrected] = list(self._corrections())
        for number, asked in self._asked.items():
            if number in self._told or not all(cell in self._ended for cell in asked.cells):
                continue
            result = result_of(self._search, [self._ended[cell] for cell in asked.cells])
            self._study.tell(number, result)
            spared = self._spared_by(asked.cells)
            self._told[number] = result
            self._spared += spared
            self._settled.update(asked.cells)
            told.append(Told(number=number, result=result, spared=spared))
        return told

    def _corrections(self) -> Iterator[Corrected]:
        for number, before in self._told.items():
            cells, is_moved = self._asked[number].cells, number in self.moved
            if before.state not in ("failed", "pruned") and not is_moved:
                continue
            if not cells or not all(cell in self._ended for cell in cells):
                continue
            result = result_of(self._search, [self._ended[cell] for cell in cells])
            says_more = WORTH[result.state] > WORTH[before.state]
            if says_more or (is_moved and result.state != "failed" and result != before):
                self._told[number] = result
                yield Corrected(number=number, result=result)

    def ask(self) -> tuple[int, Configuration]:
        """Ask the sampler; the answer becomes a question with `put`."""
        configuration = self._study.ask()
        return self._study.num_asked - 1, configuration

    def put(self, asked: Asked) -> None:
        """Take note of a question and its cells."""
        self._note(asked)
        self._lent.update(asked.theirs)

    def _note(self, asked: Asked) -> None:
        """Take note of a question: what the budget was charged with, and whether it brought anything."""
        self._asked[asked.number] = asked
        first = [cell for cell in dict.fromkeys(asked.cells) if cell not in self._charged]
        self._repeats = 0 if first else self._repeats + 1
        ours = [cell for cell in first if cell not in asked.theirs]
        # All of them or none; else the journal does not tell which.
        charged = bool(asked.new) if asked.new in (0, len(ours)) else None
        self._charged |= dict.fromkeys(first, False) | dict.fromkeys(ours, charged)

    def take(self, cell_id: str, num_steps: int) -> Taken | None:
        """Charge the budget with a cell that is trained here; `None` where it is charged with it already."""
        if cell_id not in self._lent:
            return None
        self._lent.discard(cell_id)
        self._charged[cell_id] = True
        self._taken.append(Taken(cell_id=cell_id, steps=num_steps))
        return self._taken[-1]

    def was_charged(self, cell_id: str, *, by_run: bool) -> bool:
        """Whether the budget was charged with a cell that a question asked for.

        Args:
            cell_id: The cell.
            by_run: What its run says, for where the journal does not tell.
        """
        told = self._charged.get(cell_id)
        return by_run if told is None else told

    def is_over(self, seconds: float) -> str:
        """Return why nothing more is asked; empty while something is.

        Args:
            seconds: Spent so far, all commands together.
        """
        search = self._search
        saved = self._spared + self._spared_by(self._ended)
        limit = search.cells_asked
        if limit is not None and self._num_cells + search.cells_a_configuration > limit:
            return f"{search.cells} cells"
        if search.steps is not None and self._num_steps - saved >= search.steps:
            return f"{search.steps:,} steps"
        if search.seconds is not None and seconds >= search.seconds:
            return f"{search.seconds:g} seconds"
        if self._repeats >= MOST_REPEATS:
            return f"{MOST_REPEATS} suggestions in a row that had all been made before or are excluded"
        return ""

    @property
    def _num_cells(self) -> int:
        """Cells that the budget was charged with."""
        return sum(event.new for event in self._asked.values()) + len(self._taken)

    @property
    def _num_steps(self) -> int:
        """Steps that the budget was charged with."""
        return sum(event.steps for event in (*self._asked.values(), *self._taken))

    @property
    def may_get_steps_back(self) -> bool:
        """Whether cells that end early make room for more questions."""
        return self._search.steps is not None

    def _spared_by(self, cells: Iterable[str]) -> int:
        """Return the steps that ended cells did not take; those of answered questions have been counted."""
        ended = [self._ended[cell] for cell in dict.fromkeys(cells) if cell not in self._settled]
        return sum(one.num_steps - one.steps for one in ended)

    def steps_left(self, longest: int) -> int:
        """Return about how many steps will still be asked for; 0 where only the time is limited.

        Args:
            longest: Steps of the base cell.
        """
        limits = list[int]()
        if (cells := self._search.cells_asked) is not None:
            limits.append(longest * (cells - self._num_cells))
        if self._search.steps is not None:
            limits.append(self._search.steps - self._num_steps + self._spared)
        return max(0, min(limits, default=0))

    @property
    def seconds(self) -> float:
        """Seconds spent up to the last question."""
        return max((asked.seconds for asked in self._asked.values()), default=0.0)

    def best(self) -> list[Trial]:
        """Return the Pareto front of what was told or known; of one objective it is the best."""
        found = [Trial(number=None, configuration=k.configuration, result=k.result) for k in self._known]
        found += [
            Trial(number=number, configuration=self._asked[number].configuration, result=result)
            for number, result in self._told.items()
        ]
        return pareto_front(self._search, found)

    def summary(self) -> list[str]:
        """Return the best in lines, each with what it is."""
        heading = "best" if len(self._search.objectives) == 1 else "on the Pareto front"
        return [f"{heading}: {describe(self._search, one)}" for one in self.best()]


def result_of(search: SearchSpec, ended: Sequence[Ended]) -> Result:
    """Combine the seeds of a configuration.

    A seed that diverged does not count towards the mean where others did not; where all did, the last finite
    values stand, and the share of diverged seeds says what they are worth. Of seeds that were stopped early
    the one that went furthest speaks for the configuration.

    Args:
        search: Its objectives and its risk.
        ended: How each seed's cell ended; none where the configuration is excluded or no valid cell.
    """
    if not ended:
        return Result(state="excluded")
    diverged = [one for one in ended if one.status is Status.DIVERGED]
    share = len(diverged) / len(ended)
    well = [one for one in ended if one.status in (Status.COMPLETED, Status.STOPPED)]
    stopped = [one for one in well if one.status is Status.STOPPED]
    furthest = max((one.steps for one in stopped), default=0)
    # A mean over seeds at different steps would say nothing, and those that were stopped along came less far.
    counted = [one for one in stopped if one.steps == furthest] or well or diverged
    values = (_values(search, one) for one in counted)
    rows = [row for row in values if all(math.isfinite(value) for value in row)]
    if not rows or any(one.status is Status.FAILED for one in ended):
        return Result(state="failed", diverged=share)
    columns = list(zip(*rows, strict=True))
    spreads = tuple(statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns)
    worse = [1.0 if OBJECTIVES[name] == "minimize" else -1.0 for name in search.objectives]
    return Result(
        state="pruned" if stopped else "complete",
        objectives=tuple(
            statistics.fmean(column) + sign * search.risk * spread
            for column, spread, sign in zip(columns, spreads, worse, strict=True)
        ),
        spreads=spreads,
        diverged=share,
        step=furthest,
    )


def _values(search: SearchSpec, ended: Ended) -> tuple[float, ...]:
    return tuple(ended.metrics.get(name, math.nan) for name in search.objectives)

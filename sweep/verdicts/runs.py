"""Recorded runs as verdicts see them: their place in the grid, their end, their whole histories.

MLflow has a few hundred points a series; the Parquet files that it links have every one, and a mean over the
last 1,000 steps needs those. They are read here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from search_spaces.reports import AxisValue
from sweep import names
from sweep.histories import read_history
from sweep.record import NO_SERIES, SEED_AXIS, CellOutcome, Record, Series
from sweep.report.points import GRID_AXIS, value_of
from sweep.stated import forced_switch, last_switch
from trainers.cell import Cell

SWITCH_AXIS = "switch_step"

KEPT_BYTES = 2**29
"""Of whole histories so many bytes are kept; others are read again for each claim about them."""

LATEST_KEPT = 4
"""Of the others the last few stay, a pair that is compared among them."""


class Untestable(Exception):
    """A statistic has nothing to be computed from; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One grid point and what its cell left.

    Args:
        cell_id: The cell's address.
        axes: Axis to value, the grid's name among them; axes that the grid lacks are left out.
        seed: Of the cell.
        cell: As the sweep states it; `None` where its space does not tell.
        outcome: Fate, params and final metrics.
        history: Series by name, at full resolution; none for a run that has none.
    """

    cell_id: str
    axes: Mapping[str, AxisValue]
    seed: int
    cell: Cell | None
    outcome: CellOutcome
    history: Callable[[], Mapping[str, Series]]

    @property
    def num_steps(self) -> int:
        """The steps that were planned."""
        return int(float(self.outcome.params.get("num_steps", 0)))

    @property
    def switch_step(self) -> int | None:
        """The step at which the last phase began, by `sweep.stated.last_switch`; `None` without a switch.

        A switch at step 0 leaves no phase before it, so the cell knows of none; its axis does.
        """
        resolved = self.outcome.metrics.get(names.FINAL_SWITCH_STEP)
        found = None if self.cell is None else last_switch(self.cell, resolved)
        return 0 if found is None and self.axes.get(SWITCH_AXIS) == 0 else found

    @property
    def forced_switch(self) -> int | None:
        """The step at which it began because a condition was not met till then; `None` elsewhere."""
        resolved = self.outcome.metrics.get(names.FINAL_SWITCH_STEP)
        return None if self.cell is None else forced_switch(self.cell, resolved)

    @property
    def ended(self) -> bool:
        """Whether there is an outcome: completed, stopped or diverged."""
        return self.outcome.ended

    def series(self, name: str) -> Series:
        """Return a series of the history.

        Raises:
            Untestable: It was not recorded.
        """
        found = self.history().get(name, NO_SERIES)
        if not found.steps.size:
            raise Untestable(f"{name} was not recorded")
        return found


class _Histories:
    """Whole histories of runs, read when they are asked for and kept as far as there is room.

    Claims go through the same runs in the same order, one claim after the other: if the last ones that were
    read were kept, each would be gone just before its turn. So the first ones stay, and a few of the others.
    """

    def __init__(self, record: Record) -> None:
        self._room = KEPT_BYTES
        self._kept: dict[str, Mapping[str, Series]] = {}
        self._read = lru_cache(maxsize=LATEST_KEPT)(partial(read_history, record))

    def of(self, outcome: CellOutcome) -> Mapping[str, Series]:
        """Return the history of a cell's run; nothing of one that has none."""
        if (run_id := outcome.run_id) is None:
            return {}
        if run_id in self._kept:
            return self._kept[run_id]
        found = self._read(run_id)
        size = sum(series.steps.nbytes + series.values.nbytes for series in found.values())
        if size <= self._room:
            self._room -= size
            self._kept[run_id] = found
        return found


def load_runs(record: Record) -> tuple[Run, ...]:
    """Return a run per grid point; histories are read when they are asked for, see `KEPT_BYTES`."""
    histories = _Histories(record)
    runs: list[Run] = []
    for point, cell_id in enumerate(record.cell_ids):
        outcome = record.outcome(point)
        axes = {axis: value_of(record, point, axis) for axis in (*record.axes, GRID_AXIS)}
        runs.append(
            Run(
                cell_id=cell_id,
                axes={axis: value for axis, value in axes.items() if value is not None},
                seed=int(axes.get(SEED_AXIS) or outcome.params.get(SEED_AXIS, 0)),
                cell=record.cell(point),
                outcome=outcome,
                history=partial(histories.of, outcome),
            )
        )
    return tuple(runs)

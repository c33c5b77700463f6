"""What became of the cells in one place of a report, with their mean and spread: one vocabulary for all."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from sweep import names
from sweep.names import Status
from sweep.record import CellOutcome


class State(StrEnum):
    """The state of one place (all its seeds together)."""

    OK = "completed"
    STOPPED = "stopped early"
    PARTLY_STOPPED = "some seeds stopped early"
    PARTLY_DIVERGED = "some seeds diverged"
    PARTIAL = "some seeds not finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PENDING = "pending"
    MISSING = "missing"
    ABSENT = "not in the grid"

    @property
    def has_value(self) -> bool:
        """Whether the place shows the mean of seeds that ended well."""
        return self in _WITH_VALUE


_WITH_VALUE = (State.OK, State.STOPPED, State.PARTLY_STOPPED, State.PARTLY_DIVERGED, State.PARTIAL)

_STATE = {
    Status.COMPLETED: State.OK,
    Status.STOPPED: State.STOPPED,
    Status.DIVERGED: State.DIVERGED,
    Status.FAILED: State.FAILED,
    Status.INTERRUPTED: State.INTERRUPTED,
    Status.RUNNING: State.RUNNING,
    Status.PENDING: State.PENDING,
}

# Where no seed has a value and the seeds differ, the first of these that occurs names the place.
_PRECEDENCE = (State.FAILED, State.RUNNING, State.INTERRUPTED, State.PENDING, State.MISSING, State.DIVERGED)

_OF_EVERY_END = (names.STATUS_DIVERGED, names.EIGENSPACE_UNCONVERGED)
"""Metrics that a diverged run has as well as any other: among those that did not, nothing diverged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One place of a report: the cells that differ in the seed alone.

    Args:
        state: What became of them together.
        mean: Mean of the metric over the seeds that completed; where none did, over those that were stopped
            early; where all diverged, over their last finite values; NaN when there is none.
        std: Sample standard deviation over the same seeds; NaN for fewer than two.
        num_values: How many seeds the mean is over.
        num_diverged: How many diverged.
        num_cells: How many there are.
    """

    state: State
    mean: float = math.nan
    std: float = math.nan
    num_values: int = 0
    num_diverged: int = 0
    num_cells: int = 0


def state_of(outcome: CellOutcome) -> State:
    """Return the state of a single cell."""
    if outcome.diverged:
        return State.DIVERGED
    return State.MISSING if outcome.status is None else _STATE[outcome.status]


def ended_well(outcomes: Sequence[CellOutcome], metric: str) -> list[CellOutcome]:
    """Return the cells that a mean of a metric is over: those that completed, else those that were stopped.

    A run that was stopped early is no sample of what a whole one comes to. Where a metric is about diverging,
    runs that diverged are among the completed ones.
    """
    found: dict[State, list[CellOutcome]] = {}
    for outcome in outcomes:
        if math.isfinite(outcome.metrics.get(metric, math.nan)):
            found.setdefault(_counted_as(outcome, metric), []).append(outcome)
    return found.get(State.OK) or found.get(State.STOPPED) or []


def _counted_as(outcome: CellOutcome, metric: str) -> State:
    state = state_of(outcome)
    return State.OK if state is State.DIVERGED and metric in _OF_EVERY_END else state


def pool(outcomes: Sequence[CellOutcome], metric: str) -> Pool:
    """Combine the seeds of one place; one without any is not in the grid."""
    if not outcomes:
        return Pool(state=State.ABSENT)
    counts = Counter(_counted_as(outcome, metric) for outcome in outcomes)
    values = [outcome.metrics[metric] for outcome in ended_well(outcomes, metric)]
    if values:
        state = _state_of_mean(counts, len(values))
    else:
        # A run that ended without this metric has nothing to show: missing.
        state = next((known for known in _PRECEDENCE if counts[known]), State.MISSING)
        if state is State.DIVERGED:
            last = (outcome.metrics.get(metric, math.nan) for outcome in outcomes)
            values = [value for value in last if math.isfinite(value)]
    mean, std = _moments(values)
    return Pool(
        state=state,
        mean=mean,
        std=std,
        num_values=len(values),
        num_diverged=sum(outcome.diverged for outcome in outcomes),
        num_cells=len(outcomes),
    )


def _state_of_mean(counts: Counter[State], num_values: int) -> State:
    """Return the state of a place that shows the mean of some of its seeds."""
    if counts[State.DIVERGED]:
        return State.PARTLY_DIVERGED
    if num_values == counts.total():
        return State.STOPPED if counts[State.STOPPED] else State.OK
    only_stopped = counts[State.OK] and num_values + counts[State.STOPPED] == counts.total()
    return State.PARTLY_STOPPED if only_stopped else State.PARTIAL


def _moments(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return math.nan, math.nan
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def tally(outcomes: Iterable[CellOutcome]) -> str:
    """Count cells by state: "40 cells: 36 completed, 2 diverged, 2 pending"."""
    counts = Counter(state_of(outcome) for outcome in outcomes)
    total = counts.total()
    parts = [f"{counts[state]} {state.value}" for state in State if counts[state]]
    return f"{total} {'cell' if total == 1 else 'cells'}: {', '.join(parts) or 'none'}"

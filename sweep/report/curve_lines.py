"""Curves, as plain data: the mean over the seeds of a metric, or of a quotient of two, against the step.

The line of a place is the mean over its seeds that completed (while none has, over those that have begun, and
the caption says so) at the steps that all of them recorded, with their sample standard deviation and, of
estimates, the standard error that their probe recorded.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from search_spaces.reports import CurvesSpec, series_of
from sweep.convergence import convergence_series, unconverged_shares
from sweep.histories import Histories, recorded_series
from sweep.names import FINAL_STEPS, Status
from sweep.progress import count_of
from sweep.record import NO_SERIES, CellOutcome, Record, Series
from sweep.report.labels import MetricLabel, metric_label
from sweep.report.points import (
    Key,
    fits,
    grid_names,
    group,
    ordered_keys,
    panel_keys,
    select,
    switch_points,
    unshown_axes,
)

SERIES_AXIS = "series"
"""Pseudo-axis of the lines of `together`: their labels."""

MAX_NAMED = 4
"""Lines over unfinished seeds that a caption names."""

ERROR = "_error"
"""What is behind the name of the series that holds an estimate's standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The seeds of one combination of axes.

    Args:
        key: Values of the line's axes.
        steps: Steps of the mean, shape (points,); empty when every seed diverged or nothing was recorded.
        mean: Mean over the seeds, shape (points,); NaN where one is not finite.
        std: Sample standard deviation, shape (points,); NaN for a single seed.
        num_seeds: Seeds in the mean.
        switches: Steps at which a phase of a seed in the mean ended and another began.
        diverged: The seeds that diverged, each by itself and only as far as it was finite.
        ends: The steps at which those ended, which may lie beyond their last finite value.
        own_switches: The switch points of each of those.
        error: Standard error of the mean as an estimate, shape (points,); NaN where none was recorded.
        unfinished: Cells that have begun and not completed, and are not in the mean of those that have.
        provisional: Those that are in the mean, because none has completed.
        num_cells: The seeds of this place, whatever became of them.
        cut: Whether the mean ends where the first of its seeds does, and others go on.
    """

    key: Key
    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    num_seeds: int
    switches: tuple[int, ...]
    diverged: tuple[Series, ...]
    ends: tuple[int, ...] = ()
    own_switches: tuple[tuple[int, ...], ...] = ()
    error: np.ndarray = field(default_factory=lambda: np.array([]))
    unfinished: tuple[str, ...] = ()
    provisional: tuple[str, ...] = ()
    num_cells: int = 0
    cut: bool = False

    def drawn(self) -> list[tuple[Series, tuple[int, ...]]]:
        """Return the mean, where there is one, and each diverged seed, with the switch points of each."""
        mean = [(Series(steps=self.steps, values=self.mean), self.switches)] if self.steps.size else []
        return [*mean, *zip(self.diverged, self.own_switches, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePanel:
    """The lines of one metric, or of one heading of `together`, and one combination of panel axes."""

    metric: str
    label: MetricLabel
    key: Key
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvesData:
    """All panels, row by row: a row per metric.

    `fallback` is what to call a line that has none of the axes, `unconverged` as `caption` takes it.
    """

    panel_axes: tuple[str, ...]
    line_axes: tuple[str, ...]
    panels: tuple[CurvePanel, ...]
    fallback: Mapping[Key, str]
    unconverged: tuple[float, ...] = ()


def curves_data(record: Record, spec: CurvesSpec) -> CurvesData:
    """Read the histories and arrange them in panels and lines."""
    points = select(record, spec)
    panel_axes = spec.panels
    line_axes = (*spec.lines, *unshown_axes(record, points, (*panel_axes, *spec.lines)))
    groups = group(record, points, (*panel_axes, *line_axes))
    switches = switch_points(record, points, (*panel_axes, *line_axes))
    read = _read(record, dict.fromkeys(cell for cells in groups.values() for cell in cells), spec)
    split = len(panel_axes)
    shown = spec.together or {metric: {"": metric} for metric in spec.metrics}
    panels = [
        CurvePanel(
            metric=heading,
            label=_panel_label(heading, named),
            key=panel,
            lines=tuple(
                line
                for text, metric in named.items()
                for key in ordered_keys(groups)
                if fits(key[:split], panel)
                and (
                    line := make_line(
                        record,
                        groups[key],
                        metric,
                        read.series,
                        (*key[split:], text) if text else key[split:],
                        switches[key],
                        spec.max_step,
                        read.errors,
                    )
                )
                is not None
            ),
        )
        for heading, named in shown.items()
        for panel in panel_keys([key[:split] for key in groups])
    ]
    fallback = grid_names(record, points, line_axes)
    if spec.together:
        labels = dict.fromkeys(text for named in shown.values() for text in named)
        fallback = {(*key, text): name for key, name in fallback.items() for text in labels}
        line_axes = (*line_axes, SERIES_AXIS)
    return CurvesData(
        panel_axes=panel_axes,
        line_axes=line_axes,
        panels=tuple(panels),
        fallback=fallback,
        unconverged=read.unconverged,
    )


def _panel_label(heading: str, named: Mapping[str, str]) -> MetricLabel:
    labels = [metric_label(metric) for metric in named.values()]
    if set(named) == {""}:
        return labels[0]
    # One axis has one factor: a share beside an accuracy is not in per cent.
    scales = {label.scale for label in labels}
    scale = scales.pop() if len(scales) == 1 else 1.0
    return MetricLabel(text=heading, scale=scale, positive=all(label.positive for label in labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """Metrics with quotients taken, the standard errors of those that have one, and shares not converged."""

    series: Histories
    errors: Histories
    unconverged: tuple[float, ...]


def _read(record: Record, cells: Iterable[str], spec: CurvesSpec) -> _Read:
    """Read every metric that is shown, whole: a quotient is of the steps that two series have in common."""
    plain = spec.series()
    bars = [f"{name}{ERROR}" for name in plain] if spec.error_bars else []
    wanted = {*plain, *bars, *convergence_series(plain)}
    series: Histories = {}
    errors: Histories = {}
    histories: list[Mapping[str, Series]] = []
    outcomes = [record.outcomes[cell] for cell in cells]
    for outcome, history in recorded_series(record, outcomes, wanted.__contains__):
        run = str(outcome.run_id)
        histories.append(history)
        for metric in spec.shown():
            parts = [history.get(name, NO_SERIES) for name in series_of(metric)]
            series[run, metric] = parts[0] if len(parts) == 1 else combined(parts[0], parts[1], np.divide)
            if spec.error_bars:
                known = [history.get(f"{name}{ERROR}", NO_SERIES) for name in series_of(metric)]
                errors[run, metric] = _error(series[run, metric], parts, known)
    last = math.inf if spec.max_step is None else spec.max_step
    measured = [tuple(series_of(metric)) for metric in spec.shown()]
    shares = unconverged_shares(histories, measured, lambda steps: steps <= last)
    return _Read(series=series, errors=errors, unconverged=shares)


def _error(value: Series, parts: Sequence[Series], errors: Sequence[Series]) -> Series:
    """Return the standard error of a metric: that of its parts, relative to them, in quadrature."""
    total = np.zeros(len(value.steps))
    known = np.zeros(len(value.steps), dtype=bool)
    for part, error in zip(parts, errors, strict=True):
        relative = combined(error, part, np.divide)
        _, here, there = np.intersect1d(value.steps, relative.steps, assume_unique=True, return_indices=True)
        total[here] += relative.values[there] ** 2
        known[here] = True
    return Series(steps=value.steps[known], values=(np.abs(value.values) * np.sqrt(total))[known])


def combined(one: Series, other: Series, combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Series:
    """Combine two series at the steps that both recorded."""
    steps, here, there = np.intersect1d(one.steps, other.steps, assume_unique=True, return_indices=True)
    # 0 / 0 is NaN, which is drawn as a gap and leaves a claim untested.
    with np.errstate(divide="ignore", invalid="ignore"):
        return Series(steps=steps, values=combine(one.values[here], other.values[there]))


def make_line(
    record: Record,
    cells: Sequence[str],
    metric: str,
    series: Histories,
    key: Key,
    switches: Mapping[str, tuple[int, ...]],
    max_step: int | None = None,
    errors: Histories | None = None,
) -> Line | None:
    """Combine the seeds of one place, whose switch points are by cell; `None` when nothing was recorded."""
    going: dict[str, Series] = {}
    diverged: dict[str, Series] = {}
    ends: list[int] = []
    for cell in cells:
        outcome = record.outcomes[cell]
        if outcome.run_id is None:
            continue
        found = _up_to(series[outcome.run_id, metric], max_step)
        if not found.steps.size:
            continue
        finite, ended = _finite_part(found), int(outcome.metrics.get(FINAL_STEPS, 0))
        if not outcome.diverged:
            going[cell] = found
        elif max_step is not None and ended > max_step and finite.steps.size == found.steps.size:
            # Beyond what is shown.
            going[cell] = found
        elif finite.steps.size:
            diverged[cell] = finite
            ended = ended if max_step is None else min(ended, max_step)
            ends.append(max(ended, int(finite.steps[-1])))
    if not going and not diverged:
        return None
    completed = {cell: found for cell, found in going.items() if _is_whole(record.outcomes[cell])}
    # One that ended early would cut the mean of all at its end.
    whole = completed or going
    steps, mean, std = _combine(list(whole.values()))
    bars = [errors[str(record.outcomes[cell].run_id), metric] for cell in whole] if errors else []

    def switches_of(some: Iterable[str]) -> tuple[int, ...]:
        steps = {step for cell in some for step in switches[cell]}
        return tuple(sorted(step for step in steps if max_step is None or step <= max_step))

    return Line(
        key=key,
        steps=steps,
        mean=mean,
        std=std,
        num_seeds=len(whole),
        switches=switches_of(whole),
        diverged=tuple(diverged.values()),
        ends=tuple(ends),
        own_switches=tuple(switches_of([cell]) for cell in diverged),
        error=_error_of_mean(steps, bars),
        unfinished=tuple(cell for cell in going if cell not in whole),
        provisional=() if completed else tuple(going),
        num_cells=len(cells),
        cut=len({int(found.steps[-1]) for found in whole.values()}) > 1,
    )


def _is_whole(outcome: CellOutcome) -> bool:
    """Whether a run has all that is shown: what diverged and goes on as the others did so beyond that."""
    return outcome.status is Status.COMPLETED or outcome.diverged


def unfinished_note(lines: Iterable[tuple[str, Line]]) -> str:
    """Say of lines with their names how many seeds the means leave out because they have not completed.

    And which means are over such seeds, since there are no others.
    """
    left_out: set[str] = set()
    # A place has a line in each metric's panel, which is said once.
    provisional: dict[tuple[str, tuple[str, ...]], None] = {}
    for name, line in lines:
        left_out.update(line.unfinished)
        if line.provisional:
            count = f"{len(line.provisional)} of {count_of(line.num_cells, 'seed')}, not finished"
            provisional[": ".join(filter(None, (name, count))), line.provisional] = None
    notes = [text for text, _ in provisional][:MAX_NAMED]
    if (more := len(provisional) - MAX_NAMED) > 0:
        notes.append(f"{count_of(more, 'more line')} over seeds that have not finished")
    if left_out:
        notes.append(f"{count_of(len(left_out), 'seed')} not finished, left out of the means")
    return "; ".join(notes)


def _error_of_mean(steps: np.ndarray, errors: Sequence[Series]) -> np.ndarray:
    """Return the standard error of a mean of independent estimates, where all of them have one."""
    squares = np.zeros(len(steps)) if errors else np.full(len(steps), math.nan)
    for error in errors:
        one = np.full(len(steps), math.nan)
        _, here, there = np.intersect1d(steps, error.steps, assume_unique=True, return_indices=True)
        one[here] = error.values[there]
        squares += one**2
    return np.sqrt(squares) / max(len(errors), 1)


def _up_to(series: Series, max_step: int | None) -> Series:
    if max_step is None:
        return series
    keep = series.steps <= max_step
    return Series(steps=series.steps[keep], values=series.values[keep])


def _finite_part(series: Series) -> Series:
    broken = np.flatnonzero(~np.isfinite(series.values))
    stop = int(broken[0]) if broken.size else len(series.values)
    return Series(steps=series.steps[:stop], values=series.values[:stop])


def _combine(runs: Sequence[Series]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not runs:
        return np.array([], dtype=np.int64), np.array([]), np.array([])
    steps = runs[0].steps
    for run in runs[1:]:
        steps = np.intersect1d(steps, run.steps, assume_unique=True)
    values = np.stack([run.values[np.searchsorted(run.steps, steps)] for run in runs])
    values = np.where(np.isfinite(values), values, math.nan)
    spread = np.std(values, axis=0, ddof=1) if len(runs) > 1 else np.full(len(steps), math.nan)
    return steps, np.mean(values, axis=0), spread

"""A table of means and standard deviations over a window of steps (SAY25 table 1, GRD18 table 1).

The mean and the spread of a run are over its steps in the window; a place of the table has their means over
the seeds, and in parentheses the spread over the steps. Runs that have not completed, and those that left
nothing in the window, are left out and counted.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from search_spaces.reports import AxisValue, LevelsSpec
from sweep.convergence import convergence_series, unconverged_share
from sweep.histories import read_histories
from sweep.names import Status
from sweep.record import NO_SERIES, CellOutcome, Record, Series
from sweep.report.canvas import caption
from sweep.report.labels import axis_label, metric_label, plain
from sweep.report.points import Key, group, ordered_keys, select, unshown_axes
from sweep.report.summary import csv_text, raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One place: mean over the seeds of the windows' means, spread over steps and over seeds.

    It is over `num_seeds` of the `num_cells` that are there.
    """

    mean: float
    over_steps: float
    over_seeds: float
    num_seeds: int
    num_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelsData:
    """The table: a row per combination of axes, a column per series; `unconverged` as `caption` takes it."""

    row_axes: tuple[str, ...]
    rows: tuple[tuple[Key, tuple[Level, ...]], ...]
    unconverged: tuple[float, ...] = ()


def levels_data(record: Record, spec: LevelsSpec) -> LevelsData:
    """Read the histories and sum up their windows."""
    points = select(record, spec)
    row_axes = (*spec.rows, *unshown_axes(record, points, spec.rows))
    groups = group(record, points, row_axes)
    outcomes = [record.outcomes[cell] for cells in groups.values() for cell in cells]
    wanted = {*spec.series, *convergence_series(spec.series)}
    read = read_histories(record, filter(_has_completed, outcomes), wanted.__contains__)
    windows = {
        cell: {name: _in_window(series, spec, record.outcomes[cell]) for name, series in history.items()}
        for cell, history in read.items()
    }
    rows = [
        (key, tuple(_level(groups[key], windows, name) for name in spec.series))
        for key in ordered_keys(groups)
    ]
    shown = [(name,) for name in spec.series]
    shares = [
        unconverged_share(history, shown, partial(_within, spec=spec, outcome=record.outcomes[cell]))
        for cell, history in read.items()
    ]
    known = tuple(share for share in shares if share is not None)
    return LevelsData(row_axes=row_axes, rows=tuple(rows), unconverged=known)


def _has_completed(outcome: CellOutcome) -> bool:
    return outcome.status is Status.COMPLETED


def _in_window(series: Series, spec: LevelsSpec, outcome: CellOutcome) -> Series:
    keep = _within(series.steps, spec, outcome)
    return Series(steps=series.steps[keep], values=series.values[keep])


def _within(steps: np.ndarray, spec: LevelsSpec, outcome: CellOutcome) -> np.ndarray:
    """Return which steps lie in the window."""
    end = int(float(outcome.params.get("num_steps", steps[-1] if steps.size else 0)))
    low, high = (
        math.inf if edge is None else edge + (end if edge < 0 else 0) for edge in (spec.start, spec.stop)
    )
    return (steps >= low) & (steps < high)


def _level(cells: tuple[str, ...], windows: Mapping[str, Mapping[str, Series]], name: str) -> Level:
    found = [windows.get(cell, {}).get(name, NO_SERIES).values for cell in cells]
    means = [float(np.mean(values)) for values in found if values.size]
    spreads = [float(np.std(values)) for values in found if values.size]
    if not means:
        nothing = math.nan
        return Level(mean=nothing, over_steps=nothing, over_seeds=nothing, num_seeds=0, num_cells=len(cells))
    over_seeds = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
    return Level(
        mean=float(np.mean(means)),
        over_steps=float(np.mean(spreads)),
        over_seeds=over_seeds,
        num_seeds=len(means),
        num_cells=len(cells),
    )


def levels_markdown(record: Record, spec: LevelsSpec, data: LevelsData) -> str:
    """Return the table for reading: "0.0828 (0.0576), 2/3 seeds", the second number that over the steps."""
    heads = [axis_label(axis).long for axis in data.row_axes]
    lines = [
        f"# {spec.title or spec.name}",
        "",
        "Mean over the window's steps and the seeds; in parentheses the",
    ]
    lines += [
        "standard deviation over the steps, then ± the one over the seeds; and over how many seeds",
        "where that is not all of them.",
        "",
    ]
    lines += [
        "| " + " | ".join([*heads, *map(_head, spec.series)]) + " |",
        "|" + " --- |" * (len(heads) + len(spec.series)),
    ]
    for key, levels in data.rows:
        shown = [_shown(level, spec.digits) for level in levels]
        lines.append("| " + " | ".join([*(_place(value) for value in key), *shown]) + " |")
    said = caption(record, select(record, spec), unconverged=data.unconverged)
    return "\n".join([*lines, "", said]) + "\n"


def _head(series: str) -> str:
    """Return a series' name in words; as it is recorded where the words have symbols, which are TeX.

    Values are as they are recorded, so a share is not in per cent.
    """
    text = metric_label(series).text
    return series if "$" in text else text.replace(" [%]", "")


def _place(value: AxisValue | None) -> str:
    return "–" if value is None else plain(value)


def _shown(level: Level, digits: int) -> str:
    left_out = level.num_seeds < level.num_cells
    over = f", {level.num_seeds}/{level.num_cells} seeds" if left_out else ""
    if not level.num_seeds:
        return f"–{over}"
    seeds = f" ± {level.over_seeds:.{digits}f}" if math.isfinite(level.over_seeds) else ""
    return f"{level.mean:.{digits}f} ({level.over_steps:.{digits}f}){seeds}{over}"


def levels_csv(spec: LevelsSpec, data: LevelsData) -> str:
    """Return a row per place and series, with raw values."""
    rows = [
        [
            *map(raw, key),
            name,
            *map(raw, (level.mean, level.over_steps, level.over_seeds)),
            str(level.num_seeds),
            str(level.num_cells),
        ]
        for key, levels in data.rows
        for name, level in zip(spec.series, levels, strict=True)
    ]
    columns = ["series", "mean", "std_over_steps", "std_over_seeds", "seeds", "of_seeds"]
    return csv_text([*data.row_axes, *columns], rows)

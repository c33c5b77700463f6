"""A record as the plain values that the interactive report shows: places, heatmaps, curves.

A place is one combination of axes, all its seeds together, as in the figures (`sweep.report.states.Pool`).
Nothing here names a run, a time or a machine.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from search_spaces.reports import CurvesSpec, HeatmapSpec
from search_spaces.search import RangeSpec
from sweep import names
from sweep.convergence import convergence_series, unconverged_share
from sweep.histories import Histories
from sweep.record import SEED_AXIS, CellOutcome, Record, Series
from sweep.report.canvas import MEAN_AND_SPREAD, caption, of_conditions
from sweep.report.curve_lines import Line, make_line
from sweep.report.heatmap import HeatmapData, heatmap_data
from sweep.report.labels import axis_label, metric_label, plain, spaced
from sweep.report.points import GRID_AXIS, axis_values, group, switch_points
from sweep.report.states import State, pool
from trainers.history import SWITCH_CONVERGED

FIRST_SERIES = ("train/loss", "test/accuracy", "curvature/lambda_1", "curvature/chi", "train/grad_norm")
"""The curves that every report has where they were recorded; figures may add others."""

MAX_CURVE_CELLS = 400
"""Cells whose curves are embedded, the places with the lowest loss first; the page says how many more."""

POINTS_PER_CURVE = 200
DIGITS = 6
FINALS = (names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY)


def sweep_data(record: Record) -> dict[str, Any]:
    """Arrange everything that the page of one sweep shows."""
    points = range(len(record.cell_ids))
    axes = place_axes(record)
    groups = group(record, points, axes)
    metrics = shown_metrics(record)
    places = [
        place([record.outcomes[cell] for cell in cells], dict(zip(axes, key, strict=True)), metrics)
        for key, cells in groups.items()
    ]
    chosen, left_out = _with_curves(record, list(groups.values()), places)
    series = _series(record)
    histories = _histories(record, [cell for cells in chosen.values() for cell in cells], series)
    return {
        "kind": "sweep",
        "name": record.name,
        "caption": caption(
            record,
            points,
            over_seeds=MEAN_AND_SPREAD,
            unconverged=_unconverged(record, series, histories),
        ),
        "axes": [axis_entry(record, axis) for axis in axes],
        "metrics": [metric_entry(metric) for metric in metrics],
        "states": [{"name": state.name, "text": state.value} for state in State],
        "places": places,
        "heatmaps": [_heatmap(record, spec) for spec in heatmap_specs(record, axes)],
        "curves": {
            "series": [metric_entry(name) for name in series],
            "lines": _lines(
                record, chosen, list(switch_points(record, points, axes).values()), series, histories
            ),
            "left_out": left_out,
        },
    }


def place_axes(record: Record) -> tuple[str, ...]:
    """Return the axes that tell places apart: all but the seed, and the grid where there are several."""
    grids = (GRID_AXIS,) if len(set(record.grids)) > 1 else ()
    return (*grids, *(axis for axis in record.axes if axis != SEED_AXIS))


def shown_metrics(record: Record) -> list[str]:
    """Return the metrics of a cell's end and the last values of its series, the two finals first."""
    found = {name for outcome in record.outcomes.values() for name in outcome.metrics}
    hidden = (names.AXIS_METRIC_PREFIX, "status/")
    rest = sorted(name for name in found if name not in FINALS and not name.startswith(hidden))
    return [*FINALS, *rest]


def place(outcomes: Sequence[CellOutcome], axes: dict[str, Any], metrics: Iterable[str]) -> dict[str, Any]:
    """Pool the seeds of one place."""
    values: dict[str, Any] = {}
    state = State.MISSING
    for metric in metrics:
        pooled = pool(outcomes, metric)
        if metric == names.FINAL_TRAIN_LOSS:
            state = pooled.state
        if pooled.num_values:
            values[metric] = [rounded(pooled.mean), rounded(pooled.std)]
    reasons = dict.fromkeys(outcome.reason for outcome in outcomes if outcome.reason)
    return {
        "axes": axes,
        "state": state.name,
        "seeds": len(outcomes),
        "cells": [outcome.cell_id for outcome in outcomes],
        "values": values,
        "why": "; ".join(reasons),
    }


def axis_entry(record: Record, axis: str) -> dict[str, Any]:
    """Describe an axis: its values in display order, each as text, and the range it was searched over."""
    values = axis_values(record, range(len(record.cell_ids)), axis)
    searched = searched_range(record, axis)
    return {
        "range": None if searched is None else [searched.low, searched.high],
        "log": searched is not None and searched.log,
        "name": axis,
        "label": "grid" if axis == GRID_AXIS else axis_label(axis).plain,
        "values": list(values),
        "texts": [plain(value) for value in values],
    }


def searched_range(record: Record, axis: str) -> RangeSpec | None:
    """Return the range that a search has for an axis; `None` for listed values and in a grid."""
    searched = None if record.search is None else record.search.search.axes.get(axis)
    return searched if isinstance(searched, RangeSpec) else None


def metric_entry(metric: str) -> dict[str, Any]:
    """Describe a metric: name with unit, factor, decimals (null: three digits) and which way is better."""
    label = metric_label(metric)
    # Figures write formulas, which HTML cannot show.
    return {
        "name": metric,
        "label": metric if "$" in label.text else label.text,
        "scale": label.scale,
        "decimals": label.decimals,
        "lower": label.lower_is_better,
        "positive": label.positive,
    }


def heatmap_specs(record: Record, axes: Sequence[str]) -> list[HeatmapSpec]:
    """Return the heatmaps of the space; without any, that of the two axes with the most values."""
    wanted = [spec for spec in record.reports if isinstance(spec, HeatmapSpec)]
    points = range(len(record.cell_ids))
    # Of an axis that was searched as a range hardly two values are the same.
    listed = [axis for axis in axes if searched_range(record, axis) is None]
    sizes = {axis: len(axis_values(record, points, axis)) for axis in listed}
    widest = sorted((axis for axis in listed if sizes[axis] > 1), key=lambda axis: -sizes[axis])[:2]
    if wanted or len(widest) < 2:
        return wanted
    return [HeatmapSpec(kind="heatmap", name="heatmap", x=widest[0], y=widest[1])]


def _heatmap(record: Record, spec: HeatmapSpec) -> dict[str, Any]:
    tables = [heatmap_data(record, spec, metric) for metric in spec.metrics]
    first = tables[0]
    return {
        "title": spec.title or spec.name,
        "x": {"label": axis_label(spec.x).plain, "texts": [plain(value) for value in first.x_values]},
        "y": {"label": axis_label(spec.y).plain, "texts": [plain(value) for value in first.y_values]},
        "left_out": first.left_out,
        "tables": [
            {"metric": metric_entry(data.metric), "panels": _panels(data)} for data in tables
        ],
    }  # fmt: skip


def _panels(data: HeatmapData) -> list[dict[str, Any]]:
    return [
        {
            "title": ", ".join(
                f"{axis_label(axis).plain} = {plain(value)}"
                for axis, value in zip(data.panel_axes, key, strict=True)
            ),
            "mean": _grid(data.mean[index]),
            "std": _grid(data.std[index]),
            "seeds": data.num_seeds[index].tolist(),
            "states": [[state.name for state in row] for row in data.states[index]],
        }
        for index, key in enumerate(data.panel_keys)
    ]


def _grid(values: np.ndarray) -> list[list[float]]:
    return [[rounded(value) for value in row] for row in values.tolist()]


def _with_curves(
    record: Record, groups: Sequence[Sequence[str]], places: Sequence[dict[str, Any]]
) -> tuple[dict[int, Sequence[str]], int]:
    """Return the cells of the best places, by the number of the place, and how many more have begun.

    Args:
        record: The sweep.
        groups: The cells of each place.
        places: The places as arranged.
    """

    def loss(index: int) -> float:
        found = places[index]["values"].get(names.FINAL_TRAIN_LOSS)
        well = State[places[index]["state"]].has_value
        return found[0] if found and well else math.inf

    begun = [index for index, cells in enumerate(groups) if any(record.outcomes[c].run_id for c in cells)]
    room, chosen = MAX_CURVE_CELLS, list[int]()
    for index in sorted(begun, key=lambda index: (loss(index), index)):
        room -= len(groups[index])
        chosen += [index] if room >= 0 else []
    return {index: groups[index] for index in sorted(chosen)}, len(begun) - len(chosen)


def _histories(record: Record, cells: Iterable[str], series: Sequence[str]) -> Histories:
    """Read series of cells, and whether what they rest on had converged, as far as MLflow has points of them.

    A page shows fewer still, and whole histories of hundreds of cells would be read for nothing.
    """
    there = {name for outcome in record.outcomes.values() for name in outcome.metrics}
    said_by = [
        name
        for name in convergence_series(series)
        if name in there and name not in series and name != SWITCH_CONVERGED
    ]
    run_ids = [run for cell in cells if (run := record.outcomes[cell].run_id)]
    return record.histories(run_ids, [*series, *said_by])


def _unconverged(record: Record, series: Sequence[str], histories: Histories) -> tuple[float, ...]:
    """Return the shares of what the page shows of runs: points of their series, and what ended their phases.

    Whether the last value of a series had converged is a metric of its own there. Of what ended a phase
    MLflow has points where the run was evaluated, whose share is not that of all: histories say that.
    """
    shares = of_conditions(record, record.outcomes.values())
    by_run: dict[str, dict[str, Series]] = {}
    for (run, name), found in histories.items():
        if name != SWITCH_CONVERGED:
            by_run.setdefault(run, {})[name] = found
    shown = [(name,) for name in series]
    for cell, outcome in record.outcomes.items():
        share = unconverged_share(by_run.get(str(outcome.run_id), {}), shown)
        if share is not None:
            shares[cell] = max(share, shares.get(cell, 0.0))
    return tuple(shares.values())


def _lines(
    record: Record,
    chosen: Mapping[int, Sequence[str]],
    switches: Sequence[Mapping[str, tuple[int, ...]]],
    wanted: Sequence[str],
    histories: Histories,
) -> list[dict[str, Any]]:
    """Arrange the curves of places, each line with the number of its place.

    Args:
        record: The sweep.
        chosen: The cells of each place.
        switches: The switch points of every place, by cell.
        wanted: The series.
        histories: Of the chosen places.
    """
    lines: list[dict[str, Any]] = []
    for index, cells in chosen.items():
        found = {
            metric: make_line(record, cells, metric, histories, (), switches[index]) for metric in wanted
        }
        drawn = {metric: line for metric, line in found.items() if line is not None}
        if drawn:
            series = {metric: _line(line) for metric, line in drawn.items()}
            lines.append({"place": index, "series": series})
    return lines


def _series(record: Record) -> list[str]:
    asked = [name for spec in record.reports if isinstance(spec, CurvesSpec) for name in spec.series()]
    there = {name for outcome in record.outcomes.values() for name in outcome.metrics}
    return [name for name in dict.fromkeys((*FIRST_SERIES, *asked)) if name in there]


def _line(line: Line) -> dict[str, Any]:
    """Thin a line, with the number of seeds left out; a diverged seed by itself, as far as it was finite."""
    kept = spaced(len(line.steps), POINTS_PER_CURVE)
    return {
        "steps": [int(line.steps[at]) for at in kept],
        "mean": [rounded(line.mean[at]) for at in kept],
        "std": [rounded(line.std[at]) for at in kept] if line.num_seeds > 1 else [],
        "unfinished": len(line.unfinished),
        "provisional": len(line.provisional),
        "switches": list(line.switches),
        "diverged": [
            {
                "steps": [int(run.steps[at]) for at in spaced(len(run.steps), POINTS_PER_CURVE)],
                "values": [rounded(run.values[at]) for at in spaced(len(run.steps), POINTS_PER_CURVE)],
                "end": ended,
                "switches": list(own),
            }
            for run, ended, own in zip(line.diverged, line.ends, line.own_switches, strict=True)
        ],
    }


def rounded(value: float) -> float:
    """Shorten a value to what a screen can show."""
    value = float(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value

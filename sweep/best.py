"""The best configurations of a sweep, and a space that goes on with them.

A configuration is a place: one combination of axes, all its seeds together; of places that are one
experiment the first. Only those count whose seeds all completed. The space that goes on has one grid a
configuration, with the axes that it came from at single values, so its cells have the addresses that they
had: what was run is not run again, more seeds are new cells, and more steps go on from the stored states.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces import Space, load_space_text
from search_spaces.axes import AxisSpec
from search_spaces.reports import AxisValue
from search_spaces.schema import GridSpec
from search_spaces.search import OBJECTIVES, SEED, sampled_grid
from search_spaces.strict import plain_data
from search_spaces.yaml_text import write_yaml
from sweep import names
from sweep.html.data import place_axes
from sweep.invocation import TRAINS, hint
from sweep.record import Record
from sweep.report.labels import metric_label, number, spread
from sweep.report.points import GRID_AXIS, Key, group, in_order, value_of
from sweep.report.states import Pool, State, pool
from trainers.errors import ConfigError, unknown_name
from trainers.history import TEST_ACCURACY, TRAIN_LOSS

FINALS = (names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY)
"""Shown beside whatever decides."""

BEST_SUFFIX = "-best"
HEADING = """\
# The best of sweep {name}, by {metric}; one grid a configuration.
#   {run}                                the same cells: nothing is run again
#   {run} --set 'seed=[0,1,2,3,4]'       more seeds
#   {run} --set num_steps=N --name NAME  longer
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One of the best configurations.

    Args:
        place: What tells it from the others: its grid where there are several, and its axes.
        axes: A value for each axis that it has, the seed not among them.
        grid: The grid that it came from.
        seeds: The values of the seed axis; empty where there is none.
        cells: Its cells, one a seed.
        values: Mean and spread over the seeds, by metric.
    """

    place: Mapping[str, AxisValue]
    axes: Mapping[str, AxisValue]
    grid: str
    seeds: tuple[AxisValue, ...]
    cells: tuple[str, ...]
    values: Mapping[str, Pool]

    def to_json(self) -> dict[str, Any]:
        """Return plain values: infinity as text, no spread of a single seed, no metric that has no value."""
        return {
            "grid": self.grid,
            "axes": {axis: str(v) if v in (math.inf, -math.inf) else v for axis, v in self.axes.items()},
            "seeds": list(self.seeds),
            "cells": list(self.cells),
            "metrics": {
                metric: {"mean": known.mean, "std": None if math.isnan(known.std) else known.std}
                for metric, known in self.values.items()
                if known.num_values
            },
        }


def find_best(record: Record, *, metric: str | None = None, top: int = 1) -> tuple[str, list[Found]]:
    """Return the metric that decides, and the best configurations by it, the best first.

    Args:
        record: The sweep.
        metric: A metric with one value a cell, or the last value of a series; default: the first objective
            of a search, else the final training loss.
        top: So many at most.

    Raises:
        ConfigError: Nothing has such a metric, or no configuration has completed.
    """
    search = None if record.search is None else record.search.search
    wanted = metric or (names.FINAL_TRAIN_LOSS if search is None else search.objectives[0])
    known = {name for outcome in record.outcomes.values() for name in outcome.metrics}
    if known and wanted not in known:
        raise unknown_name("metric", wanted, sorted(known))
    found = _ranked(record, wanted, top)
    if not found:
        raise ConfigError(f"sweep {record.name!r}: no configuration has completed with all its seeds yet.")
    return wanted, found


def best_by(record: Record, metric: str) -> Found | None:
    """Return the best configuration by a metric; `None` while none has completed with all its seeds."""
    return next(iter(_ranked(record, metric, 1)), None)


def least_is_best(metric: str) -> bool:
    """Whether the least value of a metric is the best: as a search has it, else as figures show it."""
    goal = OBJECTIVES.get(metric)
    return metric_label(metric).lower_is_better if goal is None else goal == "minimize"


def configurations(record: Record) -> tuple[list[str], dict[Key, tuple[str, ...]]]:
    """Return the axes that tell configurations apart, and their values to the cells there, one a seed.

    The grid is among them where there are several.
    """
    # A search's own questions and what was known before are of one base cell.
    axes = [axis for axis in place_axes(record) if record.search is None or axis != GRID_AXIS]
    return axes, group(record, range(len(record.cell_ids)), axes)


def _ranked(record: Record, wanted: str, top: int) -> list[Found]:
    worse = 1.0 if least_is_best(wanted) else -1.0
    risk = 0.0 if record.search is None else record.search.search.risk
    axes, places = configurations(record)
    ranked: list[tuple[float, Key, tuple[str, ...]]] = []
    distinct: dict[frozenset[str], tuple[Key, tuple[str, ...]]] = {}
    for key, cells in places.items():
        # Of places that are one experiment the first.
        distinct.setdefault(frozenset(cells), (key, cells))
    for key, cells in distinct.values():
        known = pool([record.outcomes[cell] for cell in cells], wanted)
        if known.state is State.OK and not known.num_diverged:
            # A single seed has no spread; it is not better for that, but there is nothing to go by.
            deviation = 0.0 if math.isnan(known.std) else known.std
            ranked.append((worse * known.mean + risk * deviation, key, cells))
    ranked.sort(key=lambda one: one[0])
    metrics = tuple(dict.fromkeys((wanted, *FINALS)))
    return [_found(record, axes, key, cells, metrics) for _, key, cells in ranked[:top]]


def _found(
    record: Record, axes: Sequence[str], key: Key, cells: tuple[str, ...], metrics: Sequence[str]
) -> Found:
    points = [point for point, cell in enumerate(record.cell_ids) if cell in cells]
    outcomes = [record.outcomes[cell] for cell in cells]
    place = {axis: value for axis, value in zip(axes, key, strict=True) if value is not None}
    return Found(
        place=place,
        axes={axis: value for axis, value in place.items() if axis != GRID_AXIS},
        grid=str(place.get(GRID_AXIS, record.grids[points[0]])),
        seeds=in_order(value_of(record, point, SEED) for point in points),
        cells=cells,
        values={metric: pool(outcomes, metric) for metric in metrics},
    )


def value_text(found: Found, metric: str) -> str:
    """Write the mean of a metric and its spread: "0.0884 ±0.0012"; "–" where nothing has a value."""
    known, label = found.values[metric], metric_label(metric)
    if not known.num_values:
        return "–"
    text = number(known.mean, label)
    return text if math.isnan(known.std) else f"{text} {spread(known.std, label, mean=known.mean)}"


def best_space(
    space: Space,
    found: Sequence[Found],
    *,
    metric: str,
    sweep: str,
    file: str,
    given: Mapping[str, str] | None = None,
) -> str:
    """Return a space of these configurations as YAML.

    Args:
        space: The space that the sweep was run with.
        found: The configurations.
        metric: What they are the best by, for the heading.
        sweep: The sweep's name.
        file: What the space will be called by, for the heading.
        given: The options about places that it goes on with, see `Places.given`.
    """
    spec = space.spec
    grids = [{**_grid(space, one), "name": f"best-{rank}"} for rank, one in enumerate(found, start=1)]
    plain_spec = {
        "name": f"{spec.name}{BEST_SUFFIX}",
        "description": f"The best of sweep {sweep}, by {metric}.",
        "base": plain_data(spec.base, compact=True),
        "grids": grids,
        "reports": [_report(found)],
    }
    run = hint("run", file, given=given, options=TRAINS)
    text = HEADING.format(name=sweep, metric=metric, run=run) + write_yaml(plain_spec)
    load_space_text(text, recorded=True)
    return text


def _report(found: Sequence[Found]) -> dict[str, Any]:
    """Return curves of all configurations, which have their grids' names in common and perhaps no axis."""
    series = {names.FINAL_TRAIN_LOSS: TRAIN_LOSS, names.FINAL_TEST_ACCURACY: TEST_ACCURACY}
    metrics = [name for final, name in series.items() if any(one.values[final].num_values for one in found)]
    return {"kind": "curves", "name": "best", "metrics": metrics or [TRAIN_LOSS], "lines": [GRID_AXIS]}


def _grid(space: Space, found: Found) -> dict[str, Any]:
    """Return the grid that a configuration came from, at its values alone."""
    if space.is_search:
        seeds = [int(seed) for seed in found.seeds] or [None]
        given = plain_data(sampled_grid(space.search, found.axes, seeds))
        return {key: value for key, value in given.items() if value}
    grid = next(grid for grid in space.spec.grids if grid.name == found.grid)
    return {
        **({"set": plain_data(grid.set)} if grid.set else {}),
        "axes": {axis: _axis(grid, axis, found) for axis in grid.axes},
    }


def _axis(grid: GridSpec, name: str, found: Found) -> dict[str, Any]:
    axis: AxisSpec = grid.axes[name]
    wanted = found.seeds if name == SEED else (found.axes[name],)
    # As the space writes them: a table may have read a whole number as a real one.
    values = [label for label in axis.labels if label in wanted]
    if axis.choices is not None:
        return {"choices": {value: plain_data(axis.choices[value]) for value in values}}
    return {"path": list(axis.path), "values": values}

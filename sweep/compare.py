"""Two sweeps side by side: what each has at a place, the difference, and its spread over the seeds.

A place is a combination of axes without the seed. An axis that only one sweep has is filled in for the other
from the cells that it states itself, so that sweeps that differ in a fixed setting (the model, the batch
size) still meet where everything that varies is equal, and nothing is compared with something else by
accident. The params of its runs will not do: another sweep may have made them, with other literals.

The grid's name is part of a place where either sweep has several grids, and both have one of that name or the
axes alone do not tell the grids apart. Places do not depend on which sweep comes first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from search_spaces.reports import AxisValue
from search_spaces.search import SEARCH_GRID
from sweep import names
from sweep.record import SEED_AXIS, CellOutcome, Record
from sweep.report.points import GRID_AXIS, in_order, is_mixed, value_of
from sweep.report.states import Pool, ended_well, pool
from sweep.stated import setting
from trainers.errors import ConfigError

if TYPE_CHECKING:
    import pandas

DEFAULT_METRICS = (names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One metric at one place: the second sweep against the first.

    Args:
        first: The seeds of the first sweep together.
        second: Those of the second.
        difference: Mean of second minus first, over the seeds that both have, else between the two means;
            NaN where a side has no value.
        spread: Sample standard deviation of the differences of equal seeds; without two such pairs that of
            a difference of one run of each (the root of the summed variances); NaN where nothing tells.
        num_pairs: Seeds that ended well in both; 0 when none did and the means are compared.
        base: The first sweep's mean over what the difference is over, which it is a share of.
    """

    first: Pool
    second: Pool
    difference: float = math.nan
    spread: float = math.nan
    num_pairs: int = 0
    base: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A place of either sweep.

    Args:
        axes: Its values; `None` where the place lacks the axis.
        first: Cells of the first sweep; empty where it has none there.
        second: Cells of the second.
        metrics: The comparison by metric.
    """

    axes: Mapping[str, AxisValue | None]
    first: tuple[CellOutcome, ...]
    second: tuple[CellOutcome, ...]
    metrics: Mapping[str, Difference]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two sweeps, place by place, in the order of the first.

    Args:
        first: The first sweep.
        second: The second.
        axes: The axes of either, the seed left out.
        metrics: What is compared.
        pairs: The places of either.
    """

    first: Record
    second: Record
    axes: tuple[str, ...]
    metrics: tuple[str, ...]
    pairs: tuple[Pair, ...]

    def table(self) -> pa.Table:
        """Return one row per place and metric; the columns are fields of `Difference` and the axes."""
        rows = [(pair, metric, pair.metrics[metric]) for pair in self.pairs for metric in self.metrics]
        columns: dict[str, Any] = {}
        for axis in self.axes:
            values = [pair.axes[axis] for pair, _, _ in rows]
            text = any(isinstance(value, str) for value in values)
            columns[axis] = [None if value is None else str(value) for value in values] if text else values
        columns["metric"] = [metric for _, metric, _ in rows]
        for side in ("first", "second"):
            pools: list[Pool] = [getattr(found, side) for _, _, found in rows]
            columns[side] = pa.array([known.mean for known in pools], pa.float64())
            columns[f"{side}_std"] = pa.array([known.std for known in pools], pa.float64())
            columns[f"{side}_state"] = [known.state.value for known in pools]
        columns["difference"] = pa.array([found.difference for _, _, found in rows], pa.float64())
        columns["spread"] = pa.array([found.spread for _, _, found in rows], pa.float64())
        columns["num_pairs"] = [found.num_pairs for _, _, found in rows]
        return pa.table(columns)

    @property
    def frame(self) -> "pandas.DataFrame":
        """The table as a data frame."""
        return self.table().to_pandas()


def compare(first: Record, second: Record, metrics: Sequence[str] = DEFAULT_METRICS) -> Comparison:
    """Compare two sweeps.

    Raises:
        ConfigError: They have no place in common, with the axes of both; or their grids, which the axes do
            not tell apart, have no name in common.
    """
    axes, sides = _sides(first, second)
    keys = dict.fromkeys((*sides[0], *sides[1]))
    if not any(key in sides[0] and key in sides[1] for key in keys):
        found = "; ".join(
            f"{record.name} has " + ", ".join(f"{axis} in {_shown(side, at)}" for at, axis in enumerate(axes))
            for record, side in zip((first, second), sides, strict=True)
        )
        raise ConfigError(f"the sweeps have no combination of axes in common: {found}.")
    pairs = [
        Pair(
            axes=dict(zip(axes, key, strict=True)),
            first=sides[0].get(key, ()),
            second=sides[1].get(key, ()),
            metrics={
                metric: _difference(sides[0].get(key, ()), sides[1].get(key, ()), metric)
                for metric in metrics
            },
        )
        for key in keys
    ]
    return Comparison(first=first, second=second, axes=axes, metrics=tuple(metrics), pairs=tuple(pairs))


_Key = tuple[AxisValue | None, ...]
_Places = Mapping[_Key, tuple[CellOutcome, ...]]


def _sides(first: Record, second: Record) -> tuple[tuple[str, ...], tuple[_Places, _Places]]:
    """Return the axes of places, and the cells of both sweeps by place."""
    axes = tuple(dict.fromkeys(axis for axis in (*first.axes, *second.axes) if axis != SEED_AXIS))
    paths = {axis: (*first.stated.paths(axis), *second.stated.paths(axis)) for axis in axes}
    records = first, second
    places = [_places(record, paths) for record in records]
    # What a search knew before is of the same base cell as what it asked for.
    grids = [in_order(record.grids) if record.search is None else (SEARCH_GRID,) for record in records]
    mixed = [
        record.name
        for record, own, found in zip(records, grids, places, strict=True)
        if len(own) > 1 and any(is_mixed(record, points) for points in found.values())
    ]
    common = set(grids[0]) & set(grids[1])
    if mixed and not common:
        names = "; ".join(
            f"{record.name} has {', '.join(map(str, own))}"
            for record, own in zip(records, grids, strict=True)
        )
        raise ConfigError(
            f"{' and '.join(mixed)}: the axes do not tell grids apart, so they are compared by name, and the "
            f"sweeps have none in common: {names}. Give grids that are to be compared the same name."
        )
    if common and max(map(len, grids)) > 1:
        axes, paths = (GRID_AXIS, *axes), {GRID_AXIS: (), **paths}
        places = [_places(record, paths) for record in records]
    one, other = (_cells(record, found) for record, found in zip(records, places, strict=True))
    return axes, (one, other)


def _places(record: Record, paths: Mapping[str, Sequence[str]]) -> dict[_Key, list[int]]:
    found: dict[_Key, list[int]] = {}
    for point in range(len(record.cell_ids)):
        values = {axis: value_of(record, point, axis) for axis in paths}
        missing = [axis for axis, value in values.items() if value is None and paths[axis]]
        if missing and (cell := record.cell(point)) is not None:
            stated = {axis: {setting(cell, path) for path in paths[axis]} for axis in missing}
            values |= {axis: settings.pop() for axis, settings in stated.items() if len(settings) == 1}
        found.setdefault(tuple(values.values()), []).append(point)
    return found


def _cells(record: Record, places: Mapping[_Key, Sequence[int]]) -> _Places:
    return {
        key: tuple({record.cell_ids[point]: record.outcome(point) for point in points}.values())
        for key, points in places.items()
    }


def _shown(side: Mapping[_Key, object], at: int) -> str:
    return "{" + ", ".join(str(value) for value in in_order(key[at] for key in side)) + "}"


def _difference(first: Sequence[CellOutcome], second: Sequence[CellOutcome], metric: str) -> Difference:
    pools = pool(first, metric), pool(second, metric)
    by_seed = _by_seed(first, metric), _by_seed(second, metric)
    common = sorted(by_seed[0].keys() & by_seed[1].keys())
    if not all(known.state.has_value for known in pools):
        return Difference(first=pools[0], second=pools[1])
    if not common:
        return Difference(
            first=pools[0],
            second=pools[1],
            difference=pools[1].mean - pools[0].mean,
            spread=math.hypot(pools[0].std, pools[1].std),
            base=pools[0].mean,
        )
    differences = [by_seed[1][seed] - by_seed[0][seed] for seed in common]
    paired = len(differences) > 1
    spread = float(np.std(differences, ddof=1)) if paired else math.hypot(pools[0].std, pools[1].std)
    return Difference(
        first=pools[0],
        second=pools[1],
        difference=float(np.mean(differences)),
        spread=spread,
        num_pairs=len(differences),
        base=float(np.mean([by_seed[0][seed] for seed in common])),
    )


def _by_seed(outcomes: Sequence[CellOutcome], metric: str) -> dict[str, float]:
    """Return the metric of the cells that its mean is over, by seed."""
    return {
        outcome.params.get(SEED_AXIS, ""): outcome.metrics[metric] for outcome in ended_well(outcomes, metric)
    }

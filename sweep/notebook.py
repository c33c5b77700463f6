"""A recorded sweep as data frames, for notebooks and scripts of one's own."""

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sweep.best import find_best
from sweep.compare import DEFAULT_METRICS, Comparison, compare
from sweep.export import export_table
from sweep.grid_table import axis_column
from sweep.histories import is_series, recorded_series
from sweep.html import html_text
from sweep.places import Places
from sweep.progress import count_of
from sweep.record import NO_SERIES, CellOutcome, Record, Series, load_record
from trainers.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import pandas

REPORT_PIXELS = 800
"""Height of the report within a notebook."""


@dataclass(frozen=True, slots=True, repr=False)
class LoadedSweep:
    """A sweep as MLflow has it now.

    Args:
        record: Everything that was read.
    """

    record: Record

    @property
    def points(self) -> "pandas.DataFrame":
        """One row per grid point: `grid`, its axes, `cell_id`, `run_id`, `status`, last values of metrics."""
        return export_table(self.record).to_pandas()

    @property
    def cells(self) -> "pandas.DataFrame":
        """One row per distinct cell, by `cell_id`, with the axes of the first point that asks for it.

        Other points that are the same cell are not among them: what lies on a grid is `points`.
        """
        return self.points.drop_duplicates("cell_id").set_index("cell_id")

    @property
    def series(self) -> list[str]:
        """Names of what has values at many steps: in MLflow, and in the history of one cell of each grid."""
        names = {name for outcome in self.record.outcomes.values() for name in outcome.metrics}
        ended: dict[str, CellOutcome] = {}
        for grid, cell_id in zip(self.record.grids, self.record.cell_ids, strict=True):
            if (outcome := self.record.outcomes[cell_id]).ended:
                ended.setdefault(grid, outcome)
        names.update(name for _, history in recorded_series(self.record, ended.values()) for name in history)
        return sorted(filter(is_series, names))

    def history(
        self, series: str | Sequence[str], *, cells: Collection[str] | None = None
    ) -> "pandas.DataFrame":
        """Return recorded points in long form: one row per cell and step, one column per series.

        These are all points of a cell that has ended, and of another one those that MLflow has.

        Args:
            series: One or several of `series`, or others that only some cells have recorded.
            cells: Only of these cells; default: all.

        Raises:
            ConfigError: A series or a cell is unknown; the message gives the nearest one.
            LedgerError: MLflow does not answer, or a history is damaged.
        """
        wanted = [series] if isinstance(series, str) else list(series)
        if not wanted:
            raise ConfigError("history: expected the name of a series.")
        for cell_id in cells or ():
            if cell_id not in self.record.outcomes:
                raise unknown_name("cell", cell_id, list(self.record.outcomes))
        chosen = sorted(self.record.outcomes if cells is None else set(cells))
        outcomes = [self.record.outcomes[cell_id] for cell_id in chosen]
        found = [
            (outcome.cell_id, history)
            for outcome, history in recorded_series(self.record, outcomes, set(wanted).__contains__)
            if history
        ]
        for name in wanted:
            if not any(name in history for _, history in found) and name not in self.series:
                raise unknown_name("series", name, self.series)
        tables = [_points_of(cell_id, history, wanted) for cell_id, history in found]
        return pa.concat_tables([_history_schema(wanted).empty_table(), *tables]).to_pandas()

    def best(self, metric: str | None = None, *, top: int = 10) -> "pandas.DataFrame":
        """Return the best configurations, all their seeds together, as `sweep best` finds them.

        Args:
            metric: What decides; default: the first objective of a search, else the final training loss.
            top: So many rows at most.

        Returns:
            One row a configuration: its grid where there are several, its axes, mean and standard deviation
            (`… std`) of metrics, its `cells`.

        Raises:
            ConfigError: Nothing has such a metric, or no configuration has completed.
        """
        _, found = find_best(self.record, metric=metric, top=top)
        rows = [
            {
                **one.place,
                **{name: known.mean for name, known in one.values.items()},
                **{f"{name} std": known.std for name, known in one.values.items()},
                "cells": list(one.cells),
            }
            for one in found
        ]
        # Of several grids some rows lack axes of others.
        names = dict.fromkeys(name for row in rows for name in row)
        columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in names}
        for axis in dict.fromkeys(axis for one in found for axis in one.axes):
            columns[axis] = axis_column([one.axes.get(axis) for one in found])
        return pa.table(columns).to_pandas()

    def compare(self, other: "LoadedSweep", *, metrics: Sequence[str] = DEFAULT_METRICS) -> Comparison:
        """Compare with another sweep, place by place; see `Comparison.frame`.

        Raises:
            ConfigError: They have no combination of axes in common.
        """
        return compare(self.record, other.record, metrics)

    def report(self) -> str:
        """Return the interactive report as HTML, for a notebook's own display of HTML."""
        frame = html.escape(html_text(self.record))
        return f'<iframe srcdoc="{frame}" width="100%" height="{REPORT_PIXELS}" style="border:0"></iframe>'

    def __repr__(self) -> str:
        states = ", ".join(f"{count} {status}" for status, count in self.record.counts().items())
        points, cells = len(self.record.cell_ids), len(self.record.outcomes)
        many = f"{count_of(points, 'grid point')}, {count_of(cells, 'cell')}"
        return f"<sweep {self.record.name!r}: {many}: {states}>"

    def _repr_html_(self) -> str:
        return self.report()


def _history_schema(names: Sequence[str]) -> pa.Schema:
    columns = [("cell_id", pa.string()), ("step", pa.int64()), *((name, pa.float64()) for name in names)]
    return pa.schema(columns)


def _points_of(cell_id: str, history: Mapping[str, Series], names: Sequence[str]) -> pa.Table:
    """Arrange series side by side, at every step that one of them has."""
    steps = np.unique(np.concatenate([series.steps for series in history.values()]))
    columns = [pa.repeat(cell_id, len(steps)), pa.array(steps)]
    for name in names:
        values = np.full(len(steps), np.nan)
        points = history.get(name, NO_SERIES)
        values[np.searchsorted(steps, points.steps)] = points.values
        columns.append(pa.array(values))
    return pa.table(columns, schema=_history_schema(names))


def load_sweep(name: str, *, tracking_uri: str | None = None) -> LoadedSweep:
    """Read a sweep from MLflow.

    Args:
        name: The sweep's name.
        tracking_uri: MLflow; default: `MLFLOW_TRACKING_URI`, or the database in `$SWEEP_HOME` or results/.

    Raises:
        ConfigError: There is no sweep of that name.
        LedgerError: MLflow does not answer.
    """
    return LoadedSweep(load_record(Places.resolve(tracking_uri=tracking_uri).tracking_uri, name))

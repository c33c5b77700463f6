"""A recorded sweep as data frames, for notebooks and scripts of one's own."""

import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sweep.best import find_best
from sweep.compare import DEFAULT_METRICS, Comparison, compare
from sweep.export import export_table
from sweep.grid_table import axis_column
from sweep.html import html_text
from sweep.places import Places
from sweep.progress import count_of
from sweep.record import Record, load_record
from trainers.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import pandas

NOT_A_SERIES = ("final/", "hp/", "status/")
"""Metrics with one value a cell."""

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
        """One row per distinct cell, by `cell_id`, with the axes of the first point that asks for it."""
        return self.points.drop_duplicates("cell_id").set_index("cell_id")

    @property
    def series(self) -> list[str]:
        """Names of the metrics that have a value at many steps."""
        names = {name for outcome in self.record.outcomes.values() for name in outcome.metrics}
        return sorted(name for name in names if not name.startswith(NOT_A_SERIES))

    def history(
        self, series: str | Sequence[str], *, cells: Collection[str] | None = None
    ) -> "pandas.DataFrame":
        """Return recorded points in long form: one row per cell and step, one column per series.

        Args:
            series: One or several of `series`.
            cells: Only of these cells; default: all.

        Raises:
            ConfigError: A series or a cell is unknown; the message gives the nearest one.
        """
        wanted = [series] if isinstance(series, str) else list(series)
        for name in wanted:
            if name not in self.series:
                raise unknown_name("series", name, self.series)
        for cell_id in cells or ():
            if cell_id not in self.record.outcomes:
                raise unknown_name("cell", cell_id, list(self.record.outcomes))
        if not wanted:
            raise ConfigError("history: expected the name of a series.")
        run_of = {
            outcome.run_id: cell_id
            for cell_id, outcome in self.record.outcomes.items()
            if outcome.run_id is not None and (cells is None or cell_id in cells)
        }
        rows: dict[tuple[str, int], dict[str, float]] = {}
        for (run_id, name), points in self.record.histories(run_of, wanted).items():
            for step, value in zip(points.steps.tolist(), points.values.tolist(), strict=True):
                rows.setdefault((run_of[run_id], step), {})[name] = value
        keys = sorted(rows)
        table = {
            "cell_id": pa.array([cell_id for cell_id, _ in keys], pa.string()),
            "step": pa.array([step for _, step in keys], pa.int64()),
            **{name: pa.array([rows[key].get(name) for key in keys], pa.float64()) for name in wanted},
        }
        return pa.table(table).to_pandas()

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

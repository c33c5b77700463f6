"""A sweep as one tidy table: a row per grid point, or a row per recorded point of every series."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from sweep.grid_table import axis_column
from sweep.histories import recorded_series
from sweep.record import Record
from trainers.errors import ConfigError

HISTORY_SCHEMA = pa.schema(
    {"cell_id": pa.string(), "series": pa.string(), "step": pa.int64(), "value": pa.float64()}
)


def export_table(record: Record, *, histories: bool = False) -> pa.Table:
    """Arrange a record as a table.

    Args:
        record: The sweep.
        histories: One row per (cell, series, step) instead of one per grid point: every point that a cell
            has recorded, and of one that has not ended those that MLflow has.

    Returns:
        Columns `grid`, each axis by its name, `cell_id`, `run_id`, `status`, `status_reason` and the last
        value of every metric; or `cell_id`, `series`, `step`, `value`.

    Raises:
        LedgerError: MLflow does not answer, or a history is damaged.
    """
    return _histories(record) if histories else _points(record)


def _points(record: Record) -> pa.Table:
    outcomes = [record.outcome(point) for point in range(len(record.cell_ids))]
    columns: dict[str, pa.Array] = {"grid": pa.array(record.grids)}
    for axis, values in record.axes.items():
        columns[axis] = axis_column(values)
    columns["cell_id"] = pa.array(record.cell_ids)
    columns["run_id"] = pa.array([outcome.run_id for outcome in outcomes], pa.string())
    columns["status"] = pa.array(
        [None if o.status is None else o.status.value for o in outcomes], pa.string()
    )
    columns["status_reason"] = pa.array([outcome.reason for outcome in outcomes])
    for metric in sorted({name for outcome in outcomes for name in outcome.metrics}):
        columns[metric] = pa.array([outcome.metrics.get(metric) for outcome in outcomes], pa.float64())
    return pa.table(columns)


def _histories(record: Record) -> pa.Table:
    found = [HISTORY_SCHEMA.empty_table()]
    for outcome, history in recorded_series(record, record.outcomes.values()):
        for name in sorted(history):
            points = history[name]
            columns = [
                pa.repeat(outcome.cell_id, len(points.steps)),
                pa.repeat(name, len(points.steps)),
                pa.array(points.steps),
                pa.array(points.values),
            ]
            found.append(pa.table(columns, schema=HISTORY_SCHEMA))
    return pa.concat_tables(found)


def write_table(table: pa.Table, path: Path | None) -> None:
    """Write a table to a file by its suffix, or as CSV to standard output.

    Raises:
        ConfigError: The suffix is neither .csv nor .parquet.
    """
    if path is None:
        csv.write_csv(table, pa.PythonFile(sys.stdout.buffer, mode="w"))
        sys.stdout.flush()
        return
    match path.suffix:
        case ".csv":
            path.parent.mkdir(parents=True, exist_ok=True)
            csv.write_csv(table, str(path))
        case ".parquet":
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(table, str(path))
        case _:
            raise ConfigError(f"--out: found {path.name!r}; expected a name that ends in .csv or .parquet.")

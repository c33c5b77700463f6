"""A sweep as one tidy table: a row per grid point, or a row per recorded point of every series.

Histories are written as they are read, a few at a time: those of thousands of cells fit no memory.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from sweep.grid_table import axis_column
from sweep.histories import recorded_series
from sweep.outputs import replacing, require_file, writing
from sweep.record import Record
from trainers.errors import ConfigError

HISTORY_SCHEMA = pa.schema(
    {"cell_id": pa.string(), "series": pa.string(), "step": pa.int64(), "value": pa.float64()}
)
WRITERS: dict[str, Any] = {".csv": csv.CSVWriter, ".parquet": parquet.ParquetWriter}
"""What writes a table, by the suffix of the file."""

ROWS_AT_ONCE = 2**18
"""Of histories so many rows are gathered before they are written: Parquet pays for each group of rows."""


def export_table(record: Record) -> pa.Table:
    """Arrange the grid points of a record as a table.

    Returns:
        Columns `grid`, each axis by its name, `cell_id`, `run_id`, `status`, `status_reason` and the last
        value of every metric.
    """
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


def history_tables(record: Record) -> Iterator[pa.Table]:
    """Yield every point that a cell has recorded, and of one that has not ended those that MLflow has.

    Yields:
        A table for each series of each cell: `cell_id`, `series`, `step`, `value`.

    Raises:
        LedgerError: MLflow does not answer, or a history is damaged.
    """
    for outcome, history in recorded_series(record, record.outcomes.values()):
        for name in sorted(history):
            points = history[name]
            columns = [
                pa.repeat(outcome.cell_id, len(points.steps)),
                pa.repeat(name, len(points.steps)),
                pa.array(points.steps),
                pa.array(points.values),
            ]
            yield pa.table(columns, schema=HISTORY_SCHEMA)


def require_table_file(path: Path) -> None:
    """Make sure that a table can be written to a file, before it is made.

    Raises:
        ConfigError: The suffix is neither .csv nor .parquet, or nothing may be written there.
    """
    if path.suffix not in WRITERS:
        raise ConfigError(f"--out: found {path.name!r}; expected a name that ends in .csv or .parquet.")
    require_file(path)


def write_export(record: Record, path: Path | None, *, histories: bool = False) -> None:
    """Write a record as a table to a file by its suffix, or as CSV to standard output.

    A file that is there stays as it is until the new one is whole.

    Args:
        record: The sweep.
        path: The file; `None` is standard output.
        histories: One row per (cell, series, step) instead of one per grid point.

    Raises:
        ConfigError: The file cannot be written.
        LedgerError: MLflow does not answer, or a history is damaged.
    """
    if histories:
        schema, tables = HISTORY_SCHEMA, _gathered(history_tables(record))
    else:
        table = export_table(record)
        schema, tables = table.schema, iter([table])
    if path is None:
        _write(csv.CSVWriter(pa.PythonFile(sys.stdout.buffer, mode="w"), schema), tables)
        sys.stdout.flush()
        return
    with writing(path), replacing(path) as fresh, pa.OSFile(str(fresh), "wb") as file:
        _write(WRITERS[path.suffix](file, schema), tables)


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= ROWS_AT_ONCE:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held)


def _write(writer: Any, tables: Iterable[pa.Table]) -> None:
    with writer:
        for table in tables:
            writer.write_table(table)

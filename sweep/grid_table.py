"""`cells.parquet`: one row per grid point, with its axes, its cell, and how that cell stands."""

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as parquet

from sweep.errors import LedgerError
from sweep.names import (
    AXIS_COLUMN_PREFIX,
    FINAL_STEPS,
    FINAL_TEST_ACCURACY,
    FINAL_TRAIN_LOSS,
    Status,
)

AxisValue = float | int | str

FINAL_COLUMNS = {
    "final_train_loss": FINAL_TRAIN_LOSS,
    "final_test_accuracy": FINAL_TEST_ACCURACY,
    "final_steps": FINAL_STEPS,
}
"""Columns of the finals and the metrics that they repeat."""


class CellFate(Protocol):
    """What the table says about a cell."""

    @property
    def run_id(self) -> str:
        """Its MLflow run."""
        ...

    @property
    def status(self) -> Status:
        """How it stands."""
        ...

    @property
    def reason(self) -> str:
        """Why, when that needs saying."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """The latest value of its metrics."""
        ...


def grid_table(
    grids: Sequence[str], axes: Sequence[Mapping[str, AxisValue]], cell_ids: Sequence[str]
) -> pa.Table:
    """Build the table of a plan: all cells pending.

    Args:
        grids: The grid of each point.
        axes: The axis values of each point.
        cell_ids: The cell of each point.
    """
    names = list(dict.fromkeys(name for point in axes for name in point))
    columns: dict[str, pa.Array] = {"grid": pa.array(grids, pa.string())}
    for name in names:
        columns[f"{AXIS_COLUMN_PREFIX}{name}"] = axis_column([point.get(name) for point in axes])
    columns["cell_id"] = pa.array(cell_ids, pa.string())
    return with_fates(pa.table(columns), {})


def axis_column(values: Sequence[AxisValue | None]) -> pa.Array:
    """Return the column of an axis: of whole or real numbers, or of text; numbers beside text become text.

    `sweep.stated.StatedCells.label` undoes that.
    """
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def with_fates(table: pa.Table, fates: Mapping[str, CellFate]) -> pa.Table:
    """Return the table with the columns about runs filled in anew; a cell without a run is pending."""
    found = [fates.get(cell_id) for cell_id in table["cell_id"].to_pylist()]
    kept = [name for name in table.column_names if name in ("grid", "cell_id") or is_axis(name)]
    columns: dict[str, pa.ChunkedArray | pa.Array] = {name: table[name] for name in kept}
    columns["run_id"] = pa.array([fate.run_id if fate else None for fate in found], pa.string())
    columns["status"] = pa.array([str(fate.status if fate else Status.PENDING) for fate in found])
    columns["status_reason"] = pa.array([fate.reason if fate else "" for fate in found], pa.string())
    for name, metric in FINAL_COLUMNS.items():
        columns[name] = pa.array(
            [fate.metrics.get(metric) if fate else None for fate in found], pa.float64(), from_pandas=False
        )
    return pa.table(columns)


def is_axis(column: str) -> bool:
    """Whether a column holds an axis."""
    return column.startswith(AXIS_COLUMN_PREFIX)


def described_points(table: pa.Table, cells: Collection[str]) -> list[str]:
    """Describe the grid points of these cells, one line each."""
    lines, wanted = list[str](), set(cells)
    for row in table.to_pylist():
        if row["cell_id"] in wanted:
            axes = {name: value for name, value in row.items() if is_axis(name) and value is not None}
            text = " ".join(
                f"{name.removeprefix(AXIS_COLUMN_PREFIX)}={value}" for name, value in axes.items()
            )
            lines.append(f"{row['grid']}: {text} (cell {row['cell_id']})")
    return lines


def encode_table(table: pa.Table) -> bytes:
    """Write the table as a Parquet file."""
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def decode_table(data: bytes) -> pa.Table:
    """Read the table back.

    Raises:
        LedgerError: The bytes are damaged or hold something else.
    """
    try:
        table = parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise LedgerError(f"cells.parquet is damaged: {error}.") from error
    if not {"grid", "cell_id"} <= set(table.column_names):
        raise LedgerError(f"cells.parquet has no cells; its columns are {table.column_names}.")
    return table

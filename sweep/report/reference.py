"""The reference columns of a table: a grid (plain SGD) that has no values along its columns.

Its points are matched with the rows by the axes that both have. An axis of its own that the rows lack, and
that makes a difference, gives a column for each of its values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.reports import TableSpec
from sweep.record import Record
from sweep.report.points import GRID_AXIS, Key, group, ordered_keys, unshown_axes, value_of
from sweep.report.states import Pool, pool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceColumns:
    """The columns as plain values.

    Args:
        axes: Axes of the reference grid that the rows lack.
        keys: Their values, one key per column.
        rows: One entry per row of the table, one pool per column each.
    """

    axes: tuple[str, ...]
    keys: tuple[Key, ...]
    rows: tuple[tuple[Pool, ...], ...]


def reference_columns(
    record: Record, spec: TableSpec, row_axes: Sequence[str], row_keys: Sequence[Key]
) -> ReferenceColumns:
    """Arrange the reference grid beside the rows of a table; no column where the table names none."""
    if spec.reference is None:
        return ReferenceColumns(axes=(), keys=(), rows=tuple(() for _ in row_keys))
    # The grid's name tells it from the rows, so it is not among what has to agree.
    filters = {axis: allowed for axis, allowed in spec.where.items() if axis != GRID_AXIS}
    points = [
        point
        for point, grid in enumerate(record.grids)
        if grid == spec.reference
        and all(value_of(record, point, axis) in (None, *allowed) for axis, allowed in filters.items())
    ]
    axes = unshown_axes(record, points, row_axes)
    keys = tuple(ordered_keys(group(record, points, axes))) or ((),)
    places = group(record, points, (*axes, *row_axes))
    split = len(axes)
    shared = [at for at, axis in enumerate(row_axes) if axis != GRID_AXIS]

    def place(row: Key, column: Key) -> Pool:
        cells = (
            cell
            for key, found in places.items()
            if key[:split] == column and all(key[split + at] in (None, row[at]) for at in shared)
            for cell in found
        )
        return pool([record.outcomes[cell] for cell in dict.fromkeys(cells)], spec.metric)

    rows = tuple(tuple(place(row, column) for column in keys) for row in row_keys)
    return ReferenceColumns(axes=axes, keys=keys, rows=rows)

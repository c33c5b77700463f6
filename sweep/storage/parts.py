"""Histories as Parquet: int64 `step` and `timestamp_ms`, then float64 series; equal tables give equal bytes.

Null means not measured at that step; NaN and infinity were measured and are not finite.
"""

import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as parquet

from sweep.errors import StorageDamagedError

STEP = "step"
TIMESTAMP = "timestamp_ms"
_INTEGERS = (STEP, TIMESTAMP)
_COMPRESSION_LEVEL = 3


def encode_part(table: pa.Table) -> bytes:
    """Write a table, its steps ascending, as a Parquet file (zstd, byte-stream-split)."""
    table = normalised(table)
    encodings = dict.fromkeys(table.column_names, "BYTE_STREAM_SPLIT")
    encodings.update(dict.fromkeys(_INTEGERS, "DELTA_BINARY_PACKED"))
    sink = io.BytesIO()
    parquet.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=False,
        column_encoding=encodings,
        store_schema=False,
    )
    return sink.getvalue()


def decode_part(data: bytes, name: str, wanted: Callable[[str], bool] = bool) -> pa.Table:
    """Read what `encode_part` wrote.

    Args:
        data: The bytes.
        name: What the part is called, for the message.
        wanted: Which series to read; default: all.

    Raises:
        StorageDamagedError: The bytes are no Parquet file, or no history.
    """
    try:
        file = parquet.ParquetFile(pa.BufferReader(data))
        columns = [name for name in file.schema_arrow.names if name in _INTEGERS or wanted(name)]
        return normalised(file.read(columns=columns))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise StorageDamagedError(f"storage: {name} is not a history: {error}.") from error


def join_parts(tables: list[pa.Table]) -> pa.Table:
    """Concatenate histories; a series that a part lacks was not measured there."""
    if not tables:
        return normalised(pa.table({STEP: pa.array([], pa.int64())}))
    return normalised(pa.concat_tables(tables, promote_options="default").combine_chunks())


def normalised(table: pa.Table) -> pa.Table:
    """Return the table with the agreed columns, types and order, and without metadata."""
    if STEP not in table.column_names:
        raise ValueError(f"a history needs a column {STEP!r}; found {table.column_names}.")
    columns = {STEP: table[STEP].cast(pa.int64())}
    if TIMESTAMP in table.column_names:
        columns[TIMESTAMP] = table[TIMESTAMP].cast(pa.int64())
    else:
        columns[TIMESTAMP] = pa.nulls(table.num_rows, pa.int64())
    for name in sorted(set(table.column_names) - set(_INTEGERS)):
        columns[name] = table[name].cast(pa.float64())
    return pa.table(columns)

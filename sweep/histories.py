"""Whole histories: the Parquet files that a run links; MLflow itself keeps a few hundred points a series."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as parquet

from sweep import names
from sweep.ledger.sending import sent
from sweep.record import Record, Series
from sweep.storage.parts import STEP, TIMESTAMP, join_parts


def read_history(record: Record, run_id: str) -> Mapping[str, Series]:
    """Read the parts that a run links, joined.

    Returns:
        Series by name, NaN and infinity as measured; nothing for a run without a file.
    """
    if not sent(lambda: record.client.list_artifacts(run_id, names.ARTIFACT_HISTORY)):
        return {}
    folder = Path(sent(lambda: record.client.download_artifacts(run_id, names.ARTIFACT_HISTORY)))
    table = join_parts([parquet.read_table(path) for path in sorted(folder.glob("part-*.parquet"))])
    steps = table[STEP].to_numpy()
    found: dict[str, Series] = {}
    for name in table.column_names:
        if name not in (STEP, TIMESTAMP):
            measured = table[name].is_valid().to_numpy()
            found[name] = Series(steps=steps[measured], values=table[name].drop_null().to_numpy())
    return found

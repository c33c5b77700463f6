"""Whole histories: the Parquet files that runs link once they have ended.

MLflow itself keeps a few hundred points a series, of measurements at evaluation points only, and no infinity
(`sweep.thinning`). That is what there is of a run that has not ended, and enough for a page on a screen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from sweep import names
from sweep.errors import LedgerError, StorageDamagedError
from sweep.record import CellOutcome, Record, Series
from sweep.storage.parts import STEP, TIMESTAMP, decode_part, join_parts

Wanted = Callable[[str], bool]
"""Whether a series is to be read, by its name."""

Histories = dict[tuple[str, str], Series]
"""(run, metric) to its series."""

PART = "part-*.parquet"
ONE_VALUE = ("final/", names.AXIS_METRIC_PREFIX, "status/", names.EIGENSPACE_UNCONVERGED)
"""Beginnings of the names of metrics that have one value a cell and no history."""


def is_series(metric: str) -> bool:
    """Whether a metric may have values at many steps."""
    return not metric.startswith(ONE_VALUE)


def any_series(_name: str) -> bool:
    """Want every series."""
    return True


def read_history(record: Record, run_id: str, wanted: Wanted = any_series) -> dict[str, Series]:
    """Read the parts that a run links, joined.

    Args:
        record: The sweep.
        run_id: The run.
        wanted: Which series to read.

    Returns:
        Series by name, NaN and infinity as measured; nothing for a run without a file.

    Raises:
        LedgerError: MLflow does not answer, or a file is damaged.
    """
    return _joined(run_id, _linked(record, run_id), wanted)


def read_histories(
    record: Record, outcomes: Iterable[CellOutcome], wanted: Wanted
) -> dict[str, dict[str, Series]]:
    """Read the parts that the runs of some cells link; see `read_history`.

    Returns:
        Cell to its series by name, for every cell that has a run.
    """
    run_of = {outcome.cell_id: run for outcome in outcomes if (run := outcome.run_id) is not None}
    found = record.each(lambda run_id: read_history(record, run_id, wanted), run_of.values())
    return dict(zip(run_of, found, strict=True))


def recorded_series(
    record: Record, outcomes: Iterable[CellOutcome], wanted: Wanted = any_series
) -> Iterator[tuple[CellOutcome, Mapping[str, Series]]]:
    """Read the series of cells: whole where their runs link a history, else what MLflow has of them.

    Yields:
        Each cell that has a run, with its series by name.

    Raises:
        LedgerError: MLflow does not answer, or a file is damaged.
    """
    begun = list({outcome.cell_id: outcome for outcome in outcomes if outcome.run_id is not None}.values())
    return zip(begun, record.each(lambda outcome: _recorded(record, outcome, wanted), begun), strict=True)


def _recorded(record: Record, outcome: CellOutcome, wanted: Wanted) -> Mapping[str, Series]:
    run_id = str(outcome.run_id)
    # Of one that goes on after its end the files are those of before.
    if outcome.ended and (files := _linked(record, run_id)):
        return _joined(run_id, files, wanted)
    keys = [key for key in outcome.metrics if is_series(key) and wanted(key)]
    return {key: record.points(run_id, key) for key in keys}


def _linked(record: Record, run_id: str) -> dict[str, bytes]:
    """Return the parts that a run links, by path, in the order of their steps."""
    files = record.artifacts.read_folder(run_id, names.ARTIFACT_HISTORY)
    return {path: files[path] for path in sorted(files) if PurePosixPath(path).match(PART)}


def _joined(run_id: str, files: Mapping[str, bytes], wanted: Wanted) -> dict[str, Series]:
    try:
        table = join_parts([decode_part(data, path, wanted) for path, data in files.items()])
    except StorageDamagedError as error:
        raise LedgerError(f"MLflow: a file of run {run_id} is damaged: {error}") from error
    steps = table[STEP].to_numpy()
    found: dict[str, Series] = {}
    for name in table.column_names:
        if name not in (STEP, TIMESTAMP):
            measured = table[name].is_valid().to_numpy()
            found[name] = Series(steps=steps[measured], values=table[name].drop_null().to_numpy())
    return found

"""The summary of a sweep as CSV: one row per grid point, in the order of the space, with raw values.

It names no run, time or machine, so that the same cells give the same bytes.
"""

import csv
import io

from search_spaces.reports import AxisValue
from sweep import names
from sweep.record import Record
from sweep.report.states import State, state_of

FINALS = {
    "final_train_loss": names.FINAL_TRAIN_LOSS,
    "final_test_accuracy": names.FINAL_TEST_ACCURACY,
    "final_steps": names.FINAL_STEPS,
}


def summary_csv(record: Record) -> str:
    """Return one row per grid point; `shown_as` is how figures show it."""
    columns = ["grid", *record.axes, "cell_id", "status", "status_reason", "shown_as", *FINALS]
    rows: list[list[str]] = []
    for point, cell_id in enumerate(record.cell_ids):
        outcome = record.outcome(point)
        rows.append(
            [
                record.grids[point],
                *(raw(record.axes[axis][point]) for axis in record.axes),
                cell_id,
                outcome.status.value if outcome.status else State.MISSING.value,
                outcome.reason,
                state_of(outcome).value,
                *(raw(outcome.metrics.get(metric)) for metric in FINALS.values()),
            ]
        )
    return csv_text(columns, rows)


def raw(value: AxisValue | None) -> str:
    """Write a value so that it can be read back exactly: floats as their shortest exact decimal."""
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(value)


def csv_text(columns: list[str], rows: list[list[str]]) -> str:
    """Return CSV with a header and Unix line ends."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()

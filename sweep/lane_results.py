"""What a lane has to tell of its cell: its history as a table, and its final metrics."""

import pyarrow as pa

from sweep.names import (
    EIGENSPACE_UNCONVERGED,
    FINAL_PEAK_LOSS,
    FINAL_STEPS,
    FINAL_SWITCH_STEP,
    FINAL_TEST_ACCURACY,
    FINAL_TRAIN_LOSS,
)
from trainers.history import TEST_ACCURACY, TRAIN_LOSS, History
from trainers.lane import Lane


def table_of(history: History) -> pa.Table:
    """Return a history as an Arrow table: step, timestamp_ms, then the series in alphabetical order."""
    columns: dict[str, pa.Array] = {
        "step": pa.array(history.steps, pa.int64()),
        "timestamp_ms": pa.array(history.timestamps_ms, pa.int64()),
    }
    for name, values in sorted(history.series.items()):
        columns[name] = pa.array(values, pa.float64(), from_pandas=False)
    return pa.table(columns)


def joined(earlier: pa.Table, later: pa.Table) -> pa.Table:
    """Return one history out of two that follow each other, its columns ordered as `table_of` orders them."""
    table = pa.concat_tables([earlier, later], promote_options="default").combine_chunks()
    names = [name for name in table.column_names if name not in ("step", "timestamp_ms")]
    return table.select(["step", "timestamp_ms", *sorted(names)])


def finals_of(lane: Lane, step: int) -> dict[str, float]:
    """Return the final metrics of a lane as they stand."""
    finals = {FINAL_STEPS: float(step)}
    last = lane.finals
    if TRAIN_LOSS in last:
        finals[FINAL_TRAIN_LOSS] = last[TRAIN_LOSS]
    if TEST_ACCURACY in last:
        finals[FINAL_TEST_ACCURACY] = last[TEST_ACCURACY]
    finals[FINAL_PEAK_LOSS] = lane.detector.peak
    if lane.refreshes:
        finals[EIGENSPACE_UNCONVERGED] = lane.unconverged / lane.refreshes
    last = lane.stages[-1]
    # A condition that is never met resolves to a step, too; without any the schedule says it all.
    conditional = bool(lane.switches) or any(stage.condition is not None for stage in lane.stages)
    if conditional and last.start <= step and last.start < last.stop:
        finals[FINAL_SWITCH_STEP] = float(last.start)
    return finals

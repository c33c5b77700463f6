"""Which points of a history become MLflow metrics: a few hundred a series, the same ones on every replay.

The steps of a run are divided into equal buckets; of each series the first value in a bucket is sent, and at
the end of the run its very last value. So the choice depends on the history alone, not on how it was cut into
parts, and what was sent before a kill is what would be sent again.
"""

import math
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as compute
from mlflow.entities import Metric

from sweep.storage.parts import STEP, TIMESTAMP

POINTS_PER_SERIES = 400
UNSENT_SERIES = ("train/batch_loss",)
"""Measured at every step; kept in the history files only."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value of one series."""

    step: int
    timestamp_ms: int
    value: float


@dataclass(slots=True)
class Thinning:
    """What has been chosen of one run's history so far.

    Args:
        num_steps: The run's planned end.
        points: About how many points of a series are sent.
    """

    num_steps: int
    points: int = POINTS_PER_SERIES
    _bucket: dict[str, int] = field(default_factory=dict[str, int])
    _held_back: dict[str, Point] = field(default_factory=dict[str, Point])

    def choose(self, table: pa.Table, *, ended: bool = False) -> list[Metric]:
        """Return the points to send of the next rows of the history, and with `ended` the last ones too."""
        rows = table.filter(compute.field(TIMESTAMP).is_valid())
        steps, timestamps = rows[STEP].to_pylist(), rows[TIMESTAMP].to_pylist()
        chosen: list[Metric] = []
        for name in rows.column_names:
            if name in (STEP, TIMESTAMP, *UNSENT_SERIES):
                continue
            for step, timestamp, value in zip(steps, timestamps, rows[name].to_pylist(), strict=True):
                if value is not None:
                    chosen.extend(self._take(name, Point(step, timestamp, value)))
        if ended:
            chosen.extend(_metric(name, point) for name, point in self._held_back.items())
            self._held_back.clear()
        return chosen

    def _take(self, name: str, point: Point) -> list[Metric]:
        bucket = point.step * self.points // max(1, self.num_steps)
        if self._bucket.get(name) == bucket:
            self._held_back[name] = point
            return []
        self._bucket[name] = bucket
        self._held_back.pop(name, None)
        return [_metric(name, point)]


def _metric(name: str, point: Point) -> Metric:
    # MLflow's databases have no infinity and would store the largest float, which no chart survives; the
    # history file has the exact value.
    value = point.value if math.isfinite(point.value) else math.nan
    return Metric(name, value, point.timestamp_ms, point.step)

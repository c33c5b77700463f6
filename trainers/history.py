"""The record of one lane: what was measured at which step, buffered until it is written away.

The names of the series are those of the metrics that users see.
"""

import time
from dataclasses import dataclass, field

BATCH_LOSS = "train/batch_loss"
TRAIN_LOSS = "train/loss"
TEST_ACCURACY = "test/accuracy"
GRAD_NORM = "train/grad_norm"
LEADING_EIGENVALUE = "curvature/lambda_{}"
CHI = "curvature/chi"
CURVATURE_RESIDUAL = "curvature/residual"
CURVATURE_PRODUCTS = "curvature/products"
CURVATURE_CONVERGED = "curvature/converged"
PROBES_CONVERGED = "probes/converged"
"""Whether all eigenspaces that probes other than `curvature` looked at had converged: 1 or 0."""
EIGENSPACE_RESIDUAL = "eigenspace/residual"
EIGENSPACE_PRODUCTS = "eigenspace/products"
EIGENSPACE_CONVERGED = "eigenspace/converged"
SWITCH_CHI = "switch/chi"
SWITCH_EMA = "switch/ema"
SWITCH_CONVERGED = "switch/converged"
SWITCH_STAGE = "switch/stage"
"""Recorded at the step at which a condition ends a stage: the number of the stage that begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Rows of a record as columns of equal length.

    Args:
        steps: Step of each row, ascending.
        timestamps_ms: When an evaluation row was measured (Unix time), `None` on other rows.
        series: Values by name; `None` where a series was not measured at a step.
    """

    steps: list[int]
    timestamps_ms: list[int | None]
    series: dict[str, list[float | None]]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(slots=True)
class HistoryBuffer:
    """Collects values by step; a step may be written several times, each time with further series."""

    _rows: dict[int, dict[str, float]] = field(default_factory=dict[int, dict[str, float]])
    _timestamps: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, step: int, values: dict[str, float], *, evaluation: bool = False) -> None:
        """Add values to the row of `step`; an evaluation row gets a time stamp."""
        self._rows.setdefault(step, {}).update(values)
        if evaluation and step not in self._timestamps:
            self._timestamps[step] = time.time_ns() // 1_000_000

    def extend(self, start: int, name: str, values: list[float]) -> None:
        """Add values of one series to the rows of consecutive steps."""
        rows = self._rows
        for step, value in enumerate(values, start):
            row = rows.get(step)
            if row is None:
                rows[step] = {name: value}
            else:
                row[name] = value

    def drain(self) -> History:
        """Return all rows and forget them."""
        steps = sorted(self._rows)
        names = sorted({name for row in self._rows.values() for name in row})
        history = History(
            steps=steps,
            timestamps_ms=[self._timestamps.get(step) for step in steps],
            series={name: [self._rows[step].get(name) for step in steps] for name in names},
        )
        self._rows.clear()
        self._timestamps.clear()
        return history

"""How a sweep stands, as metrics of its own run: what MLflow's charts of it and `sweep list` show."""

from collections import Counter
from collections.abc import Collection

from sweep import names
from sweep.grid_table import CellFate
from sweep.ledger import Ledger, Sweep
from sweep.names import Status

SHOWN = tuple(status for status in Status if status.ended or status is Status.FAILED)
"""Each is recorded also when no cell has it: what was recorded before would stay."""


class ProgressRecord:
    """Records how the cells of a sweep stand, whenever that has changed.

    Of a metric MLflow takes the point of the highest step for the latest, and of those the youngest. The step
    is the number of cells that have ended; where it falls (other numerics make all cells again, stopped cells
    go on) the highest one so far stays.

    Args:
        ledger: Where that is recorded.
        sweep: The sweep.
    """

    def __init__(self, ledger: Ledger, sweep: Sweep) -> None:
        self._ledger = ledger
        self._sweep = sweep
        self._step: int | None = None
        self._recorded: Counter[Status] | None = None

    def has_news(self, fates: Collection[CellFate]) -> bool:
        """Whether cells have ended or failed, or go on, since the last record."""
        return self._recorded != _counted(fates)

    def record(self, fates: Collection[CellFate]) -> None:
        """Record how the cells stand.

        Raises:
            LedgerError: MLflow does not answer, or refuses.
        """
        if self._step is None:
            self._step = self._ledger.last_progress_step(self._sweep)
        counted = _counted(fates)
        step = max(self._step, sum(counted[status] for status in SHOWN if status.ended))
        self._ledger.log_progress(self._sweep, progress_metrics(fates), step=step)
        self._step, self._recorded = step, counted


def _counted(fates: Collection[CellFate]) -> Counter[Status]:
    return Counter(fate.status for fate in fates if fate.status in SHOWN)


def progress_metrics(fates: Collection[CellFate]) -> dict[str, float]:
    """Return how a sweep stands as metrics: cells by the status that they ended with, and the best finals."""
    counted = _counted(fates)
    values = {f"{names.CELLS_METRIC_PREFIX}{status}": float(counted[status]) for status in SHOWN}
    completed = [fate.metrics for fate in fates if fate.status is Status.COMPLETED]
    losses = [m[names.FINAL_TRAIN_LOSS] for m in completed if names.FINAL_TRAIN_LOSS in m]
    accuracies = [m[names.FINAL_TEST_ACCURACY] for m in completed if names.FINAL_TEST_ACCURACY in m]
    if losses:
        values[names.BEST_TRAIN_LOSS] = min(losses)
    if accuracies:
        values[names.BEST_TEST_ACCURACY] = max(accuracies)
    return values

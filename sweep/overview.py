"""All sweeps of an MLflow at a glance, from their own runs alone: one query, whatever their size."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from sweep import names
from sweep.lease import current_holder
from sweep.ledger import Ledger, ParentRun
from sweep.names import Status
from sweep.places import sqlite_path
from sweep.record import restored
from sweep.report.labels import metric_label, number

_STATES = {"FINISHED": "finished", "FAILED": "some failed", "KILLED": "interrupted"}
SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """A sweep in a line.

    Args:
        name: Its name.
        space: The name of its space.
        begun: When, in seconds since 1970.
        state: "running", "finished", "some failed" or "interrupted".
        counts: Cells that have ended, by status, as last recorded.
        best: The best final loss and accuracy of a single cell, by metric.
    """

    name: str
    space: str
    begun: float
    state: str
    counts: Mapping[str, int]
    best: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Return it as plain data, the time of its beginning in ISO 8601 with its offset from UTC."""
        begun = datetime.fromtimestamp(self.begun).astimezone().isoformat(timespec="seconds")
        return {**asdict(self), "begun": begun}

    @property
    def columns(self) -> tuple[str, ...]:
        """Return it as the columns of a table: name, space, begun, state, cells, best loss, best accuracy."""
        cells = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        best = (
            number(self.best[metric], metric_label(metric)) if metric in self.best else ""
            for metric in (names.FINAL_TRAIN_LOSS, names.FINAL_TEST_ACCURACY)
        )
        begun = datetime.fromtimestamp(self.begun).strftime("%Y-%m-%d %H:%M")
        return (self.name, self.space, begun, self.state, cells, *best)


def all_sweeps(tracking_uri: str) -> list[Glance]:
    """Return every sweep, the newest first; none where there is no database yet."""
    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        return []
    runs = Ledger.open(tracking_uri, create=False).parent_runs()
    return sorted((glance_of(run) for run in runs), key=lambda one: one.begun, reverse=True)


def glance_of(run: ParentRun) -> Glance:
    """Read the own run of a sweep."""
    metrics, tags = run.data.metrics, run.data.tags
    # Where nobody holds the lease, a run that was never ended was killed.
    ended = _STATES.get(run.info.status, "interrupted")
    counts = {
        status.value: int(count)
        for status in Status
        if (count := metrics.get(f"{names.CELLS_METRIC_PREFIX}{status}", 0))
    }
    best = {
        names.FINAL_TRAIN_LOSS: names.BEST_TRAIN_LOSS,
        names.FINAL_TEST_ACCURACY: names.BEST_TEST_ACCURACY,
    }
    return Glance(
        name=tags[names.TAG_NAME],
        space=tags.get(names.TAG_SPACE, ""),
        begun=run.info.start_time * SECONDS,
        state=ended if current_holder(run) is None else "running",
        counts=counts,
        best={metric: restored(metrics[found]) for metric, found in best.items() if found in metrics},
    )

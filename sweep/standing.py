"""How a sweep stands now, as plain values: counts, speed, time left, the best, what went wrong, and where.

Read from MLflow alone, so anyone may look while somebody else's driver runs. Speed is that of the cells that
the present driver has ended last; what runs counts once it has ended, and what other sweeps ran never.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from search_spaces.reports import AxisValue
from sweep import names
from sweep.best import FINALS, best_by
from sweep.costs import Cost
from sweep.names import Status
from sweep.record import CellOutcome, Record
from sweep.report.labels import axis_label, plain
from sweep.report.points import GRID_AXIS
from sweep.search.account import Account, describe

RECENT_CELLS = 50
"""Speed is taken over so many of the cells that ended last."""

MILLISECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best configuration by one metric: mean and spread over its seeds, where it lies, and its cells."""

    metric: str
    value: float
    std: float
    place: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """What one device did for a sweep.

    Args:
        device: In words.
        cells: Cells of the sweep's own that ended there.
        seconds: Device time of their training, over all trials.
        timed_cells: Those of them that its last driver began: between two drivers there are pauses.
        span_seconds: From the start of the first of those to the end of the last; NaN without one.
        share: Their device time as a share of that, 1 at most: several trials may run at once.
    """

    device: str
    cells: int
    seconds: float
    timed_cells: int
    span_seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How a search stands.

    Args:
        sampler: Its name.
        asked: Configurations asked for.
        told: Those of them whose result the sampler knows.
        known: Configurations that were there before.
        budget: How much is spent of how much, in words.
        best: The best configuration, or the Pareto front, a line each.
    """

    sampler: str
    asked: int
    told: int
    known: int
    budget: str
    best: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a sweep stands.

    Args:
        name: The sweep.
        cells: Distinct cells.
        points: Grid points.
        counts: Cells by status.
        cells_per_minute: At present; NaN before two have ended or when nobody runs any.
        eta_seconds: Until all have ended at that speed, and those that a search will still ask for; NaN where
            there is no speed, or where only steps or seconds limit the search.
        best: By each final, of the configurations that completed with all their seeds.
        reasons: Why cells diverged or failed: (status, reason) to how many.
        devices: By name.
        losses: The lowest training loss of a cell so far, after each that ended, in the order of their ends.
        search: `None` for a grid.
        nodes: Node to how busy it was when last heard of; empty while no cell runs.
        nodes_seconds: How long ago the driver last told of one; NaN where it does not.
    """

    name: str
    cells: int
    points: int
    counts: Mapping[str, int]
    cells_per_minute: float
    eta_seconds: float
    best: tuple[Best, ...]
    reasons: Mapping[tuple[str, str], int]
    devices: tuple[DeviceUse, ...]
    losses: tuple[float, ...]
    search: Search | None = None
    nodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    nodes_seconds: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is not known is null."""
        return {
            "name": self.name,
            "cells": self.cells,
            "points": self.points,
            # Scripts wait for `pending` to be 0, so it is there when it is.
            "counts": {Status.PENDING.value: 0, **self.counts},
            "cells_per_minute": _known(self.cells_per_minute),
            "eta_seconds": _known(self.eta_seconds),
            "best": {
                b.metric: {"value": b.value, "std": _known(b.std), "at": b.place, "cells": list(b.cells)}
                for b in self.best
            },
            "reasons": [
                {"status": status, "reason": reason, "cells": count}
                for (status, reason), count in self.reasons.items()
            ],
            "devices": [
                {
                    "device": d.device,
                    "cells": d.cells,
                    "train_seconds": d.seconds,
                    "timed_cells": d.timed_cells,
                    "span_seconds": _known(d.span_seconds),
                    "share": _known(d.share),
                }
                for d in self.devices
            ],
            "nodes": {node: dict(use) for node, use in self.nodes.items()},
            "nodes_seconds": _known(self.nodes_seconds),
            "search": None if self.search is None else asdict(self.search),
        }


def standing_of(record: Record, *, now: float | None = None) -> Standing:
    """Arrange a record.

    Args:
        record: The sweep.
        now: Seconds since 1970; default: the clock.
    """
    now = time.time() if now is None else now
    outcomes = list(record.outcomes.values())
    ended = sorted((o for o in outcomes if o.ended and o.ended_ms), key=lambda o: (o.ended_ms, o.cell_id))
    own = [outcome for outcome in outcomes if outcome.sweep == record.name]
    running = any(outcome.status is Status.RUNNING for outcome in own)
    lately = [o for o in ended if o.sweep == record.name and o.ended_ms >= record.driver_since_ms]
    left = _still_asked_for(record.search) + sum(
        not outcome.ended and outcome.status is not Status.FAILED for outcome in outcomes
    )
    told = now - record.nodes_ms * MILLISECONDS if running and record.nodes else math.nan
    speed = _speed(lately, now) if running else math.nan
    return Standing(
        name=record.name,
        cells=len(outcomes),
        points=len(record.cell_ids),
        counts=record.counts(),
        cells_per_minute=60 * speed,
        eta_seconds=left / speed if speed > 0 else math.nan,
        best=tuple(best for metric in FINALS if (best := _best(record, metric)) is not None),
        reasons=_reasons(outcomes),
        devices=_devices(own, record.driver_since_ms),
        losses=_lowest_so_far(ended),
        nodes=record.nodes if running else {},
        nodes_seconds=told,
        search=None if record.search is None else _search(record.search),
    )


def _search(account: Account) -> Search:
    asked = account.asked
    return Search(
        sampler=account.search.sampler,
        asked=len(asked),
        told=sum(trial.result is not None for trial in asked),
        known=len(account.trials) - len(asked),
        budget=account.budget(),
        best=tuple(describe(account.search, trial) for trial in account.front()),
    )


def _still_asked_for(account: Account | None) -> float:
    """Return how many cells a search may still ask for, a grid none; NaN where its budget does not say."""
    if account is None:
        return 0
    wanted = account.search.cells_asked
    return math.nan if wanted is None else max(0, wanted - account.cells)


def _place_text(record: Record, place: Mapping[str, AxisValue]) -> str:
    """Say where a configuration lies: "grid long, α_Dom = 2"; axes that have a single value are left out."""
    return ", ".join(
        f"{GRID_AXIS} {value}" if axis == GRID_AXIS else f"{axis_label(axis).plain} = {plain(value)}"
        for axis, value in place.items()
        if axis == GRID_AXIS or len(set(record.axes[axis])) > 1
    )


def _speed(ended: Sequence[CellOutcome], now: float) -> float:
    """Return cells a second, up to now: a driver that stands still gets slower, not the same."""
    recent = ended[-RECENT_CELLS:]
    if len(recent) < 2:
        return math.nan
    span = now - recent[0].ended_ms * MILLISECONDS
    return (len(recent) - 1) / span if span > 0 else math.nan


def _best(record: Record, metric: str) -> Best | None:
    found = best_by(record, metric)
    if found is None:
        return None
    known = found.values[metric]
    place = _place_text(record, found.place)
    return Best(metric=metric, value=known.mean, std=known.std, place=place, cells=found.cells)


def _reasons(outcomes: Sequence[CellOutcome]) -> dict[tuple[str, str], int]:
    wrong = (Status.DIVERGED, Status.FAILED, Status.STOPPED)
    counted = Counter((str(o.status), o.reason) for o in outcomes if o.status in wrong)
    return dict(counted.most_common())


def _devices(outcomes: Sequence[CellOutcome], since_ms: int) -> tuple[DeviceUse, ...]:
    costs = [(outcome, cost) for outcome in outcomes if (cost := Cost.read(outcome.cost)) is not None]
    return tuple(
        _use(device, [(outcome, cost) for outcome, cost in costs if cost.device == device], since_ms)
        for device in sorted({cost.device for _, cost in costs})
    )


def _use(device: str, costs: Sequence[tuple[CellOutcome, Cost]], since_ms: int) -> DeviceUse:
    timed = [(outcome, cost) for outcome, cost in costs if outcome.started_ms >= since_ms]
    span = math.nan
    if timed:
        begun = min(outcome.started_ms for outcome, _ in timed)
        span = (max(outcome.ended_ms for outcome, _ in timed) - begun) * MILLISECONDS
    busy = math.fsum(cost.seconds for _, cost in timed)
    return DeviceUse(
        device=device,
        cells=len(costs),
        seconds=math.fsum(cost.seconds for _, cost in costs),
        timed_cells=len(timed),
        span_seconds=span,
        share=min(busy / span, 1.0) if span > 0 else math.nan,
    )


def _lowest_so_far(ended: Sequence[CellOutcome]) -> tuple[float, ...]:
    lowest, found = math.inf, list[float]()
    for outcome in ended:
        value = outcome.metrics.get(names.FINAL_TRAIN_LOSS, math.nan)
        if not outcome.diverged and math.isfinite(value):
            lowest = min(lowest, value)
        found.append(lowest)
    return tuple(found)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""What training a cell took: seconds of a device, and how many steps of which kinds of work they went into.

Two steps are of one kind when they cost the same up to noise: the same model, data, batch and measurements,
the same optimiser, projected onto a subspace of the same size or not. Rates do not matter. The recorder keeps
the cost of each cell in a tag of its run, so later plans can be estimated without reading any artifact.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.storage import Manifest
from trainers.canonical import Stage, stages
from trainers.cell import Cell

KIND_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one cell took.

    Args:
        seconds: Device time of its training, by all attempts. Cells that are trained together share the
            time equally for as long as they train, so that those of a pack add up to what the device was
            at it: a rate of theirs is that of a cell among so many.
        work: Steps by kind.
        device: Where, in words.
    """

    seconds: float
    work: Mapping[str, int]
    device: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether the device was a GPU."""
        return bool(self.device) and not self.device.startswith("cpu")

    def to_text(self) -> str:
        """Return the value of the tag."""
        value = {"device": self.device, "seconds": round(self.seconds, 3), "work": dict(self.work)}
        return json.dumps(value, sort_keys=True)

    @classmethod
    def read(cls, text: str) -> "Cost | None":
        """Read a tag; `None` where it is missing or something else."""
        try:
            value = json.loads(text)
            work = {str(kind): int(steps) for kind, steps in value["work"].items()}
            return cls(seconds=float(value["seconds"]), work=work, device=str(value["device"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def kind_of(cell: Cell, stage: Stage) -> str:
    """Return the kind of the steps of a stage, as a short digest."""
    projection = (cell.holdout_size, cell.refresh_every, stage.k, cell.solver) if stage.projects else None
    measured = (cell.evaluate_every, cell.divergence_every, tuple(map(str, cell.probes)))
    until = stage.condition
    condition = until and (until.every, until.k, until.holdout_size, until.tolerance)
    parts = (cell.model, cell.dataset, cell.loss, cell.batch_size, stage.optimizer, projection, measured)
    text = "\n".join(map(str, (*parts, condition)))
    return hashlib.sha256(text.encode()).hexdigest()[:KIND_DIGITS]


def work_of(cell: Cell, start: int = 0, stop: int | None = None) -> dict[str, int]:
    """Return the steps of each kind that a cell does from `start` up to `stop` (default: its end)."""
    work: Counter[str] = Counter()
    for stage in stages(cell):
        steps = min(stage.stop, cell.num_steps if stop is None else stop) - max(stage.start, start)
        if steps > 0:
            work[kind_of(cell, stage)] += steps
    return dict(work)


def cost_of(cell: Cell, manifest: Manifest, attempts: Sequence[Mapping[str, Any]]) -> Cost:
    """Return what a cell took, from its last commit and the environments of its attempts."""
    start = int(manifest.summary.get("forked_from", {}).get("step", 0))
    seconds = math.fsum(map(_device_seconds, attempts))
    last = attempts[-1] if attempts else {}
    device = last.get("device_name") or last.get("device", "")
    return Cost(
        seconds=seconds,
        work=work_of(cell, start, manifest.step),
        device=f"{device} on {last['hostname']}" if "hostname" in last else str(device),
    )


def _device_seconds(attempt: Mapping[str, Any]) -> float:
    """Return the cell's own device time; of before it was kept, an equal share, as if all ended together."""
    if "device_seconds" in attempt:
        return float(attempt["device_seconds"])
    return float(attempt.get("train_seconds", 0.0)) / int(attempt.get("lanes", 1))


def rates_of(costs: Iterable[Cost]) -> dict[str, float]:
    """Return seconds a step by kind, from what cells took.

    The rate of a kind is the median over the cells that did nothing else; then, kind by kind, over those
    whose other kinds are known. Kinds that were never seen apart share one rate. A cell counts by its steps:
    one that diverged at once took its first solve and little else.
    """
    left = [cost for cost in costs if sum(cost.work.values()) > 0]
    rates: dict[str, float] = {}
    while left:
        open_kinds = [{kind for kind in cost.work if kind not in rates} for cost in left]
        fewest = min((len(kinds) for kinds in open_kinds if kinds), default=0)
        if not fewest:
            break
        found: dict[str, list[tuple[float, int]]] = {}
        for cost, kinds in zip(left, open_kinds, strict=True):
            if len(kinds) == fewest:
                known = sum(rates[kind] * steps for kind, steps in cost.work.items() if kind in rates)
                steps = sum(cost.work[kind] for kind in kinds)
                rate = max(0.0, cost.seconds - known) / steps
                for kind in kinds:
                    found.setdefault(kind, []).append((rate, steps))
        rates |= {kind: _median(weighted) for kind, weighted in found.items()}
    return rates


def rates_on(costs: Sequence[Cost], *, on_gpu: bool) -> dict[str, float]:
    """Return seconds a step by kind on one kind of device; of kinds that never ran there, on the other."""
    alike, others = ([cost for cost in costs if cost.on_gpu == there] for there in (on_gpu, not on_gpu))
    return rates_of(others) | rates_of(alike)


def _median(weighted: Iterable[tuple[float, int]]) -> float:
    """Return the value on either side of which lies half of the weight; between two of them their mean."""
    ordered = sorted(weighted)
    half = sum(weight for _, weight in ordered) / 2
    passed = 0
    for index, (value, weight) in enumerate(ordered):
        passed += weight
        if passed > half:
            return value
        if passed == half:
            return (value + ordered[index + 1][0]) / 2
    raise AssertionError("there is a value, and weights are positive")

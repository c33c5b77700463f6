"""What the divergence rule would have said at half and at double its threshold.

The rule ends a run once its training loss exceeds a multiple of the initial one. A run that stayed below half
the multiple ends the same under either; of one that was ended we know only how far it had come by then.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweep import names
from sweep.verdicts.runs import Run
from trainers.history import TRAIN_LOSS

EXCEEDED = "exceeds"
"""Occurs in the reason of a run that the multiple has ended; others diverged whatever the multiple is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Diverged cells by the threshold.

    Args:
        factors: The multiples of the initial loss that were in force, each for some of the cells.
        cells: Distinct cells that ended.
        diverged: Cells that diverged at theirs.
        at_half: Cells that would have at half of it.
        at_double: Cells that would have at double for certain.
        open_at_double: Cells that were ended between the two, so that double would have let them go on.
        changed: Cell to its peak, in initial losses, where half or double gives (or may give) another.
    """

    factors: tuple[float, ...]
    cells: int
    diverged: int
    at_half: int
    at_double: int
    open_at_double: int
    changed: Mapping[str, float]


def sensitivity(runs: Sequence[Run], factor: float) -> Sensitivity:
    """Judge every distinct cell that ended at half and at double the threshold.

    Args:
        runs: The sweep's runs.
        factor: Multiple of the initial loss above which a run has diverged whose cell is not known.
    """
    ended = {run.cell_id: run for run in runs if run.ended}
    factors = {
        cell: factor if run.cell is None else run.cell.divergence_factor for cell, run in ended.items()
    }
    peaks = {cell: _peak(run) for cell, run in ended.items()}
    by_factor = {
        cell for cell, run in ended.items() if run.outcome.diverged and EXCEEDED in run.outcome.reason
    }
    diverged = {cell for cell, run in ended.items() if run.outcome.diverged}
    half = diverged | {cell for cell, peak in peaks.items() if peak > factors[cell] / 2}
    undecided = {cell for cell in by_factor if peaks[cell] <= 2 * factors[cell]}
    return Sensitivity(
        factors=tuple(sorted(set(factors.values()))) or (factor,),
        cells=len(ended),
        diverged=len(diverged),
        at_half=len(half),
        at_double=len(diverged - undecided),
        open_at_double=len(undecided),
        changed={cell: peaks[cell] for cell in sorted((half - diverged) | undecided)},
    )


def _peak(run: Run) -> float:
    """Return the largest training loss in multiples of the first one, as the rule counts them.

    Infinite where it was not finite. Of a first loss of 0 there are none; of one below it, so many times its
    magnitude further up. The rule sees losses at steps that are not evaluation points, too, and
    those are not in the history.
    """
    judged = run.outcome.metrics.get(names.FINAL_PEAK_LOSS, 0.0)
    found = run.history().get(TRAIN_LOSS)
    if found is None or not found.values.size:
        return judged
    first = float(found.values[0])
    peak = float(np.max(np.where(np.isfinite(found.values), found.values, np.inf)))
    if math.isinf(peak) or first == 0:
        return peak if math.isinf(peak) else judged
    return max(judged, peak / first if first > 0 else 1 + (peak - first) / -first)

"""What a plan still has to do and how long that takes: from the plan, past runs, and a probe."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from sweep.costs import Cost, rates_on
from sweep.estimate import TRIAL_THREADS, Estimate, estimate, probe_rates
from sweep.forks import Sharing, plan_sharing, steps_to_train
from sweep.invocation import hint
from sweep.names import Status
from sweep.packs import make_packs
from sweep.places import Places, sqlite_path
from sweep.plan import Plan
from sweep.progress import count_of, duration
from trainers.cell import Cell

if TYPE_CHECKING:
    from sweep.ledger import CellRun, Ledger

PAST_CELLS = 1000
"""Of so many cells that ended last the cost is read."""

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is left of a plan.

    Args:
        done: Cells that have ended, in this sweep or another.
        forks: Cells that start from another one's state.
        steps_saved: Steps that are spared by that.
        left: The time of the cells that are left.
        basis: What the times rest on.
    """

    done: int
    forks: int
    steps_saved: int
    left: Estimate
    basis: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        known = self.left.known
        return {
            "done": self.done,
            "forks": self.forks,
            "steps_saved": self.steps_saved,
            "estimate": {
                "basis": self.basis,
                "cells": len(self.left.seconds),
                "cells_unknown": self.left.num_unknown,
                "cell_seconds": [known[0], median(known), known[-1]] if known else None,
                "device_hours": self.left.device_seconds / SECONDS_PER_HOUR if known else None,
                "wall_seconds": self.left.wall_seconds if known else None,
                "slots": self.left.slots,
            },
        }

    def lines(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as labels and texts."""
        left, known = len(self.left.seconds), self.left.known
        found = [
            (
                "shared prefixes",
                f"{self.forks:,} {'cell starts' if self.forks == 1 else 'cells start'} from another's state, "
                f"{count_of(self.steps_saved, 'step')} saved",
            ),
            ("done before", f"{count_of(self.done, 'cell')}; {left:,} to do"),
        ]
        if not left:
            return found
        if not known:
            return [
                *found,
                ("time", "unknown: no past run of this kind; --probe 10 measures for ten seconds"),
            ]
        spread = duration(known[0])
        if duration(known[-1]) != spread:
            spread = f"{spread} to {duration(known[-1])}, median {duration(median(known))}"
        wall = duration(self.left.wall_seconds)
        hours = self.left.device_seconds / SECONDS_PER_HOUR
        found += [
            ("a cell takes", spread),
            (
                "in all",
                f"{hours:.3g} device-hours, {wall} with {count_of(self.left.slots, 'trial')} at a time",
            ),
            ("estimated from", self.basis),
        ]
        if self.left.num_unknown:
            found.append(("left out", f"{count_of(self.left.num_unknown, 'cell')} of kinds that never ran"))
        return found


def forecast(
    plan: Plan,
    places: Places,
    *,
    lanes: int,
    slots: int,
    on_gpu: bool = False,
    probe_seconds: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Forecast:
    """Look what has been done, and estimate the rest.

    Args:
        plan: The plan.
        places: Where the ledger and the data are; no ledger means that nothing was done.
        lanes: Cells that a trial trains together.
        slots: Trials at a time.
        on_gpu: Whether they have GPUs: what cells took on such a device counts first.
        probe_seconds: How long to measure; `None` relies on past runs alone.
        say: Receives what the probe finds.
    """
    done, past = _past(plan, places)
    cells = {cell_id: cell for cell_id, cell in plan.cells.items() if cell_id not in done}
    rates, basis = rates_on(past, on_gpu=on_gpu), _basis(past)
    if probe_seconds is not None:
        # A probe says how it is on this machine, now: it counts more than the past.
        rates = probe_rates(cells, seconds=probe_seconds, data_folder=places.data_folder, say=say)
        threads = count_of(TRIAL_THREADS, "thread")
        basis = f"a probe of about {duration(probe_seconds)} on this machine's CPU, with {threads}"
    if done:
        left, sharing = estimate_cells(cells, rates, lanes=lanes, slots=slots)
    else:
        sharing = plan.sharing
        left = estimate(cells, plan.trials(lanes), sharing, rates, slots=slots)
    forks = sum(shared.start is not None for shared in sharing.values())
    saved = sum(cell.num_steps for cell in cells.values()) - steps_to_train(cells, sharing)
    return Forecast(done=len(done), forks=forks, steps_saved=saved, left=left, basis=basis)


def estimate_cells(
    cells: Mapping[str, Cell], rates: Mapping[str, float], *, lanes: int, slots: int
) -> tuple[Estimate, dict[str, Sharing]]:
    """Estimate cells that are trained in one go, and say what they share."""
    sharing = plan_sharing(cells)
    packs = make_packs(cells, sharing, lanes=lanes)
    return estimate(cells, packs, sharing, rates, slots=slots), sharing


def _past(plan: Plan, places: Places) -> tuple[set[str], list[Cost]]:
    """Return the plan's cells that have ended, and what past cells took."""
    path = sqlite_path(places.tracking_uri)
    if path is not None and not path.exists():
        return set(), []
    # MLflow takes seconds to import, and a plan for which there is no record needs none.
    from sweep.ledger import Ledger

    ledger = Ledger.open(places.tracking_uri, create=False)
    runs = ledger.lookup(list(plan.cells))
    return {cell for cell, run in runs.items() if run.status.ended}, _past_costs(ledger)


def _past_costs(ledger: "Ledger") -> list[Cost]:
    return [cost for text in ledger.past_costs(PAST_CELLS) if (cost := Cost.read(text)) is not None]


def _basis(past: Sequence[Cost]) -> str:
    """Say of how many cells costs are, and on which devices, the most frequent first."""
    if not past:
        return ""
    devices = Counter(cost.device.partition(" on ")[0] for cost in past if cost.device)
    on = ", ".join(f"{number:,} on {device}" for device, number in devices.most_common())
    return f"what {len(past):,} past cells took" + (f" ({on})" if on else "")


def expected_seconds(
    ledger: "Ledger", cells: Mapping[str, Cell], *, on_gpu: bool = False
) -> dict[str, float]:
    """Return the device time to expect of cells that are trained in one go; NaN where no past run tells."""
    left, _ = estimate_cells(cells, rates_on(_past_costs(ledger), on_gpu=on_gpu), lanes=1, slots=1)
    return dict(left.seconds)


def accuracy_text(
    expected: Mapping[str, float], runs: Mapping[str, "CellRun"], *, stopped: bool = False
) -> str:
    """Say what the cells that ended in a command took, and how good the estimate was; empty when none did.

    The estimate is of whole cells, so those that went to their end are compared with it, and none of a
    command that was stopped.

    Args:
        expected: Device time by cell that had not ended before; NaN is unknown.
        runs: The runs of cells after training.
        stopped: Whether the command was stopped.
    """
    took = {
        cell_id: cost.seconds
        for cell_id in expected
        if (run := runs.get(cell_id)) is not None
        and run.status.ended
        and (cost := Cost.read(run.cost)) is not None
    }
    if not took:
        return ""
    told = f"training took {duration(math.fsum(took.values()))} of device time"
    whole = [cell_id for cell_id in took if runs[cell_id].status is Status.COMPLETED]
    if stopped or not whole:
        return told
    known = [cell_id for cell_id in whole if not math.isnan(expected[cell_id])]
    if not known:
        measures = hint("plan", "SPACE", "--probe", "10")
        return f"{told}; there was no earlier run to estimate it from (`{measures}` measures)"
    before, after = (math.fsum(times[cell] for cell in known) for times in (expected, took))
    off = after / before - 1 if before > 0 else math.inf
    much = f"{abs(off):.0%} {'more' if off > 0 else 'less'}"
    if len(known) == len(took):
        return f"{told}; estimated: {duration(before)}, so it took {much}"
    compared = f"{len(known)} of the {count_of(len(took), 'cell')} can be compared with an estimate"
    return f"{told}; {compared}: {duration(after)} instead of {duration(before)}, {much}"

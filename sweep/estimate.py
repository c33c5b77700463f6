"""How long a plan will take: per cell, in device time, and on the clock of so many workers.

Rates come from what past runs took (`sweep.costs`) or from a short measured probe; training alone is counted,
and every cell up to its planned end, so what diverges early makes a sweep shorter than said here.
"""

import heapq
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.costs import kind_of, work_of
from sweep.forks import Fork, Sharing
from trainers.canonical import Stage, dataset_entry, stages
from trainers.cell import Cell, Phase

if TYPE_CHECKING:
    from trainers.training import Trainer

MOST_PROBED_STEPS = 1_000_000

TRIAL_THREADS = 1
"""Threads of a trial that is given no more CPUs: what is planned is as many trials at a time as CPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long cells will take.

    Args:
        seconds: Device time of each cell, without what it takes over from others; NaN where nothing is known.
        wall_seconds: Until the last of them ends.
        slots: On how many workers.
    """

    seconds: Mapping[str, float]
    wall_seconds: float
    slots: int

    @property
    def known(self) -> list[float]:
        """The times of the cells of which something is known, in ascending order."""
        return sorted(value for value in self.seconds.values() if not math.isnan(value))

    @property
    def device_seconds(self) -> float:
        """Device time of all known cells together."""
        return math.fsum(self.known)

    @property
    def num_unknown(self) -> int:
        """How many cells nothing is known of."""
        return len(self.seconds) - len(self.known)


def cell_seconds(cell: Cell, rates: Mapping[str, float], *, start: int = 0) -> float:
    """Return the device time of a cell from step `start` on; NaN when the rate of a kind is not known."""
    return math.fsum(rates.get(kind, math.nan) * steps for kind, steps in work_of(cell, start).items())


def estimate(
    cells: Mapping[str, Cell],
    packs: Sequence[Sequence[str]],
    sharing: Mapping[str, Sharing],
    rates: Mapping[str, float],
    *,
    slots: int,
) -> Estimate:
    """Estimate what training cells takes.

    Args:
        cells: What is to be trained, by id.
        packs: Which are trained together, in the order in which they start.
        sharing: What they take from each other.
        rates: Seconds a step by kind.
        slots: How many packs are trained at once.
    """
    begins = {
        cell_id: (start.step if (start := sharing[cell_id].start) is not None else 0) for cell_id in cells
    }
    seconds = {cell_id: cell_seconds(cell, rates, start=begins[cell_id]) for cell_id, cell in cells.items()}
    return Estimate(
        seconds=seconds,
        wall_seconds=_wall_seconds(cells, packs, sharing, seconds, begins, slots),
        slots=slots,
    )


def _wall_seconds(
    cells: Mapping[str, Cell],
    packs: Sequence[Sequence[str]],
    sharing: Mapping[str, Sharing],
    seconds: Mapping[str, float],
    begins: Mapping[str, int],
    slots: int,
) -> float:
    """Play the schedule: the first pack whose states are there starts whenever a worker is free."""
    there: dict[Fork, float] = {}
    to_come = {fork for shared in sharing.values() for fork in shared.leaves}
    starts = [{start for cell in pack if (start := sharing[cell].start) is not None} for pack in packs]
    missing = [len(of_pack & to_come) for of_pack in starts]
    waiting: dict[Fork, list[int]] = {}
    for index, of_pack in enumerate(starts):
        for fork in of_pack & to_come:
            waiting.setdefault(fork, []).append(index)

    def is_there(fork: Fork, when: float) -> None:
        there[fork] = when
        for index in waiting.pop(fork, ()):
            missing[index] -= 1
            if not missing[index] and index not in begun_packs:
                heapq.heappush(coming, (max(there.get(start, 0.0) for start in starts[index]), index))

    begun_packs: set[int] = set()
    # Packs whose states are there, by their places, and those whose states will be there, by when.
    ready = [index for index, count in enumerate(missing) if not count]
    coming: list[tuple[float, int]] = []
    first, free, end = 0, [0.0] * max(1, slots), 0.0
    while len(begun_packs) < len(packs):
        now = heapq.heappop(free)
        while coming and coming[0][0] <= now:
            heapq.heappush(ready, heapq.heappop(coming)[1])
        begun = now
        if ready:
            index = heapq.heappop(ready)
        elif coming:
            begun, index = heapq.heappop(coming)
        else:
            # Whoever leaves its state comes later in the queue: it waits for no one.
            while first in begun_packs:
                first += 1
            index = first
        begun_packs.add(index)
        pack = packs[index]
        took = math.fsum(0.0 if math.isnan(seconds[cell]) else seconds[cell] for cell in pack)
        for cell_id in pack:
            length = max(1, cells[cell_id].num_steps - begins[cell_id])
            for fork in sharing[cell_id].leaves:
                is_there(fork, begun + took * (fork.step - begins[cell_id]) / length)
        heapq.heappush(free, begun + took)
        end = max(end, begun + took)
    return end


def probe_rates(
    cells: Mapping[str, Cell],
    *,
    seconds: float,
    data_folder: Path,
    known: Mapping[str, float] | None = None,
    threads: int = TRIAL_THREADS,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Measure every kind of step that cells need by training one cell of each kind for a short time.

    Args:
        cells: The cells.
        seconds: About how long to train in all.
        data_folder: Where data sets are kept.
        known: Rates that need no measuring; they are returned with the others.
        threads: That a trial computes with; the process has its own again afterwards.
        say: Receives a line for each kind.
    """
    # Only here: a plan without a probe needs no torch, whose import takes longer than most plans.
    import torch

    from trainers.training import Trainer

    rates = dict(known or {})
    wanted: dict[str, tuple[float, Cell, Stage]] = {}
    for cell in cells.values():
        for stage in stages(cell):
            kind, rate = kind_of(cell, stage), max(stage.dom_rate, stage.bulk_rate)
            # Of each kind the one with the smallest rate: what diverges can be measured for a few steps only.
            if kind not in rates and (kind not in wanted or rate < wanted[kind][0]):
                wanted[kind] = (rate, cell, stage)
    data = {cell.dataset for _, cell, _ in wanted.values()}
    loaded = {
        choice: (entry := dataset_entry(choice)).load(data_folder, choice.resolve("dataset", entry.options))
        for choice in data
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for number, (kind, (_, cell, stage)) in enumerate(wanted.items(), start=1):
            # The stage alone, from the start: what a step costs hardly depends on where the weights are.
            alone = replace(cell, phases=_phases_of(stage))
            trainer = Trainer([alone], data=loaded[cell.dataset])
            rate, steps = _measure(trainer, alone, seconds / len(wanted))
            rates[kind] = rate
            say(f"probe {number} of {len(wanted)}: {1e3 * rate:.3g} ms a step, over {steps} steps")
    finally:
        torch.set_num_threads(before)
    return rates


def _phases_of(stage: Stage) -> tuple[Phase, ...]:
    """Return phases that do nothing but a stage's steps, for as long as anybody measures."""
    lr = max(stage.dom_rate, stage.bulk_rate)
    alone = Phase(
        lr=lr,
        until=MOST_PROBED_STEPS,
        optimizer=stage.optimizer,
        alpha_dom=lr / stage.dom_rate if stage.dom_rate else math.inf,
        beta_bulk=lr / stage.bulk_rate if stage.bulk_rate else math.inf,
        k=stage.k,
    )
    if stage.condition is None:
        return (alone,)
    never = replace(stage.condition, at_most=MOST_PROBED_STEPS, chi_above=math.nextafter(1.0, 0.0))
    # A condition is looked at only where another rule would follow it.
    return replace(alone, until=never), Phase(lr=lr / 2, until=MOST_PROBED_STEPS)


def _measure(trainer: "Trainer", cell: Cell, seconds: float) -> tuple[float, int]:
    """Train for about so long; whole periods of evaluations, refreshes and the like where they fit.

    Returns:
        Seconds a step, and over how many. The first steps count only where there was no time for others: the
        first solve is a cold one, and the first step wakes the libraries up.
    """
    stage = stages(cell)[0]
    warm = cell.refresh_every if stage.projects else 1
    periods = [warm, cell.evaluate_every, cell.divergence_every, *(p.every or 1 for p in cell.probes)]
    period = max(*periods, 1 if stage.condition is None else stage.condition.every)
    first, chunk, best = 0, 1, (math.nan, 0)
    now = begun = time.monotonic()
    deadline = begun + seconds
    while not trainer.finished and now < deadline:
        stop = first + period * ((trainer.step - first) // period + 1) if first else warm
        trainer.advance(min(trainer.step + chunk, stop))
        steps, now = trainer.step - first, time.monotonic()
        whole = steps % period == 0 or trainer.finished
        if steps and (whole or best[1] < period):
            best = ((now - begun) / steps, steps)
        # No longer than there is time for, by what steps have taken.
        chunk = max(1, min(2 * chunk, int(steps * (deadline - now) / (now - begun))))
        if trainer.step == warm:
            first, begun, best = warm, now, (best[0], 0)
    return best[0], best[1] or trainer.step

"""From a claim to its verdict: its runs, the statistic of each seed, whether it is in the band.

A claim is not tested where cells are missing or were stopped, where more than 5 % of a run's eigenspace
refreshes did not converge, or where a run left nothing to compute its statistic from, or that is not a
number; the reason is part of the verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

import numpy as np

from search_spaces.claims import STATISTICS, Band, ClaimSpec
from search_spaces.reports import AxisValue
from sweep import names
from sweep.convergence import (
    UNCONVERGED_LIMIT,
    Parts,
    Within,
    everywhere,
    rest_on_eigenspaces,
    unconverged_share,
)
from sweep.names import Status
from sweep.record import SEED_AXIS
from sweep.report.points import GRID_AXIS
from sweep.stated import forced_note
from sweep.verdicts.runs import Run, Untestable
from sweep.verdicts.statistics import (
    LEAVES_OUT_DIVERGED,
    MAY_DIVERGE,
    OF_PAIR,
    OF_RUN,
    OF_RUNS,
    POOLED,
    Window,
    windows,
)
from trainers.options import Choice

LEAST_SEEDS = 3
"""Bands are stated for so many seeds at least; a verdict that comes from fewer says so."""

Filter = Mapping[str, Sequence[AxisValue | None]]


class Verdict(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim, or one of its places, with what was found.

    Args:
        claim: Its name, with the place where it has several.
        says: What the paper says.
        paper: The paper's number, if it gives one.
        band: Where the median over the seeds has to lie.
        by_seed: The statistic of each seed; key -1 for one over all seeds.
        verdict: What became of it.
        note: Why it was not tested, or what to know about the band and the seeds.
    """

    claim: str
    says: str
    paper: float | None
    band: Band
    by_seed: Mapping[int, float]
    verdict: Verdict
    note: str = ""

    @property
    def in_band(self) -> int:
        """How many of the seeds are in the band."""
        return sum(map(self.band.holds, self.by_seed.values()))

    @property
    def median(self) -> float | None:
        """The median over the seeds."""
        return median(self.by_seed.values()) if self.by_seed else None


def judge(claims: Sequence[ClaimSpec], runs: Sequence[Run]) -> tuple[Judged, ...]:
    """Return a verdict for every claim and every one of its places."""
    return tuple(
        _judged(claim, at, paper, band, runs) for claim in claims for at, paper, band in claim.bands()
    )


def _judged(claim: ClaimSpec, at: Filter, paper: float | None, band: Band, runs: Sequence[Run]) -> Judged:
    place = ", ".join(f"{axis}={'/'.join(map(str, values))}" for axis, values in at.items())
    name = f"{claim.name} [{place}]" if place else claim.name
    try:
        subjects = _selected(runs, claim.grids, claim.where, at)
        by_seed = _by_seed(claim, at, subjects, runs)
    except Untestable as reason:
        untested = Verdict.NOT_TESTED
        return Judged(
            claim=name,
            says=claim.says,
            paper=paper,
            band=band,
            by_seed={},
            verdict=untested,
            note=str(reason),
        )
    judged = list(by_seed.values()) if claim.every_seed else [median(by_seed.values())]
    holds = all(map(band.holds, judged))
    return Judged(
        claim=name,
        says=claim.says,
        paper=paper,
        band=band,
        by_seed=by_seed,
        verdict=Verdict.REPRODUCED if holds else Verdict.NOT_REPRODUCED,
        note=_note(claim, subjects, [band.holds(v) for v in by_seed.values()]),
    )


def _note(claim: ClaimSpec, subjects: Sequence[Run], in_band: Sequence[bool]) -> str:
    num_seeds = len({run.seed for run in subjects})
    notes = ["every seed has to be in the band"] if claim.every_seed else []
    if len(set(in_band)) > 1:
        notes.append(f"{sum(in_band)} of {len(in_band)} seeds in the band")
    if num_seeds < LEAST_SEEDS:
        found = "one seed" if num_seeds == 1 else f"{num_seeds} seeds"
        of = "" if claim.every_seed or claim.statistic["name"] in POOLED else "the median of "
        notes.append(f"from {found}; the band is for {of}at least {LEAST_SEEDS}")
    cells = {run.cell_id: run for run in subjects}.values()
    diverged = sum(run.outcome.diverged for run in cells)
    if diverged and claim.statistic["name"] in LEAVES_OUT_DIVERGED:
        notes.append(f"{diverged} of {len(cells)} cells diverged and are left out")
    forced = [step for run in cells if (step := run.forced_switch) is not None]
    notes += filter(None, [forced_note(forced, len(cells))])
    return "; ".join(notes)


def _by_seed(claim: ClaimSpec, at: Filter, subjects: Sequence[Run], runs: Sequence[Run]) -> dict[int, float]:
    kind = claim.statistic["name"]
    given = {key: value for key, value in claim.statistic.items() if key != "name"}
    options = Choice.of(kind, **given).resolve("statistic", STATISTICS[kind])
    _require_testable(claim, subjects, options)
    if kind in POOLED:
        return {-1: _number(POOLED[kind](subjects, options), "")}
    seeds = {
        seed: [run for run in subjects if run.seed == seed] for seed in sorted({r.seed for r in subjects})
    }
    if kind in OF_RUNS:
        return {
            seed: _number(OF_RUNS[kind](members, options), f" for seed {seed}")
            for seed, members in seeds.items()
        }
    partners = None
    if claim.against is not None or claim.against_grids is not None:
        partners = _selected(runs, claim.against_grids or claim.grids, claim.against or {}, {})
    found: dict[int, float] = {}
    for seed, members in seeds.items():
        values = [_number(_value(claim, run, partners, options, at), f" for seed {seed}") for run in members]
        # A share is a mean of zeros and ones; other statistics of several runs are summed up by their median.
        found[seed] = sum(values) / len(values) if kind == "share_below" else median(values)
    return found


def _number(value: float, of: str) -> float:
    """Return a statistic that is a number, infinity among them.

    Raises:
        Untestable: It is NaN, which sorts nowhere: the median would go by the order of the seeds.
    """
    if math.isnan(value):
        raise Untestable(f"the statistic is not a number{of}")
    return value


def _value(
    claim: ClaimSpec, run: Run, partners: Sequence[Run] | None, options: Mapping[str, Any], at: Filter
) -> float:
    kind = claim.statistic["name"]
    if partners is None:
        return OF_RUN[kind](run, options, run.switch_step)
    partner = _partner(claim, run, partners, at)
    _require_testable(claim, [partner], options, switch=run.switch_step)
    if kind in OF_PAIR:
        return OF_PAIR[kind](run, partner, options)
    mine, other = (OF_RUN[kind](each, options, run.switch_step) for each in (run, partner))
    if claim.compare == "difference":
        return mine - other
    if other <= 0:
        # A share of nothing, or of less: with a partner whose loss rises, falling would count as below it.
        raise Untestable(f"the run that it is compared with has {other:.3g}, of which there are no multiples")
    return mine / other


def _partner(claim: ClaimSpec, run: Run, partners: Sequence[Run], at: Filter) -> Run:
    """Return the run of the same seed that agrees in all axes that both have and the claim does not name."""
    free = {*claim.where, *(claim.against or {}), GRID_AXIS, SEED_AXIS}
    fitting = [
        other
        for other in partners
        if other.seed == run.seed
        and all(
            run.axes[axis] == value
            for axis, value in other.axes.items()
            if axis in run.axes and axis not in free
        )
    ]
    cells = {other.cell_id for other in fitting}
    if len(cells) != 1:
        raise Untestable(f"found {len(cells)} runs to compare with; expected 1")
    return fitting[0]


def _selected(runs: Sequence[Run], grids: Sequence[str] | None, where: Filter, at: Filter) -> list[Run]:
    found = [
        run
        for run in runs
        if (grids is None or run.axes[GRID_AXIS] in grids)
        and all(run.axes.get(axis) in values for named in (where, at) for axis, values in named.items())
    ]
    return list({(run.cell_id, tuple(sorted(map(str, run.axes.items())))): run for run in found}.values())


def _require_testable(
    claim: ClaimSpec, runs: Sequence[Run], options: Mapping[str, Any], *, switch: int | None = None
) -> None:
    """Raise `Untestable` for runs of which a claim cannot be judged.

    Args:
        claim: The claim.
        runs: The runs.
        options: Complete options of its statistic.
        switch: Where to measure them from; default: each from its own switch.
    """
    kind = claim.statistic["name"]
    if not runs:
        raise Untestable("no such cell in this sweep")
    if missing := sum(not run.ended for run in runs):
        raise Untestable(f"{missing} of {len(runs)} cells have not ended")
    if stopped := sum(run.outcome.status is Status.STOPPED for run in runs):
        raise Untestable(f"{stopped} of {len(runs)} cells were stopped before their end")
    if kind not in MAY_DIVERGE and (gone := sum(run.outcome.diverged for run in runs)):
        raise Untestable(f"{gone} of {len(runs)} cells diverged")
    if claim.needs is not None and (short := min(run.num_steps for run in runs)) < claim.needs:
        raise Untestable(f"runs have {short:,} steps, and this needs {claim.needs:,}")
    worst = max(_unconverged(run, options, switch=switch, kind=kind) for run in runs)
    if worst > UNCONVERGED_LIMIT:
        raise Untestable(f"{100 * worst:.3g} % of a run's eigenspace refreshes did not converge")


def _unconverged(run: Run, options: Mapping[str, Any], *, switch: int | None, kind: str) -> float:
    """Return the largest share of a run's eigenspaces that did not converge.

    Of those by which it was trained, and switched; and of those behind the values of the claim, in the whole
    run and where the statistic looks: of a final metric at the last measurement.
    """
    measured = _measured(options)
    looked_at: list[Within] = [everywhere]
    if options.get("metric"):
        looked_at.append(_last)
    elif rest_on_eigenspaces(measured):
        looked_at += map(_between, windows(kind, run, options, run.switch_step if switch is None else switch))
    shares = [unconverged_share(run.history(), measured, within) for within in looked_at]
    shares.append(run.outcome.metrics.get(names.EIGENSPACE_UNCONVERGED))
    return max(share or 0.0 for share in shares)


def _measured(options: Mapping[str, Any]) -> list[Parts]:
    """Return what a statistic takes its values from."""
    if "metric" in options:
        return [(options["metric"],)]
    series = options.get("series", ())
    if isinstance(series, str):
        return [tuple(filter(None, (series, options.get("over"), options.get("minus"))))]
    # Of several each is summed up by itself.
    return [(name,) for name in series]


def _between(window: Window) -> Within:
    return lambda steps: (window[0] <= steps) & (steps < window[1])


def _last(steps: np.ndarray) -> np.ndarray:
    return steps == steps[-1:]

"""Runs made of plain numbers: what a verdict says about them can be worked out by hand."""

from collections.abc import Mapping, Sequence

import numpy as np

from search_spaces.reports import AxisValue
from sweep.names import Status
from sweep.record import CellOutcome, Series
from sweep.verdicts import Run
from trainers.cell import Cell, Phase
from trainers.options import Choice


def series(values: Sequence[float], every: int = 10) -> Series:
    """Return values at 0, `every`, 2 `every`, …"""
    return Series(steps=np.arange(len(values)) * every, values=np.array(values, dtype=np.float64))


def run(
    history: Mapping[str, Series] | None = None,
    *,
    seed: int = 0,
    steps: int = 100,
    switch: int | None = None,
    status: Status | None = Status.COMPLETED,
    reason: str = "",
    metrics: Mapping[str, float] | None = None,
    **axes: AxisValue,
) -> Run:
    """Return a run of a cell that nothing else shares."""
    axes = {"grid": "main", **axes}
    params = {"num_steps": str(steps), "seed": str(seed)}
    ends = (steps,) if switch is None else (switch, steps)
    cell = Cell(
        model=Choice("mlp"),
        dataset=Choice("mnist-5k"),
        seed=abs(seed),
        phases=tuple(Phase(lr=0.1, until=end) for end in ends),
    )
    name = "-".join(str(value) for value in (*axes.values(), seed))
    outcome = CellOutcome(
        cell_id=name, run_id=name, status=status, reason=reason, metrics=metrics or {}, params=params
    )
    kept = dict(history or {})
    return Run(cell_id=name, axes=axes, seed=seed, cell=cell, outcome=outcome, history=lambda: kept)

"""How far apart runs are that differ in one axis, against the step (SAY25 fig. 19), from their sketches.

The distance between two sketches is that between the weights, to a relative standard deviation of
1 / sqrt(2 size) (the probe `sketch`). Runs of the same seed are held against each other; mean over the seeds.
Runs that have not completed, which would end the lines of all, are left out and counted.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from search_spaces.reports import AxisValue, SeparationSpec
from sweep.convergence import convergence_series, unconverged_shares
from sweep.histories import read_histories
from sweep.names import Status
from sweep.progress import count_of
from sweep.record import SEED_AXIS, CellOutcome, Record, Series
from sweep.report.labels import combination
from sweep.report.lines import STYLES, LineStyle
from sweep.report.panels import Panel, PanelLine, PanelsData, draw_panels, mean_and_std
from sweep.report.points import Key, axis_values, group, ordered_keys, select, unshown_axes

SKETCH = "sketch/"

Sketches = tuple[np.ndarray, np.ndarray]
"""Steps, shape (points,), and a sketch each, shape (points, size)."""


def separation_data(record: Record, spec: SeparationSpec) -> PanelsData:
    """Read the sketches; lines are each run's way from its start, and the distance of each pair."""
    points = select(record, spec)
    panel_axes = (*spec.panels, *unshown_axes(record, points, (*spec.panels, spec.between)))
    values = axis_values(record, points, spec.between)
    groups = group(record, points, (*panel_axes, spec.between, SEED_AXIS))
    by_panel: dict[Key, list[CellOutcome]] = {}
    for key, cells in groups.items():
        by_panel.setdefault(key[:-2], []).append(record.outcomes[cells[0]])
    shown: list[CellOutcome] = []
    for outcomes in by_panel.values():
        # While none of a panel has completed, those that have begun.
        shown += [outcome for outcome in outcomes if outcome.status is Status.COMPLETED] or outcomes
    wanted = (SKETCH, *convergence_series(()))
    read = read_histories(record, shown, lambda name: name.startswith(wanted))
    left_out, unfinished = len(groups) - len(shown), sum(one.status is not Status.COMPLETED for one in shown)
    sketches = {
        key: found
        for key, cells in groups.items()
        if (found := _sketches(read.get(cells[0], {}))) is not None
    }
    labels: tuple[str, ...] = ()
    panels: list[Panel] = []
    for panel in ordered_keys([key[:-2] for key in groups]):
        by_seed: dict[AxisValue | None, dict[AxisValue | None, Sketches]] = {}
        for key, found in sketches.items():
            if key[:-2] == panel:
                by_seed.setdefault(key[-1], {})[key[-2]] = found
        runs = list(by_seed.values())
        names = {value: combination([spec.between], [value]) for value in values}
        ways = {
            f"{names[value]} from its start": [_from_start(found[value]) for found in runs if value in found]
            for value in values
        }
        apart = {
            f"{names[one]} from {names[other]}": [
                _between(found, one, other) for found in runs if one in found and other in found
            ]
            for one, other in combinations(values, 2)
        }
        labels = (*ways, *apart)
        # Runs that stay together go equally far, and the lines of their ways lie on each other.
        lines = [
            _line(label, distances, STYLES[index % len(STYLES)])
            for index, (label, distances) in enumerate((ways | apart).items())
            if distances
        ]
        panels.append(Panel(key=panel, lines=tuple(lines)))
    return PanelsData(
        panel_axes=panel_axes,
        panels=tuple(panels),
        labels=labels,
        x_label="training step",
        y_label="distance, from sketches",
        notes=tuple(
            f"{count_of(count, 'run')} not completed{ending}"
            for count, ending in ((left_out, ", left out"), (unfinished, ", shown"))
            if count
        ),
        unconverged=unconverged_shares(read.values(), ()),
    )


def _sketches(history: Mapping[str, Series]) -> Sketches | None:
    named = sorted(
        (name for name in history if name.startswith(SKETCH)), key=lambda name: int(name[len(SKETCH) :])
    )
    if not named:
        return None
    return history[named[0]].steps, np.stack([history[name].values for name in named], axis=1)


def _from_start(sketches: Sketches) -> Sketches:
    steps, whole = sketches
    return steps, np.linalg.norm(whole - whole[0], axis=1)


def _between(runs: Mapping[AxisValue | None, Sketches], one: AxisValue, other: AxisValue) -> Sketches:
    (left, mine), (right, theirs) = runs[one], runs[other]
    steps, here, there = np.intersect1d(left, right, assume_unique=True, return_indices=True)
    return steps, np.linalg.norm(mine[here] - theirs[there], axis=1)


def _line(label: str, by_seed: list[Sketches], style: LineStyle) -> PanelLine:
    """Average distances over the seeds at the steps that all of them have."""
    steps = by_seed[0][0]
    for other, _ in by_seed[1:]:
        steps = np.intersect1d(steps, other, assume_unique=True)
    mean, std = mean_and_std([values[np.isin(own, steps)] for own, values in by_seed])
    return PanelLine(label=label, x=steps, mean=mean, std=std, style=style)


def draw_separation(record: Record, spec: SeparationSpec, *paths: Path) -> None:
    """Draw the distances of a specification."""
    draw_panels(record, spec, separation_data(record, spec), *paths, log_y=spec.log_y, in_order=False)

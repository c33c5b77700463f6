"""One series against another: a trajectory in the plane of two weights (SAY25 fig. 6), one line a seed."""

from pathlib import Path

import numpy as np

from search_spaces.reports import PathSpec
from sweep.convergence import convergence_series, unconverged_shares
from sweep.histories import read_histories
from sweep.record import SEED_AXIS, Record, Series
from sweep.report.labels import metric_label
from sweep.report.panels import Panel, PanelLine, PanelsData, draw_panels
from sweep.report.points import group, ordered_keys, select, unshown_axes


def path_data(record: Record, spec: PathSpec) -> PanelsData:
    """Read the two series at the steps that they share; seeds are not averaged."""
    points = select(record, spec)
    panel_axes = (*spec.panels, *unshown_axes(record, points, spec.panels))
    groups = group(record, points, panel_axes)
    outcomes = [record.outcomes[cell] for cells in groups.values() for cell in cells]
    shown = spec.x, spec.y
    read = read_histories(record, outcomes, {*shown, *convergence_series(shown)}.__contains__)
    panels: list[Panel] = []
    seeds: set[int] = set()
    for key in ordered_keys(groups):
        lines: list[PanelLine] = []
        for cell in groups[key]:
            history = read.get(cell, {})
            if spec.x in history and spec.y in history:
                x, y = (_shown(history[name], name) for name in shown)
                _, here, there = np.intersect1d(x.steps, y.steps, assume_unique=True, return_indices=True)
                values = y.values[there]
                seed = int(record.outcomes[cell].params.get(SEED_AXIS, 0))
                seeds.add(seed)
                std = np.full(len(values), np.nan)
                lines.append(PanelLine(label=_label(seed), x=x.values[here], mean=values, std=std))
        panels.append(Panel(key=key, lines=tuple(lines)))
    return PanelsData(
        panel_axes=panel_axes,
        panels=tuple(panels),
        labels=tuple(map(_label, sorted(seeds))),
        x_label=metric_label(spec.x).text,
        y_label=metric_label(spec.y).text,
        unconverged=unconverged_shares(read.values(), [shown]),
    )


def _shown(series: Series, name: str) -> Series:
    """Return a series in the unit in which it is written."""
    return Series(steps=series.steps, values=series.values * metric_label(name).scale)


def _label(seed: int) -> str:
    return f"seed {seed}"


def draw_path(record: Record, spec: PathSpec, *paths: Path) -> None:
    """Draw the trajectories of a specification."""
    draw_panels(record, spec, path_data(record, spec), *paths, in_order=False, over_seeds="a line each")

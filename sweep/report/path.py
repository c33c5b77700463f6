"""One series against another: a trajectory in the plane of two weights (SAY25 fig. 6), one line a seed."""

from pathlib import Path

import numpy as np

from search_spaces.reports import PathSpec
from sweep.histories import read_history
from sweep.record import Record
from sweep.report.labels import metric_label
from sweep.report.panels import Panel, PanelLine, PanelsData, draw_panels
from sweep.report.points import group, ordered_keys, select, unshown_axes


def path_data(record: Record, spec: PathSpec) -> PanelsData:
    """Read the two series at the steps that they share; seeds are not averaged."""
    points = select(record, spec)
    panel_axes = (*spec.panels, *unshown_axes(record, points, spec.panels))
    groups = group(record, points, panel_axes)
    panels: list[Panel] = []
    for key in ordered_keys(groups):
        lines: list[PanelLine] = []
        for cell in groups[key]:
            outcome = record.outcomes[cell]
            history = read_history(record, outcome.run_id) if outcome.run_id else {}
            if spec.x in history and spec.y in history:
                x, y = history[spec.x], history[spec.y]
                _, here, there = np.intersect1d(x.steps, y.steps, assume_unique=True, return_indices=True)
                values = y.values[there]
                label = f"seed {outcome.params.get('seed', '')}"
                std = np.full(len(values), np.nan)
                lines.append(PanelLine(label=label, x=x.values[here], mean=values, std=std))
        panels.append(Panel(key=key, lines=tuple(lines)))
    return PanelsData(
        panel_axes=panel_axes,
        panels=tuple(panels),
        x_label=metric_label(spec.x).text,
        y_label=metric_label(spec.y).text,
    )


def draw_path(record: Record, spec: PathSpec, path: Path) -> None:
    """Draw the trajectories of a specification as a PNG."""
    draw_panels(record, spec, path_data(record, spec), path, in_order=False, over_seeds="a line each")

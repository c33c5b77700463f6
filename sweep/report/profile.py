"""Indexed series against their index at chosen steps: c_i^2 (GRD18 fig. 11), layers (fig. 6), sizes (fig. 3).

The line of a step is the mean over the seeds that have every index then; those that diverged before are not
among them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from search_spaces.reports import ProfileSpec
from sweep.convergence import convergence_series, unconverged_shares
from sweep.histories import read_histories
from sweep.record import Record, Series
from sweep.report.labels import metric_label
from sweep.report.panels import Panel, PanelLine, PanelsData, draw_panels, mean_and_std, step_label
from sweep.report.points import group, ordered_keys, select, unshown_axes

LONGEST_NAME = 14


def profile_data(record: Record, spec: ProfileSpec) -> PanelsData:
    """Read the histories and arrange them by index, a line per step."""
    points = select(record, spec)
    panel_axes = (*spec.panels, *unshown_axes(record, points, spec.panels))
    groups = group(record, points, panel_axes)
    pattern, said_by = _pattern(spec), convergence_series([spec.series])
    outcomes = [record.outcomes[cell] for cells in groups.values() for cell in cells]
    read = read_histories(record, outcomes, lambda name: bool(pattern.fullmatch(name)) or name in said_by)
    panels: list[Panel] = []
    measured = {name for history in read.values() for name in history if pattern.fullmatch(name)}
    for key in ordered_keys(groups):
        histories = [read[cell] for cell in groups[key] if cell in read]
        indices = indices_of(spec, {name for history in histories for name in history})
        whole = all(index.isdecimal() for index in indices)
        lines: list[PanelLine] = []
        for step in spec.steps:
            rows = [row for history in histories if (row := _row(history, spec, indices, step)) is not None]
            if rows:
                mean, std = mean_and_std(rows)
                x = np.array([int(i) for i in indices] if whole else range(len(indices)))
                lines.append(PanelLine(label=step_label(step), x=x, mean=mean, std=std))
        ticks = () if whole else shortened(indices)
        panels.append(Panel(key=key, lines=tuple(lines), ticks=ticks, whole=whole))
    x_label = "index i" if not any(panel.ticks for panel in panels) else ""
    label = metric_label(spec.series.replace("<i>", "i")).text
    return PanelsData(
        panel_axes=panel_axes,
        panels=tuple(panels),
        labels=tuple(map(step_label, spec.steps)),
        x_label=x_label,
        y_label=label,
        unconverged=unconverged_shares(
            read.values(), [(name,) for name in sorted(measured)], lambda steps: np.isin(steps, spec.steps)
        ),
    )


def _pattern(spec: ProfileSpec) -> re.Pattern[str]:
    before, after = map(re.escape, spec.series.split("<i>"))
    return re.compile(f"{before}(.+?){after}")


def indices_of(spec: ProfileSpec, recorded: set[str]) -> list[str]:
    """Return the indices that a series has: numbers in order, up to `at_most`, or else names."""
    pattern = _pattern(spec)
    names = {match[1] for name in recorded if (match := pattern.fullmatch(name))}
    found = sorted(names, key=_in_order)
    numbers = [index for index in found if index.isdecimal()]
    if numbers:
        return [index for index in numbers if spec.at_most is None or int(index) <= spec.at_most]
    return found


def _in_order(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by, numbers in them by size: layer 3 before layer 11."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def shortened(names: Sequence[str]) -> tuple[str, ...]:
    """Return the ends of names, as long as they have to be to differ."""
    longest = max(map(len, names), default=0)
    lengths = range(min(LONGEST_NAME, longest), longest + 1)
    enough = next((size for size in lengths if len({name[-size:] for name in names}) == len(names)), longest)
    return tuple(name[-enough:] for name in names) if enough else tuple(names)


def _row(
    history: Mapping[str, Series], spec: ProfileSpec, indices: list[str], step: int
) -> np.ndarray | None:
    values: list[float] = []
    for index in indices:
        series = history.get(spec.series.replace("<i>", index))
        if series is None or not (at := np.flatnonzero(series.steps == step)).size:
            return None
        values.append(float(series.values[at[0]]))
    return np.array(values) if values else None


def draw_profile(record: Record, spec: ProfileSpec, *paths: Path) -> None:
    """Draw the profiles of a specification."""
    draw_panels(record, spec, profile_data(record, spec), *paths, log_y=spec.log_y, mark_points=True)

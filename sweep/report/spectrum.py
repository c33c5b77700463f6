"""The leading Hessian eigenvalues against the step (ZS25 fig. 2), a panel per combination of axes.

Each line is the mean over the seeds that completed, at the steps that they share; those that diverged have a
cross above, where they did, and where all diverged each is drawn by itself. One eigenvalue may be black:
number k + 1, the first that a Bulk update keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.lines import Line2D

from search_spaces.reports import SpectrumSpec
from sweep.convergence import convergence_series, unconverged_shares
from sweep.histories import recorded_series
from sweep.record import NO_SERIES, Record
from sweep.report.canvas import Canvas, balanced, blank, caption, house_style, logarithmic_y, title_of
from sweep.report.curve_lines import Line, make_line, unfinished_note
from sweep.report.labels import combination, metric_label, spaced
from sweep.report.limits import masked
from sweep.report.lines import draw_legend, draw_switches, legend_width, switch_mark
from sweep.report.points import (
    Key,
    group,
    ordered_keys,
    select,
    switch_note,
    switch_points,
    unshown_axes,
)

EIGENVALUE_PREFIX = "curvature/lambda_"
PANEL_WIDTH, PANEL_HEIGHT = 3.7, 2.8
LEFT, BOTTOM, GAP, ROW_GAP, PANEL_TITLE = 0.66, 0.5, 0.66, 0.06, 0.26
BAR_SPACE, BAR_WIDTH, KEY_GAP = 1.1, 0.15, 0.18
MAX_PANELS_IN_ROW = 3
COLOURMAP, COLOURMAP_END = "plasma_r", 0.12
MAX_TICKS = 8
OVERLAY_COLOUR, OVERLAY_STYLE, OVERLAY_WIDTH = "#000000", (0, (4, 2)), 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumPanel:
    """The eigenvalues of one combination: index (from 1) to its line."""

    key: Key
    lines: dict[int, Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumData:
    """All panels, the indices of the eigenvalues that any of them has, and the overlay of each panel.

    `unconverged` is as `caption` takes it.
    """

    panel_axes: tuple[str, ...]
    panels: tuple[SpectrumPanel, ...]
    indices: tuple[int, ...]
    overlays: tuple[Mapping[str, Line], ...] = ()
    unconverged: tuple[float, ...] = ()


def spectrum_data(record: Record, spec: SpectrumSpec) -> SpectrumData:
    """Read the recorded eigenvalues and arrange them in panels."""
    points = select(record, spec)
    panel_axes = (*spec.panels, *unshown_axes(record, points, spec.panels))
    groups = group(record, points, panel_axes)
    switches = switch_points(record, points, panel_axes)
    outcomes = [record.outcomes[cell] for cells in groups.values() for cell in cells]
    recorded = {
        metric for outcome in outcomes for metric in outcome.metrics if metric.startswith(EIGENVALUE_PREFIX)
    }
    indices = tuple(sorted(int(metric.removeprefix(EIGENVALUE_PREFIX)) for metric in recorded))
    metrics = [f"{EIGENVALUE_PREFIX}{index}" for index in indices]
    shown = [*metrics, *spec.overlay]
    wanted = {*shown, *convergence_series(shown)}
    histories = {
        str(outcome.run_id): history
        for outcome, history in recorded_series(record, outcomes, wanted.__contains__)
    }
    series = {
        (run, name): history.get(name, NO_SERIES) for run, history in histories.items() for name in shown
    }
    panels = tuple(
        SpectrumPanel(
            key=key,
            lines={
                index: line
                for index, metric in zip(indices, metrics, strict=True)
                if (line := make_line(record, groups[key], metric, series, key, switches[key])) is not None
            },
        )
        for key in ordered_keys(groups)
    )
    return SpectrumData(
        panel_axes=panel_axes,
        panels=panels or (SpectrumPanel(key=(), lines={}),),
        indices=indices,
        overlays=tuple(
            {
                metric: line
                for metric in spec.overlay
                if (line := make_line(record, groups[key], metric, series, key, switches[key])) is not None
            }
            for key in ordered_keys(groups)
        ),
        unconverged=unconverged_shares(histories.values(), [(name,) for name in shown]),
    )


def draw_spectrum(record: Record, spec: SpectrumSpec, *paths: Path) -> None:
    """Draw the eigenvalues of a specification."""
    data = spectrum_data(record, spec)
    # Four read better as two by two than as three and one.
    across = balanced(len(data.panels), MAX_PANELS_IN_ROW)
    down = -(-len(data.panels) // across)
    step_height = BOTTOM + PANEL_HEIGHT + PANEL_TITLE
    height = down * step_height + (down - 1) * ROW_GAP
    right = LEFT + across * PANEL_WIDTH + (across - 1) * GAP
    lines = [line for panel in data.panels for line in panel.lines.values()]
    ends = [
        steps[-1] for line in lines for steps in (line.steps, *(r.steps for r in line.diverged)) if steps.size
    ]
    last = int(max([*ends, *(end for line in lines for end in line.ends)], default=1))
    marks = _marks(data, last)
    points = select(record, spec)
    black = f"black: eigenvalue number {spec.highlight}" if spec.highlight in data.indices else ""
    named = [
        (combination(data.panel_axes, panel.key), line)
        for panel in data.panels
        for line in panel.lines.values()
    ]
    notes = switch_note(record, points), unfinished_note(named)
    with house_style():
        canvas = Canvas(
            width=right + max(BAR_SPACE, KEY_GAP + legend_width([str(mark.get_label()) for mark in marks])),
            height=height,
            title=title_of(record, spec),
            caption=caption(record, points, black, *notes, over_seeds="mean", unconverged=data.unconverged),
        )
        for number, panel in enumerate(data.panels):
            row, column = divmod(number, across)
            bottom = height - row * (step_height + ROW_GAP) - PANEL_TITLE - PANEL_HEIGHT
            axes = canvas.axes(LEFT + column * (PANEL_WIDTH + GAP), bottom, PANEL_WIDTH, PANEL_HEIGHT)
            _draw_panel(axes, panel, data.indices, spec, last)
            if number < len(data.overlays):
                _draw_overlay(axes, data.overlays[number])
            axes.set_title(combination(data.panel_axes, panel.key), fontsize=9)
        # Beside the panels: within one, whatever place is left has lines in another.
        bottom = height - PANEL_TITLE - PANEL_HEIGHT
        taken = draw_legend(canvas, marks, right + KEY_GAP, bottom, BAR_SPACE - KEY_GAP, PANEL_HEIGHT)
        if data.indices:
            bar = canvas.axes(right + KEY_GAP, bottom, BAR_WIDTH, PANEL_HEIGHT - taken)
            _draw_scale(canvas, bar, data.indices, spec.highlight)
        canvas.save(*paths)


def _colours(indices: tuple[int, ...], highlight: int | None) -> list[tuple[float, float, float, float]]:
    scale = matplotlib.colormaps[COLOURMAP]
    steps = max(len(indices) - 1, 1)
    spread = np.linspace(1.0, COLOURMAP_END, steps + 1)
    return [
        (0.0, 0.0, 0.0, 1.0) if index == highlight else scale(spread[n]) for n, index in enumerate(indices)
    ]


def _marks(data: SpectrumData, last: int) -> list[Line2D]:
    """Return what the legend says of what is drawn besides eigenvalues."""
    marks: list[Line2D] = []
    if any(_lost(panel) for panel in data.panels):
        marks.append(Line2D([], [], color="#777777", ls="", marker="X", ms=5, label="diverged"))
    if any(_rules(panel, last) for panel in data.panels):
        marks.append(switch_mark())
    overlaid = dict.fromkeys(
        metric for lines in data.overlays for metric, line in lines.items() if _runs(line)
    )
    look: dict[str, Any] = {"color": OVERLAY_COLOUR, "ls": OVERLAY_STYLE, "lw": OVERLAY_WIDTH}
    return [*marks, *(Line2D([], [], label=metric_label(metric).text, **look) for metric in overlaid)]


def _lost(panel: SpectrumPanel) -> bool:
    """Whether a panel shows where seeds diverged."""
    return any(line.diverged for line in panel.lines.values())


def _rules(panel: SpectrumPanel, last: int) -> list[int]:
    """Return the switch points of what a panel shows, as far as it goes."""
    found: set[int] = set()
    for line in panel.lines.values():
        found.update(*([line.switches] if line.steps.size else line.own_switches))
    return sorted(step for step in found if step <= last)


def _draw_panel(
    axes: Axes, panel: SpectrumPanel, indices: tuple[int, ...], spec: SpectrumSpec, last: int
) -> None:
    """Draw the eigenvalues of a panel."""
    axes.set_xlabel("training step")
    axes.set_ylabel(r"Hessian eigenvalue $\lambda_i$")
    if not panel.lines:
        blank(axes, "no eigenvalue recorded")
        return
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    if spec.log_y:
        logarithmic_y(axes)
    for index, colour in reversed(list(zip(indices, _colours(indices, spec.highlight), strict=True))):
        if (line := panel.lines.get(index)) is None:
            continue
        front = index == spec.highlight
        for steps, values in _runs(line):
            axes.plot(
                steps,
                masked(values, spec.log_y),
                color=colour,
                lw=1.5 if front else 0.9,
                zorder=4 if front else 2,
            )
        if not line.steps.size:
            for run in line.diverged:
                axes.plot(
                    [run.steps[-1]], [run.values[-1]],
                    color=colour, marker="X", ms=5, mec="white", mew=0.5, ls="", clip_on=False, zorder=5,
                )  # fmt: skip
    # Beside a mean their eigenvalues, which may be any size, would leave it no room.
    aside = {end for line in panel.lines.values() if line.steps.size for end in line.ends}
    axes.plot(
        sorted(aside), [1.0] * len(aside), transform=axes.get_xaxis_transform(),
        color="#777777", marker="X", ms=5, mec="white", mew=0.5, ls="", clip_on=False, zorder=5,
    )  # fmt: skip
    draw_switches(axes, _rules(panel, last))
    axes.set_xlim(0, max(last, 1))


def _runs(line: Line) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return steps and values of what is drawn: the mean of a line, or its seeds where all diverged."""
    if line.steps.size:
        return [(line.steps, line.mean)]
    return [(run.steps, run.values) for run in line.diverged]


def _draw_overlay(axes: Axes, lines: Mapping[str, Line]) -> None:
    """Draw what the eigenvalues are held against (2 / eta) dashed, within the eigenvalues' limits."""
    low, high = axes.get_ylim()
    drawn = {metric: runs for metric, line in lines.items() if (runs := _runs(line))}
    for runs in drawn.values():
        for steps, values in runs:
            axes.plot(steps, values, color=OVERLAY_COLOUR, ls=OVERLAY_STYLE, lw=OVERLAY_WIDTH, zorder=5)
            last = values[np.isfinite(values)][-1:]
            high = max([high, *(1.05 * last).tolist()])
    if drawn:
        axes.set_ylim(low, high)


def _draw_scale(canvas: Canvas, bar: Axes, indices: tuple[int, ...], highlight: int | None) -> None:
    norm = BoundaryNorm([n - 0.5 for n in range(len(indices) + 1)], len(indices))
    colours = ListedColormap(_colours(indices, highlight))
    drawn = canvas.figure.colorbar(ScalarMappable(norm=norm, cmap=colours), cax=bar)
    drawn.outline.set_visible(False)
    ticks = spaced(len(indices), MAX_TICKS)
    drawn.set_ticks(ticks)
    drawn.ax.set_yticklabels([str(indices[tick]) for tick in ticks])
    drawn.ax.tick_params(length=0)
    drawn.ax.minorticks_off()
    drawn.ax.invert_yaxis()
    drawn.set_label("index $i$ of the eigenvalue")

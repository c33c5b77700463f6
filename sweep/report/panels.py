"""Panels of lines against something other than the step: profiles, paths and densities are drawn with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from search_spaces.reports import ReportSpec
from sweep.record import Record
from sweep.report.canvas import Canvas, balanced, blank, caption, house_style, logarithmic_y, title_of
from sweep.report.labels import combination
from sweep.report.limits import Band, Limits, band_notes, draw_band, limits_of, masked
from sweep.report.lines import PALETTE, LineStyle, draw_legend, legend_width, offsets
from sweep.report.points import Key, select

WIDTH, HEIGHT, LEFT, BOTTOM, GAP, TITLE, LEGEND = 3.7, 2.8, 0.72, 0.5, 0.7, 0.26, 1.35
KEY_GAP = 0.1
MAX_IN_ROW, SMALL = 3, 40
MOST_POWERS = 3
STEP_COLOURS = "viridis"


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelLine:
    """A line: x and the mean y over the seeds, shape (points,); `std` is NaN for a single seed.

    `style` keeps lines apart that lie on each other.
    """

    label: str
    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    style: LineStyle = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The lines of one combination of panel axes; `ticks` name the places of an x that is no number.

    `whole`: x is a whole number, an index. `linear_below`: x is logarithmic to both sides beyond this.
    """

    key: Key
    lines: tuple[PanelLine, ...]
    ticks: tuple[str, ...] = ()
    whole: bool = False
    linear_below: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelsData:
    """What a figure of panels shows.

    Args:
        panel_axes: Names of the axes that tell panels apart.
        panels: The panels.
        labels: Those of all lines, in the order of their colours: a label looks the same in every panel.
        x_label: What is along x.
        y_label: What is along y.
        notes: For the caption.
        unconverged: As `caption` takes it.
    """

    panel_axes: tuple[str, ...]
    panels: tuple[Panel, ...]
    labels: tuple[str, ...]
    x_label: str
    y_label: str
    notes: tuple[str, ...] = ()
    unconverged: tuple[float, ...] = ()


def step_label(step: int) -> str:
    """Return what a line of one step is called."""
    return f"step {step:,}"


def mean_and_std(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sample standard deviation over equally long arrays, one a seed."""
    stacked = np.stack(values)
    std = np.std(stacked, axis=0, ddof=1) if len(values) > 1 else np.full(stacked.shape[1], np.nan)
    return np.mean(stacked, axis=0), std


def draw_panels(
    record: Record,
    spec: ReportSpec,
    data: PanelsData,
    *paths: Path,
    log_y: bool = False,
    in_order: bool = True,
    mark_points: bool = False,
    over_seeds: str = "mean",
) -> None:
    """Draw panels side by side.

    Args:
        record: The sweep, for the caption.
        spec: Its title, and the points it selects.
        data: What is drawn.
        paths: The files, see `Canvas.save`.
        log_y: Whether y is logarithmic.
        in_order: Whether colours follow the order of the lines (steps), or only tell them apart (seeds).
        mark_points: Whether points are marked.
        over_seeds: What a line is where there are several seeds.
    """
    across = balanced(len(data.panels), MAX_IN_ROW)
    down = -(-len(data.panels) // across)
    step_height = BOTTOM + HEIGHT + TITLE
    right = LEFT + across * WIDTH + (across - 1) * GAP
    there = {line.label for panel in data.panels for line in panel.lines}
    labels = [label for label in dict.fromkeys(data.labels) if label in there]
    colours = dict(zip(labels, _colours(len(labels), in_order=in_order), strict=True))
    limits = [_limits(panel, log_y=log_y) for panel in data.panels]
    notes = (*data.notes, *_notes(data.panels, limits))
    with house_style():
        canvas = Canvas(
            width=right + max(LEGEND, KEY_GAP + legend_width(labels)),
            height=down * step_height,
            title=title_of(record, spec),
            caption=caption(
                record, select(record, spec), *notes, over_seeds=over_seeds, unconverged=data.unconverged
            ),
        )
        drawn: dict[str, Line2D] = {}
        for index, (panel, limit) in enumerate(zip(data.panels, limits, strict=True)):
            row, column = divmod(index, across)
            bottom = (down - row - 1) * step_height + BOTTOM
            axes = canvas.axes(LEFT + column * (WIDTH + GAP), bottom, WIDTH, HEIGHT)
            axes.set_title(combination(data.panel_axes, panel.key), fontsize=9)
            axes.set_xlabel(data.x_label)
            axes.set_ylabel(data.y_label)
            if panel.lines:
                drawn |= _draw_panel(axes, panel, limit, colours, log_y=log_y, mark_points=mark_points)
            else:
                blank(axes, "nothing recorded at these steps")
        top = (down - 1) * step_height + BOTTOM
        key = [drawn[label] for label in labels]
        draw_legend(canvas, key, right + KEY_GAP, top, LEGEND - KEY_GAP, HEIGHT)
        canvas.save(*paths)


def _draw_panel(
    axes: Axes, panel: Panel, limits: Limits, colours: Mapping[str, Any], *, log_y: bool, mark_points: bool
) -> dict[str, Line2D]:
    """Draw the lines of a panel, which are returned by their labels."""
    if log_y:
        logarithmic_y(axes)
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    drawn: dict[str, Line2D] = {}
    for line in _beside_one_another(panel.lines) if panel.ticks and _spreads(panel) else panel.lines:
        colour = colours[line.label]
        marker = "o" if mark_points and len(line.x) <= SMALL else ""
        # Names have no order, so nothing leads from one to the next.
        style = "" if panel.ticks else line.style
        mean = masked(line.mean, log_y)
        (drawn[line.label],) = axes.plot(
            line.x, mean, color=colour, ls=style, marker=marker, ms=3.5, label=line.label
        )
        if np.isfinite(line.std).any():
            _draw_spread(axes, panel, line, limits, colour, log_y=log_y)
    if _spreads(panel):
        axes.set_ylim(limits.low, limits.high)
    if panel.linear_below is not None:
        axes.set_xscale("symlog", linthresh=panel.linear_below)
        axes.xaxis.set_major_locator(FixedLocator(_symmetric_ticks(panel)))
    if panel.whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), panel.ticks, rotation=30, ha="right", fontsize=6)
    return drawn


def _beside_one_another(lines: Sequence[PanelLine]) -> list[PanelLine]:
    """Return lines over names moved sideways, each by its own part, so that no bar hides another."""
    return [replace(line, x=line.x + offset) for line, offset in zip(lines, offsets(len(lines)), strict=True)]


def _spreads(panel: Panel) -> list[Band]:
    """Return what is drawn around the means."""
    return [(line.mean, line.std) for line in panel.lines if np.isfinite(line.std).any()]


def _limits(panel: Panel, *, log_y: bool) -> Limits:
    return limits_of([line.mean for line in panel.lines], _spreads(panel), logarithmic=log_y)


def _notes(panels: Sequence[Panel], limits: Sequence[Limits]) -> list[str]:
    if not any(map(_spreads, panels)):
        return []
    return [band_notes(limits, "bars" if any(panel.ticks for panel in panels) else "band")]


def _draw_spread(
    axes: Axes, panel: Panel, line: PanelLine, limits: Limits, colour: Any, *, log_y: bool
) -> None:
    """Draw a band around a line, and a bar at each name: nothing leads from one to the next."""
    if not panel.ticks:
        draw_band(axes, line.x, (line.mean, line.std), limits, colour)
        return
    below = np.maximum(line.mean - np.maximum(line.mean - line.std, limits.low), 0.0)
    mean, errors = masked(line.mean, log_y), [below, line.std]
    axes.errorbar(line.x, mean, yerr=errors, color=colour, fmt="none", elinewidth=0.9, capsize=2)


def _symmetric_ticks(panel: Panel) -> list[float]:
    """Return 0 and powers of ten to both sides, from where they have room beside 0; every second of many."""
    assert panel.linear_below is not None
    largest = max(float(np.abs(line.x).max()) for line in panel.lines)
    first, last = (math.floor(math.log10(value)) for value in (panel.linear_below, largest))
    powers = [10.0**exponent for exponent in range(first + 1, last + 1)]
    powers = powers if len(powers) <= MOST_POWERS else powers[1::2]
    return [*(-power for power in reversed(powers)), 0.0, *powers]


def _colours(count: int, *, in_order: bool) -> list[tuple[float, ...] | str]:
    if not in_order and count <= len(PALETTE):
        return list(PALETTE[:count])
    scale = matplotlib.colormaps[STEP_COLOURS]
    return [scale(0.85 * index / max(count - 1, 1)) for index in range(count)]

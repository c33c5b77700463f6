"""Heatmaps (ZS25 fig. 4, 8, 9): one axis against another, the value printed in each cell.

One figure per specification: a row of panels per metric, with one colour scale per metric. What did not end
well is told apart by colour and hatching, and named in a legend.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.patches import Patch, Polygon, Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from search_spaces.reports import AxisValue, HeatmapSpec
from sweep.record import Record
from sweep.report.canvas import MEAN_AND_SPREAD, MIN_WIDTH, Canvas, balanced, caption, house_style, title_of
from sweep.report.labels import MetricLabel, axis_label, combination, metric_label, number, plain, spread
from sweep.report.points import Key, axis_values, fits, group, panel_keys, select, unshown_axes, value_of
from sweep.report.states import Pool, State, pool

MAX_PANELS_IN_ROW = 4
DECADE = 10.0

CELL_WIDTH, CELL_HEIGHT = 0.68, 0.5
LEAST_ROOM = 0.36 / CELL_WIDTH
"""Of a cell that has its value written in it, as a share of the whole size."""

LARGEST_PANEL = 9.0
SMALLEST_PANEL = 1.35
LEFT, BOTTOM, GAP, ROW_GAP, BAR_SPACE, BAR_WIDTH, PANEL_TITLE = 0.62, 0.5, 0.28, 0.06, 1.05, 0.16, 0.24
LEGEND_LINE, LEGEND_PAD, LEGEND_CHARACTER, LEGEND_HANDLE = 0.19, 0.12, 0.068, 0.42
VALUE_SIZE, SPREAD_SIZE = 8.5, 6.2

# Bright is better in both: low losses and high accuracies.
COLOURMAP = "viridis"
DARK_TEXT, LIGHT_TEXT = "#111111", "#ffffff"

# Face and hatch of the places without a value; diverged is the paper's plain grey.
_FACE: dict[State, tuple[str, str, str]] = {
    State.DIVERGED: ("#9e9e9e", "", "#9e9e9e"),
    State.FAILED: ("#f6c9c4", "xxxx", "#b3261e"),
    State.RUNNING: ("#dce9f7", "////", "#4a7fb5"),
    State.INTERRUPTED: ("#fbe7c6", "\\\\\\\\", "#b9770e"),
    State.PENDING: ("#ffffff", "....", "#8a8a8a"),
    State.MISSING: ("#ffffff", "", "#cccccc"),
    State.ABSENT: ("#f2f2f2", "", "#f2f2f2"),
}
_CORNER = {
    State.PARTLY_DIVERGED: "#5f5f5f",
    State.PARTIAL: "#ffffff",
    State.STOPPED: "#e8a33d",
    State.PARTLY_STOPPED: "#8fb8de",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatmapData:
    """A heatmap as plain arrays of shape (panels, y values, x values).

    Args:
        metric: The metric.
        x: Name of the axis along the columns; `x_values` its values in display order.
        y: Name of the axis along the rows; `y_values` its values in display order.
        x_values: Values along the columns.
        y_values: Values along the rows.
        panel_axes: Axes that tell the panels apart; `panel_keys` their values.
        panel_keys: One key per panel.
        mean: Means as `Pool` has them, in the metric's own unit; NaN without.
        std: Sample standard deviations; NaN for fewer than two seeds.
        num_seeds: How many seeds each mean is over.
        states: `State` of each place.
        left_out: Grid points that lack the axis x or y and so have no place.
    """

    metric: str
    x: str
    y: str
    x_values: tuple[AxisValue, ...]
    y_values: tuple[AxisValue, ...]
    panel_axes: tuple[str, ...]
    panel_keys: tuple[Key, ...]
    mean: np.ndarray
    std: np.ndarray
    num_seeds: np.ndarray
    states: np.ndarray
    left_out: int


def heatmap_data(record: Record, spec: HeatmapSpec, metric: str) -> HeatmapData:
    """Arrange one metric of a sweep as a heatmap.

    A point whose grid lacks a panel's axis stands in every panel that has no other point at its place.
    """
    chosen = select(record, spec)
    placed = [
        p
        for p in chosen
        if value_of(record, p, spec.x) is not None and value_of(record, p, spec.y) is not None
    ]
    named = (spec.panels,) if spec.panels else ()
    panel_axes = (*named, *unshown_axes(record, placed, (spec.x, spec.y, *named)))
    x_values, y_values = axis_values(record, placed, spec.x), axis_values(record, placed, spec.y)
    groups = group(record, placed, (*panel_axes, spec.y, spec.x))
    panels = panel_keys([key[:-2] for key in groups])
    shape = (len(panels), len(y_values), len(x_values))
    mean, std = np.full(shape, math.nan), np.full(shape, math.nan)
    num_seeds = np.zeros(shape, dtype=np.int64)
    states = np.empty(shape, dtype=object)
    states.fill(State.ABSENT)  # np.full would turn the enumeration into plain text
    # Points that lack a panel's axis come first, so that a point of the panel itself replaces them.
    for key in sorted(groups, key=lambda key: sum(value is not None for value in key)):
        place: Pool = pool([record.outcomes[cell] for cell in groups[key]], metric)
        row, column = y_values.index(_present(key[-2])), x_values.index(_present(key[-1]))
        for index, panel in enumerate(panels):
            if fits(key[:-2], panel):
                at = (index, row, column)
                states[at], num_seeds[at] = place.state, place.num_values if place.state.has_value else 0
                mean[at], std[at] = (place.mean, place.std) if place.state.has_value else (math.nan, math.nan)
    return HeatmapData(
        metric=metric,
        x=spec.x,
        y=spec.y,
        x_values=x_values,
        y_values=y_values,
        panel_axes=panel_axes,
        panel_keys=panels,
        mean=mean,
        std=std,
        num_seeds=num_seeds,
        states=states,
        left_out=len(chosen) - len(placed),
    )


def _present(value: AxisValue | None) -> AxisValue:
    assert value is not None
    return value


def draw_heatmap(record: Record, spec: HeatmapSpec, *paths: Path) -> None:
    """Draw the heatmaps of a specification, one per metric."""
    tables = [heatmap_data(record, spec, metric) for metric in spec.metrics]
    with house_style():
        _draw(record, spec, tables, *paths)


def _draw(record: Record, spec: HeatmapSpec, tables: Sequence[HeatmapData], *paths: Path) -> None:
    first = tables[0]
    num_panels = len(first.panel_keys)
    in_row = balanced(num_panels, MAX_PANELS_IN_ROW)
    rows_of_metric = math.ceil(num_panels / in_row)
    # A single panel leaves room for the metrics side by side.
    blocks_across = len(tables) if num_panels == 1 else 1
    blocks_down = math.ceil(len(tables) / blocks_across)
    width = min(max(CELL_WIDTH * len(first.x_values), SMALLEST_PANEL), LARGEST_PANEL)
    height = min(max(CELL_HEIGHT * len(first.y_values), SMALLEST_PANEL), LARGEST_PANEL)
    block_width = LEFT + in_row * width + (in_row - 1) * GAP + BAR_SPACE
    block_height = rows_of_metric * (BOTTOM + height + PANEL_TITLE) + ROW_GAP * (rows_of_metric - 1)
    body = blocks_down * block_height + (blocks_down - 1) * ROW_GAP
    entries = _legend_entries(tables)
    columns = _legend_columns(entries, max(blocks_across * block_width, MIN_WIDTH))
    legend = LEGEND_PAD + LEGEND_LINE * math.ceil(len(entries) / columns)
    left_out = (
        f"{first.left_out} grid points without {spec.x} or {spec.y} are not shown" if first.left_out else ""
    )
    canvas = Canvas(
        width=blocks_across * block_width,
        height=body + legend,
        title=title_of(record, spec),
        caption=caption(
            record,
            select(record, spec),
            left_out,
            over_seeds=MEAN_AND_SPREAD if _room(first, (width, height)) >= LEAST_ROOM else "mean",
        ),
    )
    for block, data in enumerate(tables):
        left = (block % blocks_across) * block_width + LEFT
        top = legend + body - (block // blocks_across) * (block_height + ROW_GAP)
        label = metric_label(data.metric)
        norm, colours = colour_scale(data, label)
        for panel in range(num_panels):
            row, column = divmod(panel, in_row)
            bottom = top - row * (block_height + ROW_GAP) / rows_of_metric - PANEL_TITLE - height
            axes = canvas.axes(left + column * (width + GAP), bottom, width, height)
            _draw_panel(axes, data, panel, label, norm, colours, cell=(width, height))
            if column:
                axes.set_ylabel("")
                axes.set_yticklabels([])
            heading = combination(data.panel_axes, data.panel_keys[panel])
            axes.set_title(heading or label.text, fontsize=9)
        bar_bottom = top - block_height + BOTTOM
        bar = canvas.axes(
            left + in_row * width + (in_row - 1) * GAP + 0.14,
            bar_bottom,
            BAR_WIDTH,
            block_height - BOTTOM - PANEL_TITLE,
        )
        _draw_colour_bar(canvas, bar, data, label, norm, colours)
    _draw_legend(canvas, entries, columns, blocks_across * block_width, legend)
    canvas.save(*paths)


def colour_scale(data: HeatmapData, label: MetricLabel) -> tuple[Normalize, Colormap]:
    """Return one scale for all panels of a metric; logarithmic where losses span more than a decade."""
    colours = matplotlib.colormaps[COLOURMAP + ("_r" if label.lower_is_better else "")]
    values = data.mean[np.isfinite(data.mean)] * label.scale
    if not values.size:
        return Normalize(0, 1), colours
    low, high = float(values.min()), float(values.max())
    if label.positive and low > 0 and high > DECADE * low:
        return LogNorm(low, high), colours
    # Equal values are neither the best nor the worst: the middle of the scale.
    margin = 0.0 if high > low else max(abs(low), 1.0) * 1e-3
    return Normalize(low - margin, high + margin), colours


def _draw_panel(
    axes: Axes,
    data: HeatmapData,
    panel: int,
    label: MetricLabel,
    norm: Normalize,
    colours: Colormap,
    cell: tuple[float, float],
) -> None:
    columns, rows = len(data.x_values), len(data.y_values)
    axes.set_xlim(0, max(columns, 1))
    axes.set_ylim(0, max(rows, 1))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(FixedLocator([index + 0.5 for index in range(columns)]))
    axes.yaxis.set_major_locator(FixedLocator([index + 0.5 for index in range(rows)]))
    axes.set_xticklabels([plain(value) for value in data.x_values])
    axes.set_yticklabels([plain(value) for value in data.y_values])
    axes.set_xlabel(axis_label(data.x).long)
    axes.set_ylabel(axis_label(data.y).long)
    room = _room(data, cell)
    for row in range(rows):
        for column in range(columns):
            at = (panel, row, column)
            state: State = data.states[at]
            if not state.has_value:
                face, hatch, edge = _FACE[state]
                axes.add_patch(
                    Rectangle((column, row), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, lw=0)
                )
                if state in (State.PENDING, State.MISSING):
                    # White neighbours would run into one another.
                    axes.add_patch(
                        Rectangle((column, row), 1, 1, fill=False, edgecolor="#bbbbbb", lw=0.6, zorder=3)
                    )
                if state is State.MISSING:
                    axes.plot([column, column + 1], [row, row + 1], color=edge, lw=0.7, zorder=1)
                continue
            shown = float(data.mean[at]) * label.scale
            colour = colours(norm(shown))
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, lw=0))
            if corner := _CORNER.get(state):
                axes.add_patch(_corner(column, row, corner))
            if room >= LEAST_ROOM:
                _write_value(axes, column + 0.5, row + 0.5, data, at, label, readable(colour), room)
    for line in range(columns + 1):
        axes.axvline(line, color="white" if 0 < line < columns else "#bbbbbb", lw=0.8, zorder=2)
    for line in range(rows + 1):
        axes.axhline(line, color="white" if 0 < line < rows else "#bbbbbb", lw=0.8, zorder=2)


def _room(data: HeatmapData, panel: tuple[float, float]) -> float:
    """Return the size of a cell of a panel of so many inches, as a share of a whole one's."""
    columns, rows = max(len(data.x_values), 1), max(len(data.y_values), 1)
    return min(panel[0] / columns / CELL_WIDTH, panel[1] / rows / CELL_HEIGHT, 1.0)


def _corner(column: float, row: float, colour: str) -> Polygon:
    points = [(column + 0.78, row + 1), (column + 1, row + 1), (column + 1, row + 0.72)]
    return Polygon(points, facecolor=colour, edgecolor="#333333", lw=0.4)


def _write_value(
    axes: Axes,
    x: float,
    y: float,
    data: HeatmapData,
    at: tuple[int, int, int],
    label: MetricLabel,
    colour: str,
    room: float,
) -> None:
    value = number(float(data.mean[at]), label)
    if math.isnan(data.std[at]):
        axes.text(x, y, value, ha="center", va="center", fontsize=VALUE_SIZE * room, color=colour)
        return
    axes.text(x, y + 0.14, value, ha="center", va="center", fontsize=VALUE_SIZE * room, color=colour)
    below = spread(float(data.std[at]), label, mean=float(data.mean[at]))
    axes.text(x, y - 0.22, below, ha="center", va="center", fontsize=SPREAD_SIZE * room, color=colour)


def readable(colour: tuple[float, float, float, float]) -> str:
    """Return black or white, whichever has the larger contrast with a colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast with white is 1.05 / (L + 0.05), with black (L + 0.05) / 0.05.
    return LIGHT_TEXT if (luminance + 0.05) ** 2 < 1.05 * 0.05 else DARK_TEXT


def _draw_colour_bar(
    canvas: Canvas, bar: Axes, data: HeatmapData, label: MetricLabel, norm: Normalize, colours: Colormap
) -> None:
    drawn = canvas.figure.colorbar(ScalarMappable(norm=norm, cmap=colours), cax=bar)
    drawn.outline.set_visible(False)
    drawn.set_label(label.text)
    if not np.isfinite(data.mean).any():
        bar.clear()
        bar.set_axis_off()
        bar.text(
            0, 0.5, f"no {label.text.replace(' [%]', '')} yet", rotation=90, va="center", color="#777777"
        )
    elif isinstance(norm, LogNorm):
        assert norm.vmin is not None and norm.vmax is not None
        steps = [float(f"{m}e{e}") for e in range(-30, 31) for m in (1, 2, 5)]
        ticks = [tick for tick in steps if norm.vmin <= tick <= norm.vmax]
        drawn.ax.yaxis.set_minor_locator(NullLocator())
        drawn.set_ticks(ticks[:: max(1, len(ticks) // 7)])
        drawn.ax.set_yticklabels([plain(tick) for tick in ticks[:: max(1, len(ticks) // 7)]])


def _legend_entries(tables: Sequence[HeatmapData]) -> list[Patch]:
    present = {state for data in tables for state in data.states.flat}
    entries: list[Patch] = []
    for state in State:
        if state in present and state in _FACE:
            face, hatch, edge = _FACE[state]
            entries.append(Patch(facecolor=face, edgecolor=edge, hatch=hatch, lw=0.5, label=state.value))
        elif state in present and state in _CORNER:
            label = f"corner: {state.value}"
            entries.append(Patch(facecolor=_CORNER[state], edgecolor="#333333", lw=0.4, label=label))
    return entries


def _legend_columns(entries: Sequence[Patch], width: float) -> int:
    """Return how many entries fit side by side, all columns as wide as the longest."""
    longest = max((len(str(entry.get_label())) for entry in entries), default=0)
    total = sum(len(str(entry.get_label())) * LEGEND_CHARACTER + LEGEND_HANDLE for entry in entries)
    if total <= width:
        return max(len(entries), 1)
    return max(int(width / (longest * LEGEND_CHARACTER + LEGEND_HANDLE)), 1)


def _draw_legend(canvas: Canvas, entries: Sequence[Patch], columns: int, width: float, height: float) -> None:
    if entries:
        axes = canvas.axes(0, 0, width, height)
        axes.set_axis_off()
        axes.legend(
            handles=entries,
            loc="center",
            ncols=columns,
            handlelength=1.4,
            handleheight=1.1,
            columnspacing=1.4,
        )

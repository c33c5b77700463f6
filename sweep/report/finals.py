"""Final values against one axis: the final loss against the switch point (ZS25 fig. 1).

Points lie at the mean over the seeds, bars are ± one standard deviation; a hollow one lacks some seeds. Cells
that lack the axis (plain SGD among switch points) are a horizontal line within a band, with such a point at
its end. Where all seeds diverged there is a cross at the upper edge, and right of the corner for a line
without the axis.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from search_spaces.reports import AxisValue, FinalsSpec
from sweep.record import Record
from sweep.report.canvas import Canvas, blank, caption, house_style, logarithmic_y, title_of
from sweep.report.labels import apart, axis_label, metric_label, plain
from sweep.report.limits import BAND_ALPHA
from sweep.report.lines import Looks, choose_looks, draw_key, offsets
from sweep.report.points import Key, axis_values, grid_names, group, ordered_keys, select, unshown_axes
from sweep.report.states import Pool, State, pool

PANEL_WIDTH, PANEL_HEIGHT = 4.4, 3.0
LEFT, BOTTOM, TOP, GAP, KEY_GAP, MARGIN_RIGHT = 0.72, 0.5, 0.08, 0.8, 0.2, 0.2
WIDE_RANGE = 50.0
MAX_TICKS = 10
LEVEL = (0, (5, 2))
LONGEST_BELOW = 0.9
"""How far a bar may reach below its mean on a logarithmic axis, as a share of it."""

CROSS_RIGHT, CROSS_HEIGHT = 1.025, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalsLine:
    """One combination of line axes: a pool per value of the axis, and the one without the axis."""

    key: Key
    pools: tuple[Pool, ...]
    level: Pool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalsData:
    """Final values of one metric; pools follow `x_values`; `fallback` names lines that have no axis."""

    metric: str
    line_axes: tuple[str, ...]
    x_values: tuple[AxisValue, ...]
    lines: tuple[FinalsLine, ...]
    fallback: Mapping[Key, str]


def finals_data(record: Record, spec: FinalsSpec, metric: str) -> FinalsData:
    """Arrange the finals of a sweep along one axis."""
    points = select(record, spec)
    x_values = axis_values(record, points, spec.x)
    line_axes = (*spec.lines, *unshown_axes(record, points, (*spec.lines, spec.x)))
    groups = group(record, points, (*line_axes, spec.x))
    found = {key: pool([record.outcomes[cell] for cell in cells], metric) for key, cells in groups.items()}
    lines = tuple(
        FinalsLine(
            key=key,
            pools=tuple(found.get((*key, value), pool([], metric)) for value in x_values),
            level=found.get((*key, None)),
        )
        for key in ordered_keys(key[:-1] for key in groups)
    )
    return FinalsData(
        metric=metric,
        line_axes=line_axes,
        x_values=x_values,
        lines=lines,
        fallback=grid_names(record, points, line_axes),
    )


def draw_finals(record: Record, spec: FinalsSpec, *paths: Path) -> None:
    """Draw the finals of a specification, one panel per metric."""
    tables = [finals_data(record, spec, metric) for metric in spec.metrics]
    looks = _looks(tables[0])
    marks = _marks(tables)
    key_width = max(looks.width, 1.6 if marks else 0.0)
    panels = len(tables) * PANEL_WIDTH + (len(tables) - 1) * GAP
    width = LEFT + panels + (KEY_GAP + key_width if key_width else MARGIN_RIGHT)
    with house_style():
        canvas = Canvas(
            width=width,
            height=BOTTOM + PANEL_HEIGHT + TOP,
            title=title_of(record, spec),
            caption=caption(record, select(record, spec), _spread_note(tables, spec), over_seeds="mean"),
        )
        for index, table in enumerate(tables):
            axes = canvas.axes(LEFT + index * (PANEL_WIDTH + GAP), BOTTOM, PANEL_WIDTH, PANEL_HEIGHT)
            _draw_panel(axes, table, spec, looks)
        draw_key(canvas, looks, LEFT + panels + KEY_GAP, BOTTOM, PANEL_HEIGHT, marks)
        canvas.save(*paths)


def _spread_note(tables: list[FinalsData], spec: FinalsSpec) -> str:
    """Say what bars and bands are, and where a logarithmic axis has no room for them whole."""
    bars = [(t, place) for t in tables for line in t.lines for place in line.pools if _has_spread(place)]
    bands = [(t, line.level) for t in tables for line in t.lines if line.level and _has_spread(line.level)]
    if not bars and not bands:
        return ""
    what = " and ".join([*(["bars"] if bars else []), *(["bands of dashed lines"] if bands else [])])
    cut = any(
        _is_logarithmic(t, spec) and pool.std > LONGEST_BELOW * pool.mean for t, pool in (*bars, *bands)
    )
    ending = ", ending at a tenth of the mean where that reaches below it" if cut else ""
    return f"{what}: ± one standard deviation{ending}"


def _has_spread(place: Pool) -> bool:
    return place.state.has_value and not math.isnan(place.std)


def _is_logarithmic(data: FinalsData, spec: FinalsSpec) -> bool:
    if not (spec.log_y and metric_label(data.metric).positive):
        return False
    # A loss of one's own may be negative, and has no place there then.
    return all(place.mean > 0 for place in _places(data) if place.state.has_value)


def _places(data: FinalsData) -> list[Pool]:
    """Return all that a panel shows."""
    return [place for line in data.lines for place in (*line.pools, line.level) if place is not None]


def _looks(data: FinalsData) -> Looks:
    """Choose the looks; a line that has no value of the axis is a level, and dashed in the legend as well."""
    looks = choose_looks(data.line_axes, [line.key for line in data.lines], data.fallback)
    levels = {line.key for line in data.lines if all(place.state is State.ABSENT for place in line.pools)}
    by_key = {k: replace(look, style=LEVEL) if k in levels else look for k, look in looks.by_key.items()}
    dashed = {id(look): by_key[key] for key, look in looks.by_key.items()}
    return replace(looks, by_key=by_key, legend=tuple(dashed.get(id(look), look) for look in looks.legend))


def _marks(tables: list[FinalsData]) -> list[Line2D]:
    places = [place for table in tables for place in _places(table)]
    marks: list[Line2D] = []
    if any(place.state is State.DIVERGED for place in places):
        marks.append(Line2D([], [], color="#777777", ls="", marker="X", ms=6, label="diverged"))
    if any(place.state.has_value and place.state is not State.OK for place in places):
        marks.append(
            Line2D([], [], color="#777777", ls="", marker="o", mfc="white", ms=5, label="not all completed")
        )
    return marks


def _positions(values: tuple[AxisValue, ...]) -> tuple[list[float], bool]:
    """Return where the values stand, and whether by rank (text or infinity has no place on a number line)."""
    if any(isinstance(value, str) or math.isinf(value) for value in values):
        return [float(index) for index in range(len(values))], True
    return [float(value) for value in values], False


def _draw_panel(axes: Axes, data: FinalsData, spec: FinalsSpec, looks: Looks) -> None:
    label = metric_label(data.metric)
    positions, by_rank = _positions(data.x_values)
    logarithmic = _is_logarithmic(data, spec)
    axes.set_xlabel(axis_label(spec.x).long)
    axes.set_ylabel(label.text)
    pools = _places(data)
    if not any(place.state.has_value for place in pools):
        lost = any(place.state is State.DIVERGED for place in pools)
        blank(axes, "what has ended diverged" if lost else "no value yet")
        return
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    if logarithmic:
        logarithmic_y(axes)
    # Places by rank have room beside them for each line's own bar.
    barred = [line.key for line in data.lines if any(map(_has_spread, line.pools))]
    moved = dict(zip(barred, offsets(len(barred)), strict=True)) if by_rank else {}
    for line in data.lines:
        look = looks.by_key[line.key]
        aside = moved.get(line.key, 0.0)
        places = [(x + aside, place) for x, place in zip(positions, line.pools, strict=True)]
        shown = [(x, place) for x, place in places if place.state.has_value]
        if shown:
            xs = [x for x, _ in shown]
            means = np.array([place.mean for _, place in shown]) * label.scale
            errors = np.nan_to_num(np.array([place.std for _, place in shown]) * label.scale)
            # A bar to zero or below has no place on a logarithmic scale.
            below = np.minimum(errors, LONGEST_BELOW * means) if logarithmic else errors
            axes.plot(xs, means, color=look.colour, ls=look.style)
            if errors.any():
                axes.errorbar(
                    xs, means, yerr=[below, errors], color=look.colour, fmt="none", lw=0.9, capsize=2
                )
            whole = [place.state is State.OK for _, place in shown]
            for filled in (True, False):
                chosen = [index for index, is_whole in enumerate(whole) if is_whole is filled]
                axes.plot(
                    [xs[index] for index in chosen],
                    [means[index] for index in chosen],
                    color=look.colour, marker="o", ms=4, ls="", mfc=look.colour if filled else "white",
                )  # fmt: skip
        diverged = [x for x, place in places if place.state is State.DIVERGED]
        axes.plot(
            diverged, [1.0] * len(diverged), transform=axes.get_xaxis_transform(),
            color=look.colour, marker="X", ms=6, mec="white", mew=0.5, ls="", clip_on=False, zorder=5,
        )  # fmt: skip
    _set_x_scale(axes, data.x_values, positions, by_rank=by_rank)
    # After the scale: a horizontal line fixes the limits that there are.
    _draw_levels(axes, data, looks, label.scale, logarithmic=logarithmic)


def _draw_levels(axes: Axes, data: FinalsData, looks: Looks, scale: float, *, logarithmic: bool) -> None:
    """Draw the lines that lack the axis and their bands; of one without a value its cross, below others'."""
    crosses = 0
    for line in data.lines:
        if line.level is None:
            continue
        colour = looks.by_key[line.key].colour
        if line.level.state.has_value:
            level = line.level.mean * scale
            axes.axhline(level, color=colour, ls=LEVEL, lw=1.1)
            if not math.isnan(std := line.level.std * scale):
                below = min(std, LONGEST_BELOW * level) if logarithmic else std
                axes.axhspan(level - below, level + std, color=colour, alpha=BAND_ALPHA / 2, lw=0)
            if line.level.state is not State.OK:
                axes.plot(
                    [1.0], [level], transform=axes.get_yaxis_transform(),
                    color=colour, marker="o", ms=4, ls="", mfc="white", clip_on=False, zorder=5,
                )  # fmt: skip
        elif line.level.state is State.DIVERGED:
            axes.plot(
                [CROSS_RIGHT], [1.0 - crosses * CROSS_HEIGHT], transform=axes.transAxes,
                color=colour, marker="X", ms=6, mec="white", mew=0.5, ls="", clip_on=False, zorder=5,
            )  # fmt: skip
            crosses += 1


def _set_x_scale(axes: Axes, values: tuple[AxisValue, ...], positions: list[float], *, by_rank: bool) -> None:
    if not positions:
        axes.set_xticks([])
        return
    if by_rank:
        axes.set_xticks(positions, [plain(value) for value in values])
        return
    positive = [x for x in positions if x > 0]
    wide = len(positive) > 2 and max(positive) > WIDE_RANGE * min(positive)
    if wide:
        if min(positions) > 0:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=min(positive))
    if wide or len(positions) <= MAX_TICKS:
        ordered = sorted(positions)
        places = axes.xaxis.get_transform().transform(np.array(ordered, dtype=np.float64))
        ticks = [ordered[index] for index in apart(places.tolist(), MAX_TICKS)]
        axes.set_xticks(ticks, [plain(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())

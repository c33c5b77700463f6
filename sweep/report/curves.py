"""Curves, drawn: a metric against the training step, one line per combination of axes, switch points marked.

The lines are those of `sweep.report.curve_lines`. A diverged run is drawn by itself up to its last finite
value; a cross is where it ended, dotted as far as nothing was recorded.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from search_spaces.reports import CurvesSpec
from sweep.record import Record
from sweep.report.canvas import Canvas, balanced, blank, caption, house_style, logarithmic_y, title_of
from sweep.report.curve_lines import CurvePanel, CurvesData, Line, curves_data, unfinished_note
from sweep.report.labels import combination, plain
from sweep.report.limits import Band, Limits, band_notes, draw_band, limits_of, masked
from sweep.report.lines import (
    Looks,
    choose_looks,
    draw_key,
    draw_switches,
    line_name,
    switch_mark,
    varying_axes,
)
from sweep.report.points import ordered_keys, select, switch_note

PANEL, SMALL_PANEL = (4.3, 2.9), (3.2, 2.3)
LEFT, BOTTOM, GAP, SHARED_GAP, ROW_GAP = 0.72, 0.5, 0.8, 0.5, 0.06
PANEL_TITLE, PANEL_TOP, KEY_GAP = 0.26, 0.08, 0.2
MARGIN_RIGHT = 0.25
MAX_PANELS_IN_ROW = 3
MAX_RULES = 3
MAX_BANDS = 12
"""Lines of a panel; more would hide one another behind their bands."""

DECADE = 10.0
MAX_BARS = 26


def draw_curves(record: Record, spec: CurvesSpec, *paths: Path) -> None:
    """Draw the curves of a specification."""
    data = curves_data(record, spec)
    rows = len({panel.metric for panel in data.panels})
    across = len(data.panels) // rows
    across = balanced(len(data.panels) if across == 1 else across, MAX_PANELS_IN_ROW)
    down = -(-len(data.panels) // across)
    panel_width, panel_height = SMALL_PANEL if across > 2 else PANEL
    # Panels of one metric share its axis, so only the first of a row needs its name.
    same = len(data.panels) // rows >= across > 1
    gap = SHARED_GAP if same else GAP
    lines = [line for panel in data.panels for line in panel.lines]
    keys = ordered_keys([line.key for line in lines])
    looks = choose_looks(data.line_axes, keys, data.fallback)
    last = {panel.metric: _last_step(panel, data.panels, spec) for panel in data.panels}
    marks = _marks(data.panels, last)
    key_width = max(looks.width, 1.35 if marks else 0.0)
    width = (
        LEFT
        + across * panel_width
        + (across - 1) * gap
        + (KEY_GAP + key_width if key_width else MARGIN_RIGHT)
    )
    heading = PANEL_TITLE if data.panel_axes else PANEL_TOP
    step_height = BOTTOM + panel_height + heading
    height = down * step_height + (down - 1) * ROW_GAP
    limits = {panel.metric: _limits(panel, data.panels, spec) for panel in data.panels}
    notes = [band_notes(limits.values())] if any(map(_banded, data.panels)) else []
    if any(np.isfinite(line.error).any() for line in lines):
        notes.append("bars: ± the standard error of the estimate")
    cut = dict.fromkeys(panel.metric for panel in data.panels if any(line.cut for line in panel.lines))
    if cut:
        notes.append(f"lines of {', '.join(cut)} end where the first of their seeds' does")
    points = select(record, spec)
    said = "; ".join(notes), switch_note(record, points), unfinished_note(_named(data))
    with house_style():
        canvas = Canvas(
            width=width,
            height=height,
            title=title_of(record, spec),
            caption=caption(record, points, *said, over_seeds="mean", unconverged=data.unconverged),
        )
        for index, panel in enumerate(data.panels):
            row, column = divmod(index, across)
            bottom = height - row * (step_height + ROW_GAP) - heading - panel_height
            axes = canvas.axes(LEFT + column * (panel_width + gap), bottom, panel_width, panel_height)
            logarithmic = _is_logarithmic(panel, spec)
            _draw_panel(axes, panel, looks, limits[panel.metric], last[panel.metric], logarithmic=logarithmic)
            if same and column:
                axes.set_ylabel("")
            axes.set_title(combination(data.panel_axes, panel.key), fontsize=9)
        left = LEFT + across * panel_width + (across - 1) * gap + KEY_GAP
        draw_key(canvas, looks, left, height - heading - panel_height, panel_height, marks)
        canvas.save(*paths)


def _named(data: CurvesData) -> Iterator[tuple[str, Line]]:
    """Yield the lines with what to call each in words, an axis that a colour bar shows among them."""
    varying = varying_axes([line.key for panel in data.panels for line in panel.lines])
    for panel in data.panels:
        for line in panel.lines:
            place = combination(data.panel_axes, panel.key)
            own = line_name(data.line_axes, line.key, varying, data.fallback)
            # Where no axis tells lines apart, each is called by its grid, which its panel's name does for.
            parts = (place, own) if varying or not place else (place,)
            yield ", ".join(filter(None, parts)), line


def _marks(panels: Sequence[CurvePanel], last: Mapping[str, int]) -> list[Line2D]:
    """Return what the legend says of the marks that are drawn."""
    rules = [_rules(panel, last[panel.metric]) for panel in panels]
    marks: list[Line2D] = []
    if any(rules):
        marks.append(switch_mark())
    if any(_switches_on(line) for panel in panels if not _shared(panel) for line in panel.lines):
        marks.append(
            Line2D([], [], color="#777777", ls="", marker="D", ms=4, mfc="white", label="switch point")
        )
    if any(line.diverged for panel in panels for line in panel.lines):
        marks.append(Line2D([], [], color="#777777", ls="", marker="X", ms=6, label="diverged"))
    return marks


def _shared(panel: CurvePanel) -> bool:
    """Whether all that a panel shows has the same switch points, few enough to be drawn across it."""
    found = _switches(panel)
    return len(found) == 1 and all(len(steps) <= MAX_RULES for steps in found)


def _switches(panel: CurvePanel) -> set[tuple[int, ...]]:
    return {steps for line in panel.lines for _, steps in line.drawn()}


def _rules(panel: CurvePanel, last: int) -> list[int]:
    """Return the switch points that are drawn across a panel that ends at `last`."""
    return [step for steps in _switches(panel) for step in steps if step <= last] if _shared(panel) else []


def _last_step(panel: CurvePanel, panels: Sequence[CurvePanel], spec: CurvesSpec) -> int:
    """Return where the panels of a metric end."""
    lines = (line for other in panels if other.metric == panel.metric for line in other.lines)
    return spec.max_step or max((last_step(line) for line in lines), default=1)


def _banded(panel: CurvePanel) -> list[Line]:
    """Return the lines of a panel that have a band: those over several seeds, unless there are too many."""
    return [line for line in panel.lines if line.num_seeds > 1] if len(panel.lines) <= MAX_BANDS else []


def _is_logarithmic(panel: CurvePanel, spec: CurvesSpec) -> bool:
    return spec.log_y and panel.label.positive


def _limits(panel: CurvePanel, panels: Sequence[CurvePanel], spec: CurvesSpec) -> Limits:
    """Return limits that fit the lines of all panels of a metric, so that they can be compared."""
    together = [other for other in panels if other.metric == panel.metric]
    lines, scale = [line for other in together for line in other.lines], panel.label.scale
    bands = [_band(line, scale) for other in together for line in _banded(other)]
    bars = [(line.mean * scale, line.error * scale) for line in lines if line.error.size]
    return limits_of(
        [line.mean * scale for line in lines],
        [*bands, *bars],
        [run.values * scale for line in lines for run in line.diverged],
        logarithmic=_is_logarithmic(panel, spec),
    )


def _band(line: Line, scale: float) -> Band:
    return line.mean * scale, line.std * scale


def _draw_panel(
    axes: Axes, panel: CurvePanel, looks: Looks, limits: Limits, last: int, *, logarithmic: bool
) -> None:
    label = panel.label
    axes.set_xlabel("training step")
    axes.set_ylabel(label.text)
    if not panel.lines:
        blank(axes, "nothing recorded yet")
        return
    if logarithmic:
        logarithmic_y(axes)
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    crowded = len(panel.lines) > MAX_BANDS
    draw_switches(axes, _rules(panel, last))
    for line in panel.lines:
        look = looks.by_key[line.key]
        mean = masked(line.mean * label.scale, logarithmic)
        axes.plot(line.steps, mean, color=look.colour, ls=look.style, lw=0.9 if crowded else 1.3)
        if line.num_seeds > 1 and not crowded:
            draw_band(axes, line.steps, _band(line, label.scale), limits, look.colour)
        _draw_error_bars(axes, line, label.scale, look.colour, logarithmic=logarithmic)
        for run, ended in zip(line.diverged, line.ends, strict=True):
            values = masked(run.values * label.scale, logarithmic)
            axes.plot(run.steps, values, color=look.colour, ls=look.style, lw=0.8, alpha=0.8)
            place, height = leaving_point(run.steps, values, limits.high)
            if ended > place[0] == run.steps[-1]:
                axes.plot([*place, ended], [*height, *height], color=look.colour, ls=":", lw=1.0)
                place = [float(ended)]
            axes.plot(
                place, height,
                color=look.colour, marker="X", ms=6, mec="white", mew=0.5, ls="", clip_on=False, zorder=5,
            )  # fmt: skip
        for step, value in () if _shared(panel) else _switches_on(line):
            axes.plot(
                [step], [min(value * label.scale, limits.high)], color=look.colour,
                marker="D", ms=2.6 if crowded else 4.2, mfc="white", mew=0.9, ls="", zorder=4,
            )  # fmt: skip
    low, high = limits.low, limits.high
    axes.set_ylim(low, high)
    if logarithmic:
        # Within a decade the minor ticks need numbers, and two of them do within two; more would be a crowd.
        wide = high > DECADE**2 * low
        numbers = _sparse_label if high > DECADE * low else _minor_label
        axes.yaxis.set_minor_formatter(NullFormatter() if wide else FuncFormatter(numbers))
    axes.set_xlim(0, max(last, 1))


def _draw_error_bars(axes: Axes, line: Line, scale: float, colour: Any, *, logarithmic: bool) -> None:
    known = np.flatnonzero(np.isfinite(line.error))
    if known.size:
        chosen = known[:: -(-known.size // MAX_BARS)]
        axes.errorbar(
            line.steps[chosen], masked(line.mean[chosen] * scale, logarithmic), line.error[chosen] * scale,
            fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.6,
        )  # fmt: skip


def _minor_label(value: float, _position: int | None) -> str:
    return plain(float(f"{value:.3g}"))


def _sparse_label(value: float, _position: int | None) -> str:
    return plain(float(f"{value:.3g}")) if f"{value:.0e}"[0] in "25" else ""


def last_step(line: Line) -> int:
    """Return the last step at which a line has something to show.

    Beyond a mean that is cut that is a switch point of its seeds; of unfinished ones it is still to come.
    """
    switches = line.switches if line.cut and not line.provisional else ()
    return max((*line.steps[-1:].tolist(), *line.ends, *switches), default=1)


def leaving_point(steps: np.ndarray, values: np.ndarray, high: float) -> tuple[list[float], list[float]]:
    """Return where a line ends, or where it leaves the panel through its upper limit."""
    above = np.flatnonzero(values > high)
    if not above.size:
        return [float(steps[-1])], [float(values[-1])]
    after = int(above[0])
    before = max(after - 1, 0)
    low_value, high_value = float(values[before]), float(values[after])
    share = (high - low_value) / (high_value - low_value) if high_value > low_value else 0.0
    return [float(steps[before] + share * (steps[after] - steps[before]))], [high]


def _switches_on(line: Line) -> list[tuple[int, float]]:
    """Return the switch points within a mean, and within each diverged run, and the value there."""
    return [
        (step, float(np.interp(step, run.steps, run.values)))
        for run, switches in line.drawn()
        for step in switches
        if run.steps[0] <= step <= run.steps[-1]
    ]

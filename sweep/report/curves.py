"""Curves, drawn: a metric against the training step, one line per combination of axes, switch points marked.

The lines are those of `sweep.report.curve_lines`. A diverged run is drawn by itself up to its last finite
value; a cross is where it ended, dotted as far as nothing was recorded.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from search_spaces.reports import CurvesSpec
from sweep.record import Record, Series
from sweep.report.canvas import Canvas, balanced, blank, caption, house_style, logarithmic_y, title_of
from sweep.report.curve_lines import CurvePanel, CurvesData, Line, curves_data, unfinished_note
from sweep.report.labels import combination, plain
from sweep.report.lines import Looks, choose_looks, draw_key
from sweep.report.points import ordered_keys, select

PANEL, SMALL_PANEL = (4.3, 2.9), (3.2, 2.3)
LEFT, BOTTOM, GAP, SHARED_GAP, ROW_GAP = 0.72, 0.5, 0.8, 0.5, 0.06
PANEL_TITLE, PANEL_TOP, KEY_GAP = 0.26, 0.08, 0.2
MARGIN_RIGHT = 0.25
MAX_PANELS_IN_ROW = 3
MAX_RULES = 3
BAND = 0.16
# Room above the highest line that ended well; a diverging line leaves the panel beyond it.
HEADROOM_LOG, HEADROOM_LINEAR = 8.0, 1.5
# Least height of a panel, as a share of its values; that of a line that never changes.
LEAST_SPAN, CONSTANT_SPAN = 1e-3, 0.2
DECADE = 10.0
MAX_BARS = 26


def draw_curves(record: Record, spec: CurvesSpec, path: Path) -> None:
    """Draw the curves of a specification as a PNG."""
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
    marks = _marks(data)
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
    notes = ["band: ± one standard deviation"] if any(line.num_seeds > 1 for line in lines) else []
    if any(np.isfinite(line.error).any() for line in lines):
        notes.append("bars: ± the standard error of the estimate")
    with house_style():
        canvas = Canvas(
            width=width,
            height=height,
            title=title_of(record, spec),
            caption=caption(record, select(record, spec), "; ".join(notes), unfinished_note(lines)),
        )
        for index, panel in enumerate(data.panels):
            row, column = divmod(index, across)
            bottom = height - row * (step_height + ROW_GAP) - heading - panel_height
            axes = canvas.axes(LEFT + column * (panel_width + gap), bottom, panel_width, panel_height)
            together = [line for other in data.panels if other.metric == panel.metric for line in other.lines]
            _draw_panel(axes, panel, looks, spec, together)
            if same and column:
                axes.set_ylabel("")
            axes.set_title(combination(data.panel_axes, panel.key), fontsize=9)
        left = LEFT + across * panel_width + (across - 1) * gap + KEY_GAP
        draw_key(canvas, looks, left, height - heading - panel_height, panel_height, marks)
        canvas.save(path)


def _marks(data: CurvesData) -> list[Line2D]:
    lines = [line for panel in data.panels for line in panel.lines]
    marks: list[Line2D] = []
    if any(line.switches for line in lines):
        common = len({line.switches for line in lines}) == 1 and len(lines[0].switches) <= MAX_RULES
        if common:
            marks.append(Line2D([], [], color="#777777", ls=(0, (4, 3)), lw=0.9, label="switch point"))
        else:
            marks.append(
                Line2D([], [], color="#777777", ls="", marker="D", ms=4, mfc="white", label="switch point")
            )
    if any(line.diverged for line in lines):
        marks.append(Line2D([], [], color="#777777", ls="", marker="X", ms=6, label="diverged"))
    return marks


def _draw_panel(
    axes: Axes, panel: CurvePanel, looks: Looks, spec: CurvesSpec, together: Sequence[Line]
) -> None:
    """Draw one panel; its limits fit the lines of all panels of the metric, so that they can be compared."""
    label = panel.label
    logarithmic = spec.log_y and label.positive
    axes.set_xlabel("training step")
    axes.set_ylabel(label.text)
    if not panel.lines:
        blank(axes, "nothing recorded yet")
        return
    if logarithmic:
        logarithmic_y(axes)
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    low, high = y_limits(together, label.scale, logarithmic=logarithmic)
    common = len({line.switches for line in panel.lines}) == 1 and len(panel.lines[0].switches) <= MAX_RULES
    if common:
        for step in panel.lines[0].switches:
            axes.axvline(step, color="#777777", ls=(0, (4, 3)), lw=0.9, zorder=1)
    crowded = len(panel.lines) > MAX_PANELS_IN_ROW * 4
    for line in panel.lines:
        look = looks.by_key[line.key]
        mean = masked(line.mean * label.scale, logarithmic)
        axes.plot(line.steps, mean, color=look.colour, ls=look.style, lw=0.9 if crowded else 1.3)
        if line.num_seeds > 1 and not crowded:
            std = line.std * label.scale
            floor = low if logarithmic else -math.inf
            axes.fill_between(
                line.steps, np.maximum(mean - std, floor), mean + std, color=look.colour, alpha=BAND, lw=0
            )
        _draw_error_bars(axes, line, label.scale, look.colour, logarithmic=logarithmic)
        for run, ended in zip(line.diverged, line.ends, strict=True):
            values = masked(run.values * label.scale, logarithmic)
            axes.plot(run.steps, values, color=look.colour, ls=look.style, lw=0.8, alpha=0.8)
            place, height = leaving_point(run.steps, values, high)
            if ended > place[0] == run.steps[-1]:
                axes.plot([*place, ended], [*height, *height], color=look.colour, ls=":", lw=1.0)
                place = [float(ended)]
            axes.plot(
                place, height,
                color=look.colour, marker="X", ms=6, mec="white", mew=0.5, ls="", clip_on=False, zorder=5,
            )  # fmt: skip
        if not common:
            _mark_switches(axes, line, label.scale, look.colour, high, small=crowded)
    axes.set_ylim(low, high)
    if logarithmic:
        # Within a decade the minor ticks need numbers, and two of them do within two; more would be a crowd.
        wide = high > DECADE**2 * low
        numbers = _sparse_label if high > DECADE * low else _minor_label
        axes.yaxis.set_minor_formatter(NullFormatter() if wide else FuncFormatter(numbers))
    last = max((last_step(line) for line in together), default=1)
    axes.set_xlim(0, max(spec.max_step or last, 1))


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
    """Return the last step at which a line has something to show."""
    return max((*line.steps[-1:].tolist(), *line.ends), default=1)


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


def _mark_switches(axes: Axes, line: Line, scale: float, colour: object, high: float, *, small: bool) -> None:
    whole = Series(steps=line.steps, values=line.mean)
    for run in [whole] if line.steps.size else line.diverged:
        for step in line.switches:
            if run.steps[0] <= step <= run.steps[-1]:
                value = float(np.interp(step, run.steps, run.values)) * scale
                axes.plot(
                    [step], [min(value, high)],
                    color=colour, marker="D", ms=2.6 if small else 4.2, mfc="white", mew=0.9, ls="", zorder=4,
                )  # fmt: skip


def masked(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Blank what a logarithmic scale cannot show."""
    return np.where(values > 0, values, math.nan) if logarithmic else values


def y_limits(lines: Sequence[Line], scale: float, *, logarithmic: bool) -> tuple[float, float]:
    """Return limits that fit the lines that ended well; a diverging line may leave them upwards."""
    well = np.concatenate([line.mean for line in lines] or [np.array([])]) * scale
    bad = np.concatenate([run.values for line in lines for run in line.diverged] or [np.array([])]) * scale
    well, bad = (values[np.isfinite(values) & ((values > 0) | (not logarithmic))] for values in (well, bad))
    both = np.concatenate([well, bad])
    if not both.size:
        return (0.1, 1.0) if logarithmic else (0.0, 1.0)
    low, top = float(both.min()), float(well.max() if well.size else both.max())
    if logarithmic:
        high = min(float(both.max()), top * HEADROOM_LOG)
        return low / 1.25, high * 1.25
    # Within a thousandth, a reference that never changes would be written as an offset and a remainder.
    least = CONSTANT_SPAN if math.isclose(top, low, rel_tol=1e-9) else LEAST_SPAN
    span = max(top - low, abs(top) * least, 1e-12)
    high = min(float(both.max()), low + span * HEADROOM_LINEAR)
    return low - 0.05 * span, high + 0.05 * span

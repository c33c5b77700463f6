"""How a set of lines is told apart: colours, line styles, and the legend or colour bar that explains them.

Up to ten lines get the colours of Okabe and Ito and a legend. More than ten vary a numeric axis: its values
become a sequential scale with a colour bar, by rank (switch points 0, 10, …, 6000 are all told apart, and
infinity has a place), and what else varies becomes the line style.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.lines import Line2D

from search_spaces.reports import AxisValue
from sweep.report.canvas import Canvas
from sweep.report.labels import axis_label, combination, plain, spaced
from sweep.report.points import GRID_AXIS, Key, in_order

MAX_COLOURS = 10
MAX_BAR_LABELS = 10
MAX_LEGEND = 40
PALETTE = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00",
    "#56b4e9", "#000000", "#8c564b", "#7f7f7f", "#a6a600",
)  # fmt: skip
STYLES = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (4, 1, 1, 1)),
    (0, (1, 3)),
    (0, (8, 2, 1, 2, 1, 2)),
    (0, (2, 4)),
    (0, (10, 4)),
    (0, (6, 1, 1, 1, 1, 1, 1, 1)),
)
SEQUENTIAL = "viridis"
# The palest end of the scale cannot be seen on white.
SEQUENTIAL_END = 0.9

LEGEND_CHARACTER, LEGEND_HANDLE, LEGEND_LINE, BAR_WIDTH, BAR_SPACE = 0.068, 0.62, 0.165, 0.15, 0.95

SIDEWAYS = 0.5
"""The part of a place over which its lines' bars are spread."""

SWITCH_COLOUR, SWITCH_STYLE, SWITCH_WIDTH = "#777777", (0, (4, 3)), 0.9

LineStyle = Any
"""What matplotlib takes as a line style: a name, or an offset with a pattern of lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Colour, line style and label of one line."""

    colour: str | tuple[float, float, float, float]
    style: LineStyle
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How all lines of a figure look.

    Args:
        by_key: Line to its look.
        scale_axis: The axis that is shown by a colour bar, or `None`.
        scale_values: Its values, in order.
        legend: What the legend lists.
    """

    by_key: Mapping[Key, Look]
    scale_axis: str | None
    scale_values: tuple[AxisValue, ...]
    legend: tuple[Look, ...]

    @property
    def width(self) -> float:
        """Room in inches that the legend or the colour bar needs beside the panels."""
        bar = BAR_SPACE if self.scale_axis else 0.0
        return max(bar, legend_width([look.label for look in self.legend]))


def _visible_length(label: str) -> int:
    for markup in (r"\mathrm", r"\alpha", r"\beta", r"\eta", "$", "{", "}", "_"):
        label = label.replace(markup, "x" if markup in (r"\alpha", r"\beta", r"\eta") else "")
    return len(label)


def choose_looks(axes: Sequence[str], keys: Sequence[Key], fallback: Mapping[Key, str]) -> Looks:
    """Choose how lines look from the axes that tell them apart.

    Args:
        axes: Names of the axes.
        keys: Their values, one key per line.
        fallback: What to call a line that has none of the axes (the name of its grid).
    """
    values = [in_order(key[axis] for key in keys) for axis in range(len(axes))]
    varying = varying_axes(keys)
    numeric = [
        a for a in varying if all(not isinstance(value, str) for value in values[a]) and len(values[a]) > 2
    ]
    if len(keys) > MAX_COLOURS and numeric:
        return _scaled(
            axes, keys, fallback, varying, max(numeric, key=lambda axis: len(values[axis])), values
        )
    if len(keys) > MAX_COLOURS:
        colours = matplotlib.colormaps[SEQUENTIAL]
        palette = [colours(SEQUENTIAL_END * index / (len(keys) - 1)) for index in range(len(keys))]
    else:
        palette = list(PALETTE)
    by_key = {
        key: Look(colour=palette[index], style="-", label=line_name(axes, key, varying, fallback))
        for index, key in enumerate(keys)
    }
    return Looks(
        by_key=by_key, scale_axis=None, scale_values=(), legend=tuple(by_key.values()) if varying else ()
    )


def varying_axes(keys: Sequence[Key]) -> list[int]:
    """Return the numbers of the axes of which lines have different values."""
    return [axis for axis, values in enumerate(zip(*keys, strict=True)) if len(set(values)) > 1]


def line_name(axes: Sequence[str], key: Key, shown: Sequence[int], fallback: Mapping[Key, str]) -> str:
    """Write the values that a line has of some axes, given by number; of one without them what to call it."""
    return combination([axes[axis] for axis in shown], [key[axis] for axis in shown]) or fallback.get(key, "")


def _scaled(
    axes: Sequence[str],
    keys: Sequence[Key],
    fallback: Mapping[Key, str],
    varying: Sequence[int],
    scale: int,
    values: Sequence[tuple[AxisValue, ...]],
) -> Looks:
    rest = [axis for axis in varying if axis != scale]
    kinds = list(dict.fromkeys(tuple(key[axis] for axis in rest) for key in keys if key[scale] is not None))
    colours = matplotlib.colormaps[SEQUENTIAL]
    steps = max(len(values[scale]) - 1, 1)
    by_key: dict[Key, Look] = {}
    plain_lines: list[Look] = []
    for key in keys:
        label = line_name(axes, key, rest, fallback)
        value = key[scale]
        if value is None:
            # A line without the axis (plain SGD among switch points) is not on the scale.
            by_key[key] = Look(colour="#000000", style=STYLES[len(plain_lines) % len(STYLES)], label=label)
            plain_lines.append(by_key[key])
        else:
            colour = colours(SEQUENTIAL_END * values[scale].index(value) / steps)
            kind = kinds.index(tuple(key[axis] for axis in rest))
            by_key[key] = Look(colour=colour, style=STYLES[kind % len(STYLES)], label=label)
    legend = [
        Look(
            colour="#555555",
            style=STYLES[index % len(STYLES)],
            label=combination([axes[a] for a in rest], kind),
        )
        for index, kind in enumerate(kinds)
    ]
    legend = [*(legend if len(legend) > 1 else []), *plain_lines]
    return Looks(by_key=by_key, scale_axis=axes[scale], scale_values=values[scale], legend=tuple(legend))


def offsets(count: int) -> list[float]:
    """Return how far each of so many lines is moved sideways around a place of width one."""
    return [SIDEWAYS * (index - (count - 1) / 2) / max(count, 1) for index in range(count)]


def draw_switches(axes: Axes, steps: Iterable[int]) -> None:
    """Draw switch points that all lines of a panel have, from edge to edge."""
    for step in steps:
        axes.axvline(step, color=SWITCH_COLOUR, ls=SWITCH_STYLE, lw=SWITCH_WIDTH, zorder=1)


def switch_mark() -> Line2D:
    """Return what the legend shows for them."""
    return Line2D([], [], color=SWITCH_COLOUR, ls=SWITCH_STYLE, lw=SWITCH_WIDTH, label="switch point")


def draw_key(
    canvas: Canvas, looks: Looks, left: float, bottom: float, height: float, marks: Sequence[Line2D]
) -> None:
    """Draw the legend, and the colour bar where there is one, at a place of the body in inches."""
    width = max(looks.width, LEGEND_HANDLE)
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.style, label=look.label) for look in looks.legend
    ]
    hidden = len(handles) - MAX_LEGEND
    if hidden > 0:
        handles = [*handles[:MAX_LEGEND], Line2D([], [], linestyle="", label=f"… and {hidden} more")]
    taken = draw_legend(canvas, [*handles, *marks], left, bottom, width, height)
    if looks.scale_axis is not None:
        bar = canvas.axes(left + 0.08, bottom, BAR_WIDTH, max(height - taken, 0.8))
        _draw_scale(canvas, bar, looks.scale_axis, looks.scale_values)


def legend_width(labels: Sequence[str]) -> float:
    """Return the room in inches that a legend needs."""
    longest = max(map(_visible_length, labels), default=0)
    return longest * LEGEND_CHARACTER + LEGEND_HANDLE if labels else 0.0


def draw_legend(
    canvas: Canvas, handles: Sequence[Line2D], left: float, bottom: float, width: float, height: float
) -> float:
    """Draw a legend at the top of a place of the body, in inches; what it takes of the height is returned."""
    if not handles:
        return 0.0
    room = canvas.axes(left, bottom, width, height)
    room.set_axis_off()
    room.legend(handles=handles, loc="upper left", borderaxespad=0, handlelength=1.9, labelspacing=0.35)
    return (len(handles) + 0.5) * LEGEND_LINE


def _draw_scale(canvas: Canvas, bar: Axes, axis: str, values: Sequence[AxisValue]) -> None:
    colours = matplotlib.colormaps[SEQUENTIAL]
    steps = max(len(values) - 1, 1)
    listed = ListedColormap([colours(SEQUENTIAL_END * index / steps) for index in range(len(values))])
    norm = BoundaryNorm([index - 0.5 for index in range(len(values) + 1)], len(values))
    drawn = canvas.figure.colorbar(ScalarMappable(norm=norm, cmap=listed), cax=bar)
    drawn.outline.set_visible(False)
    labelled = spaced(len(values), MAX_BAR_LABELS)
    drawn.set_ticks(labelled)
    drawn.ax.set_yticklabels([plain(values[index]) for index in labelled])
    drawn.ax.tick_params(length=0)
    drawn.ax.minorticks_off()
    drawn.set_label("grid" if axis == GRID_AXIS else axis_label(axis).long)
